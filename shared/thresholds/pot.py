"""Peaks over threshold: the tail of the scores as a distribution of extremes."""

from __future__ import annotations

from shared.thresholds.base import Cut, Normal, Settings, register
from shared.thresholds.conformal import ranked
from shared.thresholds.tail import find_tail


@register("pot")
def pot(normal: Normal, config: Settings) -> Cut:
    """`tau = u + sigma / gamma ((alpha / share)^-gamma - 1)` of a generalised Pareto distribution of the peaks above u.

    Siffer et al. 2017 (KDD), equation 1, with the share of the windows above u in place of N_u / n. For rates that are
    too low for conformal (n < 10 / alpha): it extrapolates, which no data support. Where there are fewer than 200 peaks
    or the fit is absurd (`shared.thresholds.tail`), conformal's score is used, and the caveat says so.
    """
    alpha = config.false_alarm_rate
    tail, reason = find_tail(normal.scores_N, alpha, config.peaks, separation(normal))
    return quantile_instead(normal, alpha, reason) if tail is None else Cut(tail.above(alpha), alpha)


def separation(normal: Normal) -> int:
    """Windows from one cluster of peaks to the next: the decorrelation length, at most a hundredth of all windows."""
    n = len(normal.scores_N)
    return max(1, min(round(n / normal.effective), n // 100))


def quantile_instead(normal: Normal, alpha: float, reason: str) -> Cut:
    """Conformal's score, with the reason why it is no extreme value."""
    return Cut(ranked(normal.scores_N, alpha), alpha, caveat=f"{reason} A quantile is used instead.")
