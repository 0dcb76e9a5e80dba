"""`batadal`: the C-Town water distribution network, one plant, hourly, 43 tags.

Source: Taormina et al. 2018, doi 10.1061/(ASCE)WR.1943-5452.0000969, http://www.batadal.net. Three files are issued:
`BATADAL_dataset03.csv`, a normal year from January 2014, is the training data; `BATADAL_dataset04.csv`, from July
2016, has ATT_FLAG 1 for known attacks and -999 for rows that nobody labelled; `BATADAL_test_dataset.csv`, from January
2017, has no ATT_FLAG. They are told apart by content (the header, the year of the first row, the first flags), so
other names such as `training_dataset_1.csv` work. Test data is, of what is there, the first of: dataset04 with every
row labelled, the test data set where somebody added its labels, the official dataset04 without usable labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.ingest.base import Figure, FoundFile, Recognition, register
from client.ingest.files import to_float32
from client.ingest.peek import files_below, peek
from client.ingest.tables import flags, numbers, read_table, seconds
from shared.errors import DataError, DataNotFound, DataUnreadable
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData

TIME, FLAG, UNLABELLED = "DATETIME", "ATT_FLAG", -999
PERIOD_S = 3600
JUNCTIONS = ("J280", "J269", "J300", "J256", "J289", "J415", "J302", "J306", "J307", "J317", "J14", "J422")
TAGS = (
    *(f"L_T{tank}" for tank in range(1, 8)),
    *(f"{kind}_PU{pump}" for pump in range(1, 12) for kind in "FS"),
    *("F_V2", "S_V2"),
    *(f"P_{junction}" for junction in JUNCTIONS),
)
TRAIN, FULL, OFFICIAL = "normal year (dataset03)", "dataset04, every row labelled", "dataset04, known attacks only"
TEST_LABELLED, TEST = "test data set with labels added", "test data set without labels (not used)"
TEST_ROLES = (FULL, TEST_LABELLED, OFFICIAL)
ROWS = {TRAIN: 8_761, FULL: 4_177, OFFICIAL: 4_177, TEST_LABELLED: 2_089, TEST: 2_089}
KNOWN_ATTACK_ROWS, ATTACK_ROWS = 219, 492
"""Of dataset04: 219 rows are flagged as issued, 492 are attacks in truth."""

_STAMP = re.compile(r"\s*\d\d/\d\d/(\d\d) \d\d\b")
_NAMES = {"14": ("03", "dataset_1"), "16": ("04", "dataset_2"), "17": ("test",)}
_NAMED = re.compile(r"(BATADAL|dataset).*\.csv", re.IGNORECASE)
_ENOUGH_TAGS = 40


class _Table(NamedTuple):
    values_TD: FloatArray
    flags_T: NDArray[np.int64]


class Batadal:
    """C-Town."""

    name = "batadal"
    natural_partition = "by-time"

    def recognise(self, path: Path) -> Recognition | None:
        """By the header's tags; the parts by year and flags; see `Loader.recognise`."""
        found = _find(path)
        if not found:
            return None
        roles = {file.role for file in found}
        lost = [TRAIN] * (TRAIN not in roles) + ["dataset04"] * (not roles & {FULL, OFFICIAL})
        lost += [TEST] * (not roles & {TEST, TEST_LABELLED})
        return Recognition(self.name, "BATADAL 2016-2017", found, tuple(lost))

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Rows and flagged rows of each file; see `Loader.figures`."""
        return tuple(figure for file in found.files if file.role in ROWS for figure in _figures(file))

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read the one plant; see `Loader.load`."""
        found = _find(path)
        train = next((file.path for file in found if file.role == TRAIN), None)
        tests = [file for role in TEST_ROLES for file in found if file.role == role]
        if train is None or not tests:
            raise _lacking(path, TRAIN if train is None else "dataset04", found)
        train_TD, train_flags_T = _read(train)
        if train_flags_T.any():
            line = int(np.flatnonzero(train_flags_T)[0]) + 2
            raise DataUnreadable(f"{train}, line {line}: ATT_FLAG is {train_flags_T[line - 2]} in the normal year.")
        site, test = _site(train, train_TD, tests)
        used = (train, test)
        notes = [Repair(file.path.name, f"{file.role}: left out", 1) for file in found if file.path not in used]
        return (replace(site, repairs=(*site.repairs, *notes)),)


def _site(train: Path, train_TD: FloatArray, tests: Sequence[FoundFile]) -> tuple[SiteData, Path]:
    """The plant with the first test file whose labels can be used, or else with the first."""
    made = []
    for test in tests:
        table = _read(test.path)
        labels_T, repairs = _labels(test.path.name, table.flags_T)
        source = f"BATADAL {train} and {test.path}"
        schema = SensorSchema(tags=TAGS, period_s=PERIOD_S)
        site = SiteData("c-town", schema, train_TD, table.values_TD, labels_T, source=source, repairs=repairs)
        made.append((site, test.path))
        if labels_T is not None:
            return made[-1]
    return made[0]


def _lacking(path: Path, what: str, found: Sequence[FoundFile]) -> DataError:
    known = {file.path for file in found}
    for file in files_below(path, depth=2):
        if file not in known and _NAMED.search(file.name):
            return DataUnreadable(
                f"{file} is named like a BATADAL file, but its first line is not a header of C-Town's tags."
            )
    there = ", ".join(f"{file.path.name} ({file.role})" for file in found) or "no file with C-Town's tags"
    return DataNotFound(f"{path} holds no {what}, but {there}.")


def _find(path: Path) -> tuple[FoundFile, ...]:
    files = [FoundFile(file, role) for file in files_below(path, depth=2) if (role := _role(file))]
    order = (TRAIN, *TEST_ROLES, TEST)
    return tuple(sorted(files, key=lambda file: (order.index(file.role), len(file.path.name), file.path.name)))


def _role(file: Path) -> str | None:
    """What a file is, by its first lines; its name decides only where the first time does not."""
    lines = peek(file).lines
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    if len(set(TAGS) & set(header)) < _ENOUGH_TAGS:
        return None
    stamp = _STAMP.match(lines[1]) if len(lines) > 1 else None
    year = stamp[1] if stamp and stamp[1] in _NAMES else _year_by_name(file.name)
    if year == "17":
        return TEST_LABELLED if FLAG in header else TEST
    unlabelled = any(line.rpartition(",")[2].strip().startswith(str(UNLABELLED)) for line in lines[1:])
    return TRAIN if year == "14" else OFFICIAL if unlabelled else FULL


def _year_by_name(name: str) -> str:
    return next((year for year, marks in _NAMES.items() if any(mark in name for mark in marks)), "16")


def _figures(file: FoundFile) -> tuple[Figure, ...]:
    """Rows, and flagged rows of dataset04; no rows of a damaged file that is not needed."""
    try:
        table = read_table(file.path, (TIME, *TAGS, *((FLAG,) if file.role != TEST else ())))
        flags_T = flags(file.path, table, FLAG, (0, 1, UNLABELLED)) if file.role in (FULL, OFFICIAL) else None
    except DataUnreadable:
        return (Figure(f"rows of the {file.role}", 0, (ROWS[file.role],)),)
    rows = Figure(f"rows of the {file.role}", len(table), (ROWS[file.role],))
    if flags_T is None:
        return (rows,)
    published = (ATTACK_ROWS,) if file.role == FULL else (KNOWN_ATTACK_ROWS,)
    return rows, Figure(f"rows flagged as attacks in {file.path.name}", int((flags_T == 1).sum()), published)


def _read(path: Path) -> _Table:
    table = read_table(path, (TIME, *TAGS, FLAG))
    _check_hourly(path, table)
    return _Table(to_float32(numbers(path, table, TAGS)), flags(path, table, FLAG, (0, 1, UNLABELLED)))


def _check_hourly(path: Path, table: pl.DataFrame) -> None:
    steps = np.diff(seconds(path, table, TIME, "%d/%m/%y %H"))
    if (wrong := np.flatnonzero(steps != PERIOD_S)).size:
        row = int(wrong[0]) + 1
        hours = f"{steps[row - 1] / PERIOD_S:g} hours after the line before it"
        cause = f"{path}, line {row + 2}: {table[TIME][row]!r} comes {hours}."
        raise DataUnreadable(cause, "The rows must be hourly without gaps: copy the file again from its source.")


def _labels(name: str, flags_T: NDArray[np.int64]) -> tuple[BoolArray | None, tuple[Repair, ...]]:
    unknown = int((flags_T == UNLABELLED).sum())
    if unknown:
        what = "ATT_FLAG -999, attack or not is unknown: no labels are used; dataset04_fully_labelled.csv has them"
        return None, (Repair(name, what, unknown),)
    if len(flags_T) == ROWS[OFFICIAL] and flags_T.sum() == KNOWN_ATTACK_ROWS:
        what = "only the known attacks are flagged and the unlabelled rows say 0: no labels are used"
        return None, (Repair(name, what, ROWS[OFFICIAL] - KNOWN_ATTACK_ROWS),)
    return flags_T == 1, ()


register(Batadal())
