"""Small files in the official layouts of SWaT and WADI, with the oddities of each release."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import xlsxwriter

from shared import catalogue
from shared.series import FloatArray

SWAT = tuple(tag.name for tag in catalogue.tags("swat"))
WADI = tuple(tag.name for tag in catalogue.tags("wadi"))
SWAT_STRAY = ("MV101", "AIT201", "MV201", "P201", "P202", "P204", "MV303")
WADI_EMPTY = ("2_LS_001_AL", "2_LS_002_AL", "2_P_001_STATUS", "2_P_002_STATUS")
SWAT_ATTACK, WADI_ATTACK = catalogue.ATTACK_BEGINS["swat"], catalogue.ATTACK_BEGINS["wadi"]
V0, V1 = datetime(2015, 12, 22, 16), datetime(2015, 12, 22, 16, 30)
A1_PREFIX = "\\\\WIN-25J4RO10SBF\\LOG_DATA\\SUTD_WADI\\LOG_DATA\\"
A2_LABEL = "Attack LABLE (1:No Attack, -1:Attack)"
Rows = list[list[str]]


def values(rows: int, columns: int, first: int = 0) -> FloatArray:
    """Readings that tell their row and column: row 3 of column 12 is 3.12."""
    grid = np.arange(first, first + rows)[:, None] + np.arange(columns)[None, :] / 1000
    return np.round(grid, 3).astype(np.float32)


def moments(begin: datetime, rows: int) -> list[datetime]:
    return [begin + timedelta(seconds=second) for second in range(rows)]


def swat_time(moment: datetime) -> str:
    """` 28/12/2015 10:00:00 AM`, the hour without a leading zero."""
    return f" {moment.day}/{moment.month}/{moment.year} {int(moment.strftime('%I'))}:{moment:%M:%S %p}"


def swat_rows(
    begin: datetime, rows: int, labels: Mapping[int, str] | None = None, first: int = 0, header: bool = True
) -> Rows:
    """A header and rows; `labels` gives those that are not `Normal`, by row."""
    names = [" Timestamp", *(f" {tag}" if tag in SWAT_STRAY else tag for tag in SWAT), "Normal/Attack"]
    grid = values(rows, len(SWAT), first)
    body = [
        [swat_time(moment), *(f"{value:.3f}" for value in grid[row]), (labels or {}).get(row, "Normal")]
        for row, moment in enumerate(moments(begin, rows))
    ]
    return [names, *body] if header else body


def stage_row() -> list[str]:
    """The row of stages above SWaT's header."""
    return ["", "P1", *[""] * 4, "P2", *[""] * 46]


def wadi_rows(
    begin: datetime,
    rows: int,
    prefix: str = "",
    label: str = "",
    labels: Mapping[int, str] | None = None,
    otherwise: str = "1",
    blank: str = "",
    first: int = 0,
) -> Rows:
    """A header and rows; the four empty tags are empty."""
    names = [
        "Row" + blank,
        "Date" + blank,
        "Time",
        *(prefix + tag + blank for tag in WADI),
        *([label] if label else []),
    ]
    grid = values(rows, len(WADI), first)
    body = []
    for row, moment in enumerate(moments(begin, rows)):
        date = f"{moment.month}/{moment.day}/{moment.year}"
        time = f"{int(moment.strftime('%I'))}:{moment:%M:%S}.000 {moment:%p}"
        cells = ["" if tag in WADI_EMPTY else f"{value:.3f}" for tag, value in zip(WADI, grid[row], strict=True)]
        body.append([str(row + 1), date, time, *cells, *([(labels or {}).get(row, otherwise)] if label else [])])
    return [names, *body]


def text(rows: Rows, separator: str = ",", end: str = "\r\n") -> str:
    """Rows as a text; a cell that holds the separator is quoted."""
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=separator, lineterminator=end).writerows(rows)
    return buffer.getvalue()


def write(path: Path, rows: Rows, before: str = "", after: str = "", encoding: str = "utf-8") -> Path:
    """A CSV file, with lines before and after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(before + text(rows) + after, encoding=encoding, newline="")
    return path


def write_xlsx(path: Path, rows: Rows, texts: Sequence[int], sheet_before: bool = False) -> Path:
    """A workbook; the columns `texts` and the header are texts, everything else is numbers."""
    with xlsxwriter.Workbook(path) as book:
        if sheet_before:
            book.add_worksheet("notes").write_string(0, 0, "see the next sheet")
        sheet = book.add_worksheet("data")
        for line, row in enumerate(rows):
            for column, cell in enumerate(row):
                if column in texts or not _is_number(cell):
                    sheet.write_string(line, column, cell)
                else:
                    sheet.write_number(line, column, float(cell))
    return path


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Pair:
    """Where the two files of a data set lie."""

    folder: Path
    normal: Path
    attack: Path


ATTACKED = {3: "Attack", 4: "A ttack", 5: " Attack ", 9: "Attack"}
"""Rows of the small attack files that are labelled, spelt as issued."""


def swat(folder: Path, normal_rows: int = 30, attack_rows: int = 20) -> Pair:
    """A small SWaT as issued, converted to CSV, the row of stages kept. Attack rows count on from 1,000."""
    normal = write(folder / "SWaT_Dataset_Normal_v1.csv", [stage_row(), *swat_rows(V1, normal_rows)])
    rows = swat_rows(SWAT_ATTACK, attack_rows, ATTACKED, first=1000)
    return Pair(folder, normal, write(folder / "SWaT_Dataset_Attack_v0.csv", [stage_row(), *rows]))


A1_JUNK = "Report,WADI\r\nFrom,9/25/2017\r\nTo,10/9/2017\r\n\r\n"


def wadi_a1(folder: Path, normal_rows: int = 30, attack_rows: int = 5200) -> Pair:
    """A small WADI.A1 as issued; the first published attack begins at row 5,139."""
    normal = wadi_rows(datetime(2017, 9, 25, 18), normal_rows, A1_PREFIX)
    attack = wadi_rows(WADI_ATTACK, attack_rows, A1_PREFIX, first=1000)
    return Pair(
        folder,
        write(folder / "WADI_14days.csv", normal, before=A1_JUNK),
        write(folder / "WADI_attackdata.csv", attack),
    )


def wadi_a2(folder: Path, normal_rows: int = 30, attack_rows: int = 20) -> Pair:
    """A small WADI.A2 as issued: a first line of junk, names with blanks, two rows of nothing at the end."""
    normal = wadi_rows(datetime(2017, 9, 25, 18), normal_rows)
    attack = wadi_rows(WADI_ATTACK, attack_rows, "", A2_LABEL, dict.fromkeys((3, 4, 9), "-1"), blank=" ", first=1000)
    empty = "," * (len(WADI) + 3) + "\r\n"
    return Pair(
        folder,
        write(folder / "WADI_14days_new.csv", normal),
        write(folder / "WADI_attackdataLABLE.csv", attack, before=empty.replace(",", "x,", 1), after=2 * empty),
    )
