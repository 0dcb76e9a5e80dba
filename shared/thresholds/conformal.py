"""A calibration score of the right rank."""

from __future__ import annotations

import math

import numpy as np

from shared.scoring import Float64Array
from shared.thresholds.base import Cut, Normal, Settings, register

_ROUNDING = 1e-9


@register("conformal")
def conformal(normal: Normal, config: Settings) -> Cut:
    """Split conformal: `tau = S_(k)`, the k-th smallest of n scores, `k = ceil((n + 1)(1 - alpha))`.

    A new normal window exceeds S_(k) with probability at most (n + 1 - k) / (n + 1) <= alpha, whatever the
    distribution, if it is exchangeable with the calibration windows (Vovk, Gammerman and Shafer 2005, "Algorithmic
    Learning in a Random World"). With n < 1 / alpha - 1 there is no such rank: the largest score is used, which
    supports 1 / (n + 1), and the caveat says how many windows it would take.
    """
    return cut_at(normal.scores_N, config.false_alarm_rate)


def cut_at(scores_N: Float64Array, alpha: float) -> Cut:
    """`conformal` for a rate, of normal scores (N,)."""
    n = len(scores_N)
    exceed = min(math.floor((n + 1) * alpha + _ROUNDING), n)  # n + 1 - k
    return Cut(
        value=ranked(scores_N, alpha),
        false_alarm_rate=alpha,
        supported_rate=max(exceed, 1) / (n + 1),
        caveat="" if exceed else too_few(n, alpha),
    )


def ranked(scores_N: Float64Array, alpha: float) -> float:
    """The score of conformal's rank; the largest where there is no such rank."""
    n = len(scores_N)
    exceed = min(math.floor((n + 1) * alpha + _ROUNDING), n)
    rank = n + 1 - max(exceed, 1)
    return float(np.partition(scores_N, rank - 1)[rank - 1])


def too_few(n: int, alpha: float) -> str:
    """The sentence that says how many windows a rate needs.

    Example:
        >>> too_few(40, 0.01)
        'A false alarm rate of 0.01 needs at least 99 normal windows; there are 40, which support 0.024 at best.'
    """
    needed = math.ceil(1 / alpha - 1 - _ROUNDING)
    return (
        f"A false alarm rate of {alpha:g} needs at least {needed} normal windows; "
        f"there are {n}, which support {1 / (n + 1):.2g} at best."
    )
