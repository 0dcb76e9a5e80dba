"""Fault: another program holds the database, or forbids it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from server.store import database
from server.store.store import RoundStore
from shared.errors import StoreBusy
from tests.support.stores import filled, record, state

HOLDER = """
import sys, time
from pathlib import Path
from server.store.locking import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def _held(folder: Path, how: str) -> Iterator[None]:
    with closing(sqlite3.connect(folder / "rounds.sqlite", isolation_level=None)) as connection:
        connection.execute(how)
        yield
        connection.execute("ROLLBACK")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)


def test_a_writer_that_does_not_let_go(tmp_path: Path) -> None:
    store, after = filled(tmp_path), state("a", 4)
    with _held(tmp_path, "BEGIN IMMEDIATE"):
        with pytest.raises(StoreBusy, match="locked by another process"):
            store.commit(record(after), after)
        assert len(RoundStore.open(str(tmp_path)).rounds("a")) == 3  # readers are not held up
    store.commit(record(after), after)
    assert len(store.rounds("a")) == 4


def test_a_program_that_locks_readers_out(tmp_path: Path) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "rounds.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusy):
            RoundStore.open(str(tmp_path))
        connection.execute("ROLLBACK")


def test_another_process_is_the_writer_until_it_is_killed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    words = [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            with pytest.raises(StoreBusy, match=f"process {child.pid} is writing"), store.lock():
                pass
        finally:
            child.kill()
    with store.lock():
        pass
