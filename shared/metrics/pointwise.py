"""Metrics that take every row for itself: ranking (AUPRC, AUROC) and F1 at a threshold.

Shapes: T rows, C candidate thresholds. A row is alarmed when its score is *greater than* the threshold. A metric that
is not defined (no anomalous row, say) is NaN. Rows without a score have no place here: leave them out first, as
`shared.metrics.summary.evaluate` does; a NaN score raises `ValueError`, for it is a mistake in the calling code.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.series import BoolArray

Scores = NDArray[np.floating[Any]]
Float64Array = NDArray[np.float64]
Counts = NDArray[np.int64]


def average_precision(scores_T: Scores, labels_T: BoolArray) -> float:
    """Area under the precision-recall curve as a step function, `sum_n (R_n - R_{n-1}) P_n` over distinct scores.

    Args:
        scores_T: (T,), higher is more anomalous; no NaN.
        labels_T: bool (T,), True where anomalous.

    Returns:
        a number in (0, 1]; NaN without an anomalous row. Equal scores are one step, as in scikit-learn. A random score
        reaches the share of anomalous rows.

    Raises:
        ValueError: shapes differ, or a score is NaN.

    Example:
        >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])), 4)
        0.8333
    """
    scores_T = checked(scores_T, labels_T)
    if not labels_T.any():
        return math.nan
    cuts_C = np.unique(scores_T)[::-1]
    hits_C = _at_least(scores_T[labels_T], cuts_C)
    precision_C = hits_C / _at_least(scores_T, cuts_C)
    recall_C = hits_C / labels_T.sum()
    return float(np.sum(np.diff(recall_C, prepend=0.0) * precision_C))


def auroc(scores_T: Scores, labels_T: BoolArray) -> float:
    """Probability that an anomalous row scores above a normal one, ties counting one half (Mann and Whitney 1947).

    Args and errors as in `average_precision`. NaN unless there are both normal and anomalous rows.

    Example:
        >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    scores_T = checked(scores_T, labels_T)
    normal_M, anomalous_P = np.sort(scores_T[~labels_T]), scores_T[labels_T]
    if not len(normal_M) or not len(anomalous_P):
        return math.nan
    below_P = np.searchsorted(normal_M, anomalous_P, side="left")
    not_above_P = np.searchsorted(normal_M, anomalous_P, side="right")
    return float(np.mean(below_P + not_above_P) / 2 / len(normal_M))


def f1_at(scores_T: Scores, labels_T: BoolArray, threshold: float) -> float:
    """F1 of the alarms `score > threshold`, row by row: `2 TP / (alarms + anomalous rows)`.

    Args and errors as in `average_precision`. 0 when nothing is alarmed; NaN without an anomalous row.

    Example:
        >>> f1_at(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]), 0.3)
        0.8
    """
    alarms_T = checked(scores_T, labels_T) > threshold
    if not labels_T.any():
        return math.nan
    return float(2 * np.sum(alarms_T & labels_T) / (alarms_T.sum() + labels_T.sum()))


def best_f1(scores_T: Scores, labels_T: BoolArray) -> tuple[float, float]:
    """The highest `f1_at` over all thresholds, and the lowest threshold that reaches it. O(T log T).

    It looks at the labels to choose the threshold, so it is an upper bound, never a result; quote it beside
    `f1_of_all_ones`. Args and errors as in `average_precision`; `(NaN, NaN)` without an anomalous row.

    Example:
        >>> best_f1(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        (0.8, 0.1)
    """
    scores_T = checked(scores_T, labels_T)
    if not labels_T.any():
        return math.nan, math.nan
    cuts_C = candidate_thresholds(scores_T)
    hits_C, alarms_C = above(scores_T[labels_T], cuts_C), above(scores_T, cuts_C)
    f1_C = 2 * hits_C / (alarms_C + labels_T.sum())
    best = int(np.argmax(f1_C))
    return float(f1_C[best]), float(cuts_C[best])


def f1_of_all_ones(labels_T: BoolArray) -> float:
    """F1 of alarming every row: `2 p / (1 + p)` at an anomaly share of p. No detector is needed to reach it.

    Example:
        >>> f1_of_all_ones(np.array([False, True, False, False]))
        0.4
    """
    return float(2 * labels_T.sum() / (len(labels_T) + labels_T.sum())) if labels_T.any() else math.nan


def false_alarm_share(alarms_T: BoolArray, labels_T: BoolArray) -> float:
    """Share of the normal rows that are alarmed (false positive rate). NaN without a normal row.

    Example:
        >>> false_alarm_share(np.array([True, True, False]), np.array([False, True, False]))
        0.5
    """
    normal = int(np.sum(~labels_T))
    return float(np.sum(alarms_T & ~labels_T) / normal) if normal else math.nan


def candidate_thresholds(scores_T: Float64Array) -> Float64Array:
    """Ascending thresholds for every possible set of alarms: just below the lowest score, then each distinct score."""
    distinct_C = np.unique(scores_T)
    return np.concatenate([np.nextafter(distinct_C[:1], -np.inf), distinct_C])


def above(values_M: Float64Array, cuts_C: Float64Array) -> Counts:
    """How many values exceed each cut, int64 (C,)."""
    return len(values_M) - np.searchsorted(np.sort(values_M), cuts_C, side="right")


def last_of_ties(sorted_M: Scores) -> Counts:
    """Index of the last of each run of equal values, int64 (G,). Infinite values tie, too.

    Example:
        >>> last_of_ties(np.array([3.0, 2.0, 2.0, 1.0]))
        array([0, 2, 3])
    """
    return np.append(np.flatnonzero(sorted_M[1:] != sorted_M[:-1]), len(sorted_M) - 1)


def _at_least(values_M: Float64Array, cuts_C: Float64Array) -> Counts:
    return len(values_M) - np.searchsorted(np.sort(values_M), cuts_C, side="left")


def checked(scores_T: Scores, labels_T: BoolArray) -> Float64Array:
    """The scores in float64, so that no threshold is rounded to float32 when they are compared.

    Raises:
        ValueError: shapes differ, or a score is NaN.
    """
    check_shapes(scores_T, labels_T)
    if np.isnan(scores_T).any():
        raise ValueError("a score is NaN: leave out the rows before the first full window")
    return scores_T.astype(np.float64)


def check_shapes(scores_T: Scores | BoolArray, labels_T: BoolArray) -> None:
    """See that there is one score (or alarm) and one label a row.

    Raises:
        ValueError: there is not.
    """
    if scores_T.shape != labels_T.shape or scores_T.ndim != 1:
        raise ValueError(f"scores {scores_T.shape} and labels {labels_T.shape} must be one row of equal length")
