"""Readings that wander by themselves: water-quality analysers, zero errors of meters, an idle pump's speed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from simulations.twin.network.plant import Network

Values = NDArray[np.float64]
EPOCH = datetime(2017, 1, 1)
HIGHEST = 1.05  # of a wander, where 1 is the published 99th percentile


@dataclass(frozen=True)
class Drifter:
    """A tag that wanders between its published 1st and 99th percentile.

    Attributes:
        low, median, high: 1st, 50th, 99th percentile in normal operation.
        quantum: step of its converter.
    """

    low: float
    median: float
    high: float
    quantum: float


DRIFTERS = {
    "1_AIT_001_PV": Drifter(164.2, 170.7, 181.6, 0.01),
    "1_AIT_002_PV": Drifter(0.5115, 0.6255, 0.7215, 0.0015),
    "1_AIT_003_PV": Drifter(11.91, 11.95, 12.03, 0.0002),
    "1_AIT_004_PV": Drifter(411.5, 455.3, 483.3, 0.01),
    "1_AIT_005_PV": Drifter(0.2087, 0.2735, 0.3312, 0.00002),
    "2A_AIT_001_PV": Drifter(0.1704, 0.1729, 0.1787, 0.001),
    "2A_AIT_002_PV": Drifter(8.408e-43, 3.908e-41, 9.111e-41, 1e-44),  # subnormal, as the real logger writes it
    "2A_AIT_003_PV": Drifter(8.625, 8.625, 8.688, 0.0625),
    "2A_AIT_004_PV": Drifter(463.2, 475.7, 483.2, 0.01),
    "2B_AIT_001_PV": Drifter(0.1787, 0.1895, 0.1982, 0.001),
    "2B_AIT_002_PV": Drifter(8.755, 9.024, 9.296, 0.0002),
    "2B_AIT_003_PV": Drifter(8.566, 8.653, 8.741, 0.0007),
    "2B_AIT_004_PV": Drifter(472.8, 477.9, 485.9, 0.01),
    "2_P_004_SPEED": Drifter(-0.01249, 0.03345, 0.03712, 0.00001),
    "3_AIT_003_PV": Drifter(0.0, 7.495, 32.25, 0.002),
    "3_AIT_004_PV": Drifter(-822.6, 610.0, 1747.0, 0.1),
    "3_AIT_005_PV": Drifter(0.3885, 0.7234, 0.7688, 0.0001),
    **{f"zero of 2_FIC_{n}01_PV": Drifter(0.01725, 0.049, 0.0555, 0.00001) for n in (1, 3, 4, 5, 6)},
    "zero of 2_FIC_201_PV": Drifter(0.03768, 0.053, 0.0585, 0.00001),
}


def wander(plant: Network, begin: datetime, minutes: int, rng: Generator) -> dict[str, Values]:
    """The wanders of one recording, one knot a minute from `begin` on, float64 (minutes + 1,) each, within +-1.05.

    Days, hours and minutes in it are the plant's own (`plant.habit`) and run on from one recording to the next.
    """
    habit = default_rng(plant.habit)
    clock_M = (begin - EPOCH).total_seconds() / 3600 + np.arange(minutes + 1) / 60
    return {name: _wander(clock_M, habit, rng) for name in DRIFTERS}


def _wander(clock_M: Values, habit: Generator, rng: Generator) -> Values:
    phases, stretch = habit.uniform(0, 2 * np.pi, 4), habit.uniform(0.8, 1.25, 3)
    waves = ((24.0, 0.9), (5.7 * stretch[0], 0.6), (1.4 * stretch[1], 0.45), (151.0 * stretch[2], 0.1))
    total_M = 0.15 * restless(len(clock_M), rng)
    for (period_h, size), phase in zip(waves, phases, strict=True):
        total_M = total_M + size * np.sin(2 * np.pi * clock_M / period_h + phase)
    bounded: Values = np.clip(total_M / 1.62, -HIGHEST, HIGHEST)
    return bounded


def restless(count: int, rng: Generator, width: int = 10) -> Values:
    """A trailing mean of white noise: unit variance, forgets over `width` steps, float64 (count,)."""
    sums = np.concatenate([[0.0], rng.standard_normal(count + width - 1).cumsum()])
    out: Values = (sums[width:] - sums[:-width]) / np.sqrt(width)
    return out


def reading(drifter: Drifter, wander_T: Values, sway: float = 0.0) -> Values:
    """What a drifter shows, before its converter rounds it: +-1 of the wander are its published percentiles."""
    up, down = drifter.high - drifter.median, drifter.median - drifter.low
    out_T = drifter.median + np.where(wander_T > 0, up, down) * wander_T + 0.5 * sway * (drifter.high - drifter.low)
    bounded: Values = np.maximum(out_T, 0.0) if drifter.low >= 0 else out_T
    return bounded
