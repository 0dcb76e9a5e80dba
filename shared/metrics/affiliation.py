"""Affiliation precision and recall: how near alarms are to events and events to alarms, against a random alarm.

Huet, Navarro and Rossi 2022, "Local Evaluation of Time Series Anomaly Detection Algorithms", KDD. Time is continuous: a
row t is the interval [t, t + 1). It is cut into one zone E an event J, at the middle of the stretch between two events.
In each zone, with X uniform over E and I the alarmed part of E:

    precision = mean over x in I of P(dist(X, J) > dist(x, J)), 1 inside J
    recall    = mean over y in J of P(|X - y| > dist(y, I)), 0 without an alarm in E

and the figures are the means over the events; the precision over those with an alarm in their zone. Both integrals are
solved in closed form below, piece by piece: O(alarm episodes + events).

A random alarm does well here: a precision of about 0.5, and a recall near 1 once alarms are many. Alarms in a recording
without an event belong to none and are not counted: read the false alarms a day.
Checked against the paper's example (precision 0.672, recall 0.944) and against numerical integration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from shared.metrics.events import spans
from shared.metrics.pointwise import Counts, Float64Array, check_shapes
from shared.series import BoolArray


class Affiliation(NamedTuple):
    """Affiliation precision and recall; NaN where undefined."""

    precision: float
    recall: float


class Individual(NamedTuple):
    """The same for each event: precision_E is NaN where no alarm lies in the event's zone, where recall_E is 0."""

    precision_E: Float64Array
    recall_E: Float64Array


def affiliation(alarms_T: BoolArray, labels_T: BoolArray, starts: Sequence[int] = (0,)) -> Affiliation:
    """Affiliation precision and recall of alarms.

    Args:
        alarms_T, labels_T: bool (T,).
        starts: rows at which recordings begin; zones do not cross them.

    Returns:
        numbers in [0, 1]; both NaN without an event, precision NaN without an alarm in a zone.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 0, 0, 0, 0], bool)
        >>> near = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0], bool)
        >>> [round(figure, 3) for figure in affiliation(near, labels)]
        [0.7, 0.8]
    """
    check_shapes(alarms_T, labels_T)
    ranges = [(a, b) for a, b in pairwise([*starts, len(labels_T)]) if labels_T[a:b].any()]
    found = individual(spans(alarms_T, starts), spans(labels_T, starts), ranges)
    if not len(found.recall_E):
        return Affiliation(math.nan, math.nan)
    known_E = found.precision_E[~np.isnan(found.precision_E)]
    return Affiliation(float(known_E.mean()) if len(known_E) else math.nan, float(found.recall_E.mean()))


def individual(
    alarms: Sequence[tuple[float, float]],
    events: Sequence[tuple[float, float]],
    ranges: Sequence[tuple[float, float]],
) -> Individual:
    """Precision and recall of each event, for half-open intervals in any unit of time.

    Args:
        alarms, events: ascending, disjoint.
        ranges: the recordings, ascending and disjoint; each holds an event, and each event lies in one.

    Returns:
        float64 (E,) each, in the order of the events.

    Example:
        >>> individual([(40, 60), (115, 120)], [(50, 70)], [(30, 120)])[1].round(4)
        array([0.9444])
    """
    event_E2, alarm_A2 = (np.array(list(x), dtype=np.float64).reshape(-1, 2) for x in (events, alarms))
    zone_E2 = _zones(event_E2, np.array(list(ranges), dtype=np.float64).reshape(-1, 2))
    piece_P2, zone_P = _pieces(alarm_A2, zone_E2)
    return Individual(_precision(piece_P2, zone_P, event_E2, zone_E2), _recall(piece_P2, zone_P, event_E2, zone_E2))


def _zones(event_E2: Float64Array, range_R2: Float64Array) -> Float64Array:
    place_E = np.searchsorted(range_R2[:, 0], event_E2[:, 0], side="right") - 1
    low_E, high_E = range_R2[place_E, 0].copy(), range_R2[place_E, 1].copy()
    together = np.flatnonzero(place_E[1:] == place_E[:-1])
    middle = (event_E2[together, 1] + event_E2[together + 1, 0]) / 2
    high_E[together], low_E[together + 1] = middle, middle
    return np.column_stack([low_E, high_E])


def _pieces(alarm_A2: Float64Array, zone_E2: Float64Array) -> tuple[Float64Array, Counts]:
    """The alarms, cut at the zones: (P, 2) and the zone of each, (P,)."""
    first_A = np.searchsorted(zone_E2[:, 1], alarm_A2[:, 0], side="right")
    number_A = np.maximum(np.searchsorted(zone_E2[:, 0], alarm_A2[:, 1], side="left") - first_A, 0)
    before_A = np.cumsum(number_A) - number_A
    zone_P = np.arange(number_A.sum()) + np.repeat(first_A - before_A, number_A)
    low_P = np.maximum(np.repeat(alarm_A2[:, 0], number_A), zone_E2[zone_P, 0])
    high_P = np.minimum(np.repeat(alarm_A2[:, 1], number_A), zone_E2[zone_P, 1])
    return np.column_stack([low_P, high_P]), zone_P


def _precision(piece_P2: Float64Array, zone_P: Counts, event_E2: Float64Array, zone_E2: Float64Array) -> Float64Array:
    """Mean survival of the alarmed time: `integral over I of P(dist(X, J) > dist(x, J)) / |I|`."""
    (begin_P, end_P), (low_P, high_P) = event_E2[zone_P].T, zone_E2[zone_P].T
    left_P, right_P, width_P = begin_P - low_P, high_P - end_P, end_P - begin_P

    def outside(far_P: Float64Array) -> Float64Array:
        """Integral of the survival from distance 0 to `far` on one side of the event."""
        lost_P = width_P * far_P + _capped(far_P, left_P) + _capped(far_P, right_P)
        area_P: Float64Array = far_P - lost_P / (high_P - low_P)
        return area_P

    def until(x_P: Float64Array) -> Float64Array:
        inside_P = np.clip(x_P - begin_P, 0, width_P)
        before_P = outside(left_P) - outside(np.maximum(begin_P - x_P, 0))
        area_P: Float64Array = before_P + inside_P + outside(np.maximum(x_P - end_P, 0))
        return area_P

    number = len(event_E2)
    gained_E = np.bincount(zone_P, until(piece_P2[:, 1]) - until(piece_P2[:, 0]), number)
    alarmed_E = np.bincount(zone_P, piece_P2[:, 1] - piece_P2[:, 0], number)
    mean_E = np.divide(gained_E, alarmed_E, out=np.full(number, np.nan), where=alarmed_E > 0)
    share_E: Float64Array = np.clip(mean_E, 0.0, 1.0)  # against rounding
    return share_E


def _capped(far_P: Float64Array, room_P: Float64Array) -> Float64Array:
    """Integral of `min(d, room)` from 0 to `far`."""
    near_P = np.minimum(far_P, room_P)
    area_P: Float64Array = near_P**2 / 2 + room_P * (far_P - near_P)
    return area_P


def _recall(piece_P2: Float64Array, zone_P: Counts, event_E2: Float64Array, zone_E2: Float64Array) -> Float64Array:
    """Mean survival of the event's time: 1 where alarmed, else by the distance to the next alarm of the zone."""
    (begin_P, end_P), (low_P, high_P) = event_E2[zone_P].T, zone_E2[zone_P].T
    from_P, to_P = piece_P2.T
    near_P, far_P = low_P.copy(), high_P.copy()  # the time that is nearest to this piece
    together = np.flatnonzero(zone_P[1:] == zone_P[:-1])
    middle = (to_P[together] + from_P[together + 1]) / 2
    far_P[together], near_P[together + 1] = middle, middle
    inside_P = np.maximum(np.minimum(to_P, end_P) - np.maximum(from_P, begin_P), 0)
    width_P = high_P - low_P
    after_P = _beyond(to_P, np.maximum(to_P, begin_P), np.minimum(far_P, end_P), high_P, width_P)
    before_P = _beyond(-from_P, np.maximum(-from_P, -end_P), np.minimum(-near_P, -begin_P), -low_P, width_P)
    gained_E = np.bincount(zone_P, inside_P + after_P + before_P, len(event_E2))
    share_E: Float64Array = np.clip(gained_E / (event_E2[:, 1] - event_E2[:, 0]), 0.0, 1.0)
    return share_E


def _beyond(
    origin_P: Float64Array, from_P: Float64Array, to_P: Float64Array, high_P: Float64Array, width_P: Float64Array
) -> Float64Array:
    """Integral over y in [from, to] of `1 - (d + min(d, high - y)) / width` with d = y - origin; 0 if it is empty."""
    turn_P = (origin_P + high_P) / 2  # from here on the end of the zone is nearer than the alarm

    def until(y_P: Float64Array) -> Float64Array:
        rising_P = (np.minimum(y_P, turn_P) - origin_P) ** 2 / 2
        falling_P = ((high_P - turn_P) ** 2 - (high_P - np.maximum(y_P, turn_P)) ** 2) / 2
        area_P: Float64Array = y_P - ((y_P - origin_P) ** 2 / 2 + rising_P + falling_P) / width_P
        return area_P

    return np.where(to_P > from_P, until(to_P) - until(from_P), 0.0)
