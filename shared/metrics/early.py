"""How early in an event the first alarm comes. Shapes: T rows, E events.

`early_detection` is linear where the Numenta benchmark's score is a sigmoid (Lavin and Ahmad 2015, "Evaluating
Real-time Anomaly Detection Algorithms", ICMLA): it needs no constants, and says what share of an event was left to act
in. It knows nothing of false alarms: alarming every row reaches 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shared.metrics.events import detection_delays_s, spans
from shared.metrics.pointwise import Float64Array
from shared.series import BoolArray


def early_detection(alarms_T: BoolArray, labels_T: BoolArray, starts: Sequence[int] = (0,)) -> float:
    """Mean over the events of `1 - delay / length`, 0 for a missed one. NaN without an event.

    Args:
        alarms_T, labels_T: bool (T,).
        starts: rows at which recordings begin.

    Returns:
        a number in [0, 1]: 1 when every event is alarmed in its first row; never above the event recall.

    Example:
        >>> early_detection(np.array([0, 1, 0, 0], bool), np.array([1, 1, 0, 1], bool))
        0.25
    """
    lateness_E = _lateness(alarms_T, labels_T, starts)
    return float(np.mean(np.where(np.isnan(lateness_E), 0.0, 1 - lateness_E))) if len(lateness_E) else math.nan


def found_within(alarms_T: BoolArray, labels_T: BoolArray, share: float, starts: Sequence[int] = (0,)) -> float:
    """Share of the events with an alarm before the given share of their length is over. NaN without an event.

    Args as in `early_detection`. With a share of 1 it is the event recall.

    Example:
        >>> found_within(np.array([0, 1, 0, 0], bool), np.array([1, 1, 1, 1], bool), share=0.5)
        1.0
    """
    lateness_E = _lateness(alarms_T, labels_T, starts)
    return float(np.mean(lateness_E < share)) if len(lateness_E) else math.nan


def found_within_s(
    alarms_T: BoolArray, labels_T: BoolArray, limit_s: float, period_s: float, starts: Sequence[int] = (0,)
) -> float:
    """Share of the events with an alarm at most `limit_s` seconds after they begin. NaN without an event.

    Args as in `early_detection`; `period_s` is the sampling period.

    Example:
        >>> found_within_s(np.array([0, 1, 0, 0], bool), np.array([1, 1, 0, 1], bool), limit_s=60.0, period_s=60.0)
        0.5
    """
    delays_E = detection_delays_s(alarms_T, labels_T, period_s, starts)
    return float(np.mean(delays_E <= limit_s)) if len(delays_E) else math.nan


def _lateness(alarms_T: BoolArray, labels_T: BoolArray, starts: Sequence[int]) -> Float64Array:
    """Delay of each event as a share of its length, in [0, 1); NaN where it was missed."""
    length_E = np.array([b - a for a, b in spans(labels_T, starts)], dtype=np.float64)
    return detection_delays_s(alarms_T, labels_T, 1.0, starts) / length_E
