"""The plain empirical quantile."""

from __future__ import annotations

import math

import numpy as np

from shared.thresholds.base import Cut, Normal, Settings, register
from shared.thresholds.conformal import too_few


@register("quantile")
def quantile(normal: Normal, config: Settings) -> Cut:
    """`tau` = the (1 - alpha) quantile of the scores, interpolated between neighbours as NumPy does by default.

    It leaves out conformal's correction for finite n, so that the rate it supports, that of the score of rank
    floor((n - 1)(1 - alpha)) + 1 below it, is a little above alpha.
    """
    n, alpha = len(normal.scores_N), config.false_alarm_rate
    rank = math.floor((n - 1) * (1 - alpha)) + 1
    return Cut(
        value=float(np.quantile(normal.scores_N, 1 - alpha)),
        false_alarm_rate=alpha,
        supported_rate=(n + 1 - rank) / (n + 1),
        caveat=too_few(n, alpha) if (n + 1) * alpha < 1 else "",
    )
