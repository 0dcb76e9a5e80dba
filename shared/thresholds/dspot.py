"""Peaks over threshold around a moving mean."""

from __future__ import annotations

import numpy as np

from shared.scoring import Float64Array
from shared.thresholds.adaptive import moments, quiet
from shared.thresholds.base import Cut, Normal, Settings, Tracking, register
from shared.thresholds.conformal import ranked
from shared.thresholds.pot import quantile_instead, separation
from shared.thresholds.tail import Tail, find_tail, thinned

KEPT = 500  # peaks that a tracker begins with, and holds


@register("dspot")
def dspot(normal: Normal, config: Settings) -> Cut:
    """Siffer et al. 2017 (KDD), section 4.3: POT on `X' = X - M`, M the mean of the `config.memory` scores before X.

    The value is the mean of the calibration scores plus the threshold of X'. Live, both move (`shared.thresholds.
    tracking`). As `pot` it gives way to conformal's score, which does not move, where the tail cannot be fitted.
    """
    scores_N, alpha = normal.scores_N, config.false_alarm_rate
    centre, spread = moments(quiet(scores_N, ranked(scores_N, alpha)))
    still_N = scores_N - moving_mean(scores_N, config.memory, centre)
    gap = separation(Normal(still_N))
    tail, reason = find_tail(still_N, alpha, config.peaks, gap)
    if tail is None or spread <= 1e-12 * abs(centre):
        return quantile_instead(normal, alpha, reason or "The scores do not vary.")
    return Cut(centre + tail.above(alpha), alpha, tracking=_tracking(tail, centre, spread, gap, config))


def _tracking(tail: Tail, centre: float, spread: float, gap: int, config: Settings) -> Tracking:
    return Tracking(
        kind="dspot",
        memory=config.memory,
        centre=centre,
        spread=spread,
        level=tail.level,
        gap=gap,
        share=tail.share,
        peaks=tuple(thinned(tail.peaks_P, KEPT).tolist()),
        rate=config.false_alarm_rate,
    )


def moving_mean(scores_N: Float64Array, memory: int, before: float) -> Float64Array:
    """Mean of the `memory` scores before each one; what lies before the first is taken to be `before`.

    Example:
        >>> moving_mean(np.array([2.0, 4.0, 6.0]), memory=2, before=0.0)
        array([0., 1., 3.])
    """
    n = len(scores_N)
    sums_N = np.concatenate([[0.0], np.cumsum(scores_N - before)])
    firsts_N = np.maximum(np.arange(n) - memory, 0)
    means_N: Float64Array = before + (sums_N[:n] - sums_N[firsts_N]) / memory
    return means_N
