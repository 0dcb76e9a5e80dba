"""A threshold that follows the mean and the spread of the scores, forgetting exponentially."""

from __future__ import annotations

from shared.thresholds.adaptive import following
from shared.thresholds.base import Cut, Normal, Settings, register


@register("ewma")
def ewma(normal: Normal, config: Settings) -> Cut:
    """Conformal's value tau_0; live, `tau = m + k s` with the exponentially weighted mean m and standard deviation s of
    the un-alarmed scores (weight 1 / `config.memory` for the newest) and `k = (tau_0 - m_0) / s_0`, caged
    (`shared.thresholds.tracking`). So k is that of the rate that was asked for, and no 3.
    """
    return following("ewma", normal, config)
