"""What is published of a plant: its tags (name, stage, kind, unit, measured range) and the attacks on it, as CSV.

The tables hold statistics measured on the normal runs of SWaT (Goh et al. 2016, doi 10.1007/978-3-319-71368-7_8) and
WADI (Ahmed et al. 2017, doi 10.1145/3055366.3055375), never their data.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Literal

Plant = Literal["swat", "wadi"]

ATTACK_BEGINS = {"swat": datetime(2015, 12, 28, 10), "wadi": datetime(2017, 10, 9, 18)}
"""Local time at which the normal run ends and the run with attacks begins."""


@dataclass(frozen=True)
class Tag:
    """One column of a plant's official files.

    Attributes:
        name: as in the official header, without stray blanks.
        stage: process stage, such as `P1`.
        kind: as the table says it: sensor, actuator, ...
        description: what it measures or moves.
        unit: unit, or the meaning of its codes.
        median, low, high: measured in normal operation, NaN where never recorded (an empty column).
    """

    name: str
    stage: str
    kind: str
    description: str
    unit: str
    median: float
    low: float
    high: float


@cache
def tags(plant: Plant) -> tuple[Tag, ...]:
    """A plant's tags in the official column order.

    Example:
        >>> [tag.name for tag in tags("swat")[:3]], len(tags("swat")), len(tags("wadi"))
        (['FIT101', 'LIT101', 'MV101'], 51, 127)
    """
    return tuple(
        Tag(
            name=row["tag"],
            stage=row["stage"],
            kind=row["kind"],
            description=row["description"],
            unit=row["unit_or_codes"],
            median=_number(row["median"]),
            low=_number(row["min"]),
            high=_number(row["max"]),
        )
        for row in _rows(f"{plant}.csv")
    )


def operating_ranges(names: Sequence[str]) -> tuple[tuple[float, float] | None, ...] | None:
    """Published operating ranges of tags by their names: where 98 % of a plant's normal readings lay.

    For what never moved, as far around it as a state has steps, or 5 %; None for a tag that the plant does not have,
    and nothing at all where less than half of the tags are of one plant.

    Example:
        >>> operating_ranges(("FIT101", "P102", "LIT101"))
        ((0.0, 2.669), (0.0, 2.0), (492.9, 814.3))
        >>> operating_ranges(("FIT101", "pressure", "flow")) is None
        True
    """
    tables: tuple[dict[str, tuple[float, float]], ...] = (_ranges("swat"), _ranges("wadi"))
    table = max(tables, key=lambda known: len(known.keys() & set(names)))
    if 2 * len(table.keys() & set(names)) < len(names):
        return None
    return tuple(table.get(name) for name in names)


@cache
def _ranges(plant: Plant) -> dict[str, tuple[float, float]]:
    return {row["tag"]: _range(row) for row in _rows(f"{plant}.csv")}


def _range(row: dict[str, str]) -> tuple[float, float]:
    for low, high in (("p1", "p99"), ("min", "max")):
        if _number(row[low]) < _number(row[high]):
            return _number(row[low]), _number(row[high])
    still = _number(row["median"] or "0")
    around = max(1.0, 0.05 * abs(still))
    return still - around, still + around


@dataclass(frozen=True)
class Attack:
    """One published attack.

    Attributes:
        name: its number as published; two numbers where no pause lies between them.
        begin, end: local time, [begin, end).
        points: what was attacked, as published; empty where it is not known.
    """

    name: str
    begin: datetime
    end: datetime
    points: tuple[str, ...]


@cache
def attacks(plant: Plant) -> tuple[Attack, ...]:
    """The published attacks: 36 on SWaT in December 2015, 15 in 14 ranges on WADI in October 2017.

    SWaT's list is that of SARAD; WADI's ranges, in seconds from the beginning of the attack run, are those of
    https://github.com/pwwl/ics-anomaly-attribution and belong to the release of 2017.

    Example:
        >>> attacks("swat")[0].begin, len(attacks("swat")), len(attacks("wadi"))
        (datetime.datetime(2015, 12, 28, 10, 29, 14), 36, 14)
    """
    moment = _clock_time if plant == "swat" else _after_begin
    return tuple(
        Attack(row["id"], moment(row["start"]), moment(row["end"]), tuple(row["points"].split()))
        for row in _rows(f"{plant}_attacks.csv")
    )


def _clock_time(text: str) -> datetime:
    return datetime.strptime(text, "%d/%m/%Y %H:%M:%S")


def _after_begin(text: str) -> datetime:
    return ATTACK_BEGINS["wadi"] + timedelta(seconds=int(text))


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((files(__name__) / name).read_text(encoding="utf-8").splitlines()))


def _number(text: str) -> float:
    return float(text or "nan")
