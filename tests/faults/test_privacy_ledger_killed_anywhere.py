"""Fault: a plant is killed (kill -9) between any two system calls while it opens its ledger and charges releases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.privacy.accounting import Event, epsilon
from shared.privacy.ledger import PrivacyLedger, Release, read_balance

EVENTS = [Event(20.0 - 5 * number, 1.0, 1) for number in range(3)]


def test_the_epsilon_afterwards_is_the_same_or_larger_and_the_work_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.killed_anywhere", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    if "PermissionError" in done.stderr:
        pytest.skip("this user may trace no process")
    assert done.returncode == 0, done.stderr
    stops = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(stops) > 50
    assert (stops[0]["said"], stops[-1]["said"], stops[-1]["ended"]) == (0, 3, True)
    counted = [_goes_on(tmp_path / f"{stop['stop']}" / "north", stop["said"]) for stop in stops]
    assert any(counted)  # between the write and the word that it is done


def _goes_on(folder: Path, said: int) -> bool:
    """Open what was left and do the rest; whether more was counted than was said to be done."""
    opened = PrivacyLedger(folder)
    before = opened.balance()
    assert before.epsilon >= epsilon(EVENTS[:said], 1e-5)
    assert before.releases in (said, said + 1)
    for number, event in enumerate(EVENTS):
        opened.charge(Release("run", number, "weights", f"{number}", event, 1e-5, "segment", ""), 9.0)
    assert read_balance(folder).epsilon == epsilon(EVENTS, 1e-5)
    return before.releases > said
