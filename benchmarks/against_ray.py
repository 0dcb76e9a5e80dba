"""The in-process engine against Flower's Ray engine: same apps, same plants, same workers, a round in turns.

While one works, every process of the other is stopped (SIGSTOP), so that neither burdens the other. Ray's start is not
in the steady cost; it is told beside it.

Cost is the CPU time of all processes of an engine, and the wall time of a round where the machine is quiet: on a busy
one Ray's many processes get a larger share of the cores than our one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine import Driver, driven
from benchmarks.figures import Figure, median
from benchmarks.quiet import Neighbours

LIMIT = 1 / 3
PLANTS = 20
_WARM_UP = 3


@dataclass(frozen=True)
class Side:
    """What one engine took: seconds to its first request, wall seconds of each round, CPU seconds of all of them."""

    start: float
    walls: list[float]
    cpu: float


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """With one worker each, then with two."""
    return [figure for workers in (1, 2) for figure in _compare(scratch / f"w{workers}", workers, 6 if quick else 20)]


def _compare(folder: Path, workers: int, rounds: int) -> list[Figure]:
    planned = rounds + _WARM_UP
    ours = driven("inprocess", folder / "a", PLANTS, workers, planned)
    with ours as a, driven("ray", folder / "b", PLANTS, workers, planned) as b:
        one, other, others = _in_turns(a, b, rounds)
    ratios = [mine / rays for mine, rays in zip(one.walls, other.walls, strict=True)]
    label = f"{workers} worker{'s' * (workers > 1)}"
    told = f"in-process {1e3 * one.start:.0f} ms"
    return [
        median(f"in-process / Ray, {label}, wall", ratios, "x", others.limit(LIMIT), f"{PLANTS} plants"),
        Figure(f"in-process / Ray, {label}, CPU of all processes", one.cpu / other.cpu, "x", LIMIT),
        others.figure(),
        *(_task(f"  {name}, a client task", side) for name, side in (("in-process", one), ("Ray", other))),
        Figure("  Ray: start-up beyond imports", other.start, "s", note=told),
    ]


def _task(name: str, side: Side) -> Figure:
    cpu = f"CPU {1e3 * side.cpu / len(side.walls) / PLANTS:.1f} ms"
    return median(name, [1e3 * wall / PLANTS for wall in side.walls], "ms", note=cpu)


def _in_turns(a: Driver, b: Driver, rounds: int) -> tuple[Side, Side, Neighbours]:
    engines = (a, b)
    starts = [_paused(engine, engine.until_pretrain) for engine in engines]
    for _ in range(_WARM_UP):
        for engine in engines:
            _paused(engine, engine.pretrain_round)
    before = [engine.cpu_s() for engine in engines]
    others = Neighbours()
    walls = [[_paused(engine, engine.pretrain_round) for engine in engines] for _ in range(rounds)]
    others.stop()
    spent = [engine.cpu_s() - cpu for engine, cpu in zip(engines, before, strict=True)]
    sides = zip(starts, zip(*walls, strict=True), spent, strict=True)
    one, other = (Side(start, list(own), cpu) for start, own, cpu in sides)
    return one, other, others


def _paused(engine: Driver, act: Callable[[], float]) -> float:
    """Let a stopped engine act, and stop it again."""
    engine.resume()
    try:
        return act()
    finally:
        engine.pause()
