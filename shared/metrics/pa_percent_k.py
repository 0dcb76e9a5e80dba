"""PA%K: point adjustment only for events of which more than K percent of the rows are alarmed.

Kim, Choi, Choi, Lee and Yoon 2022, "Towards a Rigorous Evaluation of Time-Series Anomaly Detection", AAAI, equation 8.
K = 0 is point adjustment, K = 100 no adjustment at all; the area under F1 over K = 0 .. 100 needs no K to be chosen. At
a small K it still rewards a random score (`random_area`), so show it beside that.

Shapes: T rows, E events, P scored anomalous rows, M scored normal rows, G distinct scores of anomalous rows. A NaN
score is treated as in `adjusted`: the row is never alarmed and counts neither as found nor as missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.metrics.adjusted import random_scores
from shared.metrics.events import spans
from shared.metrics.pointwise import Counts, Scores, check_shapes, last_of_ties
from shared.series import BoolArray

PERCENTS = tuple(range(101))


class _Alarmed(NamedTuple):
    """What one threshold alarms."""

    hits_E: Counts  # alarmed rows of each event
    size_E: Counts  # scored rows of each event
    false: int  # alarmed normal rows


class _Parts(NamedTuple):
    """Anomalous rows by falling score."""

    rank_P: Counts  # place of the row within its event, 1 has the highest score
    size_P: Counts  # scored rows of its event
    last_G: Counts  # the last of the rows with the same score
    false_G: Counts  # normal rows that score as much or more


def percent_adjusted_f1_at(
    scores_T: Scores, labels_T: BoolArray, threshold: float, percent: float, starts: Sequence[int] = (0,)
) -> float:
    """F1 of the alarms `score > threshold` after PA%K.

    Args:
        scores_T: (T,), higher is more anomalous; NaN where there is no score.
        labels_T: bool (T,).
        threshold: in units of the score.
        percent: K, 0 to 100; an event counts as found whole when *more* of its scored rows are alarmed.
        starts: rows at which recordings begin.

    Returns:
        a number in [0, 1], between the point-wise and the point-adjusted F1; NaN without a scored anomalous row.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> scores, labels = np.array([0.1, 0.9, 0.2, 0.3]), np.array([False, True, True, True])
        >>> [percent_adjusted_f1_at(scores, labels, 0.5, percent) for percent in (0, 20, 50)]
        [1.0, 1.0, 0.5]
    """
    return _f1(_alarmed(scores_T, labels_T, threshold, starts), percent)


def best_percent_adjusted_f1(
    scores_T: Scores, labels_T: BoolArray, percent: float, starts: Sequence[int] = (0,)
) -> float:
    """The highest `percent_adjusted_f1_at` over all thresholds. Args, returns and errors as there. O(T log T).

    Example:
        >>> best_percent_adjusted_f1(np.array([0.1, 0.9, 0.2, 0.3]), np.array([False, True, True, True]), 50)
        1.0
    """
    parts = _prepare(scores_T, labels_T, starts)
    return math.nan if parts is None else _best(parts, percent)


def percent_adjusted_area_at(
    scores_T: Scores, labels_T: BoolArray, threshold: float, starts: Sequence[int] = (0,)
) -> float:
    """Mean of `percent_adjusted_f1_at` over K = 0 .. 100 by the trapezoidal rule. Args, returns, errors as there."""
    alarmed = _alarmed(scores_T, labels_T, threshold, starts)
    return _area([_f1(alarmed, percent) for percent in PERCENTS])


def best_percent_adjusted_area(scores_T: Scores, labels_T: BoolArray, starts: Sequence[int] = (0,)) -> float:
    """Mean of `best_percent_adjusted_f1` over K = 0 .. 100 by the trapezoidal rule, each K with its own best threshold.

    Args, returns and errors as in `percent_adjusted_f1_at`. The labels choose the thresholds: an upper bound.
    """
    parts = _prepare(scores_T, labels_T, starts)
    return math.nan if parts is None else _area([_best(parts, percent) for percent in PERCENTS])


def random_area(
    labels_T: BoolArray,
    seed: int,
    repeats: int = 5,
    starts: Sequence[int] = (0,),
    scored_T: BoolArray | None = None,
) -> float:
    """Mean `best_percent_adjusted_area` of a uniform random score: what PA%K gives away. Args as in `random_control`.

    Example:
        >>> random_area(np.array([False] * 90 + [True] * 10), seed=0) < 0.5
        True
    """
    draws_RT = random_scores(labels_T, seed, repeats, scored_T)
    return float(np.mean([best_percent_adjusted_area(draw_T, labels_T, starts) for draw_T in draws_RT]))


def _alarmed(scores_T: Scores, labels_T: BoolArray, threshold: float, starts: Sequence[int]) -> _Alarmed:
    check_shapes(scores_T, labels_T)
    alarms_T, scored_T = scores_T.astype(np.float64) > threshold, ~np.isnan(scores_T)
    counts = [(alarms_T[a:b].sum(), scored_T[a:b].sum()) for a, b in spans(labels_T, starts)]
    hits_E, size_E = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    return _Alarmed(hits_E, size_E, int(np.sum(alarms_T & ~labels_T)))


def _f1(alarmed: _Alarmed, percent: float) -> float:
    hits_E, size_E, false = alarmed
    if not size_E.sum():
        return math.nan
    found = np.where(100 * hits_E > percent * size_E, size_E, hits_E).sum()
    return float(2 * found / (found + false + size_E.sum()))


def _prepare(scores_T: Scores, labels_T: BoolArray, starts: Sequence[int]) -> _Parts | None:
    check_shapes(scores_T, labels_T)
    scored_T = ~np.isnan(scores_T)
    rows_P = np.flatnonzero(labels_T & scored_T)
    if not len(rows_P):
        return None
    firsts = [a for a, _ in spans(labels_T, starts)]
    event_P = np.searchsorted(firsts, rows_P, side="right") - 1
    falling_P = -scores_T[rows_P].astype(np.float64)
    order_P = np.lexsort((falling_P, event_P))
    size_E = np.bincount(event_P)
    rank_P = np.empty(len(rows_P), np.int64)
    rank_P[order_P] = np.arange(len(rows_P)) - np.repeat(np.cumsum(size_E) - size_E, size_E) + 1
    by_score_P = np.argsort(falling_P, kind="stable")
    last_G = last_of_ties(falling_P[by_score_P])
    normal_M = np.sort(-scores_T[~labels_T & scored_T].astype(np.float64))
    false_G = np.searchsorted(normal_M, falling_P[by_score_P][last_G], side="right")
    return _Parts(rank_P[by_score_P], size_E[event_P][by_score_P], last_G, false_G)


def _best(parts: _Parts, percent: float) -> float:
    """Best F1. As the threshold falls each row adds itself, until one adds all that is left of its event."""
    needed_P = np.floor(percent * parts.size_P / 100) + 1
    added_P = np.where(parts.rank_P < needed_P, 1.0, 0.0)
    added_P[parts.rank_P == needed_P] = (parts.size_P - needed_P + 1)[parts.rank_P == needed_P]
    found_G = np.cumsum(added_P)[parts.last_G]
    return float(np.max(2 * found_G / (found_G + parts.false_G + len(parts.rank_P))))


def _area(f1_K: Sequence[float]) -> float:
    return float(np.trapezoid(f1_K) / (len(f1_K) - 1))
