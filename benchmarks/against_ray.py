"""The in-process engine against Flower's Ray engine: same apps, same plants, same workers, a round in turns."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.engine import Driver, driven
from benchmarks.figures import Figure, median

LIMIT = 1 / 3
PLANTS = 20
NAMES = ("inprocess", "ray")


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """With one worker each, then with two."""
    return [figure for workers in (1, 2) for figure in _compare(scratch / f"w{workers}", workers, 5 if quick else 15)]


def _compare(folder: Path, workers: int, rounds: int) -> list[Figure]:
    ours = driven("inprocess", folder / "a", PLANTS, workers, rounds + 3)
    with ours as a, driven("ray", folder / "b", PLANTS, workers, rounds + 3) as b:
        starts = [engine.until_pretrain() for engine in (a, b)]
        pairs = _in_turns(a, b, rounds)
    ms = [[1e3 * pair[i] / PLANTS for pair in pairs] for i in range(2)]
    ratios = [one / other for one, other in pairs]
    label = f"{workers} worker{'s' * (workers > 1)}"
    return [
        median(f"steady cost, in-process / Ray, {label}", ratios, "x", LIMIT, f"{PLANTS} plants, rounds in turns"),
        median(f"  in-process, a client task, {label}", ms[0], "ms"),
        median(f"  Ray, a client task, {label}", ms[1], "ms"),
        Figure(f"  start-up beyond imports, in-process, {label}", starts[0], "s"),
        Figure(f"  start-up beyond imports, Ray, {label}", starts[1], "s", note=_times(starts)),
    ]


def _in_turns(a: Driver, b: Driver, rounds: int) -> list[tuple[float, float]]:
    """Two rounds of each to warm up, then pairs."""
    pairs = [(a.pretrain_round(), b.pretrain_round()) for _ in range(rounds + 2)]
    return pairs[2:]


def _times(starts: list[float]) -> str:
    return f"{starts[1] / statistics.fmean(starts[:1]):.0f} x in-process"
