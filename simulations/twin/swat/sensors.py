"""From what happened in the plant to what its historian keeps: the 51 columns."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from shared.series import FloatArray
from simulations.twin.script import Event
from simulations.twin.swat import chemistry
from simulations.twin.swat.attacks import HIDDEN, LEVELS, Values
from simulations.twin.swat.bench import COLUMN, TAGS, Bench
from simulations.twin.swat.control import ACTUATORS, OFF, ON
from simulations.twin.swat.plant import Plant
from simulations.twin.swat.process import FLOWS, Trace
from simulations.twin.wander import lag

METER_S, PRESSURE_S, BACKWASH_S = 4.0, 7.0, 4.2  # time constants of flow meters, pressures, FIT601
IDLE_KPA, FLUSH = 2.3, 0.45  # DPIT301 at rest, and its share of the running value while the membrane is flushed
FOULING = 0.012  # by which DPIT301 grows in an hour since the last back-wash
LEVEL_DECIMALS = 2
REST_KPA = 9.0  # RO pressures while the high-pressure pump rests
RECOVERY = 0.9  # power of the flow by which the permeate's meter shows more than the balance: it reads high flows high
TINY = 6.41e-05  # what FIT601 shows at rest, as measured


def readings(plant: Plant, trace: Trace, events: tuple[Event, ...], rng: Generator) -> FloatArray:
    """All 51 columns in the official order, float32 (T, 51)."""
    seconds = len(trace.seen_T3)
    out_TD = np.ones((seconds, len(TAGS)), dtype=np.float32)
    rngs = dict(zip(TAGS, rng.spawn(len(TAGS)), strict=True))
    bench = Bench(out_TD, events, plant.meters, rngs)
    for at, tag in enumerate(LEVELS):
        out_TD[:, COLUMN[tag]] = np.round(trace.seen_T3[:, at].astype(np.float64), LEVEL_DECIMALS)
    for at, tag in enumerate(ACTUATORS):
        out_TD[:, COLUMN[tag]] = trace.codes_TA[:, at]
    _flows(bench, trace)
    _ultrafilter(bench, trace)
    _reverse_osmosis(bench, trace, plant)
    transfer_T = _on(trace, "P101") | _on(trace, "P102")
    chemistry.fill(bench, transfer_T, _on(trace, "UV401"), _on(trace, "P402"))
    for event, behind in trace.replays:
        columns = [COLUMN[tag] for tag in HIDDEN[event.target]]
        out_TD[event.first_s : event.end_s, columns] = out_TD[event.first_s - behind : event.end_s - behind, columns]
    return out_TD


def _on(trace: Trace, tag: str) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = trace.codes_TA[:, ACTUATORS.index(tag)] == ON
    return out


def _share(trace: Trace, flow: str) -> Values:
    return trace.open_T5[:, FLOWS.index(flow)].astype(np.float64)


def _flows(bench: Bench, trace: Trace) -> None:
    for tag, flow, full in (("FIT101", "raw", 0), ("FIT201", "feed", 1), ("FIT301", "uf", 2), ("FIT401", "ro", 3)):
        bench.flow(tag, lag(_share(trace, flow) * trace.full_T4[full], METER_S))


def _ultrafilter(bench: Bench, trace: Trace) -> None:
    """DPIT301 and FIT601: pressure over the membrane, and permeate pressed backwards through it."""
    product_T, through_T = _share(trace, "product"), _share(trace, "uf")
    clean_T = trace.codes_TA[:, ACTUATORS.index("MV301")] != OFF
    since_T = _since(clean_T) / 3600
    running = bench.meters["DPIT301"].median
    target_T = running * product_T * (1 + FOULING * (np.minimum(since_T, 3) - 0.5))
    target_T = np.where(product_T > 0, target_T, np.where(through_T > 0, FLUSH * running, IDLE_KPA))
    bench.put("DPIT301", np.maximum(_with_noise(bench, "DPIT301", lag(np.where(clean_T, 0, target_T), PRESSURE_S)), 0))
    meter = bench.meters["FIT601"]
    backwards_T = lag(meter.median * (clean_T & _on(trace, "P602")), BACKWASH_S)
    noise_T = np.where(backwards_T > 0.1, bench.noise("FIT601"), 0)
    shown_T = np.round(bench.tampered("FIT601", np.where(backwards_T > 0.02, backwards_T, 0), noise_T), meter.decimals)
    faint_T = (shown_T == 0) & (bench.rngs["FIT601"].random(bench.seconds, dtype=np.float32) < 0.6)
    bench.out_TD[:, COLUMN["FIT601"]] = np.where(faint_T, TINY, np.maximum(shown_T, 0))


def _with_noise(bench: Bench, tag: str, true_T: Values) -> Values:
    return bench.tampered(tag, true_T, bench.noise(tag))


def _since(event_T: NDArray[np.bool_]) -> Values:
    """Seconds since it last was true, or since the beginning; float64 (T,)."""
    at_T = np.arange(len(event_T))
    return (at_T - np.maximum.accumulate(np.where(event_T, at_T, 0))).astype(np.float64)


def _reverse_osmosis(bench: Bench, trace: Trace, plant: Plant) -> None:
    """Feed and recirculation go in, permeate and reject come out; pressures follow the flow."""
    meters = bench.meters
    lost_T = np.zeros(bench.seconds)
    for event in bench.events:
        if event.kind == "leak" and event.target == "FIT401":
            lost_T[event.first_s : event.end_s] += event.size
    share_T = np.maximum(_share(trace, "ro") * trace.full_T4[3] - lost_T, 0) / plant.ro.rate
    flow_T = np.maximum(lag(share_T, METER_S), 0)
    membrane_T = bench.drift("P501")
    feed_T = meters["FIT501"].median * flow_T
    again_T = meters["FIT504"].median * flow_T**0.75
    reject_T = meters["FIT503"].median * flow_T**0.75 * (1 - 0.002 * membrane_T)
    balance = sum(sign * meters[tag].median for tag, sign in (("FIT501", 1), ("FIT504", 1), ("FIT503", -1)))
    permeate_T = (feed_T + again_T - reject_T) * (meters["FIT502"].median / balance) * flow_T**RECOVERY
    for tag, true_T in (("FIT501", feed_T), ("FIT502", permeate_T), ("FIT503", reject_T), ("FIT504", again_T)):
        bench.flow(tag, true_T)
    slow_T = lag(flow_T, PRESSURE_S)
    head_T = slow_T**1.4 * (1 + 0.006 * membrane_T)
    for tag in ("PIT501", "PIT503"):
        bench.meter(tag, REST_KPA + (meters[tag].median - REST_KPA) * head_T)
    bench.meter("PIT502", bench.steady("PIT502", bench.drift("PIT502")) * slow_T)
