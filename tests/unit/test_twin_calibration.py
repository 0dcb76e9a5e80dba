"""The reference plant against the figures measured on SWaT's normal run. `pytest -s` prints the table."""

import csv
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray

from simulations.twin.recording import Recording
from simulations.twin.swat import TWIN
from simulations.twin.swat.bench import COLUMN
from simulations.twin.swat.plant import REFERENCE

DAYS = 6
TOLERANCE = 0.10
RARE = 0.01  # a share of time so small is compared as it is: 0.4 % against 0.45 %
SPREAD = 0.15  # of the standard deviation from one second to the next: told as one figure, asked for less sharply
SELDOM = 0.002  # share of time below which a state has no typical length

Column = NDArray[np.float64]


class Line(NamedTuple):
    tag: str
    what: str
    measured: float
    twin: float
    off: float  # as a share of what is allowed

    def __str__(self) -> str:
        verdict = "ok" if self.off <= 1 else "OFF"
        return (
            f"{self.tag:8} {self.what:16} {self.measured:11.5g} {self.twin:11.5g}   {100 * self.off:5.0f} %  {verdict}"
        )


def measured() -> list[dict[str, str]]:
    with (files("shared.catalogue") / "swat.csv").open(encoding="utf-8") as table:
        return list(csv.DictReader(table))


@pytest.fixture(scope="module")
def reference() -> Recording:
    return TWIN.run(REFERENCE, TWIN.attack_begins, DAYS * 86_400, (), default_rng(1))


@pytest.fixture(scope="module")
def table(reference: Recording) -> list[Line]:
    lines = []
    for row in measured():
        column = reference.values_TD[:, COLUMN[row["tag"]]].astype(np.float64)
        lines += sensor(row, column) if row["kind"] == "sensor" else actuator(row, column)
    head = f"{'tag':8} {'what':16} {'measured':>11} {'twin':>11}   of the tolerance"
    print(f"\n{DAYS} days of the reference plant\n{head}", *lines, sep="\n")
    return lines


def sensor(row: dict[str, str], column: Column) -> list[Line]:
    """Percentiles within 10 %: of the value, or of the tag's range where the value is less than a fifth of it."""
    span = float(row["max"]) - float(row["min"])
    lines = []
    for name, share in (("p1", 1), ("median", 50), ("p99", 99)):
        real, twin = float(row[name]), float(np.percentile(column, share))
        allowed = TOLERANCE * (abs(real) if abs(real) > 0.2 * span else span)
        lines.append(Line(row["tag"], name, real, twin, abs(twin - real) / allowed))
    real, twin = float(row["n_on_or_sd_diff"]), float(np.diff(column).std())
    lines.append(Line(row["tag"], "sd of 1-s diff", real, twin, abs(twin - real) / (SPREAD * real)))
    return lines


def actuator(row: dict[str, str], column: Column) -> list[Line]:
    """Shares of time of each code, median seconds on and off, and their sum: the cycle."""
    lines = []
    for part in row["duty"].split(";"):
        code, share = part.split(":")
        twin, real = float((column == float(code)).mean()), float(share)
        allowed = max(TOLERANCE * real, 0.1 * RARE)
        lines.append(Line(row["tag"], f"share of {code}", real, twin, abs(twin - real) / allowed))
    if min(np.mean(column == 2), np.mean(column != 2)) > SELDOM:
        on, off = stretches(column == 2)
        real_on, real_off = float(row["median_on_s"]), float(row["median_off_s"])
        figures = (("on, s", real_on, on), ("off, s", real_off, off), ("cycle, s", real_on + real_off, on + off))
        lines += [Line(row["tag"], what, real, twin, abs(twin / real - 1) / TOLERANCE) for what, real, twin in figures]
    return lines


def stretches(on: NDArray[np.bool_]) -> tuple[float, float]:
    """Median lengths of the whole stretches on and off."""
    edges = np.flatnonzero(np.diff(on)) + 1
    lengths, states = np.diff(edges), on[edges[:-1]]
    return float(np.median(lengths[states])), float(np.median(lengths[~states]))


def test_the_table_is_reproduced(table: list[Line]) -> None:
    off = [str(line) for line in table if line.off > 1]
    assert not off, "\n" + "\n".join(off)
    assert len(table) > 170


LEVELS_AND_FLOWS = (
    *("LIT101", "LIT301", "LIT401", "FIT101", "FIT201", "FIT301", "FIT401", "FIT501", "FIT502", "FIT503", "FIT504"),
    *("DPIT301",),
)


@pytest.mark.parametrize("tag", LEVELS_AND_FLOWS)
def test_levels_and_flows_lie_within_a_tenth_of_their_range(reference: Recording, tag: str) -> None:
    """The sharper reading of 10 %: LIT101 to 33 mm, FIT401 to 0.0075 m3/h."""
    row = next(row for row in measured() if row["tag"] == tag)
    column = reference.values_TD[:, COLUMN[tag]].astype(np.float64)
    allowed = TOLERANCE * (float(row["max"]) - float(row["min"]))
    for name, share in (("p1", 1), ("median", 50), ("p99", 99)):
        assert np.percentile(column, share) == pytest.approx(float(row[name]), abs=allowed), name


SLOPES = (
    ("LIT101", {"MV101": 2, "P101": 1}, 0.49),
    ("LIT101", {"MV101": 1, "P101": 2}, -0.48),
    ("LIT301", {"P101": 2, "P302": 1}, 0.455),
    ("LIT301", {"P101": 1, "P302": 2}, -0.437),
    ("LIT401", {"MV302": 2}, 0.081),
    ("LIT401", {"MV302": 1}, -0.334),
)


@pytest.mark.parametrize(("level", "codes", "slope"), SLOPES)
def test_levels_rise_and_fall_as_fast(reference: Recording, level: str, codes: dict[str, int], slope: float) -> None:
    values_TD = reference.values_TD
    steady = np.logical_and.reduce([values_TD[:, COLUMN[tag]] == code for tag, code in codes.items()])
    rise = np.diff(values_TD[:, COLUMN[level]].astype(np.float64))[steady[1:] & steady[:-1]]
    assert rise.mean() == pytest.approx(slope, rel=TOLERANCE)


@pytest.mark.parametrize(("valve", "low", "high"), [("MV101", 7, 9), ("MV201", 7, 9), ("MV302", 7, 9)])
def test_valves_pass_through_code_0_for_7_to_9_s(reference: Recording, valve: str, low: int, high: int) -> None:
    moving = np.concatenate([[False], reference.values_TD[:, COLUMN[valve]] == 0, [False]])
    edges = np.flatnonzero(np.diff(moving))
    travel = edges[1::2] - edges[::2]
    assert low <= travel[1:-1].min()
    assert travel.max() <= high


def test_a_backwash_comes_every_4200_s(reference: Recording) -> None:
    starts = np.flatnonzero(np.diff(reference.values_TD[:, COLUMN["P602"]]) == 1)
    assert np.median(np.diff(starts)) == pytest.approx(4200, rel=0.05)
