"""A threshold that follows the percentiles of the latest scores."""

from __future__ import annotations

from shared.thresholds.adaptive import following
from shared.thresholds.base import Cut, Normal, Settings, register


@register("moving-percentile")
def moving_percentile(normal: Normal, config: Settings) -> Cut:
    """Conformal's value tau_0; live, `tau = m + (tau_0 - m_0) s / s_0` with the median m and the distance s from it to
    the 90 % quantile over the latest `config.memory` un-alarmed windows, caged (`shared.thresholds.tracking`).

    The (1 - alpha) percentile of the un-alarmed scores themselves would sink and sink: the highest alpha of them is
    missing at every turn.
    """
    return following("moving-percentile", normal, config)
