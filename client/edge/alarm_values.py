"""The values of the alarm machine: rules, an alarm, the machine's state, what it is told, what it tells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, structs

from client.edge.incidents import Incident, Tally
from client.edge.records import Notice, Part, Scored
from client.edge.shelving import Shelf, Shelves
from shared.artefact import Artefact

Seconds = Annotated[float, Meta(ge=0)]
Kind = Literal["alarm", "fault", "shelved"]
Standing = Literal["active", "acknowledged", "cleared"]
What = Literal["raised", "returned", "acknowledged", "cleared"]

_ACCEPTED = 1.0  # false alarms a day, where a plant names no budget
_LARGEST = 1e300  # an infinite score in a state file, where JSON has no infinity


class AlarmRules(Artefact, frozen=True, kw_only=True):
    """`[alarms]`: when an alarm is raised, cleared and told.

    Attributes:
        hits, among: an alarm is raised when `hits` of the newest `among` scores are above the threshold.
        least_s: and when the first of them is at least so old.
        clear_fraction: it clears below this fraction of the threshold's error (`shared.contributions.clear_level`);
        clear_s: when every score has been there for so long.
        rearm_s: what comes back within that time after clearing is the same alarm.
        group_s: alarms no further apart than this may be one incident.
        budget_a_day: false alarms a day that the plant accepts; sets both thresholds (`client.edge.budget`). None: the
            thresholds are those of the bundle, and more than one a day is told.
        flood_count, flood_s: so many alarms in that time are a flood, ended below half of it (ISA-18.2: 10 in 600).
        shelve_most_s: longest time for which anything can be shelved.
    """

    hits: Annotated[int, Meta(ge=1, le=1000)] = 10
    among: Annotated[int, Meta(ge=1, le=1000)] = 15
    least_s: Seconds = 0.0
    clear_fraction: Annotated[float, Meta(gt=0, le=1)] = 0.9
    clear_s: Seconds = 60.0
    rearm_s: Seconds = 300.0
    group_s: Seconds = 900.0
    budget_a_day: Annotated[float, Meta(ge=1e-6, le=1e6)] | None = None
    flood_count: Annotated[int, Meta(ge=2, le=1000)] = 10
    flood_s: Annotated[float, Meta(gt=0)] = 600.0
    shelve_most_s: Annotated[float, Meta(gt=0)] = 7 * 86_400.0

    def check(self) -> None:
        if self.hits > self.among:
            raise ValueError(f"hits must be at most `among`, {self.among}, not {self.hits}")

    @property
    def accepted_a_day(self) -> float:
        """False alarms a day beyond which people are told."""
        return _ACCEPTED if self.budget_a_day is None else self.budget_a_day


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    """A `client.edge.records.Part` as JSON can hold it: None where there is no number."""

    tag: str
    share: float
    direction: Literal[-1, 0, 1]
    reading: float | None
    expected: float | None

    @classmethod
    def of_part(cls, part: Part) -> Named:
        """Of a part."""
        reading, expected = (float(x) if math.isfinite(x) else None for x in (part.reading, part.expected))
        return cls(part.tag, part.share, part.direction, reading, expected)


class Alarm(Struct, frozen=True, forbid_unknown_fields=True):
    """One alarm. Times are the plant's, in seconds since 1970-01-01 UTC.

    Attributes:
        id, incident: names, unique at this plant.
        kind: `alarm`; `fault`: nothing is above a threshold but for sensors that are known to be faulty; `shelved`: but
            for tags that are shelved or out of service.
        state: `active` (ISA-18.2: unacknowledged), `acknowledged`, or `cleared` (returned to normal).
        began: of the first score above the threshold.
        raised: when it became an alarm.
        cleared, acked: when; None: not yet.
        acked_by, note: who acknowledged it, and why.
        by: models that raised it: `federated`, `guard`.
        bundle: first 12 digits of the digest of the one in force.
        mode: operating mode; None without clusters.
        sensors: the tags that the score came from, largest first, when it was raised.
        score, threshold, p_value: of the federated model, at the worst; the p-value is the score's.
        guard, guard_threshold: of the local guard, at the worst; None without one.
        returns: how often it came back within its re-arm time.
        told: whether people were told of it.
        window: the rows that raised it, by reference: a file below the state folder; empty when there is none.
    """

    id: str
    incident: str
    kind: Kind
    state: Standing
    began: float
    raised: float
    by: tuple[str, ...]
    bundle: str
    mode: int | None
    sensors: tuple[Named, ...]
    score: float
    threshold: float
    p_value: float
    guard: float | None = None
    guard_threshold: float | None = None
    cleared: float | None = None
    acked: float | None = None
    acked_by: str = ""
    note: str = ""
    returns: int = 0
    told: bool = True
    window: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """Of the sensors, the first three."""
        return tuple(part.tag for part in self.sensors[:3])

    def worse(self, scored: Scored, by: tuple[str, ...]) -> Alarm:
        """With a newer score, as far as it is worse; the same value if it is not."""
        new_by = tuple(dict.fromkeys((*self.by, *by)))
        worse_score = scored.score > self.score
        worse_guard = scored.guard is not None and (self.guard is None or scored.guard > self.guard)
        if not worse_score and not worse_guard and new_by == self.by:
            return self
        return structs.replace(
            self,
            by=new_by,
            score=bounded(scored.score) if worse_score else self.score,
            threshold=scored.threshold if worse_score else self.threshold,
            p_value=min(self.p_value, scored.p_value),
            guard=None if scored.guard is None else bounded(max(scored.guard, self.guard or 0.0)),
            guard_threshold=scored.guard_threshold,
        )


class AlarmState(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the machine remembers: a JSON value, with which a restart goes on where it was.

    Attributes:
        number: of alarms and incidents so far.
        clock: seconds for which scores were there; no gap counts.
        bits, free_bits: the newest scores, 1 where above the threshold; the second without silenced and faulty tags.
        pending_clock, pending_time: since when there are ones in `bits`.
        below_clock: since when every score is below the clear level; None: it is not.
        current: the alarm that stands.
        last: the alarm that cleared last.
        waiting: cleared alarms that nobody has acknowledged.
        incident, tally, shelves: see their classes.
        known: whether readings arrive.
        untold: alarms that people were not told of one by one.
        forgotten: cleared alarms that made room, unacknowledged.
    """

    number: int = 0
    clock: float = 0.0
    bits: int = 0
    free_bits: int = 0
    pending_clock: float = 0.0
    pending_time: float = 0.0
    below_clock: float | None = None
    current: Alarm | None = None
    last: Alarm | None = None
    waiting: tuple[Alarm, ...] = ()
    incident: Incident | None = None
    tally: Tally = Tally()
    shelves: Shelves = ()
    known: bool = True
    untold: int = 0
    forgotten: int = 0

    @property
    def standing(self) -> Literal["normal", "pending", "active", "acknowledged", "cleared"]:
        """In one word. `cleared`: all is back to normal, but somebody has not acknowledged yet."""
        if self.current is not None and self.current.kind != "shelved":
            return self.current.state
        if self.bits and self.current is None:
            return "pending"
        return "cleared" if self.waiting else "normal"

    @property
    def listed(self) -> tuple[Alarm, ...]:
        """Alarms that somebody may want to see: the one that stands, and those not acknowledged."""
        return (*(() if self.current is None else (self.current,)), *self.waiting)

    @property
    def json(self) -> bytes:
        """As it is kept on disk."""
        return msgspec.json.encode(self)

    @classmethod
    def parse(cls, data: bytes) -> AlarmState:
        """Read `json`.

        Raises:
            ValueError: it is none.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Judged:
    """An event: a sample's score against the thresholds.

    Attributes:
        scored: what the models say.
        by: models that are above their threshold.
        free_by: those that still are without the tags that are faulty, shelved or out of service.
        below: whether all models are below their clear level.
        cause: what `free_by` leaves out: `fault` or `shelved`.
        elapsed_s: since the score before it; 0 across a gap.
    """

    scored: Scored
    by: tuple[str, ...] = ()
    free_by: tuple[str, ...] = ()
    below: bool = True
    cause: Literal["fault", "shelved"] = "fault"
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Broken:
    """An event: the next score has nothing to do with those before (`gap`, `clock`, or another model)."""

    time: float


@dataclass(frozen=True, slots=True)
class Stalled:
    """An event: no readings arrive, or (`over`) they are back."""

    time: float
    over: bool = False


class Ack(Struct, frozen=True, forbid_unknown_fields=True, tag="ack"):
    """An order: an alarm, or all of an incident, was seen by somebody."""

    id: str
    by: str
    note: str = ""


class Shelve(Struct, frozen=True, forbid_unknown_fields=True, tag="shelve"):
    """An order: hold back a tag's alarms, or all (`ALL`), for some seconds or until a time; with neither, the tag is
    out of service until `Unshelve`.
    """

    tag: str
    by: str
    note: str
    for_s: float | None = None
    until: float | None = None


class Unshelve(Struct, frozen=True, forbid_unknown_fields=True, tag="unshelve"):
    """An order: end a shelf."""

    tag: str
    by: str
    note: str = ""


class Confirm(Struct, frozen=True, forbid_unknown_fields=True, tag="confirm-normal"):
    """An order for `client.edge.adapt`: what was scored between two times was normal operation, somebody says so."""

    first: float
    last: float
    by: str
    note: str = ""


Order = Ack | Shelve | Unshelve | Confirm


@dataclass(frozen=True, slots=True)
class Ordered:
    """An event: an order, at a time by the plant's clock."""

    time: float
    order: Ack | Shelve | Unshelve


Event = Judged | Broken | Stalled | Ordered


@dataclass(frozen=True, slots=True)
class Told:
    """A record: what has become of an alarm.

    Attributes:
        time: when.
        what: happened.
        alarm: as it is now.
        incident: that it belongs to.
        day, budget: alarms in the last day, and how many false ones the plant accepts.
    """

    time: float
    what: What
    alarm: Alarm
    incident: Incident
    day: int
    budget: float

    def as_json(self) -> dict[str, Any]:
        """The record as it is written; an infinite score is the string `inf`."""
        a, i = self.alarm, self.incident
        return {
            "type": "fault" if a.kind == "fault" else "alarm", "time": self.time, "what": self.what, "id": a.id,
            "state": a.state, "began": a.began, "raised": a.raised, "cleared": a.cleared, "acknowledged": a.acked,
            "by": a.acked_by, "note": a.note, "models": list(a.by), "bundle": a.bundle, "mode": a.mode,
            "score": unbounded(a.score), "threshold": unbounded(a.threshold), "p": a.p_value,
            "guard": unbounded(a.guard), "guard_threshold": unbounded(a.guard_threshold), "returns": a.returns,
            "sensors": [structs.asdict(part) for part in a.sensors], "window": a.window,
            "incident": {"id": i.id, "count": i.count, "first": i.first, "tags": list(i.tags), "flood": i.flood},
            "day": self.day, "budget": self.budget,
        }  # fmt: skip


def bounded(value: float) -> float:
    """A score that JSON can hold: finite."""
    return max(-_LARGEST, min(_LARGEST, value)) if value == value else _LARGEST


def unbounded(value: float | None) -> float | str | None:
    """What was infinite is the string `inf` again."""
    if value is None or abs(value) < _LARGEST:
        return value
    return "inf" if value > 0 else "-inf"


def shelf_of(order: Shelve, time: float) -> Shelf:
    """The shelf that an order makes; it counts from the time at which it is taken."""
    until = order.until if order.for_s is None else time + order.for_s
    return Shelf(order.tag, order.by, order.note, time, until)


def notice(time: float, kind: str, text: str) -> Notice:
    """A notice on one line."""
    return Notice(time, kind, " ".join(text.split())[:500])
