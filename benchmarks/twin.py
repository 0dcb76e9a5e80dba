"""The process twin: a plant-day of 86,400 x 51 readings simulated, written in the official layout."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from numpy.random import default_rng

from benchmarks.figures import Figure, median
from simulations.twin.network import TWIN as NETWORK
from simulations.twin.recording import Recording
from simulations.twin.swat import TWIN
from simulations.twin.swat.plan import plan
from simulations.twin.swat.plant import draw

DAY_S = 86_400
LIMIT_S = 2.0


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """One core: plants of seeds 0, 1, ..., a day each with a day's attacks, noise and rounding included."""
    days: list[Recording] = []
    walls, cores = [], []
    for seed in range(3 if quick else 10):
        wall_s, core_s = _seconds(partial(_day, seed, days))
        walls.append(wall_s)
        cores.append(core_s)
    folder = scratch / "files"
    folder.mkdir()
    writing = [_seconds(lambda: TWIN.write(folder, days[0], days[1], xlsx=False))[0] / 2 for _ in range(3)]
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2e6
    return [
        median("a plant-day of the SWaT twin, wall", walls, "s", LIMIT_S, "86,400 x 51, about 10 attacks"),
        median("  the same, CPU of the process", cores, "s"),
        median("  a plant-day of the WADI twin, wall", [_wadi_day(seed) for seed in range(2 if quick else 4)], "s"),
        median("  writing a SWaT day as official CSV", writing, "s"),
        Figure("  size of that file", size, "MB"),
    ]


def _day(seed: int, days: list[Recording]) -> None:
    plant = draw(default_rng(seed))
    events = plan(plant, DAY_S, default_rng(seed))
    days.append(TWIN.run(plant, TWIN.attack_begins, DAY_S, events, default_rng(seed)))


def _wadi_day(seed: int) -> float:
    plant = NETWORK.draw(default_rng(seed))
    events = NETWORK.plan(plant, DAY_S, default_rng(seed))
    begin = NETWORK.attack_begins
    return _seconds(lambda: NETWORK.run(plant, begin, DAY_S, events, default_rng(seed)))[0]


def _seconds(call: Callable[[], object]) -> tuple[float, float]:
    wall, core = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - core
