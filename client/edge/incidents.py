"""Incidents: alarms that belong together, and how much of them people are told.

An alarm joins the incident before it when it comes within `group_s` and names one of its tags, or is in its operating
mode. A flood (ISA-18.2: more than 10 alarms in 10 minutes; it ends below half of that) is one incident, whatever the
tags. Of an incident's alarms people are told the first, those that name a new tag, and then the 2nd, 4th, 8th, ...: a
thousand alarms are some ten messages, and the number stands in each of them.
"""

from __future__ import annotations

from msgspec import Struct, structs

DAY_S = 86_400.0
TAGS = 3  # of an alarm that say what it is about
_MOST_TIMES = 2_000
_MOST_TAGS = 64


class Incident(Struct, frozen=True, forbid_unknown_fields=True):
    """Alarms that belong together.

    Attributes:
        id: its name, unique at this plant.
        first, last: when it began, and when something last happened in it.
        count: alarms in it, an alarm that returned within its re-arm time included.
        tags: all that they named.
        mode: operating mode of the newest.
        flood: whether it holds whatever comes.
    """

    id: str
    first: float
    last: float
    count: int = 1
    tags: tuple[str, ...] = ()
    mode: int | None = None
    flood: bool = False


def belongs(
    incident: Incident | None, time: float, tags: tuple[str, ...], mode: int | None, group_s: float, flood: bool
) -> bool:
    """Whether an alarm is one of an incident's.

    Example:
        >>> belongs(Incident("i1", 0.0, 50.0, tags=("LIT101",)), 100.0, ("LIT101", "P101"), None, 60.0, False)
        True
    """
    if incident is None or abs(time - incident.last) > group_s:
        return False
    return flood or not set(tags).isdisjoint(incident.tags) or (mode is not None and mode == incident.mode)


def joined(
    incident: Incident, time: float, tags: tuple[str, ...], mode: int | None, flood: bool
) -> tuple[Incident, bool]:
    """An incident with one more alarm, and whether people are told of that alarm."""
    count, known = incident.count + 1, set(incident.tags)
    new = tuple(tag for tag in tags[:1] if tag not in known)
    kept = (*incident.tags, *(tag for tag in tags if tag not in known))[:_MOST_TAGS]
    flooded = flood or incident.flood
    found = structs.replace(incident, last=time, count=count, tags=kept, mode=mode, flood=flooded)
    return found, doubling(count) or (bool(new) and not flooded)


def doubling(count: int) -> bool:
    """Whether a count is worth a message: 1, 2, 4, 8, ...

    Example:
        >>> [n for n in range(20) if doubling(n)]
        [1, 2, 4, 8, 16]
    """
    return count > 0 and count & (count - 1) == 0


class Tally(Struct, frozen=True, forbid_unknown_fields=True):
    """How many alarms there were lately.

    Attributes:
        times: of the newest, oldest first; never more than 2,000.
        flood: whether there are too many for a person.
        over_budget: whether the last day had more than its budget, and people were told.
    """

    times: tuple[float, ...] = ()
    flood: bool = False
    over_budget: bool = False

    def since(self, time: float, span_s: float) -> int:
        """Alarms within the last `span_s` before a time."""
        return sum(1 for at in self.times if time - span_s < at <= time)

    def plus(self, time: float) -> Tally:
        """With an alarm more. What is a day old, or lies ahead of a clock that went back, is forgotten."""
        kept = tuple(at for at in self.times if time - DAY_S < at <= time)
        return structs.replace(self, times=(*kept, time)[-_MOST_TIMES:])
