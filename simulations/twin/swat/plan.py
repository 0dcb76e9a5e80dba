"""A random plan of attacks and faults: about one in two and a half hours, of every kind, at every stage.

Most stay where readings have been before, so that only the relation between tags gives them away.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from simulations.twin.script import KINDS, Event, Kind
from simulations.twin.swat.attacks import LEVELS
from simulations.twin.swat.control import OFF, ON
from simulations.twin.swat.plant import Plant

SPACING_S = 9000
SHORTEST_S, LONGEST_S = 120, 1800
LEAD_S = 300  # normal operation at both ends of each slot, at least

# what is overridden, and how often: the odd ones are tags that never move otherwise, which anybody would notice
OVERRIDES: tuple[tuple[str, int, float], ...] = (
    ("MV101", OFF, 3), ("MV101", ON, 2), ("P101", OFF, 3), ("MV201", OFF, 2), ("MV201", ON, 1),
    ("P203", OFF, 2), ("P205", OFF, 2), ("P302", OFF, 3), ("MV302", OFF, 2), ("MV303", ON, 1), ("MV304", ON, 3),
    ("P602", ON, 1), ("P201", ON, 0.3), ("P102", ON, 0.3), ("P402", OFF, 0.3), ("P501", OFF, 0.3), ("UV401", OFF, 0.3),
)  # fmt: skip
STEALTHY = (
    ("MV101", OFF, 2.0), ("MV101", ON, 2.0), ("P101", OFF, 2.0), ("P302", OFF, 2.0), ("MV304", ON, 2.0),
    ("P501", OFF, 1.0),
)  # fmt: skip
METERS = (
    *("FIT101", "FIT201", "FIT301", "FIT401", "DPIT301", "FIT501", "FIT502", "FIT503", "PIT501", "PIT503"),
    *("AIT201", "AIT202", "AIT203", "AIT402", "AIT501", "AIT502", "AIT503", "AIT504"),
)
_LAST_TANK = ("LIT401", "FIT301", "FIT401", "P302", "MV302", "MV303", "MV304")
_FIRST_TANKS = ("LIT101", "LIT301", "FIT101", "FIT201", "MV101", "P101", "MV201")
BRIEF_S = 1000  # most for what moves a level: tanks recover slowly, and what follows an attack is not labelled
LEAKS = ("LIT101", "LIT301", "LIT401", "FIT101", "FIT201", "FIT301", "FIT401")


def plan(plant: Plant, seconds: int, rng: Generator) -> tuple[Event, ...]:
    """Draw events for `seconds`, in order, none overlapping.

    Every kind comes up before one comes up again; a stretch too short for an event of two minutes has none.

    Example:
        >>> from numpy.random import default_rng
        >>> from simulations.twin.swat.plant import REFERENCE
        >>> len(plan(REFERENCE, 86_400, default_rng(0)))
        10
    """
    count = max(1, round(seconds / SPACING_S))
    slot = seconds // count
    longest = min(LONGEST_S, slot - 2 * LEAD_S)
    if longest < SHORTEST_S:
        return ()
    kinds = [kind for _ in range(count // len(KINDS) + 1) for kind in rng.permutation(np.array(KINDS))][:count]
    return tuple(_draw(plant, str(kind), at * slot, slot, longest, rng) for at, kind in enumerate(kinds))


def _draw(plant: Plant, name: str, slot_s: int, slot: int, longest: int, rng: Generator) -> Event:
    kind: Kind = next(known for known in KINDS if known == name)
    length = int(rng.uniform(SHORTEST_S, longest))
    target, size = _what(plant, kind, length, rng)
    if target in _LAST_TANK or target in _FIRST_TANKS:
        length = min(length, int(rng.uniform(SHORTEST_S, BRIEF_S)))
    first = slot_s + LEAD_S + int(rng.integers(slot - 2 * LEAD_S - length + 1))
    return Event(kind, target, first, first + length, size)


def _what(plant: Plant, kind: Kind, length: int, rng: Generator) -> tuple[str, float]:
    if kind in ("override", "stealthy"):
        choices = OVERRIDES if kind == "override" else STEALTHY
        weights = np.array([weight for _, _, weight in choices])
        tag, code, _ = choices[rng.choice(len(choices), p=weights / weights.sum())]
        return tag, float(code)
    if kind == "leak":
        tag = LEAKS[rng.integers(len(LEAKS))]
        share = rng.uniform(0.15, 0.4) if tag in _LAST_TANK else rng.uniform(0.4, 1.0)
        return tag, round(plant.ro.rate * float(share), 3)
    tag = str(rng.choice(LEVELS if rng.uniform() < 0.3 else METERS))
    if kind == "stuck":
        return tag, 0.0
    if kind == "spoof":
        return tag, _spoof(plant, tag, rng)
    low, high = (0.5, 2.0) if kind == "bias" else (1.0, 4.0)
    off = _usual(plant, tag) * rng.uniform(low, high) * rng.choice([-1, 1])
    return tag, round(float(off if kind == "bias" else off * 3600 / length), 4)


def _spoof(plant: Plant, tag: str, rng: Generator) -> float:
    """A believable reading in one draw of two, else one off the usual range; for a level also its marks."""
    if tag in LEVELS:
        tank = plant.tanks[LEVELS.index(tag)]
        return round(tank.low_mm + (tank.high_mm - tank.low_mm) * _place(rng, [-0.01, rng.uniform(), 1.005]), 2)
    meter = plant.meters[tag]
    return round(meter.p1 + _usual(plant, tag) * _place(rng, [rng.uniform()]), meter.decimals)


def _place(rng: Generator, inside: list[float]) -> float:
    """Where within the usual range (0 .. 1), or how far off it."""
    if rng.uniform() < 0.5:
        return float(rng.choice(inside))
    off = rng.uniform(0.2, 1.0)
    return float(rng.choice([-off, 1 + off]))


def _usual(plant: Plant, tag: str) -> float:
    """By how much a reading usually varies."""
    if tag in LEVELS:
        tank = plant.tanks[LEVELS.index(tag)]
        return tank.high_mm - tank.low_mm
    meter = plant.meters[tag]
    return max(meter.p99 - meter.p1, 6 * meter.sigma)
