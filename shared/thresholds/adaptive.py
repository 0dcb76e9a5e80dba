"""Rules whose threshold moves with slow, harmless change: where they begin. `tracking` moves them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shared.scoring import Float64Array
from shared.thresholds.base import Cut, Kind, Normal, Settings, Tracking
from shared.thresholds.conformal import conformal

HIGH = 0.9  # the quantile whose distance from the median is the spread of `moving-percentile`


def quiet(scores_N: Float64Array, value: float) -> Float64Array:
    """The scores that raise no alarm: all that a tracker ever learns from."""
    kept_M = scores_N[scores_N <= value]
    return kept_M if len(kept_M) else scores_N


def quantiles(scores_N: Float64Array) -> tuple[float, float]:
    """Median, and distance from it to the 90 % quantile."""
    middle, high = np.quantile(scores_N, [0.5, HIGH]).tolist()
    return middle, high - middle


def moments(scores_N: Float64Array) -> tuple[float, float]:
    """Mean and standard deviation."""
    return float(scores_N.mean()), float(scores_N.std())


def following(kind: Kind, normal: Normal, config: Settings) -> Cut:
    """Conformal's cut with a tracker. Scores without any spread get none: there is nothing that could move it."""
    cut = conformal(normal, config)
    centre, spread = (quantiles if kind == "moving-percentile" else moments)(quiet(normal.scores_N, cut.value))
    if spread <= 1e-12 * abs(centre):
        return cut
    return replace(cut, tracking=Tracking(kind=kind, memory=config.memory, centre=centre, spread=spread))
