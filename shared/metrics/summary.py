"""Every figure of one site's test in one value, so that none is quoted without the ones that put it in its place.

What each figure is worth, and which to quote, is in docs/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from shared.metrics.adjusted import best_point_adjusted_f1, point_adjusted_f1_at, random_control
from shared.metrics.affiliation import affiliation
from shared.metrics.bootstrap import RESAMPLES, average_precision_interval, event_recall_interval, mean_interval
from shared.metrics.early import early_detection
from shared.metrics.events import detection_delays_s, event_recall, false_alarms_per_day, spans
from shared.metrics.pa_percent_k import best_percent_adjusted_area, percent_adjusted_area_at, random_area
from shared.metrics.pointwise import (
    Float64Array,
    Scores,
    auroc,
    average_precision,
    best_f1,
    check_shapes,
    f1_at,
    f1_of_all_ones,
    false_alarm_share,
)
from shared.metrics.ranges import range_based
from shared.metrics.vus import MAX_WINDOW, random_vus_pr, vus
from shared.series import BoolArray


@dataclass(frozen=True)
class Evaluation:
    """How well a score and its threshold found the labelled events of one test series. NaN where a figure is undefined.

    Attributes:
        auprc, auroc: ranking, row by row; a random score reaches `anomaly_share` and 0.5.
        auprc_low, auprc_high: 95 % confidence interval of `auprc`, from resampled events; NaN with fewer than five.
        vus_pr, vus_roc: ranking, with labels that may be up to 50 rows early or late.
        vus_pr_random: `vus_pr` of a random score on the same rows.
        f1_at_threshold: row by row, at the detector's own threshold.
        f1_best: at the threshold that the labels would choose; an upper bound.
        f1_all_ones: of alarming every row.
        range_precision, range_recall, range_f1: events and alarm episodes weigh the same, however long; at the
            detector's own threshold, as are all below.
        affiliation_precision, affiliation_recall: nearness of alarms and events in time, against a random alarm; about
            0.5 and nearly 1 need no skill.
        event_recall: share of the events with an alarm.
        event_recall_low, event_recall_high: its 95 % confidence interval, as for `auprc`.
        delay_s: median seconds from the beginning of an event to its first alarm, over the events that were noticed.
        early_detection: share of an event that was still to come at its first alarm, 0 for a missed one; mean over all.
        false_alarms_per_day: alarms that touch no event, a day of watched normal operation; what comes back within
            300 s is the same alarm.
        false_alarm_share: share of the normal rows that are alarmed.
        point_adjusted_f1, point_adjusted_f1_best: at the detector's own and at the best threshold; never without
            `point_adjusted_f1_random`, the best one of a random score on the same rows.
        percent_adjusted_area, percent_adjusted_area_best, percent_adjusted_area_random: the same three for the mean of
            PA%K's F1 over K from 0 to 100.
        events: labelled events.
        anomaly_share: share of the scored rows that are anomalous.
        rows: rows that have a score.
    """

    auprc: float
    auprc_low: float
    auprc_high: float
    auroc: float
    vus_pr: float
    vus_pr_random: float
    vus_roc: float
    f1_at_threshold: float
    f1_best: float
    f1_all_ones: float
    range_precision: float
    range_recall: float
    range_f1: float
    affiliation_precision: float
    affiliation_recall: float
    event_recall: float
    event_recall_low: float
    event_recall_high: float
    delay_s: float
    early_detection: float
    false_alarms_per_day: float
    false_alarm_share: float
    point_adjusted_f1: float
    point_adjusted_f1_best: float
    point_adjusted_f1_random: float
    percent_adjusted_area: float
    percent_adjusted_area_best: float
    percent_adjusted_area_random: float
    events: int
    anomaly_share: float
    rows: int

    def to_dict(self) -> dict[str, float | None]:
        """Names and values, ready for JSON: NaN becomes None."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def evaluate(
    scores_T: Scores,
    labels_T: BoolArray,
    threshold: float | Float64Array,
    period_s: float,
    starts: Sequence[int] = (0,),
    seed: int = 0,
    max_window: int = MAX_WINDOW,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Compare scores with labels.

    Args:
        scores_T: (T,), higher is more anomalous. NaN where no full window ends: such rows are left out of the
            point-wise figures, never alarmed, and not counted as watched; an event of such rows only counts as missed.
        labels_T: bool (T,), True where anomalous.
        threshold: a row is alarmed when its score is greater; one for all, or one a row, (T,).
        period_s: sampling period.
        starts: rows at which recordings begin.
        seed: of the random controls and of the resampling.
        max_window: rows; the largest window of VUS, whose buffers are half as long.
        resamples: for the confidence intervals.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> scores, labels = np.array([np.nan, 0.1, 0.9, 0.2]), np.array([False, False, True, True])
        >>> found = evaluate(scores, labels, threshold=0.5, period_s=10.0)
        >>> found.auprc, found.event_recall, found.delay_s, found.rows
        (1.0, 1.0, 0.0, 3)
    """
    check_shapes(scores_T, labels_T)
    scored_T = ~np.isnan(scores_T)
    alarms_T = scores_T.astype(np.float64) > threshold
    alarmed_T = np.where(scored_T, alarms_T, np.nan)
    scores_M, labels_M = scores_T[scored_T], labels_T[scored_T]
    delays_E = _defined(detection_delays_s(alarms_T, labels_T, period_s, starts))
    auprc_interval = average_precision_interval(scores_T, labels_T, starts, resamples, seed)
    recall_interval = event_recall_interval(alarms_T, labels_T, starts, resamples, seed)
    volume = vus(scores_T, labels_T, max_window, starts)
    ranges = range_based(alarms_T, labels_T, starts)
    near = affiliation(alarms_T, labels_T, starts)
    return Evaluation(
        auprc=average_precision(scores_M, labels_M),
        auprc_low=auprc_interval.low,
        auprc_high=auprc_interval.high,
        auroc=auroc(scores_M, labels_M),
        vus_pr=volume.pr,
        vus_pr_random=random_vus_pr(labels_T, seed, max_window, starts=starts, scored_T=scored_T),
        vus_roc=volume.roc,
        f1_at_threshold=f1_at(alarmed_T[scored_T], labels_M, 0.5),
        f1_best=best_f1(scores_M, labels_M)[0],
        f1_all_ones=f1_of_all_ones(labels_M),
        range_precision=ranges.precision,
        range_recall=ranges.recall,
        range_f1=ranges.f1,
        affiliation_precision=near.precision,
        affiliation_recall=near.recall,
        event_recall=event_recall(alarms_T, labels_T, starts),
        event_recall_low=recall_interval.low,
        event_recall_high=recall_interval.high,
        delay_s=float(np.median(delays_E)) if len(delays_E) else math.nan,
        early_detection=early_detection(alarms_T, labels_T, starts),
        false_alarms_per_day=false_alarms_per_day(alarms_T, labels_T, period_s, starts, scored_T),
        false_alarm_share=false_alarm_share(alarms_T[scored_T], labels_M),
        point_adjusted_f1=point_adjusted_f1_at(alarmed_T, labels_T, 0.5, starts),
        point_adjusted_f1_best=best_point_adjusted_f1(scores_T, labels_T, starts)[0],
        point_adjusted_f1_random=random_control(labels_T, seed, starts=starts, scored_T=scored_T),
        percent_adjusted_area=percent_adjusted_area_at(alarmed_T, labels_T, 0.5, starts),
        percent_adjusted_area_best=best_percent_adjusted_area(scores_T, labels_T, starts),
        percent_adjusted_area_random=random_area(labels_T, seed, starts=starts, scored_T=scored_T),
        events=len(spans(labels_T, starts)),
        anomaly_share=float(labels_M.mean()) if len(labels_M) else math.nan,
        rows=len(labels_M),
    )


_INTERVALS = ("auprc", "event_recall")


def macro(evaluations: Iterable[Evaluation]) -> dict[str, float]:
    """Mean of each figure over the sites for which it is defined; NaN where it is defined for none.

    Every site weighs the same, whatever its length. `events` and `rows` are means, too. The ends of the confidence
    intervals are not means of ends: they are the interval of the mean, from resampled sites; of one site, its own.
    """
    evaluations = tuple(evaluations)
    values = {
        field.name: _defined(np.array([getattr(evaluation, field.name) for evaluation in evaluations], np.float64))
        for field in fields(Evaluation)
    }
    means = {name: float(values_S.mean()) if len(values_S) else math.nan for name, values_S in values.items()}
    for name in _INTERVALS:
        if len(values[name]) > 1:
            means[f"{name}_low"], means[f"{name}_high"] = mean_interval(values[name])
    return means


def _defined(values_S: Float64Array) -> Float64Array:
    return values_S[~np.isnan(values_S)]
