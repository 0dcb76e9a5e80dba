"""Every figure of one site's test in one value, so that none is quoted without the ones that put it in its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from shared.metrics.adjusted import best_point_adjusted_f1, point_adjusted_f1_at, random_control
from shared.metrics.events import detection_delays_s, event_recall, false_alarms_per_day, spans
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
from shared.series import BoolArray


@dataclass(frozen=True)
class Evaluation:
    """How well a score and its threshold found the labelled events of one test series. NaN where a figure is undefined.

    Attributes:
        auprc, auroc: ranking, row by row; a random score reaches `anomaly_share` and 0.5.
        f1_at_threshold: row by row, at the detector's own threshold.
        f1_best: at the threshold that the labels would choose; an upper bound.
        f1_all_ones: of alarming every row.
        event_recall: share of the events with an alarm.
        delay_s: median seconds from the beginning of an event to its first alarm, over the events that were noticed.
        false_alarms_per_day: alarm episodes that touch no event, a day of watched normal operation.
        false_alarm_share: share of the normal rows that are alarmed.
        point_adjusted_f1, point_adjusted_f1_best: at the detector's own and at the best threshold; never without
            `point_adjusted_f1_random`, the best one of a random score on the same rows.
        events: labelled events.
        anomaly_share: share of the scored rows that are anomalous.
        rows: rows that have a score.
    """

    auprc: float
    auroc: float
    f1_at_threshold: float
    f1_best: float
    f1_all_ones: float
    event_recall: float
    delay_s: float
    false_alarms_per_day: float
    false_alarm_share: float
    point_adjusted_f1: float
    point_adjusted_f1_best: float
    point_adjusted_f1_random: float
    events: int
    anomaly_share: float
    rows: int

    def to_dict(self) -> dict[str, float | None]:
        """Names and values, ready for JSON: NaN becomes None."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def evaluate(
    scores_T: Scores,
    labels_T: BoolArray,
    threshold: float,
    period_s: float,
    starts: Sequence[int] = (0,),
    seed: int = 0,
) -> Evaluation:
    """Compare scores with labels.

    Args:
        scores_T: (T,), higher is more anomalous. NaN where no full window ends: such rows are left out of the
            point-wise figures, never alarmed, and not counted as watched; an event of such rows only counts as missed.
        labels_T: bool (T,), True where anomalous.
        threshold: a row is alarmed when its score is greater.
        period_s: sampling period.
        starts: rows at which recordings begin.
        seed: of the random control.

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
    scores_M, labels_M = scores_T[scored_T], labels_T[scored_T]
    delays_E = detection_delays_s(alarms_T, labels_T, period_s, starts)
    return Evaluation(
        auprc=average_precision(scores_M, labels_M),
        auroc=auroc(scores_M, labels_M),
        f1_at_threshold=f1_at(scores_M, labels_M, threshold),
        f1_best=best_f1(scores_M, labels_M)[0],
        f1_all_ones=f1_of_all_ones(labels_M),
        event_recall=event_recall(alarms_T, labels_T, starts),
        delay_s=float(np.median(_defined(delays_E))) if len(_defined(delays_E)) else math.nan,
        false_alarms_per_day=false_alarms_per_day(alarms_T, labels_T, period_s, starts, scored_T),
        false_alarm_share=false_alarm_share(alarms_T[scored_T], labels_M),
        point_adjusted_f1=point_adjusted_f1_at(scores_T, labels_T, threshold, starts),
        point_adjusted_f1_best=best_point_adjusted_f1(scores_T, labels_T, starts)[0],
        point_adjusted_f1_random=random_control(labels_T, seed, starts=starts, scored_T=scored_T),
        events=len(spans(labels_T, starts)),
        anomaly_share=float(labels_M.mean()) if len(labels_M) else math.nan,
        rows=len(labels_M),
    )


def macro(evaluations: Iterable[Evaluation]) -> dict[str, float]:
    """Mean of each figure over the sites for which it is defined; NaN where it is defined for none.

    Every site weighs the same, whatever its length. `events` and `rows` are means, too.
    """
    evaluations = tuple(evaluations)
    return {
        field.name: _mean(np.array([getattr(evaluation, field.name) for evaluation in evaluations], dtype=np.float64))
        for field in fields(Evaluation)
    }


def _mean(values_S: Float64Array) -> float:
    defined = _defined(values_S)
    return float(defined.mean()) if len(defined) else math.nan


def _defined(values_S: Float64Array) -> Float64Array:
    return values_S[~np.isnan(values_S)]
