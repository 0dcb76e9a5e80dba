"""A trailing mean that does not outlast its cause.

    held_m(v)_t = min(mean of the newest m values, max(v_t, 0) + d)

A mean over many rows tells a lasting disturbance from noise, but it stays high for as many rows after it. Its newest
value bounds it: what is ordinary now is no more than d above ordinary. Values count in robust standard deviations, 0 is
ordinary. Lean: an edge box imports this.
"""

from __future__ import annotations

import numpy as np

from shared.lag.score import trailing
from shared.scoring import Float64Array

CHANNEL = 2.0
"""d of a channel, which is noisy."""

SCORE = 1.0
"""d of the weighed sum of all channels, which is less so."""


def held(values_N: Float64Array, rows: int, most: float) -> Float64Array:
    """Trailing means over `rows` values, bounded by the newest one, float64 (N,).

    Args:
        values_N: consecutive, in robust standard deviations.
        rows: m.
        most: d.

    Example:
        >>> held(np.array([0.0, 8.0, 4.0, -1.0]), 2, most=1.0).tolist()
        [0.0, 4.0, 5.0, 1.0]
    """
    return np.minimum(trailing(values_N, rows), np.maximum(values_N, 0.0) + most)


def persistent(plain_N: Float64Array, rows: int) -> Float64Array:
    """The score of consecutive rows: half what each says, half what has lasted, float64 (N,).

    Args:
        plain_N: weighed sums of the channels; +inf where they are not to be measured.
        rows: m of the trailing mean.

    Example:
        >>> persistent(np.array([0.0, 4.0, 0.0]), 2).tolist()
        [0.0, 3.0, 0.5]
    """
    found_N: Float64Array = (plain_N + held(plain_N, rows, SCORE)) / 2
    return found_N
