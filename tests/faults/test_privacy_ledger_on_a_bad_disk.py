"""Fault: the disk of a privacy ledger is full or read-only, or two processes write at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import LedgerBroken
from shared.privacy.accounting import Event
from shared.privacy.ledger import PrivacyLedger, Release, read_balance
from tests.support.disturbed import full, small_disk

WRITER = """
import sys
from pathlib import Path
from shared.privacy.accounting import Event
from shared.privacy.ledger import PrivacyLedger, Release

opened = PrivacyLedger(Path(sys.argv[1]))
for number in range(30):
    name = f"{sys.argv[2]} {number}"
    opened.charge(Release("run", number, "weights", name, Event(50.0, 1.0, 1), 1e-5, "segment", ""), 9.0)
"""


def charge(opened: PrivacyLedger, request: str) -> None:
    opened.charge(Release("run", 1, "weights", request, Event(20.0, 1.0, 1), 1e-5, "segment", ""), 9.0)


def charge_until_full(opened: PrivacyLedger, name: str) -> int:
    """How many releases found room: what is left of the newest page takes some lines."""
    for number in range(100):
        try:
            charge(opened, f"{name} {number}")
        except LedgerBroken:
            return number
    pytest.fail("the disk is not full")


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 1):
        folder = tmp_path / "home" / "north"
        opened = PrivacyLedger(folder)
        charge(opened, "first")
        with full(tmp_path / "home"):
            charged = charge_until_full(opened, "then")
            spent = read_balance(folder).epsilon
            with pytest.raises(LedgerBroken, match="No space left"):
                charge(PrivacyLedger(folder), f"then {charged + 1}")
        assert read_balance(folder).epsilon >= spent
        charge(opened, f"then {charged}")
        again = PrivacyLedger(folder)
        charge(again, f"then {charged}")
        assert again.balance() == opened.balance() == read_balance(folder)
        assert charged + 2 <= opened.balance().releases <= charged + 3  # one found room, but its head did not


def test_a_read_only_disk_can_be_read_and_not_opened(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 1):
        folder = tmp_path / "home" / "north"
        opened = PrivacyLedger(folder)
        charge(opened, "1")
        remount = ["mount", "-o", "remount,ro", str(tmp_path / "home")]
        if subprocess.run(remount, capture_output=True, check=False).returncode != 0:
            pytest.skip("this user may remount no disk")
        with pytest.raises(LedgerBroken, match="Read-only"):
            charge(opened, "2")
        with pytest.raises(LedgerBroken, match="Read-only"):
            PrivacyLedger(folder)
        assert read_balance(folder).releases == 1


def test_two_processes_that_begin_together_share_one_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "north"
    command = [sys.executable, "-c", WRITER, str(folder)]
    both = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in ("a", "b")]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert said == ["", ""]
    found = read_balance(folder)
    assert (found.releases, found.torn) == (60, 0)
    assert PrivacyLedger(folder).balance() == found
