"""What is published of a plant: its tags (name, stage, kind, unit, measured range) and the attacks on it, as CSV.

The tables hold statistics measured on the normal runs of SWaT (Goh et al. 2016, doi 10.1007/978-3-319-71368-7_8) and
WADI (Ahmed et al. 2017, doi 10.1145/3055366.3055375), never their data.
"""

from __future__ import annotations

import csv
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
