"""Metrics that take every labelled event for itself: was it noticed, how late, and how often was an alarm for nothing.

Shapes: T rows, E events. An event is a run of anomalous rows; an alarm episode is a run of alarmed rows. Neither
crosses the beginning of a recording, so each function takes `starts`, the rows at which recordings begin (ascending,
the first is 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.series import BoolArray
from shared.thresholds.budget import REARM_S, episodes

Spans = tuple[tuple[int, int], ...]

SECONDS_A_DAY = 86_400.0


def spans(labels_T: BoolArray, starts: Sequence[int] = (0,)) -> Spans:
    """Half-open row ranges `[first, end)` of the runs of True, broken where a recording begins.

    Example:
        >>> spans(np.array([True, True, False, True, True]), starts=(0, 4))
        ((0, 2), (3, 4), (4, 5))
    """
    ends = [*starts[1:], len(labels_T)]
    return tuple(span for a, b in zip(starts, ends, strict=True) for span in _runs(labels_T[a:b], a))


def _runs(labels_T: BoolArray, offset: int) -> Spans:
    """Runs of True in one recording that begins at row `offset`."""
    steps = np.diff(labels_T.astype(np.int8), prepend=0, append=0)
    firsts_E, ends_E = np.flatnonzero(steps == 1) + offset, np.flatnonzero(steps == -1) + offset
    return tuple(zip(firsts_E.tolist(), ends_E.tolist(), strict=True))


def event_recall(alarms_T: BoolArray, labels_T: BoolArray, starts: Sequence[int] = (0,)) -> float:
    """Share of the events with at least one alarmed row. NaN without an event.

    Alarming every row reaches 1: quote it beside the false alarms.

    Example:
        >>> event_recall(np.array([False, True, False, False]), np.array([True, True, False, True]))
        0.5
    """
    noticed_E = [bool(alarms_T[a:b].any()) for a, b in spans(labels_T, starts)]
    return sum(noticed_E) / len(noticed_E) if noticed_E else math.nan


def detection_delays_s(
    alarms_T: BoolArray, labels_T: BoolArray, period_s: float, starts: Sequence[int] = (0,)
) -> NDArray[np.float64]:
    """Seconds from the beginning of each event to its first alarmed row.

    Args:
        alarms_T, labels_T: bool (T,).
        period_s: sampling period.
        starts: rows at which recordings begin.

    Returns:
        float64 (E,), in the order of the events; NaN where an event was missed.

    Example:
        >>> detection_delays_s(np.array([False, True, False, False]), np.array([True, True, False, True]), 10.0)
        array([10., nan])
    """
    return np.array([_first_true(alarms_T[a:b]) * period_s for a, b in spans(labels_T, starts)], dtype=np.float64)


def _first_true(alarms_T: BoolArray) -> float:
    return float(np.argmax(alarms_T)) if alarms_T.any() else math.nan


def false_alarms_per_day(
    alarms_T: BoolArray,
    labels_T: BoolArray,
    period_s: float,
    starts: Sequence[int] = (0,),
    scored_T: BoolArray | None = None,
    rearm_s: float = REARM_S,
) -> float:
    """Alarms that touch no event, divided by the days of normal operation that were watched.

    An alarm is what the edge makes of it (docs/edge/alarms.md): what comes back within `rearm_s` is the same one.

    Args:
        alarms_T, labels_T: bool (T,).
        period_s: sampling period.
        starts: rows at which recordings begin.
        scored_T: bool (T,), rows that had a score; time without one does not count as watched. None: all rows.
        rearm_s: seconds.

    Returns:
        alarms a day; NaN without a normal row. One endless alarm that touches an event counts as none, so read it
        beside `shared.metrics.pointwise.false_alarm_share`.

    Example:
        >>> false_alarms_per_day(np.array([True, False, True, True]), np.array([False, False, False, True]), 3600.0)
        8.0
    """
    watched_T = ~labels_T if scored_T is None else ~labels_T & scored_T
    days = float(watched_T.sum()) * period_s / SECONDS_A_DAY
    gap, ends = max(1, round(rearm_s / period_s)), [*starts[1:], len(alarms_T)]
    alarms = [(c + a, d + a) for a, b in zip(starts, ends, strict=True) for c, d in episodes(alarms_T[a:b], gap)]
    false = sum(not labels_T[c:d].any() for c, d in alarms)
    return false / days if days else math.nan
