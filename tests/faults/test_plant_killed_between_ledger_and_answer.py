"""A plant is killed with -9 while it writes a release down, or after that: what it spent may be over-counted, never
under-counted, and an answer that was asked for again is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.privacy.ledger import read_balance
from tests.conftest import REPOSITORY
from tests.support import killed_plant
from tests.support.guards import charges


@dataclass(frozen=True)
class Struck:
    """Ledgers by point, what became of each plant, and what one request costs one that nobody killed."""

    folder: Path
    told: dict[str, Any]
    once: float


def run(folder: Path, how: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.killed_plant", str(folder), how]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def undisturbed(folder: Path, requests: range) -> float:
    """What the same requests cost a plant that nobody kills."""
    found = killed_plant.agent(folder)
    for number in requests:
        killed_plant.answer(found, number)
    return read_balance(folder).epsilon


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory) -> Struck:
    """One request each, and a plant that was killed at each point and asked again."""
    folder = tmp_path_factory.mktemp("struck")
    return Struck(folder, run(folder, "points"), undisturbed(folder / "never", range(1, 2)))


@pytest.mark.parametrize("point", killed_plant.POINTS)
def test_it_is_charged_once_and_answers_the_same_later(point: str, struck: Struck) -> None:
    assert struck.told[point] == {"died": True, "same": True}
    balance = read_balance(struck.folder / point)
    assert balance.releases == len(charges(struck.folder / point)) == 1
    assert balance.torn == (point == "half a line is written")
    if balance.torn:
        assert balance.epsilon > struck.once
    else:
        assert balance.epsilon == pytest.approx(struck.once)


def test_fifty_requests_under_twenty_kills_cost_no_less_than_undisturbed(tmp_path: Path) -> None:
    assert run(tmp_path / "ledger", "random") == {"kills": killed_plant.KILLS}
    kept = read_balance(tmp_path / "ledger")
    assert kept.epsilon >= undisturbed(tmp_path / "other", range(killed_plant.REQUESTS)) > 0
    assert kept.releases == read_balance(tmp_path / "other").releases == killed_plant.REQUESTS + 5
