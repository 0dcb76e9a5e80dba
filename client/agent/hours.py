"""Local time windows in which a plant trains, such as `Mon-Fri 18:00-06:00`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_FORM = re.compile(r"(daily|[A-Za-z,-]+) (\d\d):(\d\d)-(\d\d):(\d\d)")
_MINUTES_OF_DAY = 24 * 60


@dataclass(frozen=True)
class Window:
    """Opens on some days of the week at `start` and closes at `end`, both in minutes after midnight; an end that is not
    after the start is on the next day.
    """

    days: frozenset[int]
    start: int
    end: int

    def span(self, day: date, zone: tzinfo) -> tuple[datetime, datetime] | None:
        """The window that opens on this day, in UTC; None when none does."""
        if day.weekday() not in self.days:
            return None
        return _at(day, self.start, zone), _at(day, self.end + _MINUTES_OF_DAY * (self.end <= self.start), zone)


def _at(day: date, minutes: int, zone: tzinfo) -> datetime:
    """Wall-clock time, so that a window is an hour longer or shorter on the days when clocks change."""
    later, minute = divmod(minutes, _MINUTES_OF_DAY)
    local = datetime.combine(day + timedelta(days=later), time(minute // 60, minute % 60), zone)
    return local.astimezone(UTC)


def parse_window(text: str) -> Window:
    """Read `DAYS HH:MM-HH:MM`, where DAYS is `daily`, `Mon`, `Mon-Fri` or `Mon,Wed,Fri`.

    Raises:
        ValueError: it is something else.

    Example:
        >>> parse_window("Sat-Mon 00:00-24:00").days == {5, 6, 0}
        True
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("a window is written as `Mon-Fri 18:00-06:00`, `Sat,Sun 00:00-24:00` or `daily 22:00-05:30`")
    start, end = (_minutes(*match.group(a, b)) for a, b in ((2, 3), (4, 5)))
    if start == _MINUTES_OF_DAY:
        raise ValueError("a window may end but not begin at 24:00")
    return Window(_days(match[1]), start, end)


def _minutes(hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if total > _MINUTES_OF_DAY or int(minutes) > 59:
        raise ValueError(f"there is no time {hours}:{minutes}")
    return total


def _days(text: str) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not set(ends) <= set(DAYS):
            raise ValueError(f"{part!r} is no day: days are {', '.join(DAYS)}, a range of two, or daily")
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        found |= {day % 7 for day in range(first, last + 1 + 7 * (last < first))}
    return frozenset(found)


def next_opening(windows: tuple[Window, ...], zone: tzinfo, now: datetime) -> datetime | None:
    """When work may begin: None when it may now, else the next opening in UTC.

    Args:
        windows: at least one.
        zone: of the windows.
        now: with a time zone.
    """
    today = now.astimezone(zone).date()
    days = [today + timedelta(days=n) for n in range(-1, 9)]
    spans = [span for day in days for window in windows if (span := window.span(day, zone)) is not None]
    if any(start <= now < end for start, end in spans):
        return None
    return min(start for start, _ in spans if start > now)
