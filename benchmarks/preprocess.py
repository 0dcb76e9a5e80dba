"""Preparing a site as large as WADI's training data, every step switched on; and one row at a time as the edge does.

The site has 1,209,601 rows of 127 tags, with scattered gaps, a day without one tag, and four tags without any reading.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, median
from benchmarks.memory import peak_mb
from client.training.workspace import prepare
from shared.config import PreprocessConfig, Recipe
from shared.preprocess import fit_preprocessor
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData

MEMORY_LIMIT = 1.7  # times the input; one copy of it is 1
STEP_LIMIT_US = 100.0
ALL = {"rolling": 600, "scaling": "robust", "max_correlation": 0.95, "min_variance": 1e-4, "fill_limit": 60}


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Peak memory and seconds of `prepare`, then microseconds of `Stream.step`."""
    rows_TD = _rows(120_000 if quick else 1_209_601, 127)
    schema = SensorSchema(tags=tuple(f"T{i:03d}" for i in range(127)), period_s=1.0)
    recipe = Recipe.model_validate({"preprocess": ALL, "training": {"stride": 10}})
    size_mb, before_mb, begin = rows_TD.nbytes / 1e6, peak_mb(), time.perf_counter()
    prepare(SiteData("north", schema, rows_TD, rows_TD[:0], None), recipe)
    seconds, more_mb = time.perf_counter() - begin, peak_mb() - before_mb
    note = f"{len(rows_TD):,} x 127, {size_mb:.0f} MB; {more_mb:.0f} MB more"
    return [
        Figure("peak memory of preparing a site, beyond its rows", more_mb / size_mb, "x", MEMORY_LIMIT, note),
        Figure("  preparing it", seconds, "s"),
        _step("a row in a stream, default settings", {}),
        _step("a row in a stream, every step", ALL),
    ]


def _rows(rows: int, width: int) -> FloatArray:
    rng = np.random.default_rng(0)
    values_TD = np.empty((rows, width), np.float32)
    for first in range(0, rows, 10_000):
        block_TD = values_TD[first : first + 10_000]
        block_TD[:] = rng.normal(size=block_TD.shape)
        block_TD[rng.integers(0, len(block_TD), 2000), rng.integers(0, width, 2000)] = np.nan
    values_TD[:, :4] = np.nan
    values_TD[1_000:87_400, 5] = np.nan
    return values_TD


def _step(name: str, given: dict[str, object]) -> Figure:
    rows_TD = _rows(5_000, 51)
    stream = fit_preprocessor(rows_TD, (0,), PreprocessConfig.model_validate(given))[0].stream()
    spent_us = []
    for row_D in rows_TD:
        begin = time.perf_counter()
        stream.step(row_D)
        spent_us.append(1e6 * (time.perf_counter() - begin))
    late = f"51 tags; 99.9 % within {np.quantile(spent_us, 0.999):.0f} us"
    return median(name, spent_us, "us", STEP_LIMIT_US, late)
