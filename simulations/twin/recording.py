"""What a twin puts out: one plant's readings at 1 Hz, with labels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.series import BoolArray, FloatArray
from simulations.twin.script import Event

Layout = Literal["swat", "wadi"]


@dataclass(frozen=True)
class Recording:
    """One stretch of a plant's life.

    Attributes:
        layout: whose tags it has (`shared.catalogue.tags(layout)`, in that order).
        begin: local time of the first row; one row a second.
        values_TD: float32 (T, 51 or 127); NaN only in WADI's four empty columns.
        labels_T: bool (T,), True while an event is on.
        events: what was done, in order.
    """

    layout: Layout
    begin: datetime
    values_TD: FloatArray
    labels_T: BoolArray
    events: tuple[Event, ...]


def labels(seconds: int, events: tuple[Event, ...]) -> BoolArray:
    """Bool (seconds,), True inside the events.

    Example:
        >>> labels(4, (Event("stuck", "LIT101", 1, 3),)).tolist()
        [False, True, True, False]
    """
    marked_T: NDArray[np.bool_] = np.zeros(seconds, dtype=np.bool_)
    for event in events:
        marked_T[event.first_s : event.end_s] = True
    return marked_T
