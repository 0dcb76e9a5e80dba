"""A consumer tank: two level switches open and close its inlet, a flow loop meters what comes in."""

from __future__ import annotations

from simulations.twin.network.instruments import Drive, Leak, Meter
from simulations.twin.network.plant import Consumer as Drawn

LEAST_CO = 5.0  # % below which the flow loop never closes its valve
CURVE = 1.35  # of the control valve: flow grows with opening ** CURVE


class Consumer:
    """Its level is hidden; the plant sees the switches only."""

    def __init__(self, plant: Drawn, level: float, filling: bool) -> None:
        self.level, self.filling = level, filling
        self.low, self.high, self.dead = plant.low, plant.high, plant.dead
        self.capacity, self.gain = plant.capacity, plant.gain
        self.percent = 100 / 3600 / plant.volume_m3
        self.co, self.flow, self.last = 20.0 if filling else 90.0, 0.0, 0.0
        self.is_low = self.is_high = 0.0
        self.low_switch, self.high_switch, self.flow_meter = Meter(), Meter(), Meter()
        self.inlet = Drive(1 / 4, at=1.0 if filling else 0.0)
        self.control = Drive(0.12, at=0.2 if filling else 0.0)
        self.leak = Leak()

    def step(self, set_point: float, usage: float, root_head: float) -> float:
        """One second at a set-point (m3/h), while the consumer uses `usage` m3/h; the flow that comes in."""
        level = self.level
        self.is_low = self.low_switch.read(1.0 if level < self.low + self.dead * self.is_low else 0.0)
        self.is_high = self.high_switch.read(1.0 if level > self.high - 0.1 * self.dead * self.is_high else 0.0)
        if self.is_low > 0.5:
            self.filling = True
        elif self.is_high > 0.5:
            self.filling = False
        inlet = self.inlet.go(1.0 if self.filling else 0.0)
        control = self.control.go(0.01 * self.co if self.filling else 0.0)
        flow = self.capacity * inlet * control**CURVE * root_head if inlet else 0.0
        self.flow = flow
        shown = self.flow_meter.read(flow)
        co = self.co + self.gain * (set_point - shown) + 2.0 * (self.last - shown)
        self.co = LEAST_CO if co < LEAST_CO else 100.0 if co > 100.0 else co
        self.last = shown
        level += (flow - usage - self.leak.flow) * self.percent
        self.level = 0.0 if level < 0.0 else 100.0 if level > 100.0 else level
        return flow
