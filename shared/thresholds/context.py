"""One threshold for each operating mode (cluster), where there is enough data for one."""

from __future__ import annotations

from dataclasses import replace

from shared.thresholds.base import Cut, Normal, Settings, register
from shared.thresholds.conformal import conformal, ranked

WANTED = 10  # windows of a mode above its own threshold: fewer say nothing of its tail


@register("context")
def context(normal: Normal, config: Settings) -> Cut:
    """Conformal by cluster j: `tau_j = max(tau, S^j_(k))` if `n_j >= 10 / alpha`, else the pooled tau of `conformal`.

    No mode is below the pooled value, so that the rate over all windows stays supported; a mode whose normal scores are
    higher gets its own value and no longer uses up the alarms of all. Thresholds below the pooled one would find more,
    and cost many times the false alarms asked for where clusters are rare. Without clusters it is `conformal`.
    """
    pooled, alpha = conformal(normal, config), config.false_alarm_rate
    own = [normal.of_mode(mode) for mode in range(normal.modes)]
    values = [max(pooled.value, ranked(s, alpha)) if len(s) >= WANTED / alpha else pooled.value for s in own]
    return replace(pooled, by_mode=tuple(values))
