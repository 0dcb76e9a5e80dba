"""Random attacks and faults on a network, and the check that a script can be played on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
from numpy.random import Generator, default_rng

from shared.catalogue import tags
from shared.errors import InvalidConfig
from simulations.twin.network.drift import DRIFTERS
from simulations.twin.network.plant import Network, reference
from simulations.twin.network.state import Running, drives, leaks, meters, opening
from simulations.twin.script import KINDS, Event, Kind

SLOT_S = 3 * 3600  # one event in each
SHORTEST_S, LONGEST_S, MARGIN_S = 120, 1800, 600
SLOW: tuple[Kind, ...] = ("override", "leak", "stealthy", "drift")
SLOW_S = 600  # what moves water takes as long as this at least, if there is time
Target = tuple[str, float]
LEVELS = {"1_LT_001_PV": 25.0, "2_LT_002_PV": 14.0}  # tag: half of its usual travel, in %
ANALYSERS = ("1_AIT_001_PV", "1_AIT_004_PV", "1_AIT_005_PV", "2A_AIT_004_PV", "2B_AIT_004_PV", "3_AIT_005_PV")
CONSUMER_LEAK = 0.15  # a consumer tank is small and slow to fill: emptied, it would show for hours after the label
MEASURED = ("2_PIT_001_PV", "2_PIT_002_PV", "2_DPIT_001_PV", "2_FIT_002_PV", "3_FIT_001_PV")


def plan(plant: Network, seconds: int, rng: Generator) -> tuple[Event, ...]:
    """About one event in three hours, 2 to 30 minutes long, kinds in turn, none overlapping.

    Example:
        >>> from numpy.random import default_rng
        >>> len(plan(reference(), 86400, default_rng(0)))
        8
    """
    count = max(1, round(seconds / SLOT_S))
    slot, kinds = seconds / count, [KINDS[at] for at in rng.permutation(len(KINDS))]
    margin = min(MARGIN_S, slot / 8)
    events = []
    for at in range(count):
        kind = kinds[at % len(kinds)]
        longest = min(LONGEST_S, slot - 2 * margin)
        shortest = min(SLOW_S if kind in SLOW else SHORTEST_S, longest)
        length = max(1, int(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))
        first = int(at * slot + rng.uniform(margin, max(margin, slot - margin - length)))
        target, size = _DRAWS[kind](plant, rng)
        events.append(Event(kind, target, first, first + length, round(size, 4)))
    return tuple(events)


def _spoof(plant: Network, rng: Generator) -> Target:
    inside = rng.uniform(-0.8, 1.7)
    choices = (
        ("1_LT_001_PV", plant.raw_low + inside * (plant.raw_high - plant.raw_low)),
        ("2_LT_002_PV", plant.fill_low + inside * (plant.fill_high - plant.fill_low)),
        ("1_FIT_001_PV", rng.uniform(0.3, 1.3) * plant.raw_inflow),
        (_loop(rng), rng.uniform(0.06, 1.2)),
        ("2_PIC_003_PV", rng.uniform(0.2, 2.4) * plant.pressure),
    )
    return choices[rng.integers(len(choices))]


def _stuck(plant: Network, rng: Generator) -> Target:
    del plant
    names = (*LEVELS, _loop(rng), "2_PIC_003_PV", *MEASURED)
    return str(rng.choice(names)), 0.0


def _bias(plant: Network, rng: Generator) -> Target:
    del plant
    sign = float(rng.choice([-1, 1]))
    tag = str(rng.choice((*LEVELS, _loop(rng), *ANALYSERS)))
    return tag, sign * rng.uniform(0.6, 2.0) * _reach(tag)


def _drift(plant: Network, rng: Generator) -> Target:
    tag, size = _bias(plant, rng)
    return tag, 6 * size


def _reach(tag: str) -> float:
    if tag in LEVELS:
        return LEVELS[tag]
    if tag in DRIFTERS:
        return DRIFTERS[tag].high - DRIFTERS[tag].low
    return 0.4  # a flow loop, m3/h


def _override(plant: Network, rng: Generator) -> Target:
    del plant
    n = rng.integers(1, 7)
    choices = (
        ("1_MV_001_STATUS", 2.0),  # open: it is closed most of the time
        ("1_P_005_STATUS", float(rng.integers(1, 3))),
        ("2_MV_003_STATUS", float(rng.integers(1, 3))),
        (f"2_MV_{n}01_STATUS", float(rng.integers(1, 3))),
        (f"2_MCV_{n}01_CO", rng.uniform(0, 100)),
        ("2_MCV_007_CO", rng.uniform(40, 100)),
        ("1_P_006_STATUS", 2.0),
    )
    return choices[rng.integers(len(choices))]


def _leak(plant: Network, rng: Generator) -> Target:
    del plant
    names = ("1_LT_001_PV", "2_LT_002_PV", "2_FIT_001_PV", "2_FIT_002_PV", _loop(rng))
    name = str(rng.choice(names))
    return name, rng.uniform(0.4, 2.0) * (CONSUMER_LEAK if name.startswith("2_FIC") else 1.0)


def _stealthy(plant: Network, rng: Generator) -> Target:
    del plant
    choices = (
        ("1_MV_001_STATUS", 2.0),
        ("1_P_005_STATUS", 1.0),
        ("2_MV_003_STATUS", 1.0),
        (f"2_MCV_{rng.integers(1, 7)}01_CO", 100.0),
        ("2_MCV_007_CO", rng.uniform(20, 80)),
    )
    return choices[rng.integers(len(choices))]


def _loop(rng: Generator) -> str:
    return f"2_FIC_{rng.integers(1, 7)}01_PV"


_DRAWS: dict[Kind, Callable[[Network, Generator], Target]] = {
    "spoof": _spoof,
    "stuck": _stuck,
    "bias": _bias,
    "drift": _drift,
    "override": _override,
    "leak": _leak,
    "stealthy": _stealthy,
}


def check(events: tuple[Event, ...], seconds: int) -> None:
    """Whether a script can be played on a network for `seconds`.

    Raises:
        InvalidConfig: an unknown kind, a target that this kind cannot act on, a time outside the recording, a size
            without meaning, or two events on one target at once.
    """
    network = Running(reference(), default_rng(0))
    sensors = {tag.name for tag in tags("wadi") if tag.kind == "sensor"} | set(meters(network))
    known = dict.fromkeys(("spoof", "stuck", "bias", "drift"), sensors)
    known |= {"override": set(drives(network)), "stealthy": set(drives(network)), "leak": set(leaks(network))}
    for event in events:
        if event.kind not in get_args(Kind):
            raise InvalidConfig(f"there is no kind of event {event.kind!r}.", f"Known: {', '.join(KINDS)}.")
        if event.target not in known[event.kind]:
            raise InvalidConfig(
                f"the event {event.kind!r} cannot act on {event.target!r} in a WADI network.",
                f"It acts on: {', '.join(sorted(known[event.kind]))}.",
            )
        if not 0 <= event.first_s < event.end_s <= seconds:
            raise InvalidConfig(
                f"the {event.kind} of {event.target} lasts from {event.first_s} to {event.end_s} s.",
                f"Give a stretch within the recording, 0 to {seconds} s.",
            )
        if not np.isfinite(event.size) or (event.kind == "leak" and event.size < 0):
            raise InvalidConfig(f"the {event.kind} of {event.target} has size {event.size}.", "Give a finite size.")
        if event.kind in ("override", "stealthy"):
            opening(event)
    _apart(events)


def _apart(events: tuple[Event, ...]) -> None:
    ends: dict[str, Event] = {}
    for event in sorted(events, key=lambda each: each.first_s):
        before = ends.get(event.target)
        if before is not None and before.end_s > event.first_s:
            raise InvalidConfig(
                f"two events act on {event.target} at second {event.first_s}.", "Let one end before the other begins."
            )
        ends[event.target] = event
