"""Kill -9 in the middle of a round, resume: it goes on at the last committed round and ends with the same weights."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.command import SMALL, crossplant_here, simulate_here, start

FLAGS = ["--sites", "3"]


def _rounds(run: Path) -> list[dict[str, object]]:
    done = crossplant_here("rounds", "list", "--store", run, "--json")
    if done.returncode:
        return []
    return list(json.loads(done.stdout)["rounds"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = simulate_here(run, *FLAGS, rounds=6)
    assert done.returncode == 0, done.stderr
    return _rounds(run)


@pytest.mark.parametrize(
    ("after", "blow"),
    [(3, signal.SIGKILL), (13, signal.SIGKILL), (8, signal.SIGINT)],
    ids=["kill-9-early", "kill-9-late", "ctrl-c"],
)
def test_it_continues_at_the_last_committed_round(
    after: int, blow: signal.Signals, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start("simulate", "--out", run, "--rounds", "6", *SMALL, *FLAGS)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"round {after:>3} "):
            break
    time.sleep(0.01)
    os.kill(process.pid, blow)
    _, err = process.communicate(timeout=60)
    if blow is signal.SIGINT:
        assert process.returncode == 130, err
        assert "Traceback" not in err
    else:
        assert process.returncode == -signal.SIGKILL
    kept = _rounds(run)
    assert after <= len(kept) < len(undisturbed)
    resumed = crossplant_here("simulate", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    ended = _rounds(run)
    assert ended[: len(kept)] == kept
    assert [(r["number"], r["label"], r["model"]) for r in ended] == [
        (r["number"], r["label"], r["model"]) for r in undisturbed
    ]
