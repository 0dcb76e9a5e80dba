"""Water quality: analysers that drift over days, dosing pumps that follow them, and what wrong dosing does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from simulations.twin.swat.attacks import Values
from simulations.twin.swat.bench import Bench
from simulations.twin.wander import DAY_S, lag

Bools = NDArray[np.bool_]
_S = TypeVar("_S", np.bool_, np.float64)

START_S = 8  # dosing follows the transfer pump by so much
MIXING_S = 600.0  # time constant with which wrong dosing shows
CHLORINE_MARK = 1.98  # deviations of AIT203's drift above which no more chlorine is dosed
RINSE_S, RAMP_S = 1300, 60  # AIT401 rinses itself once a day and shows 0 meanwhile
# how far, as a share of its median, an analyser moves while a pump does other than it should for long
SALT, ACID, CHLORINE, SULPHITE, LAMP = 0.12, 0.12, 0.5, 0.2, 0.25


@dataclass(frozen=True)
class Dosing:
    """What the dosing pumps do beyond what they should: -1 .. 1, mixed in; float64 (T,) each."""

    salt_T: Values
    acid_T: Values
    chlorine_T: Values
    sulphite_T: Values
    lamp_T: Values


def fill(bench: Bench, transfer_T: Bools, lamp_T: Bools, lamp_due_T: Bools) -> None:
    """Fill the columns of P201, P203, P205, P403 and of AIT201 ... AIT504.

    Args:
        bench: where to.
        transfer_T: bool (T,), water goes to the UF feed tank.
        lamp_T, lamp_due_T: bool (T,), the UV lamp is on, and should be.
    """
    z = {tag: bench.drift(tag) for tag in ("AIT201", "AIT202", "AIT203", "AIT402", "AIT502", "AIT503")}
    base = {tag: bench.steady(tag, z[tag]) for tag in ("AIT201", "AIT202", "AIT203", "AIT402")}
    dosing = _dose(bench, base, _later(transfer_T, START_S), _wrong(lamp_T, lamp_due_T))
    gain = {tag: bench.meters[tag].median for tag in bench.meters}
    bench.meter("AIT201", base["AIT201"] + SALT * gain["AIT201"] * dosing.salt_T)
    bench.meter("AIT202", base["AIT202"] - ACID * gain["AIT202"] * dosing.acid_T)
    bench.meter("AIT203", base["AIT203"] + CHLORINE * gain["AIT203"] * dosing.chlorine_T)
    reduced_T = LAMP * dosing.lamp_T - SULPHITE * dosing.sulphite_T
    bench.meter("AIT402", base["AIT402"] - SULPHITE * gain["AIT402"] * dosing.sulphite_T)
    z502_T = 0.9 * _later(z["AIT402"], 300) + 0.1 * z["AIT502"]
    bench.meter("AIT502", bench.steady("AIT502", z502_T) + gain["AIT502"] * reduced_T)
    z503_T = 0.85 * _later(z["AIT201"], 900) + 0.15 * z["AIT503"]
    bench.meter("AIT503", bench.steady("AIT503", z503_T) + SALT * gain["AIT503"] * _later(dosing.salt_T, 900))
    for tag in ("AIT501", "AIT504"):
        bench.meter(tag, bench.steady(tag, bench.drift(tag)))
    _hardness(bench)


def _dose(bench: Bench, base: dict[str, Values], due_T: Bools, lamp_T: Values) -> Dosing:
    """Run the pumps by what their analysers show; compare with what they would do had nobody touched anything."""
    marks = {tag: _mark(bench, tag) for tag in base}
    wrong = {}
    for pump, tag in (("P201", "AIT201"), ("P203", "AIT202"), ("P205", "AIT203"), ("P403", "AIT402")):
        should_T = due_T & _calls(pump, base[tag], marks[tag])
        ordered_T = should_T
        if bench.under_attack(tag):
            ordered_T = due_T & _calls(pump, bench.tampered(tag, base[tag]), marks[tag])
        wrong[pump] = _wrong(bench.switch(pump, ordered_T), should_T)
    return Dosing(wrong["P201"], wrong["P203"], wrong["P205"], wrong["P403"], -lamp_T)


def _calls(pump: str, shown_T: Values, mark: float) -> Bools:
    """Salt is dosed below its mark, acid above, chlorine below, sulphite above."""
    return shown_T < mark if pump in ("P201", "P205") else shown_T > mark


def _mark(bench: Bench, tag: str) -> float:
    """Where each pump switches: chlorine at a level that drift reaches now and then, the others beyond any drift."""
    meter = bench.meters[tag]
    if tag == "AIT203":
        return float(bench.steady(tag, np.full(1, CHLORINE_MARK))[0])
    return meter.median * {"AIT201": 0.9416, "AIT202": 0.94, "AIT402": 1.45}[tag]


def _wrong(is_T: Bools, should_T: Bools) -> Values:
    """1 where it runs and should not, -1 where it should and does not, through the mixing of the water."""
    apart_T = is_T.astype(np.float64) - should_T
    return lag(apart_T, MIXING_S) if apart_T.any() else apart_T


def _later(series_T: NDArray[_S], seconds: int) -> NDArray[_S]:
    """The series so many seconds later; its first value stands before."""
    shifted = np.empty_like(series_T)
    shifted[:seconds] = series_T[0]
    shifted[seconds:] = series_T[: max(len(series_T) - seconds, 0)]
    return shifted


def _hardness(bench: Bench) -> None:
    """AIT401 hardly moves, but for a rinse a day; there is no hardness below 0."""
    meter = bench.meters["AIT401"]
    start = int(bench.rngs["AIT401"].integers(DAY_S))
    since_T = (np.arange(bench.seconds) - start) % DAY_S
    up_T = np.clip((since_T - RINSE_S) / RAMP_S, 0, 1)
    down_T = np.clip(1 - since_T / RAMP_S, 0, 1)
    shown_T = bench.tampered("AIT401", meter.median * np.maximum(up_T, down_T), bench.noise("AIT401"))
    bench.put("AIT401", np.maximum(shown_T, 0))
