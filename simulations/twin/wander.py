"""Slow changes: demand, temperature, analysers. Drawn a minute apart, joined by straight lines."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import lfilter

KNOT_S = 60
DAY_S = 86_400
_FORGET = 8  # time constants after which nothing is left of the beginning

Values = NDArray[np.float64]


def wander(rng: Generator, seconds: int, memory_s: float) -> Values:
    """A smooth stationary Gaussian series of unit variance that forgets with time constant `memory_s`.

    White noise through two equal first-order lags, seen once a minute and linear in between.

    Returns:
        float64 (seconds,).

    Example:
        >>> from numpy.random import default_rng
        >>> wander(default_rng(0), 5, 600).shape
        (5,)
    """
    keep = float(np.exp(-KNOT_S / memory_s))
    before = int(_FORGET * memory_s / KNOT_S)
    count = seconds // KNOT_S + 2
    scale = np.sqrt((1 - keep**2) ** 3 / (1 + keep**2))  # one over the gain of a double pole at `keep`
    knots = lfilter([scale], [1.0, -2 * keep, keep**2], rng.standard_normal(before + count))[before:]
    return np.asarray(np.interp(np.arange(seconds), np.arange(count) * KNOT_S, knots), dtype=np.float64)


def lag(series_T: Values, tau_s: float) -> Values:
    """A first-order lag, as of a meter or a mixed volume, at rest in the beginning; float64 like `series_T`.

    Example:
        >>> lag(np.array([0.0, 1.0, 1.0]), 1.0).round(2).tolist()
        [0.0, 0.63, 0.86]
    """
    keep = float(np.exp(-1 / tau_s))
    out, _ = lfilter([1 - keep], [1.0, -keep], series_T, zi=[keep * series_T[0]])
    return np.asarray(out, dtype=np.float64)


def daily(rng: Generator, seconds: int) -> Values:
    """What weather and operators do to a plant: a cycle of a day, an hour's unrest, and a change over days.

    Its 1st and 99th percentile lie near -2.3 and 2.3, its bounds at -2.6 and 2.6, and one day is much like another: a
    recording of some days shows about the range that the next day will have.

    Returns:
        float64 (seconds,).
    """
    phase = rng.uniform(0, 2 * np.pi)
    cycle_T = np.sin(2 * np.pi * np.arange(seconds) / DAY_S + phase)
    unrest, change = rng.spawn(2)
    mixed_T = 1.5 * cycle_T + 0.4 * wander(unrest, seconds, 1800) + 0.15 * wander(change, seconds, DAY_S)
    bounded_T: Values = 2.6 * np.tanh(mixed_T / 1.6)
    return bounded_T
