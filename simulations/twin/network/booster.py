"""How water reaches the consumers: by gravity at low demand, through the booster 2_P_003 at high demand."""

from __future__ import annotations

from math import sqrt

from simulations.twin.network.instruments import Drive, Leak, Meter
from simulations.twin.network.plant import Network

IDLE_CO, LEAST_CO = 50.0, 15.0  # %: of the pressure loop 2_PIC_003, at rest and at least
LIFT, SLIP = 0.00286, 0.224  # bar at 1 % speed squared, bar lost at 1 m3/h squared
IDLE_BAR = 0.028
LEAST_HEAD = 1e-6
GRAVITY_LOSS = 1.45  # share of nominal head lost at 1 m3/h
LEAK_FLOW = 1.2  # m3/h through a wide open leak valve 2_MCV_007 at nominal head
TRIP, RESUME = 34.0, 42.0  # % of the reservoir, as it is shown, at which the booster stops and may start again
NOMINAL = 75.0  # % of the reservoir at which the head is nominal


class Booster:
    """2_MV_006 opens, 2_P_003 runs and holds the pressure while consumers require much; else water falls freely."""

    def __init__(self, plant: Network) -> None:
        self.above, self.below, self.set_point = plant.boost_above, plant.boost_below, plant.pressure
        self.wanted = self.tripped = False
        self.co, self.speed, self.bar, self.error, self.head = IDLE_CO, 0.0, IDLE_BAR, 0.0, 0.9
        self.main, self.valve, self.pump = Drive(1 / 12, at=1.0), Drive(1 / 30), Drive(1.0)
        self.leak_valve = Drive(0.1)
        self.pressure_meter = Meter()
        self.leak = Leak()
        self.gravity = self.boosted = self.leaking = 0.0
        self.root = sqrt(self.head)

    def step(self, required: float, taken: float, reservoir: float, shown: float) -> float:
        """One second: consumers require and take m3/h; the reservoir's level and what is shown of it are in %.

        Returns:
            the root of the head that the consumers get, 1 at nominal.
        """
        self.tripped = shown < (RESUME if self.tripped else TRIP)
        if self.tripped:
            self.wanted = False
        elif required > self.above:
            self.wanted = True
        elif required < self.below:
            self.wanted = False
        valve = self.valve.go(1.0 if self.wanted else 0.0)
        running = self.pump.go(1.0 if self.wanted and valve >= 1.0 else 0.0)
        leak_width = LEAK_FLOW * self.leak_valve.go(0.0)
        width = taken / self.root + leak_width  # flow at nominal head through the valves as they stand
        self._press(running, width)
        fed = self.main.go(1.0) * (reservoir > 0.5)
        free = (0.5 + 0.5 * reservoir / NOMINAL) * fed / (1 + GRAVITY_LOSS * width * width)
        head = max(free, self.bar * fed * valve) if running else free
        self.head += 0.4 * (head - self.head)
        root = self.root = sqrt(max(self.head, LEAST_HEAD))
        self.leaking = leak_width * root
        flow = taken + self.leaking
        self.gravity, self.boosted = (0.0, flow) if running else (flow, 0.0)
        return root

    def _press(self, running: float, width: float) -> None:
        """Pump curve against the open valves, and pressure loop (incremental PI)."""
        self.speed += 0.2 * ((self.co if running else 0.0) - self.speed)
        pressure = LIFT * self.speed * self.speed / (1 + SLIP * width * width) if running else 0.0
        self.bar = max(IDLE_BAR, pressure)
        error = self.set_point - self.pressure_meter.read(self.bar)
        if running:
            co = self.co + 1.2 * (error - self.error) + 0.14 * error
            self.co = LEAST_CO if co < LEAST_CO else IDLE_CO if co > IDLE_CO else co
        else:
            self.co = IDLE_CO
        self.error = error
