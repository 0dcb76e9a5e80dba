"""All sites' rows and events laid end to end, beside the mean over sites in `summary.macro`.

The mean gives a site with one event as much say as one with thirty; pooling gives every row (AUPRC, VUS) and every
event (recall, delay) the same. Pooling needs scores that can be compared: it uses the *excess* of the score over the
site's own threshold. Scores of this project are in robust units of the site's normal data
(`shared.scoring.ScoreScale`), so that an excess of 1 means the same everywhere. With raw scores
(`recipe.scoring.standardise = false`) it does not, and the pooled ranking then measures how sites' scales differ; what
depends on alarms alone stays valid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.metrics.events import SECONDS_A_DAY, detection_delays_s, false_alarms_per_day
from shared.metrics.pointwise import Float64Array, Scores
from shared.metrics.summary import Evaluation, evaluate
from shared.series import BoolArray


@dataclass(frozen=True)
class Scored:
    """One site's scored and labelled test series; the fields are the arguments of `evaluate`, and the threshold may be
    one a row, (T,).
    """

    scores_T: Scores
    labels_T: BoolArray
    threshold: float | Float64Array
    period_s: float
    starts: Sequence[int] = (0,)

    def excess(self) -> Float64Array:
        """Score less threshold, float64 (T,): positive where alarmed."""
        scores_T = self.scores_T.astype(np.float64)
        level_T = scores_T == self.threshold  # an infinite score at an infinite threshold is no alarm
        return np.subtract(scores_T, self.threshold, out=np.zeros_like(scores_T), where=~level_T)

    @property
    def watched_s(self) -> float:
        """Seconds of normal operation that have a score."""
        return float(np.sum(~self.labels_T & ~np.isnan(self.scores_T))) * self.period_s


def pooled(sites: Sequence[Scored], seed: int = 0) -> Evaluation | None:
    """Evaluate all sites as one; None without a site.

    Delays are in seconds and days in days, whatever each site's sampling period. Windows of VUS are in rows.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> one = Scored(np.array([0.1, 0.9]), np.array([False, True]), threshold=0.5, period_s=60.0)
        >>> two = Scored(np.array([7.0, 2.0]), np.array([False, True]), threshold=5.0, period_s=60.0)
        >>> both = pooled([one, two])
        >>> both.event_recall, both.events, round(both.auprc, 3), both.false_alarms_per_day
        (0.5, 2, 0.5, 720.0)
    """
    if not sites:
        return None
    before = np.cumsum([0, *(len(site.labels_T) for site in sites[:-1])])
    starts = [int(rows) + start for rows, site in zip(before, sites, strict=True) for start in site.starts]
    excess_T = np.concatenate([site.excess() for site in sites])
    labels_T = np.concatenate([site.labels_T for site in sites])
    found = evaluate(excess_T, labels_T, 0.0, sites[0].period_s, starts, seed)
    return replace(found, delay_s=_delay_s(sites), false_alarms_per_day=_false_alarms_per_day(sites))


def _delay_s(sites: Sequence[Scored]) -> float:
    delays_E = np.concatenate(
        [detection_delays_s(site.excess() > 0, site.labels_T, site.period_s, site.starts) for site in sites]
    )
    return float(np.nanmedian(delays_E)) if not np.isnan(delays_E).all() else math.nan


def _false_alarms_per_day(sites: Sequence[Scored]) -> float:
    """All sites' false alarm episodes over all their watched days."""
    watched_s = sum(site.watched_s for site in sites)
    false = sum(_episodes(site) for site in sites)
    return false / (watched_s / SECONDS_A_DAY) if watched_s else math.nan


def _episodes(site: Scored) -> float:
    if not site.watched_s:
        return 0.0
    scored_T = ~np.isnan(site.scores_T)
    rate = false_alarms_per_day(site.excess() > 0, site.labels_T, site.period_s, site.starts, scored_T)
    return rate * site.watched_s / SECONDS_A_DAY
