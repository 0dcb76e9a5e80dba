"""Point-adjusted F1, and the random score that shows what it is worth.

Point adjustment (Xu et al. 2018, "Unsupervised Anomaly Detection via Variational Auto-Encoder for Seasonal KPIs in Web
Applications", WWW) counts every row of an event as found as soon as one row of it is alarmed. In a long event a single
lucky row is worth thousands, so that a uniform random score reaches 0.915 on MSL (docs/metrics.md has the command;
for the reason see Kim et al. 2022, "Towards a Rigorous Evaluation of Time-Series Anomaly Detection", AAAI).
It may therefore never stand alone: show it only to compare with literature that reports it, and always beside
`random_control` on the same labels.

Shapes: T rows, E events, M normal rows, C candidate thresholds. Unlike in `pointwise`, a score may be NaN (no full
window yet): the row keeps its place in time, is never alarmed and counts neither as found nor as missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.metrics.events import spans
from shared.metrics.pointwise import Counts, Float64Array, Scores, above, candidate_thresholds, check_shapes
from shared.series import BoolArray


class _Parts(NamedTuple):
    peaks_E: Float64Array  # highest score of each event
    sizes_E: Counts  # scored rows of each event
    normal_M: Float64Array  # scores of the normal rows


def point_adjusted_f1_at(
    scores_T: Scores, labels_T: BoolArray, threshold: float, starts: Sequence[int] = (0,)
) -> float:
    """F1 of the alarms `score > threshold` after point adjustment. Never below the point-wise F1; never to stand alone.

    Args:
        scores_T: (T,), higher is more anomalous; NaN where there is no score.
        labels_T: bool (T,).
        threshold: in units of the score.
        starts: rows at which recordings begin.

    Returns:
        a number in [0, 1]; NaN without a scored anomalous row. A random score reaches about 0.9 on common data sets.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> point_adjusted_f1_at(np.array([0.1, 0.9, 0.2, 0.3]), np.array([False, True, True, True]), 0.5)
        1.0
    """
    peaks_E, sizes_E, normal_M = _parts(scores_T, labels_T, starts)
    if not len(peaks_E):
        return math.nan
    hits = sizes_E[peaks_E > threshold].sum()
    return float(2 * hits / (hits + np.sum(normal_M > threshold) + sizes_E.sum()))


def best_point_adjusted_f1(scores_T: Scores, labels_T: BoolArray, starts: Sequence[int] = (0,)) -> tuple[float, float]:
    """The highest `point_adjusted_f1_at` over all thresholds, and the lowest threshold that reaches it. O(T log T).

    Never to stand alone: the threshold is chosen by the labels, and a random score reaches 0.918 on MSL with it. Args
    and errors as in `point_adjusted_f1_at`; `(NaN, NaN)` without a scored anomalous row.

    Example:
        >>> best_point_adjusted_f1(np.array([0.1, 0.9, 0.2, 0.3]), np.array([False, True, True, True]))
        (1.0, 0.1)
    """
    peaks_E, sizes_E, normal_M = _parts(scores_T, labels_T, starts)
    if not len(peaks_E):
        return math.nan, math.nan
    cuts_C = candidate_thresholds(np.concatenate([peaks_E, normal_M]))
    hits_C = _rows_above(peaks_E, sizes_E, cuts_C)
    f1_C = 2 * hits_C / (hits_C + above(normal_M, cuts_C) + sizes_E.sum())
    best = int(np.argmax(f1_C))
    return float(f1_C[best]), float(cuts_C[best])


def random_control(
    labels_T: BoolArray,
    seed: int,
    repeats: int = 5,
    starts: Sequence[int] = (0,),
    scored_T: BoolArray | None = None,
) -> float:
    """Mean best point-adjusted F1 of a score drawn uniformly at random: what point adjustment gives away.

    Args:
        labels_T: bool (T,).
        seed: of the random scores.
        repeats: number of random scores.
        starts: rows at which recordings begin.
        scored_T: bool (T,), the rows that the compared detector scored; None: all.

    Returns:
        a number in [0, 1]; NaN without a scored anomalous row. About 0.915 on MSL (docs/metrics.md).

    Example:
        >>> random_control(np.array([False] * 50 + [True] * 50), seed=0) > 0.95
        True
    """
    draws_RT = random_scores(labels_T, seed, repeats, scored_T)
    return float(np.mean([best_point_adjusted_f1(draw_T, labels_T, starts)[0] for draw_T in draws_RT]))


def random_scores(labels_T: BoolArray, seed: int, repeats: int, scored_T: BoolArray | None = None) -> Float64Array:
    """Uniform random scores, float64 (R, T), NaN where `scored_T` is False: what every control is measured with.

    Example:
        >>> random_scores(np.array([True, False]), seed=0, repeats=3).shape
        (3, 2)
    """
    scored_T = np.ones_like(labels_T) if scored_T is None else scored_T
    return np.where(scored_T, np.random.default_rng(seed).random((repeats, len(labels_T))), np.nan)


def _parts(scores_T: Scores, labels_T: BoolArray, starts: Sequence[int]) -> _Parts:
    check_shapes(scores_T, labels_T)
    scored_T = ~np.isnan(scores_T)
    events = [scores_T[a:b][scored_T[a:b]] for a, b in spans(labels_T, starts) if scored_T[a:b].any()]
    peaks_E = np.array([event.max() for event in events], dtype=np.float64)
    sizes_E = np.array([len(event) for event in events], dtype=np.int64)
    return _Parts(peaks_E, sizes_E, scores_T[scored_T & ~labels_T].astype(np.float64))


def _rows_above(peaks_E: Float64Array, sizes_E: Counts, cuts_C: Float64Array) -> Counts:
    """Rows of all events whose peak exceeds each cut, int64 (C,)."""
    order_E = np.argsort(peaks_E)
    below = np.concatenate([[0], np.cumsum(sizes_E[order_E])])  # rows of the k lowest events, k = 0..E
    rows_C: Counts = below[-1] - below[np.searchsorted(peaks_E[order_E], cuts_C, side="right")]
    return rows_C
