"""What makes one distribution network differ from the next: tanks, set-points, capacities, demand.

Levels in % of the tank, volumes in m3, flows in m3/h, times in s or as named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from numpy.random import Generator

CONSUMERS = (1, 2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Consumer:
    """One consumer tank behind a flow loop.

    Attributes:
        volume_m3: of the tank; low and high: where its level switches sit, in %.
        dead: how far above the low (below the high) switch its alarm clears again, in %.
        capacity: flow through its wide open control valve at nominal head.
        gain: of the flow loop, % valve per second and m3/h of error.
        set_points: of its flow loop, one for each hour of the day.
        share: what the consumer draws, as a share of the set-point.
    """

    volume_m3: float
    low: float
    high: float
    dead: float
    capacity: float
    gain: float
    set_points: tuple[float, ...]
    share: float


@dataclass(frozen=True)
class Network:
    """A distribution network: raw-water tank, two elevated reservoirs, booster, six consumers, return water.

    Attributes:
        raw_m3, raw_low, raw_high, raw_inflow: raw-water tank 1_LT_001, filled between two levels.
        fill_m3, fill_low, fill_high, fill_flow: elevated reservoir 2_LT_002, filled from the raw-water tank.
        linger_s: how long 1_MV_004 stays open after the transfer pump has stopped.
        spare_m3, spare_rest, spare_full, seep_h: reservoir 2_LT_001, topped up to `spare_full` once a day, settling
            to `spare_rest` within `seep_h`.
        boost_above, boost_below: required flow at which the booster starts and stops.
        pressure: set-point of the booster loop, bar.
        pipe_loss: pressure lost in the main, kPa at 1 m3/h.
        sump_m3, return_flow: where used water gathers, and how fast it runs to the return tank 3_LT_001.
        return_m3, return_rest: return tank and its weir.
        flush_minute, flush_min: minute of the day at which the transfer line is flushed, and for how long.
        top_up_minute: minute of the day from which 2_LT_001 is topped up.
        consumers: the six.
        sway: how far, as a share of their published range, this plant's analysers sit off the reference's.
        noise: of meters, as a share of the reference's.
        habit: what the slow drifts of its analysers follow; the same in every recording of this plant.
    """

    raw_m3: float
    raw_low: float
    raw_high: float
    raw_inflow: float
    fill_m3: float
    fill_low: float
    fill_high: float
    fill_flow: float
    linger_s: int
    spare_m3: float
    spare_rest: float
    spare_full: float
    seep_h: float
    boost_above: float
    boost_below: float
    pressure: float
    pipe_loss: float
    sump_m3: float
    return_flow: float
    return_m3: float
    return_rest: float
    flush_minute: int
    flush_min: int
    top_up_minute: int
    consumers: tuple[Consumer, ...]
    sway: float
    noise: float
    habit: int


_DAYS = (  # set-points by hour of the day, in 0.01 m3/h: quiet nights, a peak in the morning and one in the evening
    (10, 9, 9, 10, 12, 15, 18, 26, 20, 15, 14, 15, 18, 15, 14, 15, 16, 20, 28, 50, 41, 20, 15, 12),
    (9, 9, 10, 9, 11, 12, 15, 22, 24, 14, 12, 12, 13, 12, 11, 12, 13, 18, 34, 44, 33, 18, 12, 10),
    (9, 10, 9, 9, 10, 13, 20, 28, 22, 13, 12, 13, 14, 12, 12, 13, 14, 18, 26, 50, 41, 18, 13, 11),
    (10, 9, 9, 10, 11, 13, 16, 26, 22, 14, 13, 13, 15, 13, 12, 13, 15, 18, 28, 49, 41, 19, 14, 10),
    (9, 9, 10, 9, 10, 13, 17, 27, 21, 13, 12, 14, 15, 13, 11, 12, 14, 18, 28, 51, 41, 18, 13, 10),
    (9, 9, 9, 10, 11, 12, 14, 22, 23, 13, 12, 12, 13, 12, 12, 12, 13, 16, 23, 36, 49, 20, 12, 10),
)
_REFERENCE = (  # volume, low, high, dead, capacity, gain, share
    (0.60, 40.0, 57.0, 0.70, 2.2, 2.8, 0.53),
    (0.62, 41.0, 58.0, 0.65, 1.9, 2.8, 0.512),
    (0.58, 40.0, 56.0, 0.75, 3.0, 2.8, 0.502),
    (0.66, 42.0, 58.0, 0.50, 2.2, 2.8, 0.512),
    (0.60, 39.0, 56.0, 0.90, 2.9, 2.8, 0.47),
    (0.64, 41.0, 57.0, 0.70, 2.4, 2.8, 0.512),
)


def reference() -> Network:
    """The network whose readings agree with the published table (`shared/catalogue/wadi.csv`)."""
    return Network(
        raw_m3=3.2,
        raw_low=44.5,
        raw_high=71.0,
        raw_inflow=1.97,
        fill_m3=2.5,
        fill_low=68.5,
        fill_high=81.0,
        fill_flow=2.27,
        linger_s=320,
        spare_m3=2.5,
        spare_rest=68.85,
        spare_full=70.2,
        seep_h=8.0,
        boost_above=0.72,
        boost_below=0.6,
        pressure=1.0,
        pipe_loss=4.4,
        sump_m3=3.0,
        return_flow=0.63,
        return_m3=2.5,
        return_rest=64.0,
        flush_minute=19 * 60 + 20,
        flush_min=50,
        top_up_minute=13 * 60,
        consumers=tuple(
            Consumer(*row[:6], tuple(point / 100 for point in day), row[6])
            for row, day in zip(_REFERENCE, _DAYS, strict=True)
        ),
        sway=0.0,
        noise=1.0,
        habit=7,
    )


def draw(rng: Generator) -> Network:
    """A new network: the reference with other sizes, set-points, capacities, habits and noise."""
    base = reference()
    size, demand = rng.uniform(0.8, 1.3), rng.uniform(0.85, 1.1)
    return replace(
        base,
        raw_m3=base.raw_m3 * size * rng.uniform(0.9, 1.1),
        raw_low=base.raw_low + rng.uniform(-6, 6),
        raw_high=base.raw_high + rng.uniform(-4, 6),
        raw_inflow=base.raw_inflow * rng.uniform(0.95, 1.2),
        fill_m3=base.fill_m3 * size * rng.uniform(0.9, 1.1),
        fill_low=base.fill_low + rng.uniform(-6, 3),
        fill_high=base.fill_high + rng.uniform(-3, 6),
        fill_flow=base.fill_flow * rng.uniform(0.95, 1.15),
        linger_s=int(rng.integers(180, 360)),
        boost_above=base.boost_above * demand,
        boost_below=base.boost_below * demand,
        pipe_loss=base.pipe_loss * rng.uniform(0.85, 1.15),
        return_flow=base.return_flow * demand,
        flush_minute=int(rng.integers(17 * 60, 20 * 60)),
        flush_min=int(rng.integers(25, 45)),
        top_up_minute=int(rng.integers(0, 1440)),
        consumers=tuple(_vary(consumer, demand, rng) for consumer in base.consumers),
        sway=rng.uniform(-0.4, 0.4),
        noise=rng.uniform(0.8, 1.3),
        habit=int(rng.integers(0, 2**31)),
    )


def _vary(consumer: Consumer, demand: float, rng: Generator) -> Consumer:
    shift = int(rng.integers(-1, 2))
    day = consumer.set_points[-shift:] + consumer.set_points[:-shift]
    return replace(
        consumer,
        volume_m3=consumer.volume_m3 * rng.uniform(0.8, 1.25),
        low=consumer.low + rng.uniform(-3, 3),
        high=consumer.high + rng.uniform(-3, 3),
        capacity=consumer.capacity * rng.uniform(0.9, 1.1),
        set_points=tuple(round(demand * point * rng.uniform(0.9, 1.1), 2) for point in day),
        share=consumer.share * rng.uniform(0.92, 1.06),
    )
