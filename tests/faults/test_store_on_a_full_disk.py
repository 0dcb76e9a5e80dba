"""Fault: the disk of the round store is full to the last byte. What is in it can still be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.store.store import RoundStore
from shared.errors import DiskFull
from tests.support.command import crossplant_here
from tests.support.disturbed import full, small_disk
from tests.support.stores import filled, record, state


def test_rounds_are_listed_and_shown(tmp_path: Path) -> None:
    with small_disk(tmp_path / "store", 2):
        filled(tmp_path / "store")
        with full(tmp_path / "store"):
            listed = crossplant_here("rounds", "list", "--store", tmp_path / "store")
            assert (listed.returncode, listed.stderr) == (0, "")
            assert "Run a, 3 rounds" in listed.stdout
            shown = crossplant_here("rounds", "show", "2", "--store", tmp_path / "store")
            assert shown.returncode == 0, shown.stderr


def test_what_cannot_be_written_says_that_the_disk_is_full_and_is_written_later(tmp_path: Path) -> None:
    after = state("a", 4)
    with small_disk(tmp_path / "store", 2):
        filled(tmp_path / "store")
        with full(tmp_path / "store"), RoundStore.open(str(tmp_path / "store"), look=True) as store:
            assert len(store.rounds("a")) == 3
            with pytest.raises(DiskFull):
                store.finish_run("a", "failed")
            with pytest.raises(DiskFull):
                store.commit(record(after), after)
        store.commit(record(after), after)
        with RoundStore.open(str(tmp_path / "store")) as opened:
            assert len(opened.rounds("a")) == 4


def test_a_server_hears_of_it_when_it_looks(tmp_path: Path) -> None:
    """Flower's processes fail at the same time and say nothing of a disk: this is how the operator learns why."""
    with small_disk(tmp_path / "store", 2):
        filled(tmp_path / "store")
        with full(tmp_path / "store"), pytest.raises(DiskFull):
            RoundStore.open(str(tmp_path / "store"))


def test_rows_that_stand_in_a_log_that_cannot_be_read_are_not_left_out_in_silence(tmp_path: Path) -> None:
    """A writer that was killed left them there; without its index they are unknown."""
    with small_disk(tmp_path / "store", 2):
        filled(tmp_path / "store")
        (tmp_path / "store" / "rounds.sqlite-wal").write_bytes(b"\0" * 4096)
        with full(tmp_path / "store"), pytest.raises(DiskFull):
            RoundStore.open(str(tmp_path / "store"), look=True)
