"""Which plant trains which member of an ensemble, and how a request says so. Nothing here knows a network.

With n plants and E members, turns m = min(n, E): the plant at place p in the sorted membership trains the members e
with e = p modulo m. So with E = n each plant has one of its own; with fewer plants than members a plant has several,
and with more, members are shared by plants a turn apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_MEMBER = re.compile(r"(?:^|\.)members\.(\d+)\.")
_DIGITS = 16


def trained_by(place: int, count: int, members: int) -> tuple[int, ...]:
    """The members that one plant trains.

    Args:
        place: of the plant in the sorted membership, from 0.
        count: plants in it, n.
        members: E.

    Example:
        >>> [trained_by(place, 2, 5) for place in range(2)], [trained_by(place, 3, 2) for place in range(3)]
        ([(0, 2, 4), (1, 3)], [(0,), (1,), (0,)])
    """
    turns = min(count, members)
    return tuple(member for member in range(members) if member % turns == place % turns)


def member_of(tensor: str) -> int | None:
    """The member that a tensor belongs to; None: it is everybody's.

    Example:
        >>> member_of("members.3.critic.0.weight"), member_of("bottleneck.weight")
        (3, None)
    """
    found = _MEMBER.search(tensor)
    return int(found[1]) if found else None


def places(run: str, plants: Iterable[str]) -> str:
    """Everybody's place, as a request says it: digests in the order of the sorted names, so that names stay untold."""
    return " ".join(_mark(run, plant) for plant in sorted(plants))


def place_in(told: str, run: str, plant: str) -> tuple[int, int] | None:
    """A plant's place and how many there are; None where it has none.

    Example:
        >>> place_in(places("r", ["south", "north"]), "r", "south"), place_in("", "r", "south")
        ((1, 2), None)
    """
    marks = told.split()
    mark = _mark(run, plant)
    return (marks.index(mark), len(marks)) if mark in marks else None


def _mark(run: str, plant: str) -> str:
    return hashlib.sha256(f"{run}/{plant}".encode()).hexdigest()[:_DIGITS]
