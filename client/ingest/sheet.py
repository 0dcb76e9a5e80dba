"""Sheets of `.xlsx` files: their first rows cheaply, for recognising them, and their columns through calamine.

A sheet is compressed XML, so there is no reading it row by row at a useful speed: calamine holds all of it. A sheet of
50,000 x 53 costs about 180 MB while it is read; docs/data.md says what that means for whole files.
"""

from __future__ import annotations

import html
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import fastexcel
import polars as pl

from client.ingest.files import check_path, first_line
from client.ingest.peek import peek
from shared.errors import DataUnreadable
from shared.series import Repair

if TYPE_CHECKING:
    from client.ingest.layout import Layout

Rows = list[tuple[int, list[str]]]
"""Rows of a sheet that hold something: each row's number, counted from 1, and its cells from column A on."""

_HEAD, _STRINGS, _SHEETS = 262_144, 262_144, 3
_MOST_BYTES, _MOST_CELLS = 2**31, 100_000_000
_PIECE, _LONGEST_CELL = 4 * 2**20, 64
_BROKEN = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
_ROW = re.compile(r'<row\b[^>]*?\br="(\d{1,7})"[^>]*?>(.*?)</row>', re.DOTALL)
_FAR = re.compile(rb'r="(?:[C-Z][A-Z]|[A-Z]{3})[0-9]')
"""A cell in column CA or later: 78 columns before it and every row that Excel has are no trouble."""
_REFERENCE = re.compile(rb'\br="([A-Z]{1,3})([0-9]{1,7})"')
_CELL = re.compile(r"<c\b([^>]*?)(?:/>|>(.*?)</c>)", re.DOTALL)
_TEXT = re.compile(r"<t\b[^>]*?>(.*?)</t>", re.DOTALL)
_VALUE = re.compile(r"<v\b[^>]*?>(.*?)</v>", re.DOTALL)


def head(path: Path, most: int) -> tuple[Rows, ...]:
    """The first rows of the first sheets; empty when the file is broken. Reads a few hundred kilobytes at most.

    Cells are texts as stored: a date is the number that Excel keeps for it.
    """
    try:
        with zipfile.ZipFile(path) as book:
            strings = _strings(book)
            return tuple(list(_rows(_start(book, name, _HEAD), strings))[:most] for name in _sheets(book)[:_SHEETS])
    except _BROKEN:
        return ()


def is_cut(path: Path) -> bool:
    """Whether a file that begins as a workbook has no end, as a half-copied one."""
    return peek(path).form == "xlsx" and not zipfile.is_zipfile(path)


def others(path: Path, number: int) -> tuple[Repair, ...]:
    """A note on the sheets of a workbook beside the one that is read; none when they cannot be told."""
    others = [name[:40] for at, name in enumerate(names(path)) if at != number]
    shown = ", ".join(map(repr, others[:3])) + (" ..." if len(others) > 3 else "")
    return (Repair(path.name, f"other sheets of the workbook, {shown}: not read", len(others)),) if others else ()


def names(path: Path) -> tuple[str, ...]:
    """Names of the sheets, in the order of the book; none when they cannot be told."""
    try:
        with zipfile.ZipFile(path) as book:
            listed = re.findall(r"<sheet\b[^>]*>", _start(book, "xl/workbook.xml", _HEAD))
    except _BROKEN:
        return ()
    return tuple(html.unescape(_attribute(sheet, "name")) for sheet in listed)


def check_extent(path: Path) -> None:
    """Refuse a workbook that would not fit into memory: every cell up to the last one takes room, used or not.

    Raises:
        DataUnreadable: a stray cell lies far out, or a few kilobytes unpack to gigabytes.
    """
    about = path.stat()
    if wrong := _too_large(path, about.st_size, about.st_mtime_ns):
        raise DataUnreadable(f"{path}: {wrong}.", "Delete what lies outside the table, or save the sheet as CSV.")


@lru_cache(maxsize=64)
def _too_large(path: Path, size: int, changed_ns: int) -> str:
    """What is too large in a workbook of this size and time, in words; broken ones are left to those who read them."""
    try:
        with zipfile.ZipFile(path) as book:
            for member in book.infolist():
                if member.file_size > _MOST_BYTES:
                    return f"{member.filename} unpacks to {member.file_size:,} bytes, {_MOST_BYTES:,} are the most"
            for name in _sheets(book):
                rows, columns = _extent(book, name)
                if rows * columns > _MOST_CELLS:
                    return f"a sheet reaches to row {rows:,} and column {columns:,}, {_MOST_CELLS:,} cells are the most"
    except _BROKEN:
        return ""
    return ""


def _extent(book: zipfile.ZipFile, name: str) -> tuple[int, int]:
    """Last row and last column in which a sheet has a cell; (0, 0) when no column is far out, which is soon seen."""
    rows = columns = 0
    if any(_FAR.search(piece) for piece in _pieces(book, name)):
        for piece in _pieces(book, name):
            found = _REFERENCE.findall(piece)
            rows = max([rows, *(int(row) for row in {row for _, row in found})])
            columns = max(
                [columns, *(_column(letters.decode(), 0) + 1 for letters in {letters for letters, _ in found})]
            )
    return rows, columns


def _pieces(book: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """A sheet's XML, each piece with the end of the one before it."""
    rest = b""
    with book.open(name) as file:
        while piece := file.read(_PIECE):
            yield rest + piece
            rest = piece[-_LONGEST_CELL:]


def _start(book: zipfile.ZipFile, name: str, size: int) -> str:
    with book.open(name) as file:
        return file.read(size).decode("utf-8", errors="replace")


def _sheets(book: zipfile.ZipFile) -> list[str]:
    """Where the sheets lie, in the order of the book."""
    targets = {}
    for relation in re.findall(r"<Relationship\b[^>]*>", _start(book, "xl/_rels/workbook.xml.rels", _HEAD)):
        if (name := _attribute(relation, "Id")) and (target := _attribute(relation, "Target")):
            targets[name] = target.removeprefix("/xl/")
    listed = re.findall(r"<sheet\b[^>]*>", _start(book, "xl/workbook.xml", _HEAD))
    return [f"xl/{targets[name]}" for sheet in listed if (name := _attribute(sheet, "r:id")) in targets]


def _attribute(element: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]*)"', element)
    return found[1] if found else ""


def _strings(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    items = re.findall(r"<si\b[^>]*?>(.*?)</si>", _start(book, "xl/sharedStrings.xml", _STRINGS), re.DOTALL)
    return [_plain(item) for item in items]


def _plain(item: str) -> str:
    return html.unescape("".join(_TEXT.findall(item)))


def _rows(xml: str, strings: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    for number, row in _ROW.findall(xml):
        cells: list[str] = []
        for attributes, content in _CELL.findall(row):
            at = _column(_attribute(attributes, "r"), len(cells))
            cells += [""] * (at - len(cells))
            cells.append(_cell(_attribute(attributes, "t"), content, strings))
        if any(cells):
            yield int(number), cells


def _column(reference: str, otherwise: int) -> int:
    """Column B5 is 1."""
    at = 0
    for letter in re.sub(r"[^A-Z]", "", reference)[:3]:
        at = 26 * at + ord(letter) - 64
    return max(at - 1, otherwise)


def _cell(kind: str, content: str, strings: Sequence[str]) -> str:
    if kind == "inlineStr":
        return _plain(content)
    value = _VALUE.search(content)
    if not value:
        return ""
    if kind == "s":
        at = int(value[1])
        return strings[at] if at < len(strings) else ""
    return html.unescape(value[1])


def read(layout: Layout, numbers: Sequence[str], texts: Sequence[str]) -> pl.DataFrame:
    """The rows below the header, rows that hold nothing included: Float32 numbers and stripped texts, empty ones null.

    Raises:
        DataUnreadable: the sheet cannot be read, or a cell of a number column holds something else.
    """
    check_path(layout.path)
    check_extent(layout.path)
    places = {name: layout.names.index(name) for name in (*texts, *numbers)}
    frame = _columns(layout, places, set(texts))
    _check_first_row(layout, frame, numbers)
    doubtful = [name for name in numbers if frame[name].null_count()]
    again = _reread(layout, frame, {name: places[name] for name in doubtful}) if doubtful else []
    return frame.select(
        pl.col(texts).str.strip_chars().replace("", None), pl.col(numbers).cast(pl.Float32)
    ).with_columns(*again)


def _columns(layout: Layout, places: dict[str, int], texts: set[str]) -> pl.DataFrame:
    try:
        sheet = fastexcel.read_excel(layout.path).load_sheet(
            layout.sheet,
            header_row=None,
            skip_rows=layout.header_line,
            use_columns=sorted(places.values()),
            dtypes={at: "string" if name in texts else "float" for name, at in places.items()},
        )
        frame = sheet.to_polars()
    except fastexcel.FastExcelError as error:
        raise DataUnreadable(f"{layout.path} is no workbook that can be read: {first_line(error)}.") from error
    frame.columns = sorted(places, key=places.__getitem__)
    return frame


def _check_first_row(layout: Layout, frame: pl.DataFrame, numbers: Sequence[str]) -> None:
    """That columns lie where the header says, and rows below it: the first row as stored is the first row as read."""
    for name in numbers:
        stored, found = layout.cell(name), frame[name][0] if len(frame) else None
        if found is not None and _is_another(stored, found):
            place = f"{layout.path}, line {layout.header_line + 1}, column {name}"
            raise DataUnreadable(f"{place}: {stored[:40]!r} in the sheet was read as {found!r}.")


def _is_another(stored: str, found: float) -> bool:
    try:
        return not math.isclose(float(stored), found, rel_tol=1e-9)
    except ValueError:
        return bool(stored)


def _reread(layout: Layout, frame: pl.DataFrame, places: dict[str, int]) -> Iterator[pl.Series]:
    """Number columns with empty cells, which calamine makes of text as well: text is told from nothing here."""
    text = _columns(layout, places, set(places)).select(pl.all().str.strip_chars().replace("", None))
    for name in places:
        again = text[name].str.replace(",", ".", literal=True).cast(pl.Float32, strict=False)
        if (wrong := text[name].is_not_null() & again.is_null() & frame[name].is_null()).any():
            row = int(wrong.to_numpy().argmax())
            place = f"{layout.path}, line {layout.header_line + 1 + row}, column {name}"
            raise DataUnreadable(f"{place}: {text[name][row][:40]!r} is not a number.")
        yield pl.select(pl.coalesce(frame[name].cast(pl.Float32), again)).to_series().alias(name)
