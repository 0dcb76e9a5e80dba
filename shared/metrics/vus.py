"""Volume under the surface: ranking that forgives a label which begins or ends a few rows too early or too late.

Paparrizos, Boniol, Palpanas, Tsay, Elmore and Franklin 2022, "Volume Under the Surface: A New Accuracy Evaluation
Measure for Time-Series Anomaly Detection", PVLDB 15(11). For a window of l rows every event gets a buffer of l // 2
rows on each side in which the label falls from 1 to sqrt(1/2): `label(d) = sqrt(1 - d / l)` at d rows from the event.
Then, with TP the sum of the labels of the alarmed rows, at every threshold

    precision = TP / alarms,  FPR = (alarms - TP) / (T - P_l),  recall = min(TP / P_l, 1) * existence,

where existence is the share of events (with buffers; those whose buffers meet are one) with an alarmed row. `range_auc`
is the area under recall and precision (PR) and under FPR and recall (ROC) for one l, `vus` its mean over l = 0 .. L.

P_l and the area under PR come in two published forms:
- `tsb-ad` (default): the authors' present definition (Liu and Paparrizos 2024, "The Elephant in the Room", NeurIPS;
  TheDatumOrg/TSB-AD, basic_metrics.py). P_l = P + half the labels of the *alarmed* buffer rows, and a step function
  under PR. A score that equals the labels reaches 1.
- `vldb-2022`: the paper and the `vus` package (TheDatumOrg/VUS). P_l = P + half of *all* buffer labels, trapezoids
  under PR. A score that equals the labels stays below 1, and the PR area is interpolated, which flatters.

What we do otherwise than their code: every distinct score is a threshold (they sample 250 ranks), and neither buffers
nor events cross the beginning of a recording. What we keep: a row in two buffers counts as 1 (their labels add up, cut
at 1), l = 0 and l = 1 are the same, and events are one when their buffers share a row. How far sampling moves the
figure is in docs/metrics.md.

Shapes: T rows, M scored rows within reach of an event, G distinct scores among those, E events, S events with buffers.
One sort, then O(M + E) for each l; memory O(T).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from shared.metrics.adjusted import random_scores
from shared.metrics.events import spans
from shared.metrics.pointwise import Counts, Float64Array, Scores, check_shapes
from shared.series import BoolArray

Form = Literal["tsb-ad", "vldb-2022"]

MAX_WINDOW = 100  # rows; what TSB-AD takes where the series has no period


class Areas(NamedTuple):
    """Area or volume under precision and recall, and under false positive rate and recall; NaN where undefined."""

    pr: float
    roc: float


def vus(
    scores_T: Scores,
    labels_T: BoolArray,
    max_window: int = MAX_WINDOW,
    starts: Sequence[int] = (0,),
    form: Form = "tsb-ad",
) -> Areas:
    """VUS-PR and VUS-ROC: the mean of `range_auc` over the windows 0, 1, .. `max_window`.

    Args:
        scores_T: (T,), higher is more anomalous. NaN where there is no score: the row keeps its place in time and is
            left out; an event of such rows only is left out, too.
        labels_T: bool (T,), True where anomalous.
        max_window: L in rows; a label may be wrong by up to L / 2 rows. Choose it from how exact the labels are.
        starts: rows at which recordings begin.
        form: which published definition.

    Returns:
        numbers in [0, 1]; NaN without a scored anomalous row, and NaN (ROC) without a scored normal one.

    Raises:
        ValueError: shapes differ, or a negative window.

    Example:
        >>> late = np.array([0, 0, 0, 0, 1, 1, 0, 0]).astype(float)  # two rows too late
        >>> labels = np.array([0, 0, 1, 1, 0, 0, 0, 0]).astype(bool)
        >>> [round(vus(late, labels, window).pr, 3) for window in (0, 8)]
        [0.25, 0.6]
    """
    return mean_area(scores_T, labels_T, range(max_window + 1), starts, form)


def range_auc(
    scores_T: Scores, labels_T: BoolArray, window: int, starts: Sequence[int] = (0,), form: Form = "tsb-ad"
) -> Areas:
    """Range-AUC-PR and Range-AUC-ROC with buffers of `window // 2` rows. Args, returns and errors as in `vus`.

    With window 0 and a single event it is the point-wise area: `average_precision` (form `tsb-ad`) and `auroc`. With
    several events the existence factor lowers the recall until each has an alarm.

    Example:
        >>> range_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]), 0).roc
        0.75
    """
    return mean_area(scores_T, labels_T, (window,), starts, form)


def mean_area(
    scores_T: Scores, labels_T: BoolArray, windows: Sequence[int], starts: Sequence[int], form: Form
) -> Areas:
    """Mean of `range_auc` over chosen windows. Args, returns and errors as in `vus`."""
    check_shapes(scores_T, labels_T)
    if not windows or min(windows) < 0:
        raise ValueError("a window is a number of rows, 0 or more, and there must be one at least")
    rows = _prepare(scores_T, labels_T, max(windows) // 2, starts)
    if rows is None:
        return Areas(math.nan, math.nan)
    areas = np.array([_areas(rows, _buffers(rows, w), _existence(rows, w // 2), form) for w in windows])
    return Areas(*areas.mean(axis=0).tolist())


def coarse_windows(max_window: int) -> list[int]:
    """Eleven windows between 0 and `max_window`: the area is smooth in the window, and they cost a tenth of all.

    Example:
        >>> coarse_windows(20)
        [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    """
    return sorted({int(window) for window in np.linspace(0, max_window, 11)})


def random_vus_pr(
    labels_T: BoolArray,
    seed: int,
    max_window: int = MAX_WINDOW,
    repeats: int = 5,
    starts: Sequence[int] = (0,),
    scored_T: BoolArray | None = None,
) -> float:
    """Mean VUS-PR of a uniform random score, from `coarse_windows`. Args as in `random_control`.

    It rises with the window: below, a tenth of the rows is anomalous, but buffers of 50 rows cover all the rest.

    Example:
        >>> labels = np.arange(10_000) % 100 >= 90
        >>> [round(random_vus_pr(labels, seed=0, max_window=window), 1) for window in (0, 100)]
        [0.1, 0.5]
    """
    draws_RT, windows = random_scores(labels_T, seed, repeats, scored_T), coarse_windows(max_window)
    return float(np.mean([mean_area(draw_T, labels_T, windows, starts, "tsb-ad").pr for draw_T in draws_RT]))


class _Rows(NamedTuple):
    """What all windows share."""

    index_M: Counts  # place in time
    group_M: Counts  # rank of the row's score among the G distinct ones, 0 is the highest
    normal_M: BoolArray  # not in an event
    nearest_M: Float64Array  # rows to the nearest event
    second_M: Float64Array  # rows to the second nearest
    hits_G: Float64Array  # event rows that score at least so much
    alarms_G: Float64Array  # all rows that score at least so much
    above_G: Float64Array  # all rows that score more
    scored: int
    first_E: Counts  # events, inclusive
    last_E: Counts
    begin_E: Counts  # their recordings, inclusive
    end_E: Counts


def _prepare(scores_T: Scores, labels_T: BoolArray, reach: int, starts: Sequence[int]) -> _Rows | None:
    scored_T = ~np.isnan(scores_T)
    events = [(a, b) for a, b in spans(labels_T, starts) if scored_T[a:b].any()]
    if not events:
        return None
    first_E, last_E = np.array(events, dtype=np.int64).T - np.array([[0], [1]])
    edges = np.array([*starts, len(labels_T)], dtype=np.int64)
    place_E = np.searchsorted(edges, first_E, side="right")
    begin_E, end_E = edges[place_E - 1], edges[place_E] - 1
    index_M = _within(first_E - reach, last_E + reach, begin_E, end_E, scored_T)
    inside_M = _inside(index_M, first_E, last_E)
    ascending = np.sort(scores_T[scored_T])
    distinct_G, group_M = np.unique(-scores_T[index_M], return_inverse=True)
    nearest_M, second_M = _distances(index_M, first_E, last_E, begin_E, end_E)
    return _Rows(
        index_M=index_M,
        group_M=group_M,
        normal_M=~inside_M,
        nearest_M=nearest_M,
        second_M=second_M,
        hits_G=np.cumsum(np.bincount(group_M, inside_M)),
        alarms_G=len(ascending) - np.searchsorted(ascending, -distinct_G, side="left").astype(np.float64),
        above_G=len(ascending) - np.searchsorted(ascending, -distinct_G, side="right").astype(np.float64),
        scored=len(ascending),
        first_E=first_E,
        last_E=last_E,
        begin_E=begin_E,
        end_E=end_E,
    )


def _within(low_E: Counts, high_E: Counts, begin_E: Counts, end_E: Counts, scored_T: BoolArray) -> Counts:
    """Scored rows in the inclusive ranges, cut at the recordings."""
    steps = np.zeros(len(scored_T) + 1, np.int64)
    np.add.at(steps, np.maximum(low_E, begin_E), 1)
    np.add.at(steps, np.minimum(high_E, end_E) + 1, -1)
    return np.flatnonzero((np.cumsum(steps[:-1]) > 0) & scored_T)


def _inside(index_M: Counts, first_E: Counts, last_E: Counts) -> BoolArray:
    event_M = np.searchsorted(first_E, index_M, side="right") - 1
    return (event_M >= 0) & (index_M <= last_E[event_M])


def _distances(
    index_M: Counts, first_E: Counts, last_E: Counts, begin_E: Counts, end_E: Counts
) -> tuple[Float64Array, Float64Array]:
    """Rows from each row to the nearest and the second nearest event of its recording; infinite without one."""
    past_M, next_M = np.searchsorted(last_E, index_M), np.searchsorted(first_E, index_M, side="right")
    found = []
    for back in (1, 2):
        event_M = np.maximum(past_M - back, 0)
        known_M = (past_M >= back) & (index_M <= end_E[event_M])
        found.append(np.where(known_M, index_M - last_E[event_M], np.inf))
    for ahead in (0, 1):
        event_M = np.minimum(next_M + ahead, len(first_E) - 1)
        known_M = (next_M + ahead < len(first_E)) & (index_M >= begin_E[event_M])
        found.append(np.where(known_M, first_E[event_M] - index_M, np.inf))
    nearest_M, second_M = np.partition(np.stack(found), 1, axis=0)[:2]
    return nearest_M, second_M


def _buffers(rows: _Rows, window: int) -> Float64Array:
    """Sum of the buffer labels of the rows that score at least so much, float64 (G,)."""
    reach, label_M = window // 2, np.zeros(len(rows.index_M))
    near_M = rows.normal_M & (rows.nearest_M <= reach)
    label_M[near_M] = np.sqrt(1 - rows.nearest_M[near_M] / window) if reach else 0.0
    label_M[near_M & (rows.second_M <= reach)] = 1.0
    return np.cumsum(np.bincount(rows.group_M, label_M))


def _existence(rows: _Rows, reach: int) -> Float64Array:
    """Share of the events, with buffers and joined where these meet, that have a row which scores so much: (G,)."""
    low_E, high_E = np.maximum(rows.first_E - reach, rows.begin_E), np.minimum(rows.last_E + reach, rows.end_E)
    apart = np.flatnonzero(low_E[1:] > high_E[:-1])
    low_S, high_S = low_E[np.append(0, apart + 1)], high_E[np.append(apart, len(high_E) - 1)]
    edges_S2 = np.column_stack([np.searchsorted(rows.index_M, low_S), np.searchsorted(rows.index_M, high_S, "right")])
    best_S = np.minimum.reduceat(np.append(rows.group_M, len(rows.hits_G)), edges_S2.ravel())[::2]
    share_G: Float64Array = np.cumsum(np.bincount(best_S, minlength=len(rows.hits_G))) / len(best_S)
    return share_G


def _areas(rows: _Rows, buffer_G: Float64Array, existence_G: Float64Array, form: Form) -> Areas:
    """Areas under the two curves. Between two of the G scores all newly alarmed rows are out of reach: recall rests."""
    true_G = rows.hits_G + buffer_G
    extra_G = buffer_G if form == "tsb-ad" else np.full_like(buffer_G, buffer_G[-1])
    positive_G = rows.hits_G[-1] + extra_G / 2
    recall_G = np.minimum(true_G / positive_G, 1.0) * existence_G
    before_G = np.append(0.0, true_G[:-1])  # true positives at the next higher threshold
    precision_G = true_G / rows.alarms_G
    if form == "vldb-2022":
        precision_G = (precision_G + np.where(rows.above_G > 0, before_G / np.maximum(rows.above_G, 1), 1.0)) / 2
    pr = float(np.sum(np.diff(recall_G, prepend=0.0) * precision_G))
    if rows.hits_G[-1] == rows.scored:
        return Areas(pr, math.nan)
    return Areas(pr, _roc(rows, true_G, before_G, recall_G, positive_G, extra_G, form))


def _roc(
    rows: _Rows,
    true_G: Float64Array,
    before_G: Float64Array,
    recall_G: Float64Array,
    positive_G: Float64Array,
    extra_G: Float64Array,
    form: Form,
) -> float:
    first = rows.hits_G[-1] + (extra_G[0] / 2 if form == "vldb-2022" else 0.0)
    earlier_G = np.append(first, positive_G[:-1])
    flat_G = (rows.above_G - before_G) / (rows.scored - earlier_G)  # where recall has stood still until
    rise_G = (rows.alarms_G - true_G) / (rows.scored - positive_G)
    end = (rows.scored - true_G[-1]) / (rows.scored - positive_G[-1])
    fpr = np.concatenate([[0.0], np.column_stack([flat_G, rise_G]).ravel(), [end, 1.0]])
    low_G = np.append(0.0, recall_G[:-1])
    tpr = np.concatenate([[0.0], np.column_stack([low_G, recall_G]).ravel(), [recall_G[-1], 1.0]])
    return float(np.trapezoid(tpr, fpr))
