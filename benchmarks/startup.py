"""From `carry()` to the first request that reaches a plant, with everything imported beforehand."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine import driven
from benchmarks.figures import Figure, median

LIMIT_S = 1.0


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """A fresh process each time: what the first run of a process costs."""
    return [
        median(f"start-up beyond imports, {plants} plants", _times(scratch / str(plants), plants, quick), "s", LIMIT_S)
        for plants in (10, 1_000)
    ]


def _times(folder: Path, plants: int, quick: bool) -> list[float]:
    found = []
    for attempt in range(2 if quick else 5):
        with driven("inprocess", folder / str(attempt), plants, 1, 1) as engine:
            found.append(engine.until_pretrain())
    return found
