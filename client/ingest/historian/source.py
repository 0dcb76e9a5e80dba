"""A plant's file as a table of named columns, whatever it was exported as: text, Parquet or a spreadsheet."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from client.ingest import sheet
from client.ingest.files import check_path, first_line
from client.ingest.historian.probe import check_decodes
from client.ingest.historian.settings import HistorianSettings
from client.ingest.lines import LONGEST
from client.ingest.peek import BYTES, Head, peek
from shared.errors import DataUnreadable
from shared.series import Repair

SEPARATORS = (";", "\t", "|", ",")
"""The comma last: it may stand inside the numbers of a file that is separated by something else."""
SAMPLE = 40
WIDEST = 4 * 2**20
"""Bytes that are looked at where the first lines are long, as those of thousands of tags."""
_ANSI = "cp1252"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_OPENED, _MOST_BREAKS = re.compile(r"""(^|[;,|\t])"[^"]*$"""), 3
"""A cell that is opened and not closed in its line, and how many lines on it may be closed."""
_COMMA, _POINT = re.compile(r"\s*[-+]?\d+,\d+\s*"), re.compile(r"\s*[-+]?\d+\.\d+\s*")


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        path: where it lies.
        frame: its columns under `columns`, text as found (not stripped) or typed as the file says; lazy.
        columns: their names, each once.
        decimal: what stands before the decimals in text cells.
        first_line: the line, or the row of the sheet, of row 0.
        notes: what was mended.
    """

    path: Path
    frame: pl.LazyFrame
    columns: tuple[str, ...]
    decimal: Literal[".", ","]
    first_line: int
    notes: tuple[Repair, ...] = ()

    def read(self, *plans: str | pl.Expr | Iterable[str | pl.Expr], most: int | None = None) -> pl.DataFrame:
        """Some columns, or what is computed of them, read from the file in pieces.

        Args:
            plans: as for `select`.
            most: at most this many rows.

        Raises:
            DataUnreadable: the file is damaged further down.
        """
        frame = self.frame if most is None else self.frame.head(most)
        with _in_words(self.path):
            return frame.select(*plans).collect(engine="streaming")


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as error:  # a damaged Parquet file may bring either
        raise DataUnreadable(f"{path} is damaged, or no table: {first_line(error)}.") from error


class _Layout(NamedTuple):
    separator: str
    header_at: int
    header: list[str]
    decimal: Literal[".", ","]


def open_source(path: Path, settings: HistorianSettings, beginning: bool = False) -> Source:
    """Open a file without reading more than needed.

    Args:
        path: the file.
        settings: the plant's.
        beginning: look at the first rows only.

    Raises:
        DataUnreadable: it is no table, or its lines differ in the number of fields.
        OSError: it cannot be read.
    """
    check_path(path)
    head = peek(path)
    if head.form == "text" and len(head.lines) < SAMPLE and head.size > BYTES:
        head = peek(path, WIDEST)
    with _in_words(path):
        if head.form == "parquet":
            return _parquet(path, beginning)
        if head.form == "xlsx":
            return _sheet(path, settings, beginning)
        return _text(head, settings, beginning)


def _text(head: Head, settings: HistorianSettings, beginning: bool) -> Source:
    path = head.path
    encoding = _encoding(head)
    content = _decode(path, encoding) if encoding else None
    if content is not None:
        head = Head(path, "text", tuple(content.split("\n")[:SAMPLE]), head.size)
    if head.form != "text":
        what = {"empty": "is empty", "archive": "is an archive: unpack it first"}.get(head.form, "is no table")
        raise DataUnreadable(
            f"{path} {what}.", "Export it as CSV, Parquet or XLSX with a header and a column of times."
        )
    whole = _whole_cells(head.lines)
    broken = sum(bool(was) and not now for was, now in zip(head.lines, whole, strict=True))
    if broken:
        content = _decode(path, "utf-8") if content is None else content
        content = "\n".join([*whole, *content.split("\n")[len(whole) :]])
        head = Head(path, "text", whole, head.size)
    layout = _layout(path, head.lines, settings)
    if beginning:
        rows = [line for line in head.lines[layout.header_at + 1 :] if line.strip()]
        content = "\n".join([*head.lines[: layout.header_at + 1], *rows])
    elif content is None and not _check(path, layout):
        encoding = _ANSI
        content = _decode(path, encoding)
    if content is not None and not beginning:
        _check_lines(path, layout, content.split("\n"))
    frame = pl.scan_csv(
        path if content is None else io.StringIO(content),
        separator=layout.separator,
        has_header=False,
        skip_lines=layout.header_at + 1,
        schema={f"column_{at}": pl.String() for at in range(len(layout.header))},
        truncate_ragged_lines=beginning,
        missing_columns="insert",  # polars counts the columns in the first line, which may be blank
    )
    notes = (
        Repair(path.name, "is no UTF-8 text: read as Windows-1252", int(encoding == _ANSI)),
        Repair(path.name, "line breaks inside names: read as blanks", broken),
        Repair(path.name, "lines before the header: skipped", layout.header_at - broken),
        Repair(path.name, "the last line has no end, so its last cell may be cut: kept", int(_open_ended(path))),
    )
    return _named(path, frame, layout.header, layout.decimal, layout.header_at + 2, tuple(n for n in notes if n.count))


def _whole_cells(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The first lines with every cell that a line break cuts (a tag above its unit) laid on its last line.

    The lines that it began on are left empty, so that line numbers stay.
    """
    whole, begun = list(lines), -1
    for at, line in enumerate(lines):
        if begun < 0 and _OPENED.search(line):
            begun = at
        elif 0 <= begun < at - _MOST_BREAKS:
            begun = -1  # a stray quotation mark
        elif begun >= 0 and line.count('"') % 2:
            whole[begun : at + 1] = [*[""] * (at - begun), " ".join(lines[begun : at + 1])]
            begun = at if _OPENED.search(line) else -1
    return tuple(whole)


def _encoding(head: Head) -> str | None:
    """The encoding of a text file whose first lines are no UTF-8, else None."""
    with head.path.open("rb") as file:
        if file.read(2) in _UTF16:
            return "utf-16"
    return _ANSI if any("\ufffd" in line for line in head.lines) else None


def _open_ended(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-2, os.SEEK_END)  # two bytes: the last character of UTF-16 text has as many
        return b"\n" not in file.read()


def _decode(path: Path, encoding: str) -> str:
    text = path.read_bytes().decode(encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\x00", "").lstrip("\ufeff")


def _layout(path: Path, lines: Sequence[str], settings: HistorianSettings) -> _Layout:
    """Separator, header line and decimal sign from the first lines."""
    filled = [(at, line) for at, line in enumerate(lines) if line.strip()]
    best: tuple[float, str, int] = (0.0, "", 0)
    for separator in (settings.separator,) if settings.separator else SEPARATORS:
        counts = Counter(len(_fields(line, separator)) for _, line in filled)
        width, agreeing = max(counts.items(), key=lambda item: (item[0] > 1, item[1], item[0]), default=(0, 0))
        share = agreeing / len(filled) if width > 1 else 0.0
        best = max(best, (round(share, 1), separator, width), key=lambda choice: choice[0])
    share, separator, width = best
    if len(filled) < 2 or share < 0.5:
        cause = f"{path} is no table: its first lines do not fall into the same number of fields."
        raise DataUnreadable(cause, "Export it as CSV, Parquet or XLSX with a header and a column of times.")
    table = {at: sum(map(bool, map(str.strip, _fields(line, separator)))) for at, line in filled}
    least = 0.6 * max(table.values())  # lines above the header may be filled up with separators
    wide = [at for at, line in filled if len(_fields(line, separator)) == width]
    header_at = next((at for at in wide if table[at] >= least), wide[0])
    cells = [cell for at, line in filled if at > header_at for cell in _fields(line, separator)]
    commas, points = (sum(bool(form.fullmatch(cell)) for cell in cells) for form in (_COMMA, _POINT))
    decimal = settings.decimal or ("," if separator != "," and commas > points else ".")
    return _Layout(separator, header_at, _fields(lines[header_at], separator), decimal)


def _fields(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator), [])


def _check(path: Path, layout: _Layout) -> bool:
    """Refuse lines of another length than the header; False when the file is no UTF-8 text.

    Without this a line that was cut would be filled up with missing readings in silence.
    """
    separator, fields = layout.separator.encode(), len(layout.header)
    with path.open("rb") as file:
        for at, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b"")):
            if len(line) > LONGEST:
                raise DataUnreadable(f"{path}, line {at + 1}: more than {LONGEST} bytes long.")
            try:
                if b'"' in line or not line.isascii():
                    _check_line(path, at, _fields(line.decode("utf-8").rstrip("\r\n"), layout.separator), layout)
                elif line.count(separator) + 1 != fields:
                    _check_line(path, at, line.decode().rstrip("\r\n").split(layout.separator), layout)
            except UnicodeDecodeError:
                return False
    return True


def _check_lines(path: Path, layout: _Layout, lines: Sequence[str]) -> None:
    for at, line in enumerate(lines):
        _check_line(path, at, _fields(line, layout.separator), layout)


def _check_line(path: Path, at: int, fields: list[str], layout: _Layout) -> None:
    if at > layout.header_at and len(fields) != len(layout.header) and any(field.strip() for field in fields):
        cause = f"{path}, line {at + 1}: {len(fields)} fields where the header has {len(layout.header)}."
        raise DataUnreadable(cause, "Mend the line, or export the file again.")


def _parquet(path: Path, beginning: bool) -> Source:
    check_decodes(path)
    frame = pl.scan_parquet(path)
    names = list(frame.collect_schema())
    return _named(path, frame.head(SAMPLE) if beginning else frame, names, ".", 1, ())


def _sheet(path: Path, settings: HistorianSettings, beginning: bool) -> Source:
    sheet.check_extent(path)
    number = _number_of_sheet(path, settings.sheet)
    options = {"dtypes": "string"} | ({"n_rows": SAMPLE} if beginning else {})
    try:
        cells = pl.read_excel(path, sheet_id=number + 1, has_header=False, read_options=options, raise_if_empty=False)
    except BaseException as error:  # the reader promises no closed list of what a damaged workbook can raise
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataUnreadable(f"{path} is no readable workbook: {first_line(error)}.") from error
    filled = [sum(cell is not None for cell in row) for row in cells.head(SAMPLE).iter_rows()]
    if not filled or max(filled) < 2:
        cure = "Name its sheet in historian.toml (`sheet`), or save it as CSV."
        raise DataUnreadable(f"{path}: sheet {number + 1} holds no table.", cure)
    header_at = next(at for at, found in enumerate(filled) if found >= 0.8 * max(filled))
    header = [str(cell or "") for cell in cells.row(header_at)]
    return _named(path, cells.slice(header_at + 1).lazy(), header, ".", header_at + 2, sheet.others(path, number))


def _number_of_sheet(path: Path, wanted: str | None) -> int:
    """The sheet asked for; else that with most rows at its beginning, so that no cover is taken for the recording."""
    if wanted is None:
        rows = [sum(sum(map(bool, cells)) > 1 for _, cells in rows) for rows in sheet.head(path, SAMPLE)]
        return rows.index(max(rows)) if rows else 0
    names = sheet.names(path)
    if wanted not in names:
        raise DataUnreadable(
            f"{path} has no sheet {wanted!r}; it has {', '.join(map(repr, names[:9]))}.", "Mend `sheet`."
        )
    return names.index(wanted)


def _named(
    path: Path,
    frame: pl.LazyFrame,
    header: Sequence[str],
    decimal: Literal[".", ","],
    line: int,
    notes: tuple[Repair, ...],
) -> Source:
    """Give every column a name of its own: blanks stripped, missing names made up, second ones numbered."""
    names: list[str] = []
    taken: set[str] = set()
    mended = []
    for at, cell in enumerate(header):
        name = wanted = " ".join(cell.split()) or f"column{at + 1}"
        copies = (f"{wanted}.{number}" for number in count(2))
        while name in taken:
            name = next(copies)
        if name != wanted:
            mended.append(Repair(path.name, f"the column {wanted[:60]!r} occurs again: called {name[:70]!r}", 1))
        if len(name) > 128:
            raise DataUnreadable(f"{path}: column {at + 1} has a name of {len(name)} characters; 128 are the most.")
        names.append(name)
        taken.add(name)
    old = frame.collect_schema().names()
    if len(old) != len(names):
        raise DataUnreadable(f"{path}: the header names {len(names)} columns, the rows hold {len(old)}.")
    renamed = frame.select(pl.col(was).alias(name) for was, name in zip(old, names, strict=True))
    return Source(path, renamed, tuple(names), decimal, line, (*notes, *mended))
