"""The plant's controllers: what valves and pumps are told, given the levels that the sensors show.

`decide` is a PLC's scan. It may run every second or only when something can change: `bands` says between which levels
nothing does, and `next_due` when the clock does something.

The ultrafiltration (UF) is a sequence: filter for half an hour, back-wash, filter until the RO feed tank is full, wait
until it is low, flush, filter ... With the reference's tanks one such round takes 4,200 s, as measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from simulations.twin.swat.plant import Plant

ACTUATORS = (
    *("MV101", "P101", "P102", "MV201", "MV301", "MV302", "MV303", "MV304", "P301", "P302"),
    *("P401", "P402", "UV401", "P501", "P502", "P601", "P602"),
)
OFF, ON = 1, 2  # a valve: closed, open; 0 while it moves
AGAIN_MM = 50.0  # a pump stopped for want of water may run again that much above its dry mark
TRIP_S, SETTLE_S = 300, 20  # the RO stops for so long when its feed seems too low; it is not watched while it starts
LEAST_FEED = 0.41  # share of the RO's normal feed below which FIT401 stops it (0.7 of 1.71 m3/h)
HIGH_DP_KPA = 40.0  # a clogged membrane: back-wash at once

Phase = Literal["filter", "wait", "flush", "backwash"]
Step = tuple[int, str, int]  # second, actuator, code


@dataclass(slots=True)
class State:
    """Where the plant is.

    Attributes:
        second: now.
        level: true levels of the three tanks, mm.
        code: what each actuator shows and does.
        order: what its controller wants.
        arrives: second at which each moving valve gets there, and the code it will have.
        watered: whether the pumps behind each tank may run.
        phase: of the UF.
        steps: what is left of its sequence.
        due: second of the next back-wash while it filters.
        tripped: second until which the RO stays off.
        ro_since: second since which the RO runs.
    """

    second: int
    level: list[float]
    code: dict[str, int]
    order: dict[str, int]
    arrives: dict[str, tuple[int, int]] = field(default_factory=dict)
    watered: list[bool] = field(default_factory=lambda: [True, True, True])
    phase: Phase = "filter"
    steps: list[Step] = field(default_factory=list)
    due: int = 0
    tripped: int = 0
    ro_since: int = 0


def at_rest(plant: Plant) -> State:
    """A plant in the middle of filtration, its last tank half full."""
    code = dict.fromkeys(ACTUATORS, OFF)
    code |= dict.fromkeys(("MV101", "P101", "MV201", "MV302", "P302", "P402", "UV401", "P501"), ON)
    level = [tank.low_mm + 0.2 * (tank.high_mm - tank.low_mm) for tank in plant.tanks]
    return State(0, level, dict(code), dict(code), due=plant.filter_s)


def decide(plant: Plant, state: State, seen: tuple[float, float, float], low_feed: bool, clogged: bool) -> None:
    """One scan: set `state.order` from the three levels seen, and move the UF's sequence on.

    Args:
        plant: its set-points.
        state: changed in place.
        seen: levels as the sensors show them, mm.
        low_feed: FIT401 shows less than the RO needs.
        clogged: DPIT301 shows more than `HIGH_DP_KPA`.
    """
    for at, tank in enumerate(plant.tanks):
        state.watered[at] = seen[at] > tank.dry_mm + (0 if state.watered[at] else AGAIN_MM)
    _transfer(plant, state, seen)
    _ultrafilter(plant, state, seen[2], clogged)
    _reverse_osmosis(state, low_feed)


def _transfer(plant: Plant, state: State, seen: tuple[float, float, float]) -> None:
    """Raw water comes when its tank is low; it is passed on when the UF feed tank is low, through an open valve."""
    order = state.order
    for valve, tank, level in (("MV101", plant.tanks[0], seen[0]), ("MV201", plant.tanks[1], seen[1])):
        if level <= tank.low_mm:
            order[valve] = ON
        elif level >= tank.high_mm:
            order[valve] = OFF
    wanted = order["MV201"] == ON == state.code["MV201"] and state.watered[0]
    order["P101"] = ON if wanted else OFF


def _ultrafilter(plant: Plant, state: State, level: float, clogged: bool) -> None:
    now, tank = state.second, plant.tanks[2]
    while state.steps and state.steps[0][0] <= now:
        _, tag, code = state.steps.pop(0)
        state.order[tag] = code
    if state.phase in ("flush", "backwash"):
        if state.steps:
            return
        state.phase = "filter"
    if state.phase == "filter" and (level >= tank.high_mm or not state.watered[1]):
        state.phase = "wait"
        state.order |= {"P302": OFF, "MV302": OFF}
    elif state.phase == "filter" and (now >= state.due or clogged):
        state.phase, state.due = "backwash", now + backwash_off_s(plant) + plant.filter_s
        _begin(state, backwash(plant))
    elif state.phase == "wait" and level <= tank.low_mm and state.watered[1]:
        state.phase, state.due = "flush", now + _FLUSH_PUMP_S + plant.filter_s
        _begin(state, flush(plant))


def _begin(state: State, steps: list[Step]) -> None:
    state.steps = [(state.second + after, tag, code) for after, tag, code in steps]
    while state.steps and state.steps[0][0] <= state.second:
        _, tag, code = state.steps.pop(0)
        state.order[tag] = code


_FLUSH_PUMP_S = 25
_DRAIN_AT_S, _CLEAN_AT_S, _PUMP_AT_S, _RINSE_AT_S = 10, 32, 33, 57


def flush(plant: Plant) -> list[Step]:
    """Before filtration: feed runs through the membrane to the drain for a while. (seconds after, actuator, code)."""
    closes = plant.travel_s["MV304"] + plant.flush_s
    return [(0, "MV304", ON), (_FLUSH_PUMP_S, "P302", ON), (closes, "MV304", OFF), (closes + 1, "MV302", ON)]


def backwash(plant: Plant) -> list[Step]:
    """Stop, press permeate backwards through the membrane, drain, rinse to the drain, filter on."""
    travel, rinsed = plant.travel_s, _RINSE_AT_S + plant.rinse_s
    steps = [
        (0, "P302", OFF),
        (0, "MV302", OFF),
        (_DRAIN_AT_S - travel["MV303"], "MV303", ON),
        (_CLEAN_AT_S - travel["MV301"], "MV301", ON),
        (_PUMP_AT_S, "P602", ON),
        (_RINSE_AT_S - travel["MV304"], "MV304", ON),
        (_PUMP_AT_S + plant.pump_s, "P602", OFF),
        (_CLEAN_AT_S + plant.clean_s, "MV301", OFF),
        (_DRAIN_AT_S + plant.drain_s, "MV303", OFF),
        (backwash_off_s(plant), "P302", ON),
        (rinsed, "MV304", OFF),
        (rinsed + 2, "MV302", ON),
    ]
    return sorted(steps, key=lambda step: step[0])


def backwash_off_s(plant: Plant) -> int:
    """Seconds for which P302 stands still in a back-wash: it starts again to rinse.

    Example:
        >>> from simulations.twin.swat.plant import REFERENCE
        >>> backwash_off_s(REFERENCE)
        115
    """
    return _RINSE_AT_S + plant.rinse_s - 28


def _reverse_osmosis(state: State, low_feed: bool) -> None:
    """The RO's pumps run whenever there is water; the high-pressure pump needs feed, and rests a while without."""
    now, order = state.second, state.order
    order["P402"] = order["UV401"] = ON if state.watered[2] else OFF
    running = state.code["P402"] == ON and state.code["P501"] == ON
    if running and low_feed and now >= state.ro_since + SETTLE_S:
        state.tripped = now + TRIP_S
    fed = state.code["P402"] == ON or state.code["P401"] == ON
    order["P501"] = ON if fed and now >= state.tripped else OFF


def next_due(state: State, low_feed: bool) -> float:
    """The next second at which the clock alone can change something; infinity when none."""
    due = [arrival for arrival, _ in state.arrives.values()]
    due += [step[0] for step in state.steps[:1]]
    due += [state.due] if state.phase == "filter" else []
    due += [state.tripped, state.ro_since + SETTLE_S] if low_feed else [state.tripped]
    return min((second for second in due if second > state.second), default=inf)


def bands(plant: Plant, state: State) -> list[tuple[float, float]]:
    """For each tank the open interval of levels seen inside which `decide` changes nothing."""
    filling = [state.order["MV101"] == ON, state.order["MV201"] == ON, state.phase == "filter"]
    waiting = [not filling[0], not filling[1], state.phase == "wait"]
    return [
        (
            max(tank.low_mm if waits else -inf, tank.dry_mm if watered else -inf),
            min(tank.high_mm if fills else inf, inf if watered else tank.dry_mm + AGAIN_MM),
        )
        for tank, fills, waits, watered in zip(plant.tanks, filling, waiting, state.watered, strict=True)
    ]


def move(state: State, travel_s: Mapping[str, int], forced: Mapping[str, int]) -> bool:
    """Let pumps and valves follow their orders, or an attacker's; True when anything changed."""
    now, changed = state.second, False
    for tag in [tag for tag, (arrival, _) in state.arrives.items() if arrival <= now]:
        state.code[tag] = state.arrives.pop(tag)[1]
        changed = True
    for tag, ordered in state.order.items():
        target = forced.get(tag, ordered)
        if target == (state.arrives[tag][1] if tag in state.arrives else state.code[tag]):
            continue
        changed = True
        _head_for(state, tag, target, travel_s.get(tag, 0))
    return changed


def _head_for(state: State, tag: str, target: int, travel_s: int) -> None:
    if travel_s:
        state.code[tag], state.arrives[tag] = 0, (state.second + travel_s, target)
        return
    state.code[tag] = target
    if tag == "P501" and target == ON:
        state.ro_since = state.second
