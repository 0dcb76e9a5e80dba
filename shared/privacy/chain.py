"""The lines of a privacy ledger, read: a chain of SHA-256 digests, what was charged, and what a torn line hides.

    line 1     {"format": 1, "plant": ..., "key": SHA-256 of the key, "made": ...}
    line n     {"previous": SHA-256 of line n - 1, "run": ..., "event": {...}, ...}
    torn       any bytes, closed later with `#torn`: written by a process that was stopped in between

A line counts once its newline is there. What a torn line was to charge is unknown; it counts as the costliest release
of the ledger, though it was never answered.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from shared.errors import LedgerBroken
from shared.privacy.accounting import Event, upper

TORN = b"#torn"
Purpose = Literal["weights", "centroids", "ranges", "moments"]

Kind = TypeVar("Kind")

_Count = Annotated[int, Meta(ge=0, le=10**9)]
_Delta = Annotated[float, Meta(gt=0, lt=1)]
_Amount = Annotated[float, Meta(ge=0)]
_Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the ledger was when it was last closed; beside it, so that a missing end shows."""

    lines: _Count
    digest: _Digest


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Line 1."""

    format: Literal[1]
    plant: str
    key: _Digest
    made: str


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event, as a line holds it."""

    multiplier: _Amount
    sampling: Annotated[float, Meta(ge=0, le=1)]
    count: _Count


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Any other line; the fields are those of `ledger.Release`."""

    previous: _Digest
    run: str
    round: int
    purpose: Purpose
    request: str
    event: Cost
    delta: _Delta
    unit: str
    time: str
    budget: float


class Chain:
    """What the lines read so far say.

    Args:
        place: the file, for people.

    Attributes:
        opening: line 1, None before it is read.
        size: bytes up to the end of the last whole line.
        lines, digest: how many lines, and the newest one's SHA-256.
        charged: what each request was charged, by request and purpose.
        counts: releases by purpose, multiplier and sampling.
        torn: how many lines are torn.
        newest: the newest line that was charged.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.opening: Opening | None = None
        self.size, self.lines, self.digest = 0, 0, ""
        self.charged: dict[tuple[str, str], Event] = {}
        self.counts: dict[str, Counter[tuple[float, float]]] = {}
        self.torn, self.delta = 0, 0.0
        self.newest: Line | None = None
        self.since = ""
        self.runs: set[str] = set()

    def feed(self, data: bytes, head: Head | None = None) -> bytes:
        """Read on from `size`; what stands after the last whole line.

        Raises:
            LedgerBroken: a line is not what was written.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._take(line)
            if head is not None and self.lines == head.lines and self.digest != head.digest:
                raise self.broken("is not the one that was written; the file was replaced or changed")
        self.size += len(data) - len(rest)
        return rest

    def broken(self, what: str) -> LedgerBroken:
        """The error about the newest line."""
        return LedgerBroken(f"{self.place}: line {self.lines} {what}.")

    def events(self, *more: Event, torn: bool = False) -> list[Event]:
        """All that was released, and `more`, with every torn line, and a torn end, as the costliest of them."""
        total: Counter[tuple[float, float]] = Counter()
        for counted in self.counts.values():
            total.update(counted)
        found = [Event(z, q, n) for (z, q), n in total.items()] + list(more)
        unknown = self.torn + torn
        if unknown and found:
            singles = [Event(event.multiplier, event.sampling, 1) for event in found]
            worst = max(singles, key=lambda event: upper([event], self.delta or 1e-5))
            found.append(Event(worst.multiplier, worst.sampling, unknown))
        return found

    def _take(self, line: bytes) -> None:
        previous, self.digest, self.lines = self.digest, hashlib.sha256(line).hexdigest(), self.lines + 1
        if self.lines == 1:
            self.opening = self._decoded(line, Opening)
        elif line.endswith(TORN):
            self.torn += 1
        else:
            found = self._decoded(line, Line)
            if found.previous != previous:
                raise self.broken("does not follow the one before it: lines were changed, removed or put in")
            self._count(found)

    def _decoded(self, line: bytes, kind: type[Kind]) -> Kind:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, ValueError) as error:
            raise self.broken(f"cannot be read ({error})") from error

    def _count(self, line: Line) -> None:
        event = Event(line.event.multiplier, line.event.sampling, line.event.count)
        self.charged[line.request, line.purpose] = event
        counted = self.counts.setdefault(line.purpose, Counter())
        counted[event.multiplier, event.sampling] += event.count
        self.delta = max(self.delta, line.delta)
        self.since = self.since or line.time
        self.runs.add(line.run)
        self.newest = line
