"""Return water: what the consumers have used gathers in a sump and runs through 3_FIT_001 into the tank 3_LT_001."""

from __future__ import annotations

from math import sqrt

from simulations.twin.network.instruments import Leak, Meter
from simulations.twin.network.plant import Network

SIPHON_ON, SIPHON_OFF = 0.5, 0.2  # share of the sump at which its siphon starts and breaks
BRIM = 5.1  # % above the weir at which the tank overflows
WEIR = 0.95  # m3/h over the return tank's weir at 1 % above its crest, to the power 0.5


class Returns:
    """A siphoning sump and a tank with a weir; once a day the tank's outlet is shut and its level climbs."""

    def __init__(self, plant: Network, sump: float) -> None:
        self.sump, self.running = sump, True
        self.level = plant.return_rest + 0.4
        self.sump_share, self.percent = 1 / 3600 / plant.sump_m3, 100 / 3600 / plant.return_m3
        self.flow_nominal, self.rest = plant.return_flow, plant.return_rest
        self.level_meter, self.flow_meter = Meter(), Meter()
        self.leak = Leak()
        self.flow = 0.0

    def step(self, used: float, shut: bool) -> None:
        """One second: consumers let go of `used` m3/h."""
        if self.sump > SIPHON_ON:
            self.running = True
        elif self.sump < SIPHON_OFF:
            self.running = False
        flow = self.flow_nominal * (0.80 + 0.43 * self.sump) if self.running else 0.0
        self.sump = min(1.0, self.sump + (used - flow) * self.sump_share)
        over = self.level - self.rest
        spill = 0.0 if shut or over <= 0 else WEIR * sqrt(over)
        level = self.level + (flow - spill - self.leak.flow) * self.percent
        self.level = min(self.rest + BRIM, max(0.0, level))
        self.flow = flow
        self.flow_meter.read(flow)
        self.level_meter.read(self.level)
