"""How a table is laid out, found out from its beginning: header, separator, decimal mark, sheet."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client.ingest import lines, sheet
from client.ingest.peek import peek

HEADER_WITHIN = 12
"""The header is one of the first so many lines."""

SEPARATORS = (",", ";", "\t")
IsHeader = Callable[[Sequence[str]], bool]
Clean = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Layout:
    """How a table is laid out.

    Attributes:
        path: the file.
        form: text, or a sheet of an `.xlsx` file.
        names: column names as cleaned; blanks around them are gone. May hold names twice.
        raw: the header's stripped cells before they were cleaned.
        header_line: number of the header's line (a sheet: row), counted from 1.
        first_row: the stripped cells of the line below it; empty when there is none.
        separator, decimal: one character each.
        sheet: the sheet's number, counted from 0.
        stray_line: number of a line above the header that is a row of readings, as in a file whose lines were moved;
            0 when there is none.
    """

    path: Path
    form: Literal["text", "xlsx"]
    names: tuple[str, ...]
    header_line: int
    first_row: tuple[str, ...]
    raw: tuple[str, ...] = ()
    separator: str = ","
    decimal: Literal[".", ","] = "."
    sheet: int = 0
    stray_line: int = 0

    def cell(self, name: str) -> str:
        """The first row's cell of a column; empty when either is not there."""
        at = self.names.index(name) if name in self.names else len(self.first_row)
        return self.first_row[at] if at < len(self.first_row) else ""


def find_layout(path: Path, is_header: IsHeader, clean: Clean = list) -> Layout | None:
    """How the table in a file is laid out; None when none of its first lines is the header looked for.

    Args:
        path: an existing file; only its beginning is read.
        is_header: whether these names are the header's.
        clean: what is to be done to the stripped cells of a line before they are names.
    """
    form = peek(path).form
    if form in ("empty", "npy", "parquet", "archive"):
        return None
    if form == "xlsx":
        rows = sheet.head(path, HEADER_WITHIN + 1)
        return next(_in_sheets(path, rows, is_header, clean), None)
    head = lines.head(path, HEADER_WITHIN + 9)
    for at, line in enumerate(head[:HEADER_WITHIN]):
        for separator in SEPARATORS:
            raw = cells(line, separator)
            names = tuple(clean(raw))
            if len(names) > 1 and is_header(names):
                below = [cells(row, separator) for row in head[at + 1 :] if row.strip()]
                first = tuple(below[0]) if below else ()
                stray = _stray([(line + 1, cells(row, separator)) for line, row in enumerate(head[:at])], len(names))
                mark = _decimal(below, separator)
                return Layout(path, "text", names, at + 1, first, tuple(raw), separator, mark, stray_line=stray)
    return None


def _in_sheets(path: Path, sheets: Sequence[sheet.Rows], is_header: IsHeader, clean: Clean) -> Iterator[Layout]:
    for number, rows in enumerate(sheets):
        for at, (line, row) in enumerate(rows):
            names = tuple(clean([cell.strip() for cell in row]))
            if is_header(names):
                first = tuple(cell.strip() for cell in rows[at + 1][1]) if at + 1 < len(rows) else ()
                yield Layout(path, "xlsx", names, line, first, sheet=number, stray_line=_stray(rows[:at], len(names)))


def _stray(above: Sequence[tuple[int, Sequence[str]]], width: int) -> int:
    number = re.compile(r"[-+]?\d*[.,]?\d+([eE][-+]?\d+)?")
    rows = (line for line, row in above if 2 * sum(bool(number.fullmatch(cell)) for cell in row) > width)
    return next(rows, 0)


def cells(line: str, separator: str) -> list[str]:
    """The stripped fields of one line, unquoted.

    Example:
        >>> cells(' MV101 ,"a, b",', ",")
        ['MV101', 'a, b', '']
    """
    if '"' in line:
        try:
            fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            fields = line.split(separator)
    else:
        fields = line.split(separator)
    return [field.strip() for field in fields]


def _decimal(rows: Sequence[Sequence[str]], separator: str) -> Literal[".", ","]:
    """A comma where cells of the first rows are numbers with one, which a separating comma rules out."""
    commas = any(re.fullmatch(r"[-+]?\d*,\d+([eE][-+]?\d+)?", cell) for row in rows for cell in row)
    return "," if separator != "," and commas else "."
