"""What the network meets from outside, minute by minute: set-points, consumption, the source, daily routines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.random import Generator

from simulations.twin.network.drift import DRIFTERS, Values, reading, restless
from simulations.twin.network.plant import Network
from simulations.twin.script import Event

LINES_MIN = 4  # minutes that the inlet lines stay open at the end of the daily flush
SHUT_MINUTE, SHUT_MIN = 9 * 60, 25  # minute of the day, and minutes that the return tank's outlet is shut
QUALITY = tuple(f"1_AIT_00{at}_PV" for at in range(1, 6))
BAND = 1.0  # an analyser may be this many of its published widths outside before the reservoirs refuse the water


@dataclass(frozen=True)
class Minute:
    """One minute's conditions: flows in m3/h; `source` is a share of the nominal flow."""

    set_points: tuple[float, ...]
    usage: tuple[float, ...]
    source: float
    allowed: bool
    flushing: float
    shut: bool
    topping: bool


def minutes(
    plant: Network, begin: datetime, count: int, wanders: dict[str, Values], events: tuple[Event, ...], rng: Generator
) -> list[Minute]:
    """The `count` minutes from `begin` (a whole minute) on; the events' seconds count from `begin`, too."""
    day_M = (begin.hour * 60 + begin.minute + np.arange(count)) % 1440
    points_6H = np.array([consumer.set_points for consumer in plant.consumers])
    points_M6 = points_6H[:, day_M // 60].T
    shares_6 = np.array([consumer.share for consumer in plant.consumers])
    moods_M6 = np.stack([restless(count, rng, 30) for _ in plant.consumers], axis=1)
    usage_M6 = points_M6 * shares_6 * np.clip(1 + 0.12 * moods_M6, 0.3, 1.7)
    source_M = 1 + 0.006 * restless(count, rng, 20)
    flush_M = (day_M - plant.flush_minute) % 1440
    allowed_M = (flush_M >= plant.flush_min) & _drinkable(plant, count, wanders, events)
    lines_M = (flush_M >= plant.flush_min - LINES_MIN) & (flush_M < plant.flush_min)
    shut_M = (day_M >= SHUT_MINUTE) & (day_M < SHUT_MINUTE + SHUT_MIN)
    rows = zip(
        map(tuple, points_M6.tolist()),
        map(tuple, usage_M6.tolist()),
        source_M.tolist(),
        allowed_M.tolist(),
        lines_M.astype(float).tolist(),
        shut_M.tolist(),
        (day_M == plant.top_up_minute).tolist(),
        strict=True,
    )
    return [Minute(*row) for row in rows]


def _drinkable(plant: Network, count: int, wanders: dict[str, Values], events: tuple[Event, ...]) -> np.ndarray:
    """Bool (count,), False where an analyser of the raw water, as it is shown, is far out of its band."""
    good_M = np.ones(count, dtype=np.bool_)
    for tag in QUALITY:
        drifter = DRIFTERS[tag]
        shown_M = reading(drifter, wanders[tag][:count], plant.sway)
        for event in events:
            if event.target == tag:
                tamper(shown_M, event, np.arange(count) * 60)
        width = drifter.high - drifter.low
        good_M &= (shown_M > drifter.low - BAND * width) & (shown_M < drifter.high + BAND * width)
    return good_M


def tamper(shown_T: Values, event: Event, second_T: np.ndarray) -> None:
    """Let a spoof, bias or drift change a sensor's readings at these seconds, in place (not a stuck one)."""
    on_T = (second_T >= event.first_s) & (second_T < event.end_s)
    if event.kind == "spoof":
        shown_T[on_T] = event.size
    elif event.kind == "bias":
        shown_T[on_T] += event.size
    elif event.kind == "drift":
        shown_T[on_T] += event.size / 3600 * (second_T[on_T] - event.first_s + 1)
