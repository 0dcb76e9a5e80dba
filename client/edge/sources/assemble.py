"""From single readings to rows: what every live source shares. Pure: time comes in as an argument.

The plant's clock counts, not ours: a row belongs to an instant of the source's clock, one `period_s` after the other,
and holds for each tag the newest reading up to half a period after that instant (so a jitter of less than half a period
moves nothing). It is given out as soon as every tag has a reading of its own for it, else when the source's clock is
half a period and `lateness_s` past it; a tag without a new reading keeps its last one, for at most `hold_s`.

How far the source's clock is, is learnt from the readings: the largest difference between a reading's time and our
steady clock at its arrival, over the last minute or two. A time that does not fit (far ahead, or before what the tag
already said) counts for nothing by itself; when readings go on like that, the clock was set: `Notice("clock")`.
"""

from __future__ import annotations

import heapq
import math
import time as wall_clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client.edge.records import Notice, Sample
from shared.schema import SensorSchema

_SPAN_S = 60.0  # a difference of clocks is remembered for one to two of these
_LAST_S = 4_102_444_800.0  # 2100-01-01: no reading is newer
_MOST_MISSING = 5  # tags named in a notice


@dataclass(frozen=True)
class Rules:
    """How rows are made.

    Attributes:
        lateness_s: how long a row waits for readings that are on their way.
        hold_s: how long a tag's last reading stands in for the next one; infinite for sources that report changes only.
        stall_s: silence after which nothing more is held: `stalled`.
        jump_s: a reading that is further ahead than this does not fit; it is also the longest hole that is bridged.
        most: readings that may wait for their row, a tag.
    """

    lateness_s: float = 0.0
    hold_s: float = math.inf
    stall_s: float = 10.0
    jump_s: float = 10.0
    most: int = 64


@dataclass
class Counts:
    """What happened to readings; only grows.

    Attributes:
        readings: taken in.
        bad: of bad quality, taken as missing.
        late: after the row that they belong to, and older than what is known: left out.
        restamped: far ahead of the source's clock: taken as of now.
        rows: given out.
    """

    readings: int = 0
    bad: int = 0
    late: int = 0
    restamped: int = 0
    rows: int = 0


def as_number(value: object) -> float | None:
    """A reading's value; None when it is no number.

    Example:
        >>> as_number(True), as_number(3), as_number("3")
        (1.0, 3.0, None)
    """
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


@dataclass(order=True)
class _Batch:
    time: float
    order: int
    tags: NDArray[np.intp] = field(compare=False)
    values: NDArray[np.float32] = field(compare=False)


class Assembler:
    """Readings in, rows and notices out. `now` is a steady clock of ours (monotonic), in seconds.

    Args:
        schema: the columns of a row, and the time between two.
        rules: see there.
        wall: time for notices while the source's clock is unknown.

    Example:
        >>> made = Assembler(SensorSchema(tags=("LIT101", "FIT101"), period_s=1.0))
        >>> made.take(now=5.0, time=100.0, tags=[0, 1], values=[1.5, 2.5])
        >>> [(row.time, row.values_D.tolist()) for row in made.drain(now=5.0)]
        [(100.0, [1.5, 2.5])]
    """

    def __init__(
        self, schema: SensorSchema, rules: Rules | None = None, wall: Callable[[], float] = wall_clock.time
    ) -> None:
        self.counts = Counts()
        self._tags, self._period, self._rules, self._wall = schema.tags, schema.period_s, rules or Rules(), wall
        self._ready: list[Sample | Notice] = []
        self._last_row: float | None = None
        self._stalled = self._told_missing = False
        self._heard_at: float | None = None
        self._values_D = np.full(schema.dim, np.nan, np.float32)
        self._known_D = np.full(schema.dim, -math.inf)
        self._begin()

    def take(self, now: float, time: float, tags: Sequence[int], values: Sequence[float], anchor: bool = True) -> None:
        """Readings of one moment.

        Args:
            now: of our steady clock.
            time: of the source's clock, in seconds since 1970-01-01 UTC.
            tags: their columns, each once.
            values: their values; NaN where the quality is bad. What no float32 holds is missing.
            anchor: whether they say how late it is; not for what was measured long ago and is only repeated.
        """
        columns = np.asarray(tags, np.intp)
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = np.asarray(values, np.float32)
        self.counts.readings += len(columns)
        self.counts.bad += int(np.count_nonzero(~np.isfinite(numbers)))
        if not (0.0 <= time <= _LAST_S):
            self.counts.restamped += len(columns)
            time, anchor = self._source_now(now), True
        if anchor and self._offset() is not None and self._misfit(now, time, columns, numbers):
            return
        self._heard(now)
        if anchor:
            self._learn(now, time)
        if anchor and len(columns) == len(self._tags) and not self._pending and self._own_row(time, columns, numbers):
            return
        self._put(time, columns, numbers)
        if self._offset() is not None:
            self._give(self._source_now(now))

    def clock(self, now: float, time: float) -> None:
        """The source says what time it is, without a reading; believed until readings say better."""
        if self._offset() is None and 0.0 <= time <= _LAST_S:
            self._learn(now, time)

    def alive(self, now: float) -> None:
        """The source says that nothing changed: what is known goes on to hold."""
        self._heard(now)

    def drain(self, now: float) -> list[Sample | Notice]:
        """Everything that is due by now; call it after readings came, and at least once a period."""
        if self._heard_at is not None and not self._stalled and now - self._heard_at > self._rules.stall_s:
            self._stall(now)
        elif self._offset() is not None and not self._stalled:
            self._give(self._source_now(now))
        ready, self._ready = self._ready, []
        return ready

    def pause(self, forget: bool = False) -> None:
        """The connection is lost: nothing is held from here on, and the next reading begins anew.

        Args:
            forget: the source tells every value again when it is back; else what is known stays known.
        """
        self._begin()
        self._heard_at, self._stalled = None, False
        if forget:
            self._known_D.fill(-math.inf)

    def tell(self, kind: str, text: str) -> None:
        """A notice in its place between the rows."""
        self._ready.append(Notice(self._when(), kind, text))

    # How late it is at the source ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._newest = self._older = -math.inf  # largest difference of clocks in this span and the one before
        self._span_ends = -math.inf
        self._running, self._next = False, 0.0  # whether rows are being given out; instant of the next
        self._pending: list[_Batch] = []
        self._waiting = self._order = 0
        self._misfits, self._misfit_readings = 0, 0
        self._since: float | None = None  # when the first reading came that waits for the others

    def _offset(self) -> float | None:
        best = max(self._newest, self._older)
        return best if best > -math.inf else None

    def _learn(self, now: float, time: float) -> None:
        if now >= self._span_ends:
            self._older, self._newest, self._span_ends = self._newest, -math.inf, now + _SPAN_S
        self._newest = max(self._newest, time - now)

    def _source_now(self, now: float) -> float:
        offset = self._offset()
        return self._wall() if offset is None else now + offset

    def _when(self) -> float:
        return self._last_row if self._last_row is not None else self._wall()

    def _misfit(self, now: float, time: float, columns: NDArray[np.intp], numbers: NDArray[np.float32]) -> bool:
        """Whether readings are to be left out because of their time; after enough of them the clock is taken as set."""
        ahead = time - self._source_now(now) > self._rules.jump_s
        if not ahead and not self._stale(time, columns):
            self._misfits = self._misfit_readings = 0
            return False
        self._misfits += 1
        self._misfit_readings += len(columns)
        if self._misfits >= 3 and self._misfit_readings >= len(self._tags) / 2:
            self._reset_clock(now, time)
            return False
        if ahead:
            self.counts.restamped += len(columns)
            self._heard(now)
            self._put(self._source_now(now), columns, numbers)
        else:
            self.counts.late += len(columns)
        return True

    def _stale(self, time: float, columns: NDArray[np.intp]) -> bool:
        gone = self._running and time < self._next - self._period / 2
        return gone and bool(np.all(time < self._known_D[columns]))

    def _reset_clock(self, now: float, time: float) -> None:
        moved = time - self._source_now(now)
        self._begin()
        self._known_D += moved  # What is known stays known, and stays as old as it is.
        self._last_row = None
        self._ready.append(Notice(time, "clock", f"the source's clock was set by {moved:+.1f} s"))

    # Silence ---------------------------------------------------------------------------------------------------------

    def _heard(self, now: float) -> None:
        self._heard_at = now
        if self._stalled:
            self._stalled = False
            self.tell("resumed", "readings come again")

    def _stall(self, now: float) -> None:
        silent = now - (self._heard_at or now)
        self._begin()
        self._stalled = True
        self.tell("stalled", f"no reading for {silent:.0f} s")

    # Rows ------------------------------------------------------------------------------------------------------------

    def _put(self, time: float, columns: NDArray[np.intp], numbers: NDArray[np.float32]) -> None:
        self._order += 1
        heapq.heappush(self._pending, _Batch(time, self._order, columns, numbers))
        self._waiting += len(columns)
        while self._waiting > self._rules.most * len(self._tags):
            self._apply(heapq.heappop(self._pending))

    def _apply(self, batch: _Batch) -> None:
        self._waiting -= len(batch.tags)
        newer = batch.time >= self._known_D[batch.tags]
        if not newer.all():
            self.counts.late += int(np.count_nonzero(~newer))
        self._values_D[batch.tags[newer]] = batch.values[newer]
        self._known_D[batch.tags[newer]] = batch.time

    def _own_row(self, time: float, columns: NDArray[np.intp], numbers: NDArray[np.float32]) -> bool:
        """A message with every tag is a row of its own, at its own time, unless it comes before the next is due."""
        if not self._running or time - self._next > self._rules.jump_s:
            self._begin_rows(time, columns[:0])
        else:
            while time >= self._next + self._period / 2:
                self._row()
        if self._last_row is not None and time - self._last_row < 0.75 * self._period:
            return False
        self._values_D[columns], self._next = numbers, time
        self._known_D.fill(time)
        self._row()
        return True

    def _give(self, source_now: float) -> None:
        """Give out every row that is due: complete, or late enough."""
        half = self._period / 2
        if not self._running and not self._started(source_now):
            return
        while True:
            self._bridge(source_now)
            while self._pending and self._pending[0].time < self._next + half:
                self._apply(heapq.heappop(self._pending))
            complete = bool(self._known_D.min() >= self._next - half)
            if not complete and source_now < self._next + half + self._rules.lateness_s:
                return
            ahead = float(self._known_D.max()) - self._next if complete else 0.0
            self._row()
            if abs(ahead) < half / 2:
                self._next += ahead / 10  # Follow a plant whose period is not quite the schema's.

    def _started(self, source_now: float) -> bool:
        """Wait for a reading of every tag, at most ten periods (at least 2 s), then begin with the newest."""
        while self._pending:
            batch = heapq.heappop(self._pending)
            batch.time = min(batch.time, source_now)
            self._apply(batch)
        self._since = source_now if self._since is None else self._since
        missing = np.flatnonzero(self._known_D == -math.inf)
        patience = max(10 * self._period, 2.0)
        if len(missing) == len(self._tags) or (len(missing) and source_now - self._since < patience):
            return False
        newest = float(self._known_D.max())
        self._begin_rows(newest if source_now - newest <= self._rules.jump_s else source_now, missing)
        return True

    def _begin_rows(self, first: float, missing: NDArray[np.intp]) -> None:
        self._running, self._next = True, first
        if self._last_row is not None:
            lost = round((first - self._last_row) / self._period) - 1
            if lost > 0:
                self.tell("gap", f"{lost} rows are missing before the next")
            if first - self._last_row < self._period / 2:
                self._next = self._last_row + self._period
        if len(missing) and not self._told_missing:
            self._told_missing = True
            names = ", ".join(self._tags[column] for column in missing[:_MOST_MISSING])
            more = f" and {len(missing) - _MOST_MISSING} more" if len(missing) > _MOST_MISSING else ""
            self.tell("missing", f"no reading of {names}{more} has come; rows go on without")

    def _bridge(self, source_now: float) -> None:
        """Begin anew where the readings that wait come so much later that rows in between would be inventions."""
        if self._pending and self._pending[0].time <= source_now:
            first = self._pending[0].time
            if first - self._next > self._rules.jump_s:
                self._begin_rows(first, np.empty(0, np.intp))

    def _row(self) -> None:
        values_D = self._values_D.copy()
        if self._rules.hold_s < math.inf:
            values_D[self._known_D < self._next - self._period / 2 - self._rules.hold_s] = np.nan
        values_D[~np.isfinite(values_D)] = np.nan
        self._ready.append(Sample(self._next, values_D, self.counts.rows))
        self.counts.rows += 1
        self._last_row, self._next = self._next, self._next + self._period


class Grumbler:
    """Counts what was refused, and says so at most once in a while: a flood of bad messages is no flood of notices.

    Args:
        every_s: least time between two notices.

    Example:
        >>> grumbler = Grumbler(every_s=60.0)
        >>> grumbler.refuse(0.0, "no JSON"), grumbler.refuse(1.0, "no JSON"), grumbler.refuse(61.0, "no number")
        ('no JSON', None, 'no number; 1 more since the last such notice')
    """

    def __init__(self, every_s: float = 60.0) -> None:
        self.total = 0
        self._every, self._next, self._held = every_s, -math.inf, 0

    def refuse(self, now: float, reason: str) -> str | None:
        """Count one; the text for a notice, when it is time for one."""
        self.total += 1
        if now < self._next:
            self._held += 1
            return None
        more = f"; {self._held} more since the last such notice" if self._held else ""
        self._next, self._held = now + self._every, 0
        return reason + more
