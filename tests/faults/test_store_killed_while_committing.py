"""Fault: the coordinator is killed at any moment while it commits rounds."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from server.store import totals
from server.store.store import RoundStore
from tests.support.stores import CONFIG, model

ROOT = Path(__file__).parents[2]
KILLS = 10

COMMITTER = """
import sys
from server.store.store import RoundStore
from tests.support.stores import record, state

store = RoundStore.create(sys.argv[1])
with store.lock():
    last = store.latest_state("a")
    number = last.finished if last else 0
    print("ready", flush=True)
    while True:
        number += 1
        after = state("a", number, adam=True)
        store.commit(record(after), after)
        print("committed", flush=True)
"""


def _commit_until_killed(folder: Path, commits: int, after_s: float) -> None:
    """Kill it after so many commits and seconds of work, however slow the machine is."""
    words = [sys.executable, "-c", COMMITTER, str(folder)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            assert [child.stdout.readline() for _ in range(commits)] == ["committed\n"] * commits
            time.sleep(after_s)
            assert child.poll() is None
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL


def test_the_store_is_whole_after_every_kill(tmp_path: Path) -> None:
    RoundStore.create(str(tmp_path)).start_run("a", CONFIG)
    chance, seen = random.Random(7), 0
    for kill in range(KILLS):
        _commit_until_killed(tmp_path, kill % 3, chance.uniform(0.0, 0.02))
        store = RoundStore.open(str(tmp_path))
        numbers = [r.number for r in store.rounds("a")]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= seen
        seen = len(numbers)
        state = store.latest_state("a")
        assert (state.finished if state else 0) == seen
        if state is not None and state.model is not None:
            assert state.model.digest == model(seen).digest
            assert state.optimizer.step == seen
        with store.session() as session:
            kept = sorted(totals.plants(session, "a"), key=lambda row: str(row["plant"]))
            assert kept == sorted(totals.derive_plants(session, "a"), key=lambda row: str(row["plant"]))
            assert totals.complete(session, "a")
    assert seen > 0  # it was killed at work, not before
    with store.lock():  # nobody holds it any more
        pass
