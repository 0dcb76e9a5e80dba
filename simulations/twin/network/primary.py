"""The primary grid: the raw-water tank 1_LT_001 and its inlet."""

from __future__ import annotations

from simulations.twin.network.instruments import Drive, Leak, Meter
from simulations.twin.network.plant import Network

LINE_FLOW = 0.5  # m3/h through each of the two inlet lines 1_MV_002 and 1_MV_003, flushed once a day
DOSING_ABOVE = 0.5  # m3/h of inflow at which the dosing pumps 1_P_001 and 1_P_003 run


class Primary:
    """Raw-water tank: filled through 1_MV_001 from the low to the high mark, dosed while water flows in."""

    def __init__(self, plant: Network, level: float) -> None:
        self.level = level
        self.filling = False
        self.low, self.high = plant.raw_low, plant.raw_high
        self.capacity = plant.raw_inflow
        self.percent = 100 / 3600 / plant.raw_m3  # % a second and m3/h
        self.level_meter, self.flow_meter = Meter(), Meter()
        self.inlet, self.second, self.third = Drive(1 / 4), Drive(1 / 4), Drive(1 / 4)
        self.doser, self.doser_2 = Drive(1.0), Drive(1.0)
        self.leak = Leak()

    def step(self, drawn: float, source: float, flushing: float) -> None:
        """One second: `drawn` m3/h leave, the source gives `source` times its nominal flow."""
        seen = self.level_meter.read(self.level)
        if seen < self.low:
            self.filling = True
        elif seen > self.high:
            self.filling = False
        inflow = self.capacity * source * self.inlet.go(1.0 if self.filling else 0.0)
        dosing = 1.0 if self.flow_meter.read(inflow) > DOSING_ABOVE else 0.0
        self.doser.go(dosing)
        self.doser_2.go(dosing)
        lines = LINE_FLOW * (self.second.go(flushing) + self.third.go(flushing))
        level = self.level + (inflow + lines - drawn - self.leak.flow) * self.percent
        self.level = 0.0 if level < 0.0 else 100.0 if level > 100.0 else level
