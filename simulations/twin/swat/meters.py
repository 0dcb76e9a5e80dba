"""The instruments beside the level sensors: where they stand, how they wander, how noisy they are.

The figures are those measured on SWaT's normal run (shared/catalogue/swat.csv): p1, median and p99, and the standard
deviation of the difference between two seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Meter:
    """One instrument.

    Attributes:
        median, p1, p99: of its readings in normal operation (for flows: while water flows).
        noise: standard deviation of the difference between two readings a second apart.
        hold_s: seconds for which a reading is held before the next; 1 for a meter that measures all the time.
        decimals: digits that the historian keeps.
    """

    median: float
    p1: float
    p99: float
    noise: float
    hold_s: int = 1
    decimals: int = 2

    @property
    def sigma(self) -> float:
        """Standard deviation of one reading's noise, so that differences come out as `noise`."""
        return self.noise * math.sqrt(self.hold_s / 2)


METERS: Mapping[str, Meter] = MappingProxyType(
    {
        "FIT101": Meter(2.55, 2.40, 2.67, 0.0263, decimals=4),
        "FIT201": Meter(2.45, 2.42, 2.473, 0.004, decimals=4),
        "FIT301": Meter(2.214, 2.18, 2.251, 0.006, decimals=4),
        "FIT401": Meter(1.71, 1.685, 1.739, 0.000963, decimals=4),
        "FIT501": Meter(1.719, 1.694, 1.749, 0.000779, decimals=4),
        "FIT502": Meter(1.275, 1.234, 1.324, 0.00822, decimals=4),
        "FIT503": Meter(0.7387, 0.7285, 0.7485, 0.000553, decimals=4),
        "FIT504": Meter(0.3084, 0.3043, 0.3116, 0.000469, decimals=4),
        "FIT601": Meter(1.73, 1.70, 1.746, 0.006, decimals=4),
        "DPIT301": Meter(19.9, 19.5, 20.25, 0.05, decimals=3),
        "PIT501": Meter(252.9, 246.0, 259.0, 0.0719),
        "PIT502": Meter(1.121, 0.9451, 1.65, 0.0272, hold_s=3, decimals=3),
        "PIT503": Meter(191.8, 185.6, 197.3, 0.0663),
        "AIT201": Meter(265.5, 253.2, 271.1, 0.0308, hold_s=12),
        "AIT202": Meter(8.366, 8.327, 8.928, 0.00129, hold_s=8, decimals=4),
        "AIT203": Meter(330.7, 315.2, 511.8, 0.102, hold_s=6),
        "AIT401": Meter(148.8, 148.7, 148.85, 0.01, hold_s=20),
        "AIT402": Meter(164.7, 155.2, 190.9, 0.0438, hold_s=10),
        "AIT501": Meter(7.88, 7.822, 7.919, 0.000382, hold_s=15, decimals=4),
        "AIT502": Meter(151.7, 143.4, 176.9, 0.0448, hold_s=10),
        "AIT503": Meter(267.8, 253.1, 276.2, 0.0555, hold_s=12),
        "AIT504": Meter(11.73, 10.42, 13.5, 0.0543, hold_s=4, decimals=3),
    }
)
