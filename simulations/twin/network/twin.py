"""The network as a twin: draw, plan, run, write."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.random import Generator

from shared.errors import InvalidConfig
from shared.series import FloatArray
from simulations.twin import wadi_files
from simulations.twin.network import plan, plant, published
from simulations.twin.network.conditions import minutes
from simulations.twin.network.drift import wander
from simulations.twin.network.plant import Network
from simulations.twin.network.sensors import TAGS, Historian
from simulations.twin.network.stealth import replay
from simulations.twin.network.trace import trace
from simulations.twin.recording import Recording, labels
from simulations.twin.script import Event

WARM_UP_S = 1800  # runs before the recording, so that loops and valves have settled
BLOCK_S = 3600


class NetworkTwin:
    """A distribution network with WADI's 127 tags."""

    layout = "wadi"
    attack_begins = published.BEGINS

    def draw(self, rng: Generator) -> Network:
        """A new network."""
        return plant.draw(rng)

    def plan(self, plant: Network, seconds: int, rng: Generator) -> tuple[Event, ...]:
        """Random events, about one in three hours."""
        return plan.plan(plant, seconds, rng)

    def run(
        self, plant: Network, begin: datetime, seconds: int, events: tuple[Event, ...], rng: Generator
    ) -> Recording:
        """Simulate a stretch.

        Raises:
            InvalidConfig: fewer than one second, or an event that cannot be played (`plan.check`).
        """
        if seconds < 1:
            raise InvalidConfig(f"a recording needs at least one second, not {seconds}.", "Ask for more.")
        plan.check(events, seconds)
        values_TD = _simulate(plant, begin, seconds, events, rng)
        replay(values_TD, events)
        return Recording("wadi", begin, values_TD, labels(seconds, events), events)

    def published(self, plant: Network, rng: Generator) -> Recording:
        """The two attacked days of WADI.A1 (172,801 rows), with attacks at its published seconds."""
        return self.run(plant, published.BEGINS, published.SECONDS, published.attacks(plant), rng)

    def write(self, folder: Path, normal: Recording, attack: Recording, xlsx: bool) -> None:
        """Write the A2 (2019) release."""
        if xlsx:
            raise InvalidConfig("WADI is issued as CSV, not as xlsx.", "Leave the xlsx option out for this layout.")
        wadi_files.write(folder, normal, attack)


def _simulate(plant: Network, begin: datetime, seconds: int, events: tuple[Event, ...], rng: Generator) -> FloatArray:
    """Readings without replay, float32 (seconds, 127). Times inside count from a whole minute before the warm-up."""
    lead_s = WARM_UP_S + begin.second
    start, total = begin.replace(microsecond=0) - timedelta(seconds=lead_s), lead_s + seconds
    later = tuple(replace(event, first_s=event.first_s + lead_s, end_s=event.end_s + lead_s) for event in events)
    weather, water, noise = rng.spawn(3)
    count = -(-total // 60)
    wanders = wander(plant, start, count, weather)
    outside = minutes(plant, start, count, wanders, later, weather)
    points_M6 = np.array([minute.set_points for minute in outside])
    historian = Historian(plant, points_M6, wanders, later, start.hour * 3600 + start.minute * 60, noise)
    values_TD = np.empty((seconds, len(TAGS)), dtype=np.float32)
    row = 0
    for table in trace(plant, outside, total, later, water, BLOCK_S):
        kept = historian.log(table, row)[max(0, lead_s - row) :]
        at = max(0, row - lead_s)
        values_TD[at : at + len(kept)] = kept
        row += len(table)
    return values_TD
