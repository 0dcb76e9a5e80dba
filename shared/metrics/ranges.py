"""Range-based precision and recall: every event and every alarm episode weighs the same, however long.

Tatbul, Lee, Zdonik, Alam and Gottschlich 2018, "Precision and Recall for Time Series", NeurIPS. For the ranges R_i of
one kind and P_j of the other, equations 4 to 7:

    score(R_i) = alpha * existence(R_i) + (1 - alpha) * cardinality(R_i) * sum_j omega(R_i, R_i & P_j)

existence is 1 if any P_j touches R_i; omega is the share of R_i that P_j covers, each row weighed by its place
(`bias`); cardinality is 1 if at most one P_j touches R_i, else 1 / (their number), which punishes an event found in
pieces. Recall is the mean over events, precision the mean over alarm episodes with alpha = 0.

An alarm a row long inside an event is a perfect episode: precision alone says little, read it with the recall.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from shared.metrics.events import spans
from shared.metrics.pointwise import Counts, Float64Array, check_shapes
from shared.series import BoolArray

Bias = Literal["flat", "front", "back", "middle"]
Cardinality = Literal["reciprocal", "one"]


class RangeFigures(NamedTuple):
    """Range-based precision, recall and their harmonic mean; NaN where undefined."""

    precision: float
    recall: float
    f1: float


def range_based(
    alarms_T: BoolArray,
    labels_T: BoolArray,
    starts: Sequence[int] = (0,),
    alpha: float = 0.2,
    bias: Bias = "flat",
    cardinality: Cardinality = "reciprocal",
) -> RangeFigures:
    """Range-based precision, recall and F1 of alarms.

    Args:
        alarms_T, labels_T: bool (T,).
        starts: rows at which recordings begin; no range crosses them.
        alpha: reward for touching an event at all, in [0, 1]; 0.2 as in TSB-UAD and TSB-AD. Used in the recall only.
        bias: where in an event a row is worth most, in the recall; the precision is always `flat`.
        cardinality: `one` does not punish pieces.

    Returns:
        numbers in [0, 1]. Precision is NaN without an alarm, recall without an event; F1 is NaN without an event, and 0
        without an alarm.

    Raises:
        ValueError: shapes differ, or alpha is outside [0, 1].

    Example:
        >>> alarms, labels = np.array([0, 1, 1, 0, 0], bool), np.array([0, 0, 1, 1, 0], bool)
        >>> range_based(alarms, labels, alpha=0.0)
        RangeFigures(precision=0.5, recall=0.5, f1=0.5)
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha = {alpha} is not in [0, 1]")
    recall = range_recall(alarms_T, labels_T, starts, alpha, bias, cardinality)
    precision = range_recall(labels_T, alarms_T, starts, 0.0, "flat", cardinality)
    if math.isnan(recall):
        return RangeFigures(precision, recall, math.nan)
    total = precision + recall
    return RangeFigures(precision, recall, 2 * precision * recall / total if total > 0 else 0.0)


def range_recall(
    alarms_T: BoolArray,
    labels_T: BoolArray,
    starts: Sequence[int] = (0,),
    alpha: float = 0.2,
    bias: Bias = "flat",
    cardinality: Cardinality = "reciprocal",
) -> float:
    """Mean score of the events; NaN without one. Args and errors as in `range_based`.

    Example:
        >>> labels = np.array([1, 1, 1, 1], bool)
        >>> first = np.array([1, 0, 0, 0], bool)
        >>> [range_recall(first, labels, alpha=0.0, bias=bias) for bias in ("flat", "front", "back", "middle")]
        [0.25, 0.4, 0.1, 0.16666666666666666]
    """
    check_shapes(alarms_T, labels_T)
    events = np.array(spans(labels_T, starts), dtype=np.int64).reshape(-1, 2)
    if not len(events):
        return math.nan
    # A run of rows that are both lies in one event and one episode, and the two share no other run.
    pieces = np.array(spans(alarms_T & labels_T, starts), dtype=np.int64).reshape(-1, 2)
    event_P = np.searchsorted(events[:, 0], pieces[:, 0], side="right") - 1
    first_E, size_E = events[:, 0], events[:, 1] - events[:, 0]
    covered_P = _weight(pieces[:, 1] - first_E[event_P], size_E[event_P], bias)
    covered_P -= _weight(pieces[:, 0] - first_E[event_P], size_E[event_P], bias)
    number_E = np.bincount(event_P, minlength=len(events))
    overlap_E = np.bincount(event_P, covered_P, len(events)) / _weight(size_E, size_E, bias)
    factor_E = 1.0 / np.maximum(number_E, 1) if cardinality == "reciprocal" else 1.0
    return float(np.mean(alpha * (number_E > 0) + (1 - alpha) * factor_E * overlap_E))


def _weight(rows_N: Counts, size_N: Counts, bias: Bias) -> Float64Array:
    """Weight of the first rows of a range: row i of L weighs 1, L - i + 1, i, or min(i, L - i + 1); i from 1."""
    n, size = rows_N.astype(np.float64), size_N.astype(np.float64)
    rising = n * (n + 1) / 2
    if bias == "flat":
        return n
    if bias == "back":
        return rising
    if bias == "front":
        return n * (size + 1) - rising
    half = np.floor(size / 2)
    falling = (n - half) * (size + 1) - (rising - half * (half + 1) / 2)
    return np.where(n <= half, rising, half * (half + 1) / 2 + falling)
