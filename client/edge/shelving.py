"""Shelves: tags whose alarms people do not want for a while, by whom, why and until when.

ISA-18.2 (IEC 62682) tells three ways of silencing apart, of which two are here: *shelved*, by an operator, with an end;
and *out of service*, for maintenance, without one. Nothing is silenced without a name and a reason. A shelf holds back
the raising of an alarm, never its clearing, and whatever it held back is counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, structs

ALL = "ALL"  # every tag: nothing is raised at all
_CLOCK_SLACK_S = 60.0


class Shelf(Struct, frozen=True, forbid_unknown_fields=True):
    """One tag, or `ALL`.

    Attributes:
        tag: its name.
        by, note: who, and why.
        since: when, by the plant's clock, in seconds since 1970-01-01 UTC.
        until: when it ends; None: out of service, until somebody ends it.
        held: alarms that it held back.
    """

    tag: str
    by: str
    note: str
    since: float
    until: float | None = None
    held: int = 0

    @property
    def word(self) -> str:
        """`shelved` or `out of service`."""
        return "out of service" if self.until is None else "shelved"

    def over(self, time: float) -> bool:
        """Whether it has ended. A clock that went back to before it began ends it, too: silence must not last longer
        than was asked for.

        Example:
            >>> shelf = Shelf("LIT101", "ann", "cleaning", since=1000.0, until=2000.0)
            >>> shelf.over(1999.0), shelf.over(2000.0), shelf.over(0.0)
            (False, True, True)
        """
        return self.until is not None and (time >= self.until or time < self.since - _CLOCK_SLACK_S)


Shelves = tuple[Shelf, ...]


def put(shelves: Shelves, shelf: Shelf) -> Shelves:
    """With one more; it takes the place of the tag's older one, and its count goes on."""
    before = next((old for old in shelves if old.tag == shelf.tag), None)
    taken = shelf if before is None else structs.replace(shelf, held=before.held)
    return (*(old for old in shelves if old.tag != shelf.tag), taken)


def without(shelves: Shelves, tag: str) -> Shelves:
    """Without a tag's; the same value where there is none."""
    return tuple(shelf for shelf in shelves if shelf.tag != tag) if any(s.tag == tag for s in shelves) else shelves


def ended(shelves: Shelves, time: float) -> tuple[Shelves, Shelves]:
    """Those that stay, and those that have ended.

    Example:
        >>> ended((Shelf("A", "ann", "x", 0.0, 5.0), Shelf("B", "ann", "x", 0.0)), 6.0)[0][0].tag
        'B'
    """
    if not any(shelf.over(time) for shelf in shelves):
        return shelves, ()
    return tuple(s for s in shelves if not s.over(time)), tuple(s for s in shelves if s.over(time))


def counted(shelves: Shelves, tags: Iterable[str]) -> Shelves:
    """With one more alarm held back by the shelves of these tags, or by `ALL`."""
    named = {*tags, ALL}
    return tuple(structs.replace(s, held=s.held + 1) if s.tag in named else s for s in shelves)


def silenced(shelves: Shelves) -> frozenset[str]:
    """Tags that are shelved or out of service; `ALL` is one of them when everything is."""
    return frozenset(shelf.tag for shelf in shelves)
