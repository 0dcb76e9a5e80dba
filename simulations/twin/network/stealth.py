"""Stealthy attacks: while an actuator is overridden, what would betray it is replayed from normal operation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.series import FloatArray
from simulations.twin.network.sensors import TAGS
from simulations.twin.script import Event

GROUPS = {
    "1_MV_001_STATUS": ("1_FIT_001_PV", "1_P_001_STATUS", "1_P_003_STATUS"),
    "1_P_005_STATUS": ("1_MV_004_STATUS", "2_MV_003_STATUS", "2_FIT_001_PV"),
    "2_MV_003_STATUS": ("1_MV_004_STATUS", "1_P_005_STATUS", "2_FIT_001_PV"),
    "2_MCV_007_CO": ("2_PIT_001_PV", "2_PIT_002_PV", "2_DPIT_001_PV", "LEAK_DIFF_PRESSURE"),
    **{f"2_MCV_{n}01_CO": (f"2_FIC_{n}01_CO", f"2_FIC_{n}01_PV", f"2_FQ_{n}01_PV") for n in range(1, 7)},
}
Rows = NDArray[np.int64]
BACK_S, EVERY_S = 86400, 5  # how far back, and how finely, an attacker looks for a fitting stretch


def replay(values_TD: FloatArray, events: tuple[Event, ...]) -> None:
    """Overwrite, in place, the signals around every stealthily overridden actuator with an earlier normal stretch.

    The stretch is the one that joins most smoothly; without any, the signals stay at what they were.
    """
    for event in events:
        if event.kind == "stealthy":
            columns = np.array([TAGS.index(tag) for tag in (event.target, *GROUPS.get(event.target, ()))])
            rows = _source(values_TD, event, events, columns)
            values_TD[event.first_s : event.end_s, columns] = values_TD[np.ix_(rows, columns)]


def _source(values_TD: FloatArray, event: Event, events: tuple[Event, ...], columns: Rows) -> Rows:
    """The rows to replay, int (end_s - first_s,)."""
    length, earliest = event.end_s - event.first_s, max(1, event.first_s - BACK_S)
    starts = np.arange(earliest, event.first_s - length + 1, EVERY_S)
    for other in events:
        if other is not event:
            starts = starts[(starts + length <= other.first_s) | (starts >= other.end_s)]
    if not len(starts):
        return np.full(length, max(0, event.first_s - 1))
    before_SC = values_TD[np.ix_(starts - 1, columns)].astype(np.float64)
    now_C = values_TD[event.first_s - 1, columns]
    width_C = np.ptp(before_SC, axis=0) + 1e-9
    best = int(np.argmin((np.abs(before_SC - now_C) / width_C).sum(axis=1)))
    rows: Rows = starts[best] + np.arange(length)
    return rows
