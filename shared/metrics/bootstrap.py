"""Confidence intervals by resampling events: few events, and no rows, are what a figure rests on.

Neighbouring rows resemble each other, so drawing rows would feign a certainty that is not there. What is drawn, with
replacement, are blocks of time (Kuensch 1989's idea, with the blocks where the events are): every event with the normal
stretch around it, cut in the middle between two events and at recordings. Recordings without an event are blocks, too,
and are drawn among themselves, so that every resample has as many events and quiet recordings as the data. The interval
is between percentiles (Efron 1979). With fewer than about twenty events it is too narrow, with fewer than five there is
none (NaN).

Shapes: T rows, E events, B blocks, R resamples, G distinct scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from shared.metrics.events import spans
from shared.metrics.pointwise import Counts, Float64Array, Scores, check_shapes, last_of_ties
from shared.metrics.vus import MAX_WINDOW, coarse_windows, mean_area
from shared.series import BoolArray

RESAMPLES = 200
LEVEL = 0.95
FEWEST = 5  # events or sites: resamples of fewer are too alike to say anything

Metric = Callable[[Scores, BoolArray, Sequence[int]], float]


class Interval(NamedTuple):
    """Lower and upper end; NaN where there is nothing to resample."""

    low: float
    high: float


class Blocks(NamedTuple):
    """`ends` cut the rows into B consecutive blocks; `eventful_B` tells those with an event."""

    ends: tuple[int, ...]
    eventful_B: BoolArray


def blocks(labels_T: BoolArray, starts: Sequence[int] = (0,)) -> Blocks:
    """Cut time into one block an event, and one a recording without any.

    Example:
        >>> blocks(np.array([0, 1, 0, 0, 0, 1, 0, 0], bool), starts=(0, 7))
        Blocks(ends=(3, 7, 8), eventful_B=array([ True,  True, False]))
    """
    ends: list[int] = []
    eventful: list[bool] = []
    for first, end in pairwise([*starts, len(labels_T)]):
        events = spans(labels_T[first:end])
        ends += [first + (a[1] + b[0]) // 2 for a, b in pairwise(events)] + [end]
        eventful += [True] * len(events) or [False]
    return Blocks(tuple(ends), np.array(eventful, dtype=np.bool_))


def draws(cut: Blocks, resamples: int, seed: int) -> Counts:
    """How often each resample takes each block, int64 (R, B)."""
    rng = np.random.default_rng(seed)
    times_RB = np.zeros((resamples, len(cut.ends)), np.int64)
    for kind_B in (cut.eventful_B, ~cut.eventful_B):
        number = int(kind_B.sum())
        if number:
            times_RB[:, kind_B] = rng.multinomial(number, np.full(number, 1 / number), size=resamples)
    return times_RB


def average_precision_interval(
    scores_T: Scores,
    labels_T: BoolArray,
    starts: Sequence[int] = (0,),
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Confidence interval of `average_precision`: one sort for all resamples, in which a row weighs as often as drawn.

    Args:
        scores_T: (T,), higher is more anomalous; rows with a NaN score are left out.
        labels_T: bool (T,).
        starts: rows at which recordings begin.
        resamples, seed: how many, and of which random numbers; the same seed gives the same interval.
        level: probability that the interval aims at.

    Returns:
        the interval; NaN with fewer than five events that have a score.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(1000) % 100 > 90
        >>> low, high = average_precision_interval(rng.normal(size=1000) + labels, labels)
        >>> 0 < low < high < 1
        True
    """
    return percentiles(resampled_average_precision(scores_T, labels_T, starts, resamples, seed), level)


def resampled_average_precision(
    scores_T: Scores, labels_T: BoolArray, starts: Sequence[int] = (0,), resamples: int = RESAMPLES, seed: int = 0
) -> Float64Array:
    """`average_precision` of every resample, float64 (R,); empty with fewer than five events that have a score.

    Two detectors that score the same rows meet the same draws under the same seed, as long as both score every event:
    the differences of their values are those of a paired bootstrap. Others as in `average_precision_interval`.
    """
    check_shapes(scores_T, labels_T)
    known_T = _known(scores_T, labels_T, starts)
    cut = blocks(known_T, starts)
    if cut.eventful_B.sum() < FEWEST:
        return np.empty(0)
    rows_M = np.flatnonzero(~np.isnan(scores_T))
    rows_M = rows_M[np.argsort(-scores_T[rows_M], kind="stable")]
    last_G = last_of_ties(scores_T[rows_M])
    block_M, label_M = np.searchsorted(cut.ends, rows_M, side="right"), known_T[rows_M]
    return np.array([_weighed(times_B[block_M], label_M, last_G) for times_B in draws(cut, resamples, seed)])


def percentiles(values_R: Float64Array, level: float = LEVEL) -> Interval:
    """The interval between percentiles of resampled values; NaN without any."""
    return _percentiles(values_R.tolist(), level) if len(values_R) else Interval(math.nan, math.nan)


def _weighed(times_M: Counts, label_M: BoolArray, last_G: Counts) -> float:
    """Average precision where row m, by falling score, is there `times_M[m]` times."""
    hits_G, rows_G = np.cumsum(times_M * label_M)[last_G], np.cumsum(times_M)[last_G]
    return float(np.sum(np.diff(hits_G, prepend=0) * (hits_G / np.maximum(rows_G, 1))) / hits_G[-1])


def event_recall_interval(
    alarms_T: BoolArray,
    labels_T: BoolArray,
    starts: Sequence[int] = (0,),
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Confidence interval of `event_recall`. Args, returns and errors as in `average_precision_interval`.

    Where every event is found, or none, all resamples agree and the interval has no width: with E events the rule of
    three still allows a miss rate of 3 / E.

    Example:
        >>> event_recall_interval(np.arange(40) % 10 == 5, np.arange(40) % 5 == 0)
        Interval(low=0.125, high=0.875)
    """
    noticed_E = np.array([alarms_T[a:b].any() for a, b in spans(labels_T, starts)], dtype=np.float64)
    number = len(noticed_E)
    if number < FEWEST:
        return Interval(math.nan, math.nan)
    times_RE = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=resamples)
    return _percentiles((times_RE @ noticed_E / number).tolist(), level)


def vus_pr_interval(
    scores_T: Scores,
    labels_T: BoolArray,
    max_window: int = MAX_WINDOW,
    starts: Sequence[int] = (0,),
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Confidence interval of VUS-PR, from `coarse_windows`. Others as in `average_precision_interval`."""
    windows = coarse_windows(max_window)

    def metric(scores_T: Scores, labels_T: BoolArray, starts: Sequence[int]) -> float:
        return mean_area(scores_T, labels_T, windows, starts, "tsb-ad").pr

    return interval(metric, scores_T, labels_T, starts, resamples, seed, level)


def interval(
    metric: Metric,
    scores_T: Scores,
    labels_T: BoolArray,
    starts: Sequence[int] = (0,),
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Confidence interval of any metric `metric(scores_T, labels_T, starts)`: it is given every resample as a series.

    Every drawn block is a recording of its own. Others as in `average_precision_interval`, which is much faster.
    """
    check_shapes(scores_T, labels_T)
    cut = blocks(_known(scores_T, labels_T, starts), starts)
    if cut.eventful_B.sum() < FEWEST:
        return Interval(math.nan, math.nan)
    pieces = np.split(np.arange(len(labels_T)), cut.ends[:-1])
    values_R = []
    for times_B in draws(cut, resamples, seed):
        chosen = [pieces[block] for block in np.repeat(np.arange(len(pieces)), times_B)]
        first = np.cumsum([0, *(len(piece) for piece in chosen[:-1])]).tolist()
        rows = np.concatenate(chosen)
        values_R.append(metric(scores_T[rows], labels_T[rows], first))
    return _percentiles(values_R, level)


def mean_interval(values_S: Float64Array, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL) -> Interval:
    """Confidence interval of a mean over sites, by resampling sites; NaN with fewer than five.

    Example:
        >>> mean_interval(np.full(5, 0.2))
        Interval(low=0.2, high=0.2)
    """
    number = len(values_S)
    if number < FEWEST:
        return Interval(math.nan, math.nan)
    chosen_RS = np.random.default_rng(seed).integers(0, number, size=(resamples, number))
    return _percentiles(values_S[chosen_RS].mean(axis=1).tolist(), level)


def _known(scores_T: Scores, labels_T: BoolArray, starts: Sequence[int]) -> BoolArray:
    """The labels without the events that have no score at all."""
    known_T = labels_T.copy()
    for a, b in spans(labels_T, starts):
        known_T[a:b] = not np.isnan(scores_T[a:b]).all()
    return known_T


def _percentiles(values_R: Sequence[float], level: float) -> Interval:
    low, high = np.quantile(np.asarray(values_R), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
