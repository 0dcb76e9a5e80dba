"""A plant is killed with -9 while it writes a release down, or after that: what it spent may be over-counted, never
under-counted, and an answer that was asked for again is the same."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.privacy.ledger import read_balance
from tests.conftest import REPOSITORY
from tests.support import killed_plant
from tests.support.command import crossplant, start
from tests.support.guards import charges


@dataclass(frozen=True)
class Struck:
    """Ledgers by what happened, what became of each plant, and what one request costs one that nobody killed."""

    folder: Path
    told: dict[str, Any]
    once: float


_FLAGS = [
    "--epsilon", "8", "--unit", "8", "--public-start", "none", "--sites", "2",
    "--set", "recipe.detector.window=4",
    "--set", "recipe.detector.hidden=4",
    "--set", "recipe.detector.latent=2",
    "--set", "recipe.clustering.clusters=2",
    "--set", "recipe.clustering.refresh_every=10",
    "--set", "data.rows=6000",
]  # fmt: skip


def run(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.killed_plant", str(folder)]
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
    """Plants that were killed at a point or at random, and asked again."""
    folder = tmp_path_factory.mktemp("struck")
    return Struck(folder, run(folder), undisturbed(folder / "never", range(1, 2)))


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


def test_fifty_requests_under_twenty_kills_cost_no_less_than_undisturbed(struck: Struck, tmp_path: Path) -> None:
    assert struck.told["random"] == {"kills": killed_plant.KILLS}
    kept = read_balance(struck.folder / "random")
    assert kept.epsilon >= undisturbed(tmp_path / "other", range(killed_plant.REQUESTS)) > 0
    assert kept.releases == read_balance(tmp_path / "other").releases == killed_plant.REQUESTS + 5


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_simulation_of_fifty_rounds_under_twenty_kills_spends_no_less_than_undisturbed(tmp_path: Path) -> None:
    """The same for all of it at once: coordinator, store and plants die together, and `simulate --resume` goes on."""
    flags = [*_FLAGS, "--rounds", "50"]
    done = crossplant("simulate", "--out", tmp_path / "other", *flags, timeout=600)
    assert done.returncode == 0, done.stderr
    rng, kills = random.Random(3), 0
    command: list[str | Path] = ["simulate", "--out", tmp_path / "run", *flags]
    while kills < killed_plant.KILLS:
        process, seen = start(*command), _releases(tmp_path / "run")
        while process.poll() is None and _releases(tmp_path / "run") < seen + 2:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.3))
        assert process.poll() is None, "it ended before it was killed so often"
        process.kill()
        process.communicate()
        kills += 1
        command = ["simulate", "--resume", tmp_path / "run"]
    assert crossplant(*command, timeout=600).returncode == 0
    for plant in ("plant-1", "plant-2"):
        kept, other = (read_balance(tmp_path / run / "privacy" / plant) for run in ("run", "other"))
        assert kept.epsilon >= other.epsilon > 0
        assert other.releases <= kept.releases <= other.releases + killed_plant.KILLS


def _releases(run: Path) -> int:
    """Lines of one plant's ledger; a run that was killed before it began has none."""
    book = run / "privacy" / "plant-1" / "ledger.jsonl"
    return book.read_bytes().count(b"\n") if book.exists() else 0
