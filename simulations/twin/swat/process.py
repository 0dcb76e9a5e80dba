"""The plant's water: levels, valves and pumps second by second, with whatever is done to them.

Between two switchings every flow is known beforehand, so levels follow from sums: the loop below jumps from one scan
that changes something to the next. Scanning every second (`stride=1`) gives the same, fifty times slower.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from shared.errors import InvalidConfig
from simulations.twin.script import Event
from simulations.twin.swat import control
from simulations.twin.swat.attacks import HIDDEN, LEVELS, Acting, acting, tamper
from simulations.twin.swat.control import ACTUATORS, HIGH_DP_KPA, LEAST_FEED, ON, State
from simulations.twin.swat.plant import Flow, Plant
from simulations.twin.wander import daily, wander

FLOWS = ("raw", "feed", "uf", "product", "ro")  # product: the part of the UF's feed that goes to the RO feed tank
EMPTY_MM = 5.0  # a pump draws air below this
TWO_PUMPS = 1.2  # what a duty and a standby pump lift together, in flows of one
STRIDE = 1024
LOOK_BACK_S = 21_600  # how far back a stealthy attacker looks for a recording that fits
_OPENING = (0.5, 0.0, 1.0)  # a moving valve passes half on average
_LIFT = (0.0, 1.0, TWO_PUMPS)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """What happened in the plant, before most instruments look at it.

    Attributes:
        level_T3, seen_T3: float32 (T, 3) levels in mm, true and as shown by LIT101, LIT301, LIT401.
        codes_TA: int8 (T, A) of `control.ACTUATORS`.
        open_T5: float32 (T, 5) share of each flow of `FLOWS` that is on, 0 .. 1 (1.2 with both pumps).
        full_T4: float64 (4, T) raw, feed, UF and RO flows when fully on, m3/h.
        replays: stealthy events with the seconds by which their replay lags.
    """

    level_T3: NDArray[np.float32]
    seen_T3: NDArray[np.float32]
    codes_TA: NDArray[np.int8]
    open_T5: NDArray[np.float32]
    full_T4: Values
    replays: tuple[tuple[Event, int], ...]


@dataclass(slots=True)
class _Run:
    """Arrays that the loop fills, and what it reads."""

    plant: Plant
    events: tuple[Event, ...]
    level_T3: NDArray[np.float32]
    seen_T3: NDArray[np.float32]
    codes_TA: NDArray[np.int8]
    open_T5: NDArray[np.float32]
    noise_T3: NDArray[np.float32]
    sums_T4: Values  # (T + 1, 4) m3 since the beginning, were each flow fully on
    lags: dict[Event, int] = field(default_factory=dict)


def run(plant: Plant, seconds: int, events: tuple[Event, ...], rng: Generator, stride: int = STRIDE) -> Trace:
    """Simulate the water for `seconds`, from a plant in the middle of filtration.

    Args:
        plant: its parameters.
        seconds: how long.
        events: checked (`attacks.check`), in order of time.
        rng: for flows that wander and level sensors' noise.
        stride: most seconds between two scans.

    Raises:
        InvalidConfig: a stealthy event has too little normal operation before it to replay.
    """
    outside, noise = rng.spawn(2)
    flows = (plant.raw, plant.feed, plant.uf, plant.ro)
    weather_T = daily(outside, seconds)
    full_T4 = np.stack(
        [_outside(flow, child, weather_T) for flow, child in zip(flows, outside.spawn(len(flows)), strict=True)]
    )
    sums_T4 = np.zeros((seconds + 1, 4))
    np.cumsum(full_T4.T / 3600, axis=0, out=sums_T4[1:])
    scale = np.array([tank.noise_mm for tank in plant.tanks], dtype=np.float32)
    going = _Run(
        plant,
        events,
        level_T3=np.empty((seconds, 3), np.float32),
        seen_T3=np.empty((seconds, 3), np.float32),
        codes_TA=np.empty((seconds, len(ACTUATORS)), np.int8),
        open_T5=np.empty((seconds, len(FLOWS)), np.float32),
        noise_T3=noise.standard_normal((seconds, 3), dtype=np.float32) * scale,
        sums_T4=sums_T4,
    )
    _follow(going, stride)
    replays = tuple(going.lags.items())
    return Trace(going.level_T3, going.seen_T3, going.codes_TA, going.open_T5, full_T4, replays)


def _outside(flow: Flow, rng: Generator, weather_T: Values) -> Values:
    return flow.rate * (1 + flow.weather * weather_T + flow.wander * wander(rng, len(weather_T), flow.memory_s))


def _follow(going: _Run, stride: int) -> None:
    """Scan, switch, move the water until something may change, and again."""
    plant, state, end = going.plant, control.at_rest(going.plant), len(going.seen_T3)
    bounds = sorted({0, end, *(e.first_s for e in going.events), *(e.end_s for e in going.events)})
    now, until = acting((), 0, 0, 0), 0
    while state.second < end:
        if state.second >= until:
            now = acting(going.events, state.second, LEAST_FEED * plant.ro.rate, HIGH_DP_KPA)
            until = next(bound for bound in bounds if bound > state.second)
            _choose_replays(going, state)
        first = _shown(going, now, state.second, np.array([state.level]))[0].tolist()
        control.decide(plant, state, (first[0], first[1], first[2]), now.low_feed, now.clogged)
        changed = control.move(state, plant.travel_s, now.forced)
        due = min(control.next_due(state, now.low_feed), until, state.second + stride)
        _advance(going, state, now, 1 if changed else int(due) - state.second)


def _advance(going: _Run, state: State, now: Acting, most: int) -> None:
    """Move the water for up to `most` seconds: until a level crosses a mark, or a tank runs empty or no longer is."""
    at, plant = state.second, going.plant
    dry = [level <= EMPTY_MM for level in state.level]
    shares = _shares(state, dry)
    path_T3 = _path(going, state, now, shares, most)
    count = most
    if most > 1:
        seen_T3 = _shown(going, now, at, path_T3[:-1])
        low, high = np.array(control.bands(plant, state)).T
        stop_T = ((seen_T3 <= low) | (seen_T3 >= high) | ((path_T3[:-1] <= EMPTY_MM) != dry)).any(axis=1)
        stop_T[0] = False
        found = int(stop_T.argmax())
        count = found if stop_T[found] else most
        going.seen_T3[at : at + count] = seen_T3[:count]
    else:
        going.seen_T3[at] = _shown(going, now, at, path_T3[:1])[0]
    going.level_T3[at : at + count] = path_T3[:count]
    going.codes_TA[at : at + count] = list(state.code.values())
    going.open_T5[at : at + count] = shares
    state.level = path_T3[count].tolist()
    state.second = at + count


def _shares(state: State, dry: list[bool]) -> tuple[float, float, float, float, float]:
    """The share of each flow of `FLOWS` that is on: what the valves let through of what the pumps lift."""
    code = state.code
    first = _LIFT[(code["P101"] == ON) + (code["P102"] == ON)] * (not dry[0])
    second = _LIFT[(code["P301"] == ON) + (code["P302"] == ON)] * (not dry[1])
    third = _LIFT[(code["P401"] == ON) + (code["P402"] == ON)] * (not dry[2])
    to_tank = _OPENING[code["MV302"]]
    ways = to_tank + _OPENING[code["MV303"]] + _OPENING[code["MV304"]]
    through = second * min(1.0, ways)
    pressed = code["P501"] == ON or code["P502"] == ON
    return (
        _OPENING[code["MV101"]],
        first * _OPENING[code["MV201"]],
        through,
        through * to_tank / ways if ways else 0.0,
        third * pressed,
    )


def _path(
    going: _Run, state: State, now: Acting, shares: tuple[float, float, float, float, float], count: int
) -> Values:
    """Levels at this and the next `count` seconds, float64 (count + 1, 3), between empty and the brim."""
    at, plant = state.second, going.plant
    moved_T4 = going.sums_T4[at : at + count + 1] - going.sums_T4[at]
    raw, feed, uf, product, ro = shares
    mix = np.array([
        [raw, 0, 0],
        [-feed, feed, 0],
        [0, -uf, product * plant.uf_yield],
        [0, 0, -ro],
    ])  # fmt: skip
    flows = (raw * plant.raw.rate, feed * plant.feed.rate, product * plant.uf.rate)
    lost = [hole + min(broken, flow) for hole, broken, flow in zip(now.holes, now.broken, flows, strict=True)]
    rise_T3 = moved_T4 @ mix
    if any(lost):
        rise_T3 -= np.arange(count + 1)[:, None] * (np.array(lost) / 3600)
    path_T3 = np.array(state.level) + rise_T3 * [1000 / tank.area_m2 for tank in plant.tanks]
    limited_T3: Values = np.clip(path_T3, 0.0, [tank.brim_mm for tank in plant.tanks])
    return limited_T3


def _shown(going: _Run, now: Acting, at: int, level_T3: Values) -> Values:
    """What the level sensors show from second `at` on: noise, attacks and replays; float64 like `level_T3`."""
    end = at + len(level_T3)
    noise_T3 = going.noise_T3[at:end].astype(np.float64)
    seen_T3: Values = level_T3 + noise_T3
    for tank, (events, hidden) in enumerate(zip(now.levels, now.hidden, strict=True)):
        for event in events:
            before = float(going.seen_T3[max(event.first_s - 1, 0), tank])
            age = at - event.first_s
            seen_T3[:, tank] = tamper(event, seen_T3[:, tank], noise_T3[:, tank], before, age)
        if hidden is not None:
            lag = going.lags[hidden]
            seen_T3[:, tank] = going.seen_T3[at - lag : end - lag, tank]
    return seen_T3


def _choose_replays(going: _Run, state: State) -> None:
    """For each stealthy event that begins now: which stretch of earlier, normal operation fits best from here on."""
    at = state.second
    for event in going.events:
        if event.kind != "stealthy" or event.first_s != at:
            continue
        going.lags[event] = _best_lag(going, state, event)


def _best_lag(going: _Run, state: State, event: Event) -> int:
    at, length = state.second, event.end_s - event.first_s
    lags = np.arange(length, min(LOOK_BACK_S, at) + 1)
    usable = np.ones(len(lags), dtype=bool)
    for other in going.events:
        if other.first_s < at:
            usable &= (at - lags + length <= other.first_s) | (at - lags >= other.end_s)
    lags = lags[usable]
    if not len(lags):
        raise InvalidConfig(
            f"the stealthy event on {event.target} at second {at} finds no {length} s of normal operation to replay.",
            "Move it later, or make it shorter.",
        )
    hidden = HIDDEN[event.target]
    apart = np.zeros(len(lags))
    for tank, tag in enumerate(LEVELS):
        if tag in hidden:
            span = going.plant.tanks[tank].high_mm - going.plant.tanks[tank].low_mm
            apart += np.abs(going.seen_T3[at - lags, tank] - state.level[tank]) / span
    for column, tag in enumerate(ACTUATORS):
        if tag in hidden:
            apart += going.codes_TA[at - lags, column] != state.code[tag]
    return int(lags[apart.argmin()])
