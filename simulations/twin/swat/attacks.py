"""How scripted events act inside the loop: what a sensor shows, what an actuator does, what leaks, what is replayed."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from shared.catalogue import tags
from shared.errors import InvalidConfig, UnknownName
from simulations.twin.script import KINDS, Event
from simulations.twin.swat.control import ACTUATORS

LEVELS = ("LIT101", "LIT301", "LIT401")
LEAKS = {
    "LIT101": 0, "LIT301": 1, "LIT401": 2,  # a hole in the tank
    "FIT101": 0, "FIT201": 1, "FIT301": 2,  # a hole in the pipe that fills it, behind the meter
}  # fmt: skip
DOSING = ("P201", "P203", "P205", "P403")

_UF = ("P302", "MV301", "MV302", "MV303", "MV304", "P602", "FIT301", "DPIT301", "FIT601", "LIT301", "LIT401")
_TRANSFER = ("P101", "MV201", "P203", "P205", "FIT201", "LIT101", "LIT301")
HIDDEN = {
    "MV101": ("MV101", "FIT101", "LIT101"),
    "P101": _TRANSFER,
    "MV201": _TRANSFER,
    "P302": _UF,
    "MV302": _UF,
    "MV304": _UF,
    "P501": (
        *("P501", "FIT401", "FIT501", "FIT502", "FIT503", "FIT504"),
        *("PIT501", "PIT502", "PIT503", "LIT401"),
    ),
}  # what an attacker replays so that nobody sees an overridden actuator: its own signal and its neighbours'

Values = NDArray[np.float64]


def check(events: tuple[Event, ...], seconds: int) -> tuple[Event, ...]:
    """Return events that this plant can act out.

    Raises:
        UnknownName: no such kind or tag.
        InvalidConfig: a target or size that the kind cannot have, or a time outside the recording.
    """
    known = [tag.name for tag in tags("swat")]
    for event in events:
        if event.kind not in KINDS:
            raise UnknownName("kind of event", event.kind, list(KINDS))
        if event.target not in known:
            raise UnknownName("SWaT tag", event.target, known)
        if not 0 <= event.first_s < event.end_s <= seconds:
            where = f"[{event.first_s}, {event.end_s})"
            raise InvalidConfig(f"event {where} lies outside the {seconds} s of the recording.", "Move or shorten it.")
        allowed = targets(event.kind)
        if event.target not in allowed:
            cure = f"Possible targets: {', '.join(allowed)}."
            raise InvalidConfig(f"{event.kind!r} cannot be done to {event.target}.", cure)
        _check_size(event)
    return events


def _check_size(event: Event) -> None:
    held = event.kind in ("override", "stealthy")
    if held and event.size not in (1, 2):
        cause = f"{event.target} cannot be held at {event.size:g}."
        raise InvalidConfig(cause, "Give 1 (closed, off) or 2 (open, on).")
    if not isfinite(event.size) or (event.kind == "leak" and event.size < 0):
        raise InvalidConfig(f"{event.kind!r} on {event.target} cannot have the size {event.size:g}.", "Mend it.")


def targets(kind: str) -> tuple[str, ...]:
    """The tags that a kind of event can be done to.

    Example:
        >>> targets("leak")
        ('LIT101', 'LIT301', 'LIT401', 'FIT101', 'FIT201', 'FIT301', 'FIT401')
    """
    if kind == "override":
        return (*ACTUATORS, *DOSING)
    if kind == "leak":
        return (*LEAKS, "FIT401")
    if kind == "stealthy":
        return tuple(HIDDEN)
    return tuple(tag.name for tag in tags("swat") if tag.kind == "sensor")


@dataclass(frozen=True)
class Acting:
    """What is going on from one second until the next event begins or ends.

    Attributes:
        forced: actuators held in a state, by code.
        holes, broken: m3/h lost from each tank, and from the pipe that fills it.
        levels: for each tank the events on its level sensor.
        hidden: for each tank the stealthy event that replays its level, if any.
        low_feed: FIT401 is made to show less than the RO needs.
        clogged: DPIT301 is made to show a clogged membrane.
    """

    forced: dict[str, int]
    holes: tuple[float, float, float]
    broken: tuple[float, float, float]
    levels: tuple[tuple[Event, ...], ...]
    hidden: tuple[Event | None, ...]
    low_feed: bool
    clogged: bool


def acting(events: tuple[Event, ...], second: int, least_feed: float, high_dp: float) -> Acting:
    """Sum up the events that are on at a second."""
    now = [event for event in events if event.first_s <= second < event.end_s]
    stealthy = [event for event in now if event.kind == "stealthy"]
    return Acting(
        forced={event.target: int(event.size) for event in now if event.kind in ("override", "stealthy")},
        holes=_lost(now, "LIT"),
        broken=_lost(now, "FIT"),
        levels=tuple(tuple(e for e in now if e.target == tag and e.kind not in ("leak", "stealthy")) for tag in LEVELS),
        hidden=tuple(next((e for e in stealthy if tag in HIDDEN[e.target]), None) for tag in LEVELS),
        low_feed=any(e.kind == "spoof" and e.target == "FIT401" and e.size < least_feed for e in now),
        clogged=any(e.kind == "spoof" and e.target == "DPIT301" and e.size > high_dp for e in now),
    )


def _lost(now: list[Event], prefix: str) -> tuple[float, float, float]:
    lost = [0.0, 0.0, 0.0]
    for event in now:
        if event.kind == "leak" and event.target.startswith(prefix) and event.target in LEAKS:
            lost[LEAKS[event.target]] += event.size
    return lost[0], lost[1], lost[2]


def tamper(event: Event, true_T: Values, noise_T: Values, before: float, age_s: int) -> Values:
    """What an attacked sensor shows.

    Args:
        event: on its sensor.
        true_T: readings that it would show, float64 (T,), noise included.
        noise_T: their noise, float64 (T,).
        before: its last reading before the event.
        age_s: seconds since the event began, at the first of these readings.

    Returns:
        float64 (T,).
    """
    if event.kind == "spoof":
        return event.size + noise_T
    if event.kind == "stuck":
        return np.full(len(true_T), before)
    if event.kind == "bias":
        return true_T + event.size
    return true_T + event.size * (age_s + 1 + np.arange(len(true_T))) / 3600
