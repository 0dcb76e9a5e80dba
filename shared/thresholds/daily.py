"""The default rule: as few false alarms as a day has room for, and no fewer than normal data can tell."""

from __future__ import annotations

from dataclasses import replace

from shared.thresholds.base import Cut, Normal, Settings, register
from shared.thresholds.budget import REARM_S, rate_from_scores
from shared.thresholds.conformal import cut_at
from shared.thresholds.worth import least_rate

TOLD = 10
"""Normal windows above a threshold by which its rate is told to a third: the error of a count k is sqrt(k)."""

ROOM = 1 / 80
"""The highest share of normal windows that is alarmed because a day has room for it: with a row an hour it has much."""

_DAY_S = 86_400.0


@register("daily")
def daily(normal: Normal, config: Settings) -> Cut:
    """Conformal's score of the rate `alpha = min(alpha_max, max(min(room, 1 / 80), 10 / n))`.

    Promised is twice what the windows can carry (`least_rate`), so that half of it, beside a local guard, is carried as
    well, or alpha where that is more; the value is that of alpha. Where they can carry nothing, alpha is promised.

    `room` is the rate at which normal windows gave `alarms_a_day` alarms, what comes back within 300 s counted as the
    same one (`shared.thresholds.budget`); `10 / n` is the lowest of which n windows can tell; `alpha_max` is
    `false_alarm_rate`. Where nobody says how many windows a day has, it is `conformal`.
    """
    alpha, carried = _rate(normal, config), 2 * least_rate(len(normal.scores_N), normal.effective)
    promised = max(alpha, carried) if carried <= config.false_alarm_rate else alpha
    return replace(cut_at(normal.scores_N, alpha), false_alarm_rate=promised)


def _rate(normal: Normal, config: Settings) -> float:
    if normal.windows_a_day is None:
        return config.false_alarm_rate
    gap = max(1, round(REARM_S * normal.windows_a_day / _DAY_S))
    room = rate_from_scores(normal.scores_N, config.alarms_a_day, normal.windows_a_day, gap)
    return min(config.false_alarm_rate, max(min(room, ROOM), TOLD / len(normal.scores_N)))
