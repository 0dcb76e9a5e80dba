"""The two elevated reservoirs and the transfer pumps that fill them from the raw-water tank."""

from __future__ import annotations

from simulations.twin.network.instruments import Drive, Leak, Meter
from simulations.twin.network.plant import Network

DRY = 3.0  # % of the raw-water tank below which the transfer pumps draw air
SPARE_PUMP = 0.6  # what the standby pump adds, as a share of the duty pump's flow


class Reservoirs:
    """2_LT_002 feeds the consumers and is filled between two marks; 2_LT_001 is topped up once a day and seeps over."""

    def __init__(self, plant: Network, level: float, spare: float) -> None:
        self.level, self.spare = level, spare
        self.filling = self.topping = False
        self.low, self.high, self.capacity = plant.fill_low, plant.fill_high, plant.fill_flow
        self.full, self.rest, self.seep = plant.spare_full, plant.spare_rest, 1 / 3600 / plant.seep_h
        self.percent = 100 / 3600 / plant.fill_m3
        self.spare_percent = 100 / 3600 / plant.spare_m3
        self.linger_s, self.left_s = plant.linger_s, 0
        self.level_meter, self.spare_meter = Meter(shown=level), Meter(shown=spare)
        self.line, self.inlet = Drive(1 / 3), Drive(1 / 22)
        self.pump, self.pump_2 = Drive(1.0), Drive(1.0)
        self.leak, self.spare_leak, self.pipe_leak = Leak(), Leak(), Leak()
        self.flow = self.drawn = 0.0

    def step(self, taken: float, raw: float, allowed: bool) -> None:
        """One second: consumers take `taken` m3/h; the raw-water tank stands at `raw` %; `allowed` lets water in."""
        self._fill(raw, allowed)
        to_spare = self.flow if self.topping else 0.0
        gap = self.spare - self.rest
        seeping = gap * self.seep if gap > 0 else 0.0  # % a second, into the other reservoir
        self.spare += (to_spare - self.spare_leak.flow) * self.spare_percent - seeping
        if self.spare >= self.full:
            self.topping = False
        self.spare_meter.read(self.spare)
        net = self.flow - to_spare + seeping / self.spare_percent - taken - self.leak.flow
        level = self.level + net * self.percent
        self.level = 0.0 if level < 0.0 else 100.0 if level > 100.0 else level

    def _fill(self, raw: float, allowed: bool) -> None:
        """1_MV_004 and 2_MV_003 open, then 1_P_005 lifts; it stops at the high mark and 1_MV_004 follows later."""
        seen = self.level_meter.read(self.level)
        if seen < self.low:
            self.filling = True
        elif seen > self.high:
            self.filling = False
        wanted = self.filling and allowed
        self.left_s = self.linger_s if wanted else self.left_s - 1
        line = self.line.go(1.0 if self.left_s > 0 else 0.0)
        inlet = self.inlet.go(1.0 if wanted else 0.0)
        pumps = self.pump.go(1.0 if wanted and inlet * line >= 1.0 else 0.0) + SPARE_PUMP * self.pump_2.go(0.0)
        drawn = pumps * line * self.capacity if raw > DRY else 0.0
        self.drawn = drawn * inlet
        self.flow = max(0.0, self.drawn - self.pipe_leak.flow) if self.drawn else 0.0
