"""VUS as its definition reads, threshold by threshold and row by row: slow, and only to compare with.

Written from the paper (Paparrizos et al. 2022) and from what the authors' code was seen to do; no code was taken over.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Habit:
    """What published implementations do differently from each other.

    `short_right`: the buffer behind an event is one row shorter than the one before it, and events are one when their
    buffers touch (first release of 2022, TimeEval and aeon). `alarmed_only`: only alarmed buffer rows count towards the
    positives (TSB-AD). `trapezoid`: under PR. `samples`: thresholds by rank; None: every distinct score.
    """

    short_right: bool = False
    alarmed_only: bool = True
    trapezoid: bool = False
    samples: int | None = None


TSB_AD = Habit()
VLDB_2022 = Habit(alarmed_only=False, trapezoid=True)
FIRST_RELEASE = Habit(short_right=True, alarmed_only=False, trapezoid=True, samples=250)


def runs(flags: Iterable[bool], starts: tuple[int, ...] = (0,)) -> list[tuple[int, int]]:
    """Inclusive runs of True."""
    found: list[list[int]] = []
    before = False
    for t, flag in enumerate(flags):
        if flag and before and t not in starts:
            found[-1][1] = t
        elif flag:
            found.append([t, t])
        before = bool(flag)
    return [(a, b) for a, b in found]


def recording(t: int, starts: tuple[int, ...]) -> int:
    return sum(start <= t for start in starts)


def extended(labels: np.ndarray, window: int, habit: Habit, starts: tuple[int, ...]) -> np.ndarray:
    soft = labels.astype(float)
    for first, last in runs(labels, starts):
        for t in range(len(labels)):
            left, right = first - t, t - last
            reach = window // 2
            near = 1 <= left <= reach or 1 <= right <= (reach - 1 if habit.short_right else reach)
            if near and recording(t, starts) == recording(first, starts):
                soft[t] += math.sqrt(1 - max(left, right) / window)
    return np.minimum(soft, 1.0)


def segments(labels: np.ndarray, soft: np.ndarray, window: int, habit: Habit, starts: tuple[int, ...]) -> list:
    if habit.short_right:
        return runs(soft > 0, starts)
    edges = [*starts, len(labels)]
    joined: list[list[int]] = []
    for first, last in runs(labels, starts):
        where = recording(first, starts)
        low, high = max(first - window // 2, edges[where - 1]), min(last + window // 2, edges[where] - 1)
        if joined and joined[-1][1] >= low:
            joined[-1][1] = high
        else:
            joined.append([low, high])
    return [(a, b) for a, b in joined]


def cuts(scores: np.ndarray, samples: int | None) -> np.ndarray:
    if samples is None:
        return np.unique(scores)[::-1]
    return np.sort(scores)[::-1][np.linspace(0, len(scores) - 1, samples).astype(int)]


def range_auc_slow(
    scores: np.ndarray, labels: np.ndarray, window: int, habit: Habit = TSB_AD, starts: tuple[int, ...] = (0,)
) -> tuple[float, float]:
    """PR and ROC area for one window. Every score is a number, and there are both events and normal rows."""
    soft = extended(labels, window, habit, starts)
    parts = segments(labels, soft, window, habit, starts)
    recalls, fprs, precisions = [0.0], [0.0], [1.0]
    for cut in cuts(scores, habit.samples):
        alarms = scores >= cut
        counted = np.where(labels, 1.0, soft * alarms) if habit.alarmed_only else soft
        positive = (labels.sum() + counted.sum()) / 2
        true = float((soft * alarms).sum())
        existence = sum(alarms[a : b + 1].any() for a, b in parts) / len(parts)
        recalls.append(min(true / positive, 1.0) * existence)
        fprs.append((alarms.sum() - true) / (len(labels) - positive))
        precisions.append(true / alarms.sum())
    pr = 0.0
    for i in range(1, len(recalls)):
        height = (precisions[i] + precisions[i - 1]) / 2 if habit.trapezoid else precisions[i]
        pr += (recalls[i] - recalls[i - 1]) * height
    recalls.append(1.0)
    fprs.append(1.0)
    steps = range(1, len(fprs))
    roc = sum((fprs[i] - fprs[i - 1]) * (recalls[i] + recalls[i - 1]) / 2 for i in steps)
    return pr, roc


def vus_slow(
    scores: np.ndarray, labels: np.ndarray, max_window: int, habit: Habit = TSB_AD, starts: tuple[int, ...] = (0,)
) -> tuple[float, float]:
    """Mean of `range_auc_slow` over the windows 0 .. `max_window`."""
    areas = [range_auc_slow(scores, labels, window, habit, starts) for window in range(max_window + 1)]
    pr, roc = np.mean(areas, axis=0)
    return float(pr), float(roc)
