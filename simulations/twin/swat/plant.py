"""What makes one treatment plant different from the next: sizes, set-points, flows, timings, instruments.

`REFERENCE` is SWaT as measured (shared/catalogue/swat.csv): the flows over the slopes of the levels give the tanks'
areas; the UF run of half an hour and the times in the back-wash are as they were seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from numpy.random import Generator

from simulations.twin.swat.meters import METERS, Meter

_FLUSH_S, _BACKWASH_S = 60, 152  # about so long no water reaches the RO feed tank
VALVES = ("MV101", "MV201", "MV301", "MV302", "MV303", "MV304")


@dataclass(frozen=True)
class Tank:
    """One tank with its hysteresis.

    Attributes:
        area_m2: cross-section; 1 m3 raises the level by 1000 / area mm.
        low_mm, high_mm: filling starts below `low_mm` and stops above `high_mm`.
        dry_mm: pumps that draw from it stop below this, and may run again 50 mm above.
        brim_mm: it overflows here.
        noise_mm: standard deviation of the level sensor's noise.
    """

    area_m2: float
    low_mm: float
    high_mm: float
    dry_mm: float
    brim_mm: float
    noise_mm: float


@dataclass(frozen=True)
class Flow:
    """A pump's or valve's flow when fully on, and how it wanders.

    Attributes:
        rate: m3/h.
        wander: relative standard deviation of its own slow changes.
        memory_s: time in which such a change is forgotten.
        weather: relative size of what the weather (`wander.daily`) does to it: cold water flows more slowly, and
            through the whole plant.
    """

    rate: float
    wander: float
    memory_s: float
    weather: float = 0.0


@dataclass(frozen=True)
class Plant:
    """Parameters of a plant.

    Attributes:
        tanks: raw water (LIT101), UF feed (LIT301), RO feed (LIT401).
        raw, feed, uf, ro: flows into the first tank, from tank to tank, and out of the last.
        uf_yield: share of the UF feed that reaches the RO feed tank.
        filter_s: seconds of filtration after which a back-wash follows.
        rinse_s, flush_s, clean_s, drain_s, pump_s: seconds for which MV304 is open after a back-wash, MV304 before
            filtration, MV301, MV303, and P602 runs.
        travel_s: seconds a valve is under way, by tag.
        meters: the other instruments, by tag.
    """

    tanks: tuple[Tank, Tank, Tank]
    raw: Flow
    feed: Flow
    uf: Flow
    ro: Flow
    uf_yield: float = 0.96
    filter_s: int = 1794
    rinse_s: int = 86
    flush_s: int = 45
    clean_s: int = 34
    drain_s: int = 95
    pump_s: int = 31
    travel_s: Mapping[str, int] = field(
        default_factory=lambda: MappingProxyType(dict(zip(VALVES, (8, 8, 7, 7, 8, 7), strict=True)))
    )
    meters: Mapping[str, Meter] = field(default_factory=lambda: METERS)


REFERENCE = Plant(
    tanks=(
        Tank(area_m2=1.432, low_mm=500, high_mm=800, dry_mm=250, brim_mm=1100, noise_mm=0.234),
        Tank(area_m2=1.45, low_mm=800, high_mm=1000, dry_mm=250, brim_mm=1200, noise_mm=0.18),
        Tank(area_m2=1.48, low_mm=800, high_mm=1000, dry_mm=250, brim_mm=1200, noise_mm=0.165),
    ),
    raw=Flow(2.55, 0.018, 1800),
    feed=Flow(2.45, 0.002, 7200, weather=0.004),
    uf=Flow(2.214, 0.0035, 7200, weather=0.0035),
    ro=Flow(1.71, 0.0005, 7200, weather=0.0068),
)


def draw(rng: Generator) -> Plant:
    """A new plant: every number within about 10 to 30 % of the reference, and able to run for ever.

    Each pump lifts more than the next one draws, as in the reference, or the last tanks would run dry.
    """
    size = rng.uniform(0.75, 1.3)
    ro = size * REFERENCE.ro.rate
    uf = ro * _near(rng, 1.295, 0.97, 1.06)
    feed = uf * _near(rng, 1.107, 0.98, 1.08)
    raw = feed * _near(rng, 1.041, 0.99, 1.08)
    wander = rng.uniform(0.7, 1.3)
    rates = zip((REFERENCE.raw, REFERENCE.feed, REFERENCE.uf, REFERENCE.ro), (raw, feed, uf, ro), strict=True)
    flows = [Flow(rate, flow.wander * wander, flow.memory_s, flow.weather * wander) for flow, rate in rates]
    one, two, three = (_draw_tank(rng, tank, size) for tank in REFERENCE.tanks)
    return replace(
        REFERENCE,
        tanks=(one, two, three),
        raw=flows[0],
        feed=flows[1],
        uf=flows[2],
        ro=flows[3],
        filter_s=round(_filtering_s(three, uf, ro) * float(rng.uniform(0.5, 0.56))),
        rinse_s=round(_near(rng, REFERENCE.rinse_s, 0.9, 1.2)),
        pump_s=round(_near(rng, REFERENCE.pump_s, 0.85, 1.08)),
        travel_s=MappingProxyType({valve: int(rng.integers(7, 10)) for valve in VALVES}),
        meters=MappingProxyType({tag: _draw_meter(rng, tag, meter, size) for tag, meter in METERS.items()}),
    )


def _filtering_s(tank: Tank, uf: float, ro: float) -> float:
    """Seconds of filtration in one round of the RO feed tank: what makes up for its draw while the UF stands still."""
    idle_m3 = (_FLUSH_S + _BACKWASH_S) * ro / 3600
    gain = (uf * REFERENCE.uf_yield - ro) / 3600
    return ((tank.high_mm - tank.low_mm) / 1000 * tank.area_m2 + idle_m3) / gain


def _near(rng: Generator, value: float, low: float, high: float) -> float:
    return value * float(rng.uniform(low, high))


def _draw_tank(rng: Generator, tank: Tank, size: float) -> Tank:
    low = _near(rng, tank.low_mm, 0.85, 1.2)
    high = low + _near(rng, tank.high_mm - tank.low_mm, 0.8, 1.3)
    return Tank(
        area_m2=size * _near(rng, tank.area_m2, 0.8, 1.3),
        low_mm=round(low),
        high_mm=round(high),
        dry_mm=round(_near(rng, tank.dry_mm, 0.8, 1.2)),
        brim_mm=round(high) + round(_near(rng, tank.brim_mm - tank.high_mm, 0.8, 1.2)),
        noise_mm=_near(rng, tank.noise_mm, 0.7, 1.3),
    )


def _draw_meter(rng: Generator, tag: str, meter: Meter, size: float) -> Meter:
    """Flows scale with the plant; analysers and pressures have levels of their own."""
    scale = size if tag.startswith("FIT") else float(rng.uniform(0.85, 1.2))
    if tag in ("AIT202", "AIT501"):
        scale = float(rng.uniform(0.97, 1.03))
    if tag == "AIT201":
        scale = float(rng.uniform(1.0, 1.2))  # above the mark at which salt is dosed
    return replace(
        meter,
        median=meter.median * scale,
        p1=meter.p1 * scale,
        p99=meter.p99 * scale,
        noise=meter.noise * scale * float(rng.uniform(0.7, 1.3)),
    )
