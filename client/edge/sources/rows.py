"""What sources of whole rows share: which column is which tag, what a time says, and whether times go forward.

Shapes: D tags, in the order of the schema.
"""

from __future__ import annotations

import math
import time as wall_clock
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from client.edge.records import Notice
from client.edge.sources.assemble import Grumbler
from shared.errors import SchemaMismatch
from shared.schema import SensorSchema

GAP_PERIODS = 10.0  # a step longer than so many periods begins a recording
LAST_S = 4_102_444_800.0  # 2100-01-01: no reading is newer
_SCALES = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # from nano-, micro- and milliseconds; seconds stay below 1e11
_NAMED = 5  # tags in a message
_CLOCK_ROWS = 1000  # rows between two notices about the clock


@dataclass(frozen=True)
class Columns:
    """Where each tag stands in a table.

    Attributes:
        at_D: column of each tag; None where the table has none.
        missing: tags that the table lacks.
        ignored: columns that are no tags.
    """

    at_D: tuple[int | None, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]

    def told(self) -> Iterator[str]:
        """What a person should know about them."""
        if self.missing:
            yield f"no column for {some(self.missing)}: taken as missing"
        if self.ignored:
            yield f"columns that are no tags are left out: {some(self.ignored)}"


def match(header: Sequence[str], schema: SensorSchema, where: str, time: int | None = None) -> Columns:
    """Find the tags among a table's columns, in any order.

    Args:
        header: names of the columns.
        schema: the tags.
        where: named in errors.
        time: the column of times, which is no tag.

    Raises:
        SchemaMismatch: more than half of the tags are missing, or a tag has two columns.

    Example:
        >>> schema = SensorSchema(tags=("LIT101", "FIT101"), period_s=1.0)
        >>> match(["time", "FIT101", "LIT101"], schema, "a.csv", time=0).at_D
        (2, 1)
    """
    names = [name.strip() for name in header]
    known = set(schema.tags)
    twice = [tag for tag, count in Counter(names).items() if count > 1 and tag in known]
    if twice:
        raise SchemaMismatch(f"{where} has more than one column {twice[0]!r}.", "Leave one of them out.")
    places = {name: at for at, name in enumerate(names) if at != time}
    columns = Columns(
        tuple(places.get(tag) for tag in schema.tags),
        tuple(tag for tag in schema.tags if tag not in places),
        tuple(name for name in places if name not in known),
    )
    if 2 * len(columns.missing) > schema.dim:
        cause = f"{where} lacks {len(columns.missing)} of {schema.dim} tags: {some(columns.missing)}."
        raise SchemaMismatch(cause, "Give the plant's own data, with a header that names its tags.")
    return columns


def some(names: Sequence[str]) -> str:
    """A few names, and how many more.

    Example:
        >>> some(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(name[:64] for name in names[:_NAMED])}{more}"


def read_time(value: str | float, layout: str = "") -> float:
    """A time in seconds since 1970-01-01 UTC.

    Args:
        value: a number of seconds (of milli-, micro- or nanoseconds where it is too large for seconds), or ISO 8601;
            without an offset it is UTC.
        layout: for `strptime`, where times are written otherwise.

    Raises:
        ValueError: it is no time between 1970 and 2100.

    Example:
        >>> read_time("1970-01-01T00:01:00+00:00"), read_time("1970-01-01 00:01"), read_time(1_700_000_000_000)
        (60.0, 60.0, 1700000000.0)
        >>> read_time("01/02/1970 00:00", "%d/%m/%Y %H:%M") / 86_400
        31.0
    """
    seconds = number(value) if not layout else None
    if seconds is None:
        moment = datetime.strptime(str(value), layout) if layout else datetime.fromisoformat(str(value).strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = moment.timestamp()
    else:
        seconds /= next((scale for least, scale in _SCALES if abs(seconds) >= least), 1.0)
    if not 0.0 <= seconds <= LAST_S:
        raise ValueError(f"{value!r:.40} is no time between 1970 and 2100")
    return seconds


def number(value: str | float) -> float | None:
    """A number as machines write it; None where it is none, `1_000` of Python among them.

    Example:
        >>> number(" 1e3 "), number("1_000"), number("1.234,5")
        (1000.0, None, None)
    """
    try:
        return None if isinstance(value, str) and "_" in value else float(value)
    except ValueError:
        return None


class Order:
    """Whether times go forward: notices to give before a sample.

    Args:
        period_s: nominal time between two samples.

    Example:
        >>> order = Order(period_s=1.0)
        >>> [[notice.kind for notice in order.check(time)] for time in (5.0, 6.0, 6.0, 60.0, 7.0)]
        [[], [], ['clock'], ['gap'], ['gap']]
    """

    def __init__(self, period_s: float) -> None:
        self._longest = GAP_PERIODS * period_s
        self._last = math.nan
        self._rows = 0
        self._grumbler = Grumbler(_CLOCK_ROWS)

    def check(self, time: float) -> list[Notice]:
        """The time of the next sample."""
        step, self._last = time - self._last, time
        self._rows += 1
        notices = []
        if step <= 0:
            text = "time stands still" if step == 0 else f"time went back by {-step:g} s"
            told = self._grumbler.refuse(self._rows, text)
            notices += [Notice(time, "clock", told)] if told else []
        if abs(step) > self._longest:
            notices.append(Notice(time, "gap", f"{step:+g} s to the next row: a recording begins"))
        return notices


class Refused:
    """Counts what is no sample, and says so now and then.

    Attributes:
        total: since the start.
    """

    def __init__(self) -> None:
        self._grumbler = Grumbler()

    @property
    def total(self) -> int:
        """Refused since the start."""
        return self._grumbler.total

    def notice(self, reason: str) -> list[Notice]:
        """Count one."""
        told = self._grumbler.refuse(wall_clock.monotonic(), reason)
        return [Notice(wall_clock.time(), "rejected", told)] if told else []

    def ended(self, time: float, what: str) -> Notice:
        """The last notice of a source whose data ends."""
        refused = f", {self.total} rejected" if self.total else ""
        return Notice(time, "ended", f"{what}{refused}")
