"""The label file of MSL and SMAP: which test rows of which channel are anomalous."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.ingest.base import SITE_NAME
from client.ingest.files import read_text
from client.ingest.peek import peek
from shared.errors import DataUnreadable
from shared.series import BoolArray, Repair

LABELS = "labeled_anomalies.csv"
COLUMNS = ("chan_id", "spacecraft", "anomaly_sequences", "num_values")

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LabelRow:
    """What the label file says of one channel: anomalous test rows (ends inclusive) and its number of test rows."""

    spacecraft: str
    sequences: Ranges
    rows: int
    repairs: tuple[Repair, ...] = ()


def find_labels(*folders: Path) -> Path | None:
    """The label file in the first of some folders that has one, by its name or by its header."""
    for folder in dict.fromkeys(folders):
        if (folder / LABELS).is_file():
            return folder / LABELS
        for file in sorted(folder.glob("*.csv")):
            if is_label_file(file):
                return file
    return None


def is_label_file(file: Path) -> bool:
    """Whether a file begins with the header of the label file."""
    lines = peek(file).lines if file.is_file() else ()
    return bool(lines) and {name.strip() for name in lines[0].split(",")} >= set(COLUMNS)


def read_labels(path: Path) -> dict[str, LabelRow]:
    """Every channel's row of the label file; rows of one channel are merged (the official file has P-2 twice).

    Raises:
        DataUnreadable: a column is missing, or a cell is not what it must be.
    """
    try:
        table = list(csv.reader(read_text(path).rstrip("\n").split("\n"), strict=True))
    except csv.Error as error:
        raise DataUnreadable(f"{path} is no table: {error}.") from error
    header = [name.strip() for name in table[0]] if table else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise DataUnreadable(f"{path}, line 1: the column {missing[0]} is missing.")
    rows: dict[str, LabelRow] = {}
    for line, cells in enumerate(table[1:], start=2):
        if len(cells) != len(header):
            raise DataUnreadable(f"{path}, line {line}: {len(cells)} fields where the header has {len(header)}.")
        name, row = _label_row(f"{path}, line {line}", dict(zip(header, cells, strict=True)))
        rows[name] = _merge(f"{path}, line {line}", name, rows[name], row) if name in rows else row
    return rows


def _label_row(where: str, cells: Mapping[str, str]) -> tuple[str, LabelRow]:
    name, spacecraft, text, rows = (cells[column].strip() for column in COLUMNS)
    if not SITE_NAME.fullmatch(name):
        raise DataUnreadable(f"{where}: {name[:80]!r} is no channel name.")
    if not re.fullmatch(r"[0-9]{1,9}", rows):
        raise DataUnreadable(f"{where}: num_values of {name} is {rows[:40]!r}, not a number of rows.")
    return name, LabelRow(spacecraft, _sequences(f"{where}, anomaly_sequences of {name}", text), int(rows))


def _sequences(where: str, text: str) -> Ranges:
    try:
        if not re.fullmatch(r"[\[\]0-9, ]{0,100000}", text):
            raise ValueError("not a list of numbers")
        pairs = ast.literal_eval(text)
        ranges = tuple((int(first), int(last)) for first, last in pairs)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataUnreadable(f"{where}: {text[:60]!r} is no list of [first, last] pairs.") from error
    for first, last in ranges:
        if first > last:
            raise DataUnreadable(f"{where}: [{first}, {last}] ends before it begins.")
    return ranges


def _merge(where: str, name: str, old: LabelRow, new: LabelRow) -> LabelRow:
    if (old.spacecraft, old.rows) != (new.spacecraft, new.rows):
        raise DataUnreadable(f"{where}: {name} occurs twice, with different spacecraft or num_values.")
    note = Repair(name, f"occurs twice in {LABELS}: both rows' anomalies were taken", len(new.sequences))
    return replace(old, sequences=(*old.sequences, *new.sequences), repairs=(*old.repairs, note))


def label_rows(name: str, row: LabelRow) -> tuple[BoolArray, tuple[Repair, ...]]:
    """A channel's labels as bool (rows,), with a note for each sequence that runs past the end.

    Raises:
        DataUnreadable: a sequence lies wholly past the end.

    Example:
        >>> label_rows("C-1", LabelRow("MSL", ((1, 2),), 4))[0].tolist()
        [False, True, True, False]
    """
    labels_T = np.zeros(row.rows, dtype=np.bool_)
    notes = []
    for first, last in row.sequences:
        if first >= row.rows:
            raise DataUnreadable(f"{LABELS}: [{first}, {last}] of {name} lies past its {row.rows} test rows.")
        if last >= row.rows:
            what = f"the labelled range [{first}, {last}] runs past the last row: cut there"
            notes.append(Repair(f"{name}/test", what, last - row.rows + 1))
        labels_T[first : last + 1] = True
    return labels_T, tuple(notes)
