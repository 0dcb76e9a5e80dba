"""Rows that a person confirms as normal go into the calibration ring, `STATE/ring` (`shared.ring`).

The newest rows are remembered, 1 MB of them (1.4 hours of 51 tags at 1 Hz), in memory only: what was not confirmed by
then, or before the process ended, is not there to be confirmed. A time with an alarm in it is refused as a whole,
whatever became of the alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from client.edge.alarm_values import Confirm
from client.edge.engine import BREAKS, Model
from client.edge.records import Notice, Record, Sample, Scored
from shared import ring
from shared.schema import SensorSchema
from shared.series import FloatArray

FOLDER = "ring"
MOST_BYTES = 2**20


class Remembered:
    """A `client.edge.engine.Stage` that remembers the newest raw rows.

    Args:
        schema: their columns.
        folder: the ring; None remembers nothing.
        most: bytes of rows that are remembered.
    """

    def __init__(self, schema: SensorSchema, folder: Path | None, most: int = MOST_BYTES) -> None:
        count = 0 if folder is None else max(1, most // (4 * schema.dim))
        self._schema, self._folder = schema, folder
        # Filled, so that the memory is taken now and a scorer does not seem to grow for hours.
        self._rows_ND: FloatArray = np.full((count, schema.dim), np.nan, np.float32)
        self._times_N, self._begins_N = np.full(count, np.nan), np.full(count, True)
        self._next = self._kept = 0
        self._broken = True

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`. When the clock goes back, what was remembered is forgotten."""
        if not len(self._rows_ND):
            return ()
        if self._kept and sample.time <= self._times_N[self._next - 1]:
            self._kept, self._broken = 0, True
        at, self._next = self._next, (self._next + 1) % len(self._rows_ND)
        self._rows_ND[at], self._times_N[at], self._begins_N[at] = sample.values_D, sample.time, self._broken
        self._kept, self._broken = min(self._kept + 1, len(self._rows_ND)), False
        return ()

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        self._broken = self._broken or notice.kind in BREAKS
        return ()

    def swapped(self, model: Model) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`: raw rows belong to no model."""
        return ()

    def confirm(self, order: Confirm, time: float, alarmed: Callable[[float, float], bool]) -> tuple[Record, ...]:
        """Put what is remembered between two times into the ring; of a refused order nothing.

        Args:
            order: who says that it was normal, and when it was.
            time: now, by the plant's clock.
            alarmed: whether there was an alarm between two times.
        """
        if self._folder is None or not self._kept:
            return ()
        if not order.first < order.last <= time or alarmed(order.first, order.last):
            return ()  # The adaptation says why.
        rows_TD, times, starts = self._between(order.first, order.last)
        if not times:
            return (Notice(time, "ring", "none of the confirmed rows is remembered any more: none enters the ring."),)
        head = ring.Stretch(
            columns=self._schema, first=times[0], last=times[-1], starts=starts, by=order.by, note=order.note
        )
        try:
            path = ring.add(self._folder, head, rows_TD)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            return (Notice(time, "trouble", f"the confirmed rows cannot be kept: {why}"),)
        told = f"{len(times)} rows that {order.by} confirmed as normal are in the calibration ring: {path.name}"
        return (Notice(time, "ring", told),)

    def _between(self, first: float, last: float) -> tuple[FloatArray, list[float], tuple[int, ...]]:
        """Rows from one time to another, their times, and where recordings begin among them."""
        order_N = np.arange(self._next - self._kept, self._next) % max(1, len(self._rows_ND))
        times_N = self._times_N[order_N]
        chosen_T = order_N[(times_N >= first) & (times_N <= last)]
        begins = np.flatnonzero(self._begins_N[chosen_T][1:]) + 1
        return self._rows_ND[chosen_T], self._times_N[chosen_T].tolist(), (0, *begins.tolist())
