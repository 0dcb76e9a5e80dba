"""What measuring costs: VUS of a long series, an interval from resampled events, and all figures of 27 sites."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, median
from shared.metrics.bootstrap import average_precision_interval
from shared.metrics.summary import evaluate
from shared.metrics.vus import vus
from shared.series import BoolArray

VUS_ROWS, VUS_LIMIT_S = 500_000, 10.0
INTERVAL_ROWS, SITES, SITE_ROWS = 200_000, 27, 2_731  # as many sites and rows as MSL has


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """One thread. Ten percent of the rows are anomalous unless the line says otherwise."""
    repeats, rows = (1, 100_000) if quick else (5, VUS_ROWS)
    labels, half = _events(rows, length=500, every=5_000), np.random.default_rng(1).random(rows) < 0.5
    scores, many = _scores(labels), _scores(half)
    shorter = _events(INTERVAL_ROWS, length=500, every=5_000)
    sites = [_events(SITE_ROWS, length=200, every=2_000) for _ in range(SITES)]
    return [
        median(f"VUS-PR and VUS-ROC of {rows:,} rows, windows 0 to 100", _seconds(repeats, lambda: vus(scores, labels)),
               "s", VUS_LIMIT_S),
        median("  the same, every second row anomalous at random", _seconds(repeats, lambda: vus(many, half)),
               "s", VUS_LIMIT_S, "the worst case: every row is near an event"),
        Figure("  memory it takes at its peak", _peak_mb(lambda: vus(scores, labels)), "MB"),
        Figure("  the same, every second row anomalous", _peak_mb(lambda: vus(many, half)), "MB"),
        median(f"interval of AUPRC, {INTERVAL_ROWS:,} rows, 200 resamples",
               _seconds(repeats, lambda: average_precision_interval(_scores(shorter), shorter)), "s"),
        median(f"every figure of {SITES} sites of {SITE_ROWS:,} rows",
               _seconds(repeats, lambda: [evaluate(_scores(site), site, 2.0, 60.0) for site in sites]), "s"),
    ]  # fmt: skip


def _events(rows: int, length: int, every: int) -> BoolArray:
    return np.arange(rows) % every >= every - length


def _scores(labels_T: BoolArray) -> np.ndarray:
    return np.random.default_rng(0).normal(size=len(labels_T)) + labels_T


def _seconds(repeats: int, work: Callable[[], object]) -> list[float]:
    laps = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        laps.append(time.perf_counter() - begin)
    return laps


def _peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6
