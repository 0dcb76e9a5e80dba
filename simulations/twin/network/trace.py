"""The loop: a network second by second, written down as a plain table of truths and of what the controllers saw."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulations.twin.network.conditions import Minute
from simulations.twin.network.plant import CONSUMERS, Network
from simulations.twin.network.state import Running, let_go, take_hold
from simulations.twin.script import Event

PLAIN = (
    *("raw", "spare", "reservoir", "reservoir_true", "return_level", "return_flow"),
    *("1_MV_001", "1_MV_002", "1_MV_003", "1_MV_004", "2_MV_003", "2_MV_004", "2_MV_006"),
    *("1_P_001", "1_P_003", "1_P_005", "1_P_006", "2_P_003", "2_MCV_007"),
    *("inflow", "fill", "gravity", "boosted", "lost", "speed", "pressure_co", "pressure", "pressure_true"),
)
EACH = ("inlet", "co", "flow", "flow_true", "control", "low", "high")
NAMES = (*PLAIN, *(f"{name} {n}" for n in CONSUMERS for name in EACH))
AT = {name: at for at, name in enumerate(NAMES)}
Table = NDArray[np.float64]


class Piece(NamedTuple):
    """A stretch within one minute in which nothing from outside changes."""

    first_s: int
    end_s: int
    minute: int


def pieces(seconds: int, events: tuple[Event, ...], block_s: int) -> Iterator[Piece]:
    """Cut a run at its minutes, at its blocks, and where events begin and end."""
    edges = {edge for event in events for edge in (event.first_s, event.end_s) if 0 < edge < seconds}
    cuts = sorted(edges | set(range(0, seconds, 60)) | set(range(0, seconds, block_s)) | {seconds})
    for first, end in pairwise(cuts):
        yield Piece(first, end, first // 60)


def trace(
    plant: Network, minutes: list[Minute], seconds: int, events: tuple[Event, ...], rng: Generator, block_s: int
) -> Iterator[Table]:
    """Run a network for `seconds`; float64 (at most block_s, len(NAMES)) after each block.

    Columns `raw`, `spare`, `reservoir`, `flow n`, `inflow`, `pressure` are what controllers are shown, without noise.
    """
    network = Running(plant, rng)
    flat: list[float] = []
    for piece in pieces(seconds, events, block_s):
        _change(network, events, piece.first_s)
        _live(network, minutes[piece.minute], piece, flat)
        if piece.end_s % block_s == 0 or piece.end_s == seconds:
            yield np.array(flat).reshape(-1, len(NAMES))
            flat = []


def _change(network: Running, events: tuple[Event, ...], now_s: int) -> None:
    for event in events:
        if event.end_s == now_s:
            let_go(network, event)
    for event in events:
        if event.first_s == now_s:
            take_hold(network, event)


def _live(network: Running, now: Minute, piece: Piece, flat: list[float]) -> None:
    used = sum(now.usage)
    network.reservoirs.topping = network.reservoirs.topping or (now.topping and piece.first_s % 60 == 0)
    for _ in range(piece.end_s - piece.first_s):
        network.second(now, used)
        _write(network, flat)


def _write(network: Running, flat: list[float]) -> None:
    primary, reservoirs, booster, returns = network.primary, network.reservoirs, network.booster, network.returns
    flat += (
        *(primary.level_meter.shown, reservoirs.spare_meter.shown, reservoirs.level_meter.shown, reservoirs.level),
        *(returns.level_meter.shown, returns.flow_meter.shown),
        *(primary.inlet.at, primary.second.at, primary.third.at, reservoirs.line.at, reservoirs.inlet.at),
        *(booster.main.at, booster.valve.at),
        *(primary.doser.at, primary.doser_2.at, reservoirs.pump.at, reservoirs.pump_2.at, booster.pump.at),
        *(booster.leak_valve.at, primary.flow_meter.shown, reservoirs.flow, booster.gravity, booster.boosted),
        *(booster.leaking + booster.leak.flow, booster.speed, booster.co, booster.pressure_meter.shown, booster.bar),
    )
    for each in network.consumers:
        flat += (
            *(each.inlet.at, each.co, each.flow_meter.shown, each.flow, each.control.at),
            *(each.is_low, each.is_high),
        )
