"""What the historian logs: a block of the loop's trace, seen through noisy, rounding, tampered meters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from shared.catalogue import tags
from shared.series import FloatArray
from simulations.twin.network.conditions import tamper
from simulations.twin.network.drift import DRIFTERS, Values, reading
from simulations.twin.network.plant import CONSUMERS, Network
from simulations.twin.network.state import LOOPED
from simulations.twin.network.trace import AT, Table
from simulations.twin.script import Event

TAGS = tuple(tag.name for tag in tags("wadi"))
STUCK_FOR_EVER = {"3_AIT_002_PV": 8279.1}
WASH_MINUTE, WASH_S = 11 * 60, 4  # once a day the analysers are washed, and show nonsense for some seconds
WASHED = {"1_AIT_001_PV": 0.0, "1_AIT_002_PV": 6.0, "1_AIT_003_PV": 0.0, "1_AIT_004_PV": 0.0, "2A_AIT_002_PV": 1.139}

Column = tuple[str, Values, int]  # tag, readings before tampering, decimals


@dataclass
class Historian:
    """Turns blocks of the trace into rows of the 127 tags; remembers what stuck sensors show.

    Attributes:
        plant: whose meters these are.
        points_M6, wanders: set-points and drifts of the recording, one knot a minute from its beginning.
        events: with seconds from that beginning.
        clock_s: second of the day at that beginning.
        rng: the meters' noise.
    """

    plant: Network
    points_M6: Values
    wanders: dict[str, Values]
    events: tuple[Event, ...]
    clock_s: int
    rng: Generator
    held: dict[str, float] = field(default_factory=dict)

    def log(self, table: Table, first_s: int) -> FloatArray:
        """The rows of one block that begins `first_s` seconds into the recording, float32 (T, 127)."""
        second_T = first_s + np.arange(len(table))
        shown_DT = np.repeat(_constants()[:, None], len(table), axis=1)
        for tag, values_T, decimals in self._columns(table, second_T):
            shown_DT[TAGS.index(tag)] = self._shown(tag, values_T, decimals, second_T)
        before, behind = shown_DT[TAGS.index("2_PIT_001_PV")], shown_DT[TAGS.index("2_PIT_002_PV")]
        shown_DT[TAGS.index("LEAK_DIFF_PRESSURE")] = np.round(before - behind, 4)
        return np.ascontiguousarray(shown_DT.T, dtype=np.float32)

    def _columns(self, table: Table, second_T: np.ndarray) -> Iterator[Column]:
        yield from _drives(table)
        yield from self._tanks(table)
        yield from self._pressures(table)
        yield from self._demand(table, second_T)
        yield from self._drifting(second_T)

    def _noise(self, count: int, size: float) -> Values:
        out: Values = self.rng.standard_normal(count, dtype=np.float32).astype(np.float64) * (size * self.plant.noise)
        return out

    def _tanks(self, table: Table) -> Iterator[Column]:
        """Levels and flows: a level's noise is constant, a flow's grows with it above a zero error."""
        for tag, name, size in (
            ("1_LT_001_PV", "raw", 0.03),
            ("2_LT_001_PV", "spare", 0.008),
            ("2_LT_002_PV", "reservoir", 0.03),
            ("3_LT_001_PV", "return_level", 0.01),
        ):
            yield tag, table[:, AT[name]] + self._noise(len(table), size), 3
        for tag, name, zero in (
            ("1_FIT_001_PV", "inflow", 0.00117),
            ("2_FIT_001_PV", "fill", 0.0),
            ("2_FIT_002_PV", "gravity", 0.0),
            ("2_FIT_003_PV", "boosted", 0.0),
            ("3_FIT_001_PV", "return_flow", 0.00125),
        ):
            flow_T = table[:, AT[name]] * (1 + self._noise(len(table), 0.006))
            yield tag, np.maximum(flow_T, zero * (1 + self._noise(len(table), 0.06))), 5

    def _pressures(self, table: Table) -> Iterator[Column]:
        """Static head of the reservoir, what the main loses to flow and leaks, and the booster's own pressure."""
        count, above_T = len(table), table[:, AT["reservoir_true"]] - 74.7
        flow_T = table[:, AT["gravity"]] + table[:, AT["boosted"]]
        drag_T = self.plant.pipe_loss * np.square(flow_T)
        leak_T = 10.0 * table[:, AT["lost"]]
        before_T = 151.5 + 0.4 * above_T + self._noise(count, 0.25)
        yield "2_PIT_001_PV", before_T, 3
        yield (
            "2_PIT_002_PV",
            np.maximum(
                0.0, before_T - 60.5 + 0.1 * np.minimum(above_T, 0) - drag_T - leak_T + self._noise(count, 0.35)
            ),
            3,
        )
        yield "2_DPIT_001_PV", 2559 + 11.0 * above_T - 70 * np.square(flow_T) + self._noise(count, 6.0), 2
        for tag, name in (("2_PIC_003_PV", "pressure"), ("2_PIT_003_PV", "pressure_true")):
            bar_T = table[:, AT[name]]
            yield tag, bar_T + self._noise(count, 0.003) * (1 + bar_T), 5
        yield "2_PIC_003_CO", table[:, AT["pressure_co"]], 3
        yield "2_P_003_SPEED", table[:, AT["speed"]] - 0.01203 + self._noise(count, 0.0017), 5

    def _demand(self, table: Table, second_T: np.ndarray) -> Iterator[Column]:
        points_T6 = self.points_M6[second_T // 60]
        required_T = np.zeros(len(table))
        for n, points_T in zip(CONSUMERS, points_T6.T, strict=True):
            required_T += np.where(table[:, AT[f"inlet {n}"]] > 0, points_T, 0.0)
            yield from self._consumer(table, n, points_T, second_T)
        yield "TOTAL_CONS_REQUIRED_FLOW", required_T, 2

    def _consumer(self, table: Table, n: int, points_T: Values, second_T: np.ndarray) -> Iterator[Column]:
        """The flow loop of consumer n; its meter shows its zero error when nothing flows. FQ sees the same pipe."""
        tag = f"2_FIC_{n}01"
        zero_T = self._drifter(f"zero of {tag}_PV", second_T)
        noise_T = 1 + self._noise(len(table), 0.012)
        yield f"{tag}_SP", points_T, 2
        yield f"{tag}_CO", table[:, AT[f"co {n}"]], 3
        yield f"{tag}_PV", np.maximum(table[:, AT[f"flow {n}"]] * noise_T, zero_T), 5
        yield f"2_FQ_{n}01_PV", np.maximum(table[:, AT[f"flow_true {n}"]] * noise_T, zero_T), 5
        yield f"2_MCV_{n}01_CO", 100 * table[:, AT[f"control {n}"]], 3
        yield f"2_LS_{n}01_AL", np.round(table[:, AT[f"low {n}"]]), 0
        yield f"2_LS_{n}01_AH", np.round(table[:, AT[f"high {n}"]]), 0

    def _drifting(self, second_T: np.ndarray) -> Iterator[Column]:
        day_T = (self.clock_s + second_T) % 86400 - WASH_MINUTE * 60
        washing_T = (day_T >= 0) & (day_T < WASH_S)
        for tag in DRIFTERS:
            if tag in TAGS:
                values_T = self._drifter(tag, second_T)
                yield tag, np.where(washing_T, WASHED.get(tag, values_T), values_T), 6

    def _drifter(self, name: str, second_T: np.ndarray) -> Values:
        drifter, knots_M = DRIFTERS[name], self.wanders[name]
        wander_T = np.interp(second_T / 60, np.arange(len(knots_M)), knots_M)
        quantum = drifter.quantum
        out: Values = np.round(reading(drifter, wander_T, self.plant.sway) / quantum) * quantum
        return out

    def _shown(self, tag: str, values_T: Values, decimals: int, second_T: np.ndarray) -> Values:
        """What the events on this sensor make of its readings, rounded as its converter does."""
        mine = [event for event in self.events if event.target == tag]
        for event in mine:
            if tag not in LOOPED:
                tamper(values_T, event, second_T)
        shown_T = values_T if tag == "2A_AIT_002_PV" else np.round(values_T, decimals)
        for event in mine:
            if event.kind == "stuck":
                first, end = np.searchsorted(second_T, [event.first_s, event.end_s])
                if first > 0 and first < len(shown_T):
                    self.held[tag] = float(shown_T[first - 1])
                shown_T[first:end] = self.held.setdefault(tag, float(shown_T[0]))
        self.held[tag] = float(shown_T[-1])
        return shown_T


def _drives(table: Table) -> Iterator[Column]:
    """Valves: 0 moving, 1 closed, 2 open. Pumps: 1 off, 2 on."""
    for tag in TAGS:
        name = tag.removesuffix("_STATUS")
        if name in AT:
            at_T = table[:, AT[name]]
            yield tag, np.where(at_T <= 0, 1.0, np.where(at_T >= 1, 2.0, 0.0)), 0
    for n in CONSUMERS:
        at_T = table[:, AT[f"inlet {n}"]]
        yield f"2_MV_{n}01_STATUS", np.where(at_T <= 0, 1.0, np.where(at_T >= 1, 2.0, 0.0)), 0
    yield "2_MCV_007_CO", 100 * table[:, AT["2_MCV_007"]], 3


def _constants() -> Values:
    """Tags that never change: their published value; NaN in the four empty columns."""
    return np.array([STUCK_FOR_EVER.get(tag.name, tag.median) for tag in tags("wadi")])
