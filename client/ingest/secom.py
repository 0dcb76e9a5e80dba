"""`secom`: a semiconductor line, 590 readings a wafer lot, and whether the lot passed its final test.

Source: McCann and Johnston 2008, doi 10.24432/C54305 (UCI). Layout below PATH: `secom.data` (numbers between blanks,
`NaN` where missing) beside `secom_labels.data` (`-1 "19/07/2008 11:55:00"`, -1 pass, +1 fail), or one `uci-secom.csv`
(`Time,0,...,589,Pass/Fail`). One row is one lot; lots follow each other at irregular times (2008-07-19 to 2008-10-17),
so the period of an hour is nominal and windows count lots, not time.

Training data is what passed among the first half of the lots; what failed there is known as faults, which only a
detector that asks for them sees. The second half, passes and fails, is test data. One
plant, so a federation is made of it by time; about 700 lots to train on are enough for four plants at windows of 30
lots (`--sites 4`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.ingest.base import Figure, FoundFile, Recognition, register
from client.ingest.files import read_text, to_float32
from client.ingest.matrix import first_numbers, read_matrix
from client.ingest.peek import files_below, peek
from client.ingest.tables import flags, numbers, read_table
from shared.errors import DataNotFound, DataUnreadable, TooFewRows
from shared.schema import SensorSchema
from shared.series import BoolArray, Repair, SiteData

DIM, PERIOD_S = 590, 3_600
TAGS = tuple(f"x{at:03d}" for at in range(DIM))
LOTS, FAILS, MISSING_CELLS = 1_567, 104, 41_951
FAIL, PASS = 1, -1
DATA, LABELS, TABLE = "readings", "labels", "readings and labels in one table"
_LABEL = re.compile(r'(-?1)\s+"?(\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}:\d{2})"?')
_FIELDS = tuple(str(at) for at in range(DIM))


@dataclass(frozen=True)
class _Lots:
    """Readings (T, D), fails (T,) and seconds since 1970 (T,), one row a lot in the order of time."""

    values_TD: NDArray[np.float64]
    fails_T: BoolArray
    stamps_T: NDArray[np.int64]
    repairs: tuple[Repair, ...] = ()


class Secom:
    """The line."""

    name = "secom"
    natural_partition = "by-time"

    def recognise(self, path: Path) -> Recognition | None:
        """By 590 numbers a line, by lines such as `-1 "19/07/2008 11:55:00"`, or by the header; `Loader.recognise`."""
        found = _find(path)
        if not found:
            return None
        lost = () if TABLE in found else tuple(f"the {role}" for role in (DATA, LABELS) if role not in found)
        version = "Kaggle, one table" if TABLE in found else "UCI"
        return Recognition(self.name, version, tuple(FoundFile(file, role) for role, file in found.items()), lost)

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Lots, fails and missing cells of the whole file, before lots are left out; see `Loader.figures`."""
        lots = _read({file.role: file.path for file in found.files})
        return (
            Figure("lots", len(lots.values_TD), (LOTS,)),
            Figure("readings a lot", sites[0].schema.dim, (DIM,)),
            Figure("lots that failed", int(lots.fails_T.sum()), (FAILS,)),
            Figure("missing cells", int(np.isnan(lots.values_TD).sum()), (MISSING_CELLS,)),
        )

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read the one line; see `Loader.load`."""
        found = _find(path)
        if TABLE not in found and not {DATA, LABELS} <= set(found):
            raise DataNotFound(f"{path} holds {' and '.join(found) or 'nothing'} of SECOM; both files are needed.")
        lots = _read(found)
        half = len(lots.values_TD) // 2
        train_T = np.arange(len(lots.values_TD)) < half
        kept_T = train_T & ~lots.fails_T
        if not kept_T.any():
            raise TooFewRows(f"{path}: none of the first {half} lots passed, so there is nothing to train on.")
        values_TD = to_float32(lots.values_TD)
        site = SiteData(
            name="secom",
            schema=SensorSchema(tags=TAGS, period_s=PERIOD_S),
            train_TD=values_TD[kept_T],
            test_TD=values_TD[~train_T],
            labels_T=lots.fails_T[~train_T],
            faults_TD=values_TD[train_T & lots.fails_T],
            source=f"SECOM {path}",
            repairs=(*lots.repairs, *_notes(lots, half)),
        )
        return (site,)


def _find(path: Path) -> dict[str, Path]:
    """The first file of each role, by content."""
    found: dict[str, Path] = {}
    for file in files_below(path, depth=2):
        if role := _role(file):
            found.setdefault(role, file)
    return {TABLE: found[TABLE]} if TABLE in found and not {DATA, LABELS} <= set(found) else _pair(found)


def _pair(found: dict[str, Path]) -> dict[str, Path]:
    return {role: found[role] for role in (DATA, LABELS) if role in found}


def _role(file: Path) -> str | None:
    head = peek(file)
    if not head.lines:
        return None
    header = [name.strip().strip('"') for name in head.lines[0].split(",")]
    if header[-1:] == ["Pass/Fail"] and header[0] == "Time":
        return TABLE
    if any(_LABEL.fullmatch(line.strip()) for line in head.lines[:3]):
        return LABELS
    return DATA if any(len(first_numbers(head, line)) == DIM for line in range(3)) else None


def _read(found: dict[str, Path]) -> _Lots:
    return _read_table(found[TABLE]) if TABLE in found else _read_pair(found[DATA], found[LABELS])


def _read_pair(data: Path, labels: Path) -> _Lots:
    values_TD = read_matrix(data)
    if values_TD.shape[1] != DIM:
        raise DataUnreadable(f"{data} has {values_TD.shape[1]} fields a line, SECOM has {DIM}.")
    lines = read_text(labels).rstrip().split("\n")
    if len(lines) != len(values_TD):
        cause = f"{labels} has {len(lines)} lines, but {data.name} has {len(values_TD)}."
        raise DataUnreadable(cause, "Copy both again from one source: labels of another length would be shifted.")
    pairs = [_label(f"{labels}, line {at}", line) for at, line in enumerate(lines, start=1)]
    for at, ((_, before), (_, after)) in enumerate(pairwise(pairs), start=2):
        if after < before:
            cause = f"{labels}, line {at}: this lot is older than the one before it, so lots and labels may not match."
            raise DataUnreadable(cause, "Copy both files again from one source.")
    return _Lots(values_TD, np.array([flag == FAIL for flag, _ in pairs]), np.array([stamp for _, stamp in pairs]))


def _label(where: str, line: str) -> tuple[int, int]:
    parts = _LABEL.fullmatch(line.strip())
    if not parts:
        raise DataUnreadable(f"{where}: {line[:40]!r} is not like '-1 \"19/07/2008 11:55:00\"'.")
    try:
        stamp = datetime.strptime(parts[2], "%d/%m/%Y %H:%M:%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise DataUnreadable(f"{where}: {parts[2]!r} is no time like %d/%m/%Y %H:%M:%S.") from error
    return int(parts[1]), int(stamp.timestamp())


def _read_table(path: Path) -> _Lots:
    table = read_table(path, ("Time", *_FIELDS, "Pass/Fail"))
    text = table["Time"]
    stamps = text.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    if (empty := stamps.is_null()).any():
        row = int(empty.to_numpy().argmax())
        raise DataUnreadable(f"{path}, line {row + 2}, column Time: {text[row]!r} is no time like %Y-%m-%d %H:%M:%S.")
    swapped = text.str.to_datetime("%Y-%d-%m %H:%M:%S", strict=False, time_unit="us").fill_null(stamps)
    fails_T = flags(path, table, "Pass/Fail", (PASS, FAIL)) == FAIL
    values_TD = numbers(path, table, _FIELDS)
    raw_T, other_T = stamps.dt.epoch("s").to_numpy(), swapped.dt.epoch("s").to_numpy()
    if (np.diff(raw_T) < 0).any() and (np.diff(other_T) >= 0).all():
        note = Repair(
            path.name, "days up to 12 stand where months belong: day and month swapped", int((raw_T != other_T).sum())
        )
        return _Lots(values_TD, fails_T, other_T, (note,))
    return _in_order(path, _Lots(values_TD, fails_T, raw_T))


def _in_order(path: Path, lots: _Lots) -> _Lots:
    backwards = int((np.diff(lots.stamps_T) < 0).sum())
    if not backwards:
        return lots
    order_T = np.argsort(lots.stamps_T, kind="stable")
    note = Repair(path.name, "times go back: lots were put in order of time", backwards)
    return _Lots(lots.values_TD[order_T], lots.fails_T[order_T], lots.stamps_T[order_T], (*lots.repairs, note))


def _notes(lots: _Lots, half: int) -> tuple[Repair, ...]:
    whole, failed = len(lots.values_TD), int(lots.fails_T[:half].sum())
    empty = int(np.isnan(lots.values_TD).all(axis=0).sum())
    notes = (
        Repair("secom", f"a part: {whole} of the {LOTS} published lots", whole if whole < LOTS else 0),
        Repair("secom", "lots of the first half that failed: left out of the training data", failed),
        Repair("secom", "readings that no lot has: kept as empty columns", empty),
    )
    return tuple(note for note in notes if note.count)


register(Secom())
