"""Small water plants with real mass balance, so that Crossplant can be tried without anybody's data.

Each plant has a source, two tanks and consumers: an inlet valve fills tank 1, a pump lifts from there to tank 2,
consumers draw from tank 2. Valve and pump switch with hysteresis on the level that the controller *sees*: a spoofed
level moves the valve, and an overridden pump moves levels, as in a plant.

Test data holds labelled attacks and faults. Many of them stay inside the range of normal readings and only break the
relation between tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from shared.errors import InvalidConfig
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, SiteData

TAGS = (
    *(
        "MV101",
        "FIT101",
        "LIT101",
        "PIT101",
    ),  # inlet valve 0 closed .. 1 open, inflow m3/h, level m, pressure below bar
    *("P201", "PIT201", "FIT201"),  # pump off 0, on 1, pressure behind it bar, flow m3/h
    *("LIT301", "PIT301", "FIT301", "TIT301"),  # level of tank 2 m, pressure below bar, demand m3/h, temperature C
)
PERIOD_S = 60.0
LEVELS = [TAGS.index("LIT101"), TAGS.index("LIT301")]
STEP_H = PERIOD_S / 3600
DAY = 1440  # rows
WARM_UP = 600  # rows run before recording, so that no start-up transient is left
BAR_PER_M = 0.0981
MIXED = 0.9  # share of tank 2 that one row's inflow can replace at most: explicit steps stay stable below 1
DRY_M = 0.1  # pumps draw air below this level
DEMAND, MARKS_M, LIFT_M, SOURCE_C = (6.0, 20.0), (0.8, 3.2), (6.0, 15.0), (8.0, 16.0)
"""Of any plant that can be drawn: mean demand m3/h, low and high marks, lift, mean temperature of the source."""
INLET, PUMP, FRICTION, SWING = 2.5, 2.0, 1.2, 0.45
"""At most, too: capacities in demands, bar lost at a flow of one demand, swing of the demand over the day."""
_BAR = (BAR_PER_M * MARKS_M[0], BAR_PER_M * MARKS_M[1])
RANGES = (
    *((0.0, 1.0), (0.0, INLET * DEMAND[1]), MARKS_M, _BAR),
    *((0.0, 1.0), (BAR_PER_M * LIFT_M[0] + _BAR[0], BAR_PER_M * LIFT_M[1] + _BAR[1] + FRICTION * PUMP**2)),
    (0.0, PUMP * DEMAND[1]),
    *(MARKS_M, _BAR, (DEMAND[0] * (1 - SWING), DEMAND[1] * (1 + SWING)), (SOURCE_C[0] - 1.5, SOURCE_C[1] + 2.5)),
)
"""Operating range of each tag over all plants that can be drawn: of this file, not of any plant's data."""

Kind = Literal["stuck", "spoof", "bias", "drift", "override", "masked", "leak"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Fault:
    """One attack or fault.

    Attributes:
        kind: `stuck`, `spoof` (a wrong constant inside the band) and `bias`: what a level sensor shows, and what the
            controller therefore believes; `drift`: what a flow meter shows; `override`: the inlet valve or a pump is
            kept in the state opposite to its present one; `masked`: the same, while its signal shows what was
            ordered; `leak`: a tank loses water that no meter sees.
        tank: 0 or 1: whose sensor, inlet or water.
        size: strength, 0.5 .. 1, with a sign where both directions make sense.
        first, end: rows of the recording, half-open.
    """

    kind: Kind
    tank: int
    size: float
    first: int
    end: int


@dataclass(frozen=True)
class Plant:
    """What makes one plant different from the next. Levels in m, areas in m2, flows in m3/h, times in rows."""

    area: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    capacity: tuple[float, ...]  # inlet, pump
    lift: float
    friction: float
    demand: float
    swing: float
    phase: float
    source_c: float
    level_noise: float
    flow_noise: float


@dataclass(slots=True)
class _State:
    level: list[float]
    ordered: list[bool]  # by the controller: inlet open, pump on
    inlet: list[float]  # what is: valve opening, pump runs
    celsius: float
    held: float = 0.0  # what a fault keeps: a level reading or a state


def generate(plants: int, rows: int, seed: int) -> tuple[SiteData, ...]:
    """Simulate plants that share their tags and differ in size, set-points, demand and noise.

    Args:
        plants: how many. Plant k does not depend on how many there are.
        rows: training rows of each (normal operation, one a minute); half as many test rows follow at once.
        seed: any integer from 0; the same seed gives the same data.

    Returns:
        sites `plant-1` ... with labels: up to 7 faults over 5 to 12 % of the test rows.

    Raises:
        InvalidConfig: no plants, fewer than 100 rows, or a negative seed.

    Example:
        >>> site = generate(plants=2, rows=200, seed=0)[1]
        >>> site.name, site.train_TD.shape, site.test_TD.shape
        ('plant-2', (200, 11), (100, 11))
    """
    for name, value, least in (("plants", plants, 1), ("rows", rows, 100), ("seed", seed, 0)):
        if value < least:
            raise InvalidConfig(f"generated plants need {name} of at least {least}, not {value}.", "Give a larger one.")
    return tuple(_site(number, rows, seed) for number in range(1, plants + 1))


def _site(number: int, rows: int, seed: int) -> SiteData:
    build, weather, plan = (default_rng(child) for child in SeedSequence([seed, number]).spawn(3))
    plant, test_rows = draw_plant(build), rows // 2
    faults = draw_faults(plan, first=WARM_UP + rows, rows=test_rows)
    series_TD = run(plant, weather, WARM_UP + rows + test_rows, faults)[WARM_UP:]
    return SiteData(
        name=f"plant-{number}",
        schema=SensorSchema(tags=TAGS, period_s=PERIOD_S),
        train_TD=series_TD[:rows],
        test_TD=series_TD[rows:],
        labels_T=_labels(faults, WARM_UP + rows, test_rows),
        source=f"generated, seed {seed}, plant {number}",
        ranges=RANGES,
    )


def _labels(faults: tuple[Fault, ...], first: int, rows: int) -> BoolArray:
    labels_T = np.zeros(rows, dtype=np.bool_)
    for fault in faults:
        labels_T[fault.first - first : fault.end - first] = True
    return labels_T


def draw_plant(rng: Generator) -> Plant:
    """Draw a plant whose tanks cycle in about an hour."""
    demand = rng.uniform(*DEMAND)
    low = rng.uniform(0.8, 1.6, 2)
    high = low + rng.uniform(0.8, 1.6, 2)
    return Plant(
        area=tuple((demand * rng.uniform(0.3, 0.5, 2) / (high - low)).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        capacity=tuple((demand * rng.uniform([2.1, 1.7], [2.5, 2.0])).tolist()),
        lift=rng.uniform(*LIFT_M),
        friction=rng.uniform(0.5, 1.2) / demand**2,
        demand=demand,
        swing=rng.uniform(0.15, 0.3),
        phase=rng.uniform(0, 2 * np.pi),
        source_c=rng.uniform(*SOURCE_C),
        level_noise=rng.uniform(0.003, 0.008),
        flow_noise=rng.uniform(0.005, 0.01),
    )


def draw_faults(rng: Generator, first: int, rows: int) -> tuple[Fault, ...]:
    """Spread 6 or 7 faults (fewer in a short recording) of different kinds over `rows` rows from row `first` on."""
    count = min(int(rng.integers(6, 8)), max(1, rows // 120))
    slot = rows / count
    weights = rng.uniform(0.7, 1.3, count)
    lengths = np.maximum(1, np.rint(rng.uniform(0.095, 0.118) * rows * weights / weights.sum())).astype(int)
    kinds = [KINDS[at] for at in rng.permutation(np.arange(len(KINDS)))]
    return tuple(
        _draw_fault(rng, kinds[at], int(first + at * slot), int(slot), int(lengths[at])) for at in range(count)
    )


def _draw_fault(rng: Generator, kind: Kind, slot_first: int, slot: int, length: int) -> Fault:
    begin = slot_first + int(rng.uniform(0.1, 0.9) * (slot - length))
    size = rng.uniform(0.5, 1.0) * (rng.choice([-1, 1]) if kind in ("bias", "drift") else 1)
    return Fault(kind, int(rng.integers(0, 2)), float(size), begin, begin + length)


def run(plant: Plant, rng: Generator, rows: int, faults: tuple[Fault, ...]) -> FloatArray:
    """Simulate a plant.

    Returns:
        float32 (rows, 11) readings in the order of `TAGS`.
    """
    demand_T, source_T = _outside(plant, rng, rows)
    noise_TD = rng.standard_normal((rows, len(TAGS)))
    level_noise_T2 = (plant.level_noise * noise_TD[:, LEVELS]).tolist()
    acting: Mapping[int, Fault] = {row: fault for fault in faults for row in range(fault.first, fault.end)}
    state = _at_rest(plant)
    readings = [
        _minute(plant, state, row, acting.get(row), demand, source, noise)
        for row, (demand, source, noise) in enumerate(
            zip(demand_T.tolist(), source_T.tolist(), level_noise_T2, strict=True)
        )
    ]
    return _meter_noise(plant, np.array(readings), noise_TD).astype(np.float32)


def _outside(plant: Plant, rng: Generator, rows: int) -> tuple[Values, Values]:
    """What the consumers draw (m3/h) and how warm the source is (C): daily swings and slow wandering."""
    day_T = 2 * np.pi * np.arange(rows) / DAY + plant.phase
    daily_T = np.sin(day_T) + 0.5 * np.sin(2 * day_T + 1)
    restless_T = 0.05 * _wander(rng, rows, 30) + 0.01 * rng.standard_normal(rows)
    demand_T = plant.demand * (1 + plant.swing * daily_T + restless_T)
    source_T = plant.source_c + 1.5 * np.sin(day_T - 1) + 0.3 * _wander(rng, rows, 240)
    return np.maximum(demand_T, 0.2 * plant.demand), source_T


def _wander(rng: Generator, rows: int, width: int) -> Values:
    """Noise of unit variance that forgets over `width` rows: a trailing mean of white noise, float64 (rows,)."""
    total = np.concatenate([[0.0], rng.standard_normal(rows + width - 1).cumsum()])
    out: Values = (total[width:] - total[:-width]) / np.sqrt(width)
    return out


def _at_rest(plant: Plant) -> _State:
    middle = [(low + high) / 2 for low, high in zip(plant.low, plant.high, strict=True)]
    return _State(middle, [True, True], [1.0, 1.0], plant.source_c)


def _minute(
    plant: Plant, state: _State, row: int, fault: Fault | None, demand: float, source: float, noise: list[float]
) -> list[float]:
    """Read the levels, let the controller switch, move the water for one minute; the readings before meter noise."""
    beginning = fault is not None and row == fault.first
    seen = _see(plant, state, fault, beginning, noise)
    _control(plant, state, seen)
    signals = _actuate(state, fault, beginning)
    flows = _flows(plant, state, demand)
    pressures = _pressures(plant, state, flows)
    _move(plant, state, flows, fault, source)
    shown = list(flows)
    if fault is not None and fault.kind == "drift":
        age = (row - fault.first + 1) / (fault.end - fault.first)
        shown[fault.tank] *= 1 + fault.size * min(1.0, 2 * age)
    return [
        *(signals[0], shown[0], seen[0], pressures[0]),
        *(signals[1], pressures[1], shown[1]),
        *(seen[1], pressures[2], shown[2], state.celsius),
    ]


def _see(plant: Plant, state: _State, fault: Fault | None, beginning: bool, noise: list[float]) -> list[float]:
    seen = [level + error for level, error in zip(state.level, noise, strict=True)]
    if fault is None or fault.kind not in ("stuck", "spoof", "bias"):
        return seen
    low, high = plant.low[fault.tank], plant.high[fault.tank]
    if fault.kind == "bias":
        seen[fault.tank] += 1.2 * fault.size * (high - low)
        return seen
    if beginning:
        far = low if seen[fault.tank] > (low + high) / 2 else high
        state.held = seen[fault.tank] if fault.kind == "stuck" else 0.8 * far + 0.1 * (low + high)
    seen[fault.tank] = state.held + (noise[fault.tank] if fault.kind == "spoof" else 0.0)
    return seen


def _control(plant: Plant, state: _State, seen: list[float]) -> None:
    """Start filling a tank below its low mark, stop above its high mark."""
    for tank, level in enumerate(seen):
        if level <= plant.low[tank]:
            state.ordered[tank] = True
        elif level >= plant.high[tank]:
            state.ordered[tank] = False


def _actuate(state: _State, fault: Fault | None, beginning: bool) -> list[float]:
    """Move the valve (two minutes of travel) and switch the pumps, as far as a fault lets them; what they report."""
    target = [float(order) for order in state.ordered]
    signals = [_toward(state.inlet[0], target[0]), *target[1:]]
    if fault is None or fault.kind not in ("override", "masked"):
        state.inlet = signals
        return signals
    if beginning:
        state.held = float(state.inlet[fault.tank] < 0.5)
    target[fault.tank] = state.held
    state.inlet = [_toward(state.inlet[0], target[0]), *target[1:]]
    return signals if fault.kind == "masked" else state.inlet


def _toward(opening: float, target: float) -> float:
    return min(target, opening + 0.5) if target > opening else max(target, opening - 0.5)


def _flows(plant: Plant, state: _State, demand: float) -> list[float]:
    """Inflow, pump and demand in m3/h; the pump gives less against a higher column, and nothing when dry."""
    one, two = state.level
    return [
        state.inlet[0] * plant.capacity[0],
        state.inlet[1] * plant.capacity[1] * (1 - 0.04 * (two - one)) * (one > DRY_M),
        demand * (two > DRY_M),
    ]


def _pressures(plant: Plant, state: _State, flows: list[float]) -> list[float]:
    """Below tank 1, behind the pump, below tank 2, in bar: the water column, and friction in the pump's pipe."""
    one, two = state.level
    behind = BAR_PER_M * (plant.lift + two) + plant.friction * flows[1] ** 2
    return [BAR_PER_M * one, behind, BAR_PER_M * two]


def _move(plant: Plant, state: _State, flows: list[float], fault: Fault | None, source: float) -> None:
    """Mass balance of the tanks and heat balance of tank 2 over one row."""
    for tank, area in enumerate(plant.area):
        net = flows[tank] - flows[tank + 1]
        if fault is not None and fault.kind == "leak" and fault.tank == tank:
            net -= 3 * fault.size * plant.demand
        brim = plant.high[tank] + 1.0
        state.level[tank] = min(brim, max(0.0, state.level[tank] + net * STEP_H / area))
    volume = max(plant.area[1] * state.level[1], 0.1)
    renewed = min(flows[1] / volume, MIXED / STEP_H)  # an almost empty tank takes the inflow's warmth, no more
    warmer = renewed * (source + 0.4 - state.celsius) + 0.05 * (20 - state.celsius)
    state.celsius += STEP_H * warmer


def _meter_noise(plant: Plant, readings_TD: Values, noise_TD: Values) -> Values:
    """Noise of flow meters (proportional, none at a standstill), pressure meters and the thermometer."""
    scale_TD = np.zeros_like(readings_TD)
    for at, tag in enumerate(TAGS):
        if tag.startswith("FIT"):
            scale_TD[:, at] = plant.flow_noise * readings_TD[:, at]
        elif tag[0] in "PT" and "IT" in tag:
            scale_TD[:, at] = 0.003 if tag[0] == "P" else 0.03
    return readings_TD + scale_TD * noise_TD
