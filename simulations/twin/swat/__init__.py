"""The six-stage water-treatment plant with the 51 tags of SWaT (Goh et al. 2016, doi 10.1007/978-3-319-71368-7_8).

plant     parameters of one plant            meters    its instruments as measured
control   what valves and pumps are told     process   water: levels and flows, second by second
attacks   how scripted events act            plan      a random script
bench     noise, attacks, rounding           sensors, chemistry   the 51 columns
files     the official layout
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.random import Generator

from simulations.twin.recording import Recording, labels
from simulations.twin.script import Event
from simulations.twin.swat import attacks, files, plan, process, sensors
from simulations.twin.swat.plant import Plant, draw

WARM_UP_S = 7200  # simulated before the recording begins, so that no start shows


class SwatTwin:
    """The plant behind `simulations.twin.base.Twin`."""

    layout = "swat"
    attack_begins = datetime(2015, 12, 28, 10)

    def draw(self, rng: Generator) -> Plant:
        """A new plant."""
        return draw(rng)

    def plan(self, plant: Plant, seconds: int, rng: Generator) -> tuple[Event, ...]:
        """Random attacks and faults."""
        return plan.plan(plant, seconds, rng)

    def run(self, plant: Plant, begin: datetime, seconds: int, events: tuple[Event, ...], rng: Generator) -> Recording:
        """Simulate `seconds` at 1 Hz.

        Raises:
            UnknownName: an event of an unknown kind or tag.
            InvalidConfig: an event that its target cannot have or that lies outside the recording, or a stealthy one
                with too little normal operation before it.
        """
        attacks.check(events, seconds)
        later = tuple(_shifted(event, WARM_UP_S) for event in events)
        water, instruments = rng.spawn(2)
        trace = process.run(plant, WARM_UP_S + seconds, later, water)
        values_TD = sensors.readings(plant, trace, later, instruments)[WARM_UP_S:]
        return Recording("swat", begin, np.ascontiguousarray(values_TD), labels(seconds, events), events)

    def write(self, folder: Path, normal: Recording, attack: Recording, xlsx: bool) -> None:
        """Write `SWaT_Dataset_Normal_v1` and `SWaT_Dataset_Attack_v0`, as CSV or XLSX."""
        files.write(folder, normal, attack, xlsx)


def _shifted(event: Event, seconds: int) -> Event:
    return Event(event.kind, event.target, event.first_s + seconds, event.end_s + seconds, event.size)


TWIN = SwatTwin()
