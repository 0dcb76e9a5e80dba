"""The attacks of WADI.A1 (9 Oct 2017) as a script: its published seconds and targets, played on a simulated network.

The A1 files carry no labels; readers build them from the published ranges (`shared.catalogue.attacks`). Sizes, and
the targets where none are published, are ours.
"""

from __future__ import annotations

from shared.catalogue import ATTACK_BEGINS
from shared.catalogue import attacks as published
from simulations.twin.network.plant import Network
from simulations.twin.script import Event, Kind

BEGINS = ATTACK_BEGINS["wadi"]
SECONDS = 172_801
RANGES = tuple(
    (round((each.begin - BEGINS).total_seconds()), round((each.end - BEGINS).total_seconds()))
    for each in published("wadi")
)
"""In seconds from the first row, half-open."""


def attacks(plant: Network) -> tuple[Event, ...]:
    """The fourteen stretches with what is done in each; several targets at once in some.

    Example:
        >>> from simulations.twin.network.plant import reference
        >>> events = attacks(reference())
        >>> events[0].target, sorted({(event.first_s, event.end_s) for event in events}) == list(RANGES)
        ('1_MV_001_STATUS', True)
    """
    full = plant.fill_high - 1.0
    steps: tuple[tuple[tuple[Kind, str, float], ...], ...] = (
        (("override", "1_MV_001_STATUS", 2.0),),
        (("spoof", "1_FIT_001_PV", 1.5),),
        (("spoof", "2_LT_002_PV", 60.0), ("spoof", "1_AIT_001_PV", 6.0)),
        tuple(("override", f"2_MCV_{n}01_CO", 100.0) for n in range(1, 7)),
        tuple(("override", f"2_MCV_{n}01_CO", 100.0) for n in (1, 2)),
        (
            *(("bias", f"1_AIT_00{n}_PV", size) for n, size in ((2, 3.0), (3, -3.0), (4, 150.0), (5, 0.2))),
            ("override", "2_MV_003_STATUS", 1.0),
        ),
        (("override", "2_MCV_007_CO", 40.0),),
        (("override", "1_P_006_STATUS", 2.0),),
        (("override", "1_MV_001_STATUS", 2.0),),
        (("override", "2_MCV_007_CO", 60.0),),
        (("override", "2_MCV_007_CO", 80.0),),
        (("bias", "1_AIT_001_PV", 12.0), ("override", "2_MCV_101_CO", 100.0)),
        (("override", "2_MCV_201_CO", 100.0),),
        (("spoof", "2_LT_002_PV", full), ("bias", "1_AIT_001_PV", -15.0)),
    )
    return tuple(
        Event(kind, target, first, end, size)
        for (first, end), together in zip(RANGES, steps, strict=True)
        for kind, target, size in together
    )
