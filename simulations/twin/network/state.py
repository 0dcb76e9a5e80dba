"""One network in motion: its parts, what can be attacked in it, and one second of its life."""

from __future__ import annotations

from numpy.random import Generator, default_rng

from shared.errors import InvalidConfig
from simulations.twin.network.booster import Booster
from simulations.twin.network.conditions import Minute
from simulations.twin.network.consumer import Consumer
from simulations.twin.network.instruments import Drive, Leak, Meter
from simulations.twin.network.plant import Network, reference
from simulations.twin.network.primary import Primary
from simulations.twin.network.reservoirs import Reservoirs
from simulations.twin.network.returns import Returns
from simulations.twin.script import Event


class Running:
    """The parts of a network with their present levels, openings and flows."""

    def __init__(self, plant: Network, rng: Generator) -> None:
        self.primary = Primary(plant, rng.uniform(plant.raw_low + 8, plant.raw_high - 3))
        self.reservoirs = Reservoirs(
            plant, rng.uniform(plant.fill_low + 2, plant.fill_high - 2), plant.spare_rest + 0.3
        )
        self.booster = Booster(plant)
        self.consumers = tuple(
            Consumer(each, rng.uniform(each.low + 2, each.high - 2), bool(rng.integers(0, 2)))
            for each in plant.consumers
        )
        self.returns = Returns(plant, rng.uniform(0.25, 0.5))
        self.taken = 0.0

    def second(self, now: Minute, used: float) -> None:
        """Move water for one second; `used` is the sum of `now.usage`."""
        required = 0.0
        for consumer, point in zip(self.consumers, now.set_points):  # noqa: B905 - equal by construction, and hot
            if consumer.inlet.at:
                required += point
        reservoirs, booster = self.reservoirs, self.booster
        root = booster.step(required, self.taken, reservoirs.level, reservoirs.level_meter.shown)
        taken = 0.0
        for consumer, point, usage in zip(self.consumers, now.set_points, now.usage):  # noqa: B905
            taken += consumer.step(point, usage, root)
        self.taken = taken
        reservoirs.step(booster.gravity + booster.boosted + booster.leak.flow, self.primary.level, now.allowed)
        self.primary.step(reservoirs.drawn, now.source, now.flushing)
        self.returns.step(used, now.shut)


def meters(network: Running) -> dict[str, Meter]:
    """The meters that a controller listens to, by tag."""
    found = {
        "1_LT_001_PV": network.primary.level_meter,
        "1_FIT_001_PV": network.primary.flow_meter,
        "2_LT_001_PV": network.reservoirs.spare_meter,
        "2_LT_002_PV": network.reservoirs.level_meter,
        "2_PIC_003_PV": network.booster.pressure_meter,
        "3_LT_001_PV": network.returns.level_meter,
        "3_FIT_001_PV": network.returns.flow_meter,
    }
    for at, consumer in enumerate(network.consumers, start=1):
        found[f"2_FIC_{at}01_PV"] = consumer.flow_meter
        found[f"2_LS_{at}01_AL"] = consumer.low_switch
        found[f"2_LS_{at}01_AH"] = consumer.high_switch
    return found


LOOPED = frozenset(meters(Running(reference(), default_rng(0))))
"""Tags whose spoofing changes what the controllers do."""


def drives(network: Running) -> dict[str, Drive]:
    """Valves and pumps that move water, by tag."""
    primary, reservoirs, booster = network.primary, network.reservoirs, network.booster
    found = {
        "1_MV_001_STATUS": primary.inlet,
        "1_MV_002_STATUS": primary.second,
        "1_MV_003_STATUS": primary.third,
        "1_P_001_STATUS": primary.doser,
        "1_P_003_STATUS": primary.doser_2,
        "1_MV_004_STATUS": reservoirs.line,
        "2_MV_003_STATUS": reservoirs.inlet,
        "1_P_005_STATUS": reservoirs.pump,
        "1_P_006_STATUS": reservoirs.pump_2,
        "2_MV_004_STATUS": booster.main,
        "2_MV_006_STATUS": booster.valve,
        "2_P_003_STATUS": booster.pump,
        "2_MCV_007_CO": booster.leak_valve,
    }
    for at, consumer in enumerate(network.consumers, start=1):
        found[f"2_MV_{at}01_STATUS"] = consumer.inlet
        found[f"2_MCV_{at}01_CO"] = consumer.control
    return found


def leaks(network: Running) -> dict[str, Leak]:
    """Tanks and pipes that can lose water, by the tag of their level or flow."""
    reservoirs = network.reservoirs
    return {
        "1_LT_001_PV": network.primary.leak,
        "2_LT_001_PV": reservoirs.spare_leak,
        "2_LT_002_PV": reservoirs.leak,
        "2_FIT_001_PV": reservoirs.pipe_leak,
        "2_FIT_002_PV": network.booster.leak,
        "3_LT_001_PV": network.returns.leak,
        **{f"2_FIC_{at}01_PV": consumer.leak for at, consumer in enumerate(network.consumers, start=1)},
    }


def opening(event: Event) -> float:
    """What an override's size means: 0 .. 1 of a valve's opening, 0 or 1 of a pump.

    Raises:
        InvalidConfig: neither 1 nor 2 for a valve or pump, or not 0 .. 100 for a control valve.

    Example:
        >>> opening(Event("override", "1_MV_001_STATUS", 0, 60, 2.0))
        1.0
    """
    control = event.target.endswith("_CO")
    if control and 0 <= event.size <= 100:
        return event.size / 100
    if not control and event.size in (1.0, 2.0):
        return event.size - 1.0
    meaning = "a percentage" if control else "1 (closed, off) or 2 (open, on)"
    raise InvalidConfig(
        f"the {event.kind} of {event.target} has size {event.size}.", f"It is {meaning} for this drive."
    )


def take_hold(network: Running, event: Event) -> None:
    """An event begins. One on a sensor that no controller listens to changes nothing here."""
    if event.kind in ("override", "stealthy"):
        drives(network)[event.target].forced = opening(event)
    elif event.kind == "leak":
        leaks(network)[event.target].flow = event.size
    elif (meter := meters(network).get(event.target)) is not None:
        if event.kind in ("spoof", "stuck"):
            meter.freeze(event.size if event.kind == "spoof" else meter.shown)
        elif event.kind == "bias":
            meter.offset = event.size
        else:
            meter.slope = event.size / 3600


def let_go(network: Running, event: Event) -> None:
    """An event ends."""
    if event.kind in ("override", "stealthy"):
        drives(network)[event.target].forced = None
    elif event.kind == "leak":
        leaks(network)[event.target].flow = 0.0
    elif (meter := meters(network).get(event.target)) is not None:
        meter.release()
