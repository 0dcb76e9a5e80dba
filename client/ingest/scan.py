"""Tables of any size, streamed into one float32 array in bounded memory.

A table is text (CSV of any separator, UTF-8 or UTF-16) or a sheet of an `.xlsx` file, laid out as
`client.ingest.layout.find_layout` found it. `read` fills the array block by block and hands the text columns of each
block to its caller. Every fault names the file, the line, the column and the value.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.ingest import lines as text
from client.ingest import sheet
from client.ingest.files import first_line
from client.ingest.layout import Layout
from shared.errors import DataUnreadable
from shared.series import FloatArray, Repair

_UNNAMED = re.compile(r"(Unnamed:.*)?")


@dataclass(frozen=True)
class Block:
    """Some rows of a table.

    Attributes:
        layout: of the table.
        lines_T: int64 (n,), each row's line in the file.
        values_TD: float32 (n, D), the number columns; empty cells are NaN, too large numbers infinite.
        texts: each text column's n stripped cells; empty ones are null.
    """

    layout: Layout
    lines_T: NDArray[np.int64]
    values_TD: FloatArray
    texts: Mapping[str, pl.Series]

    def refuse(self, column: str, wrong: pl.Series, why: str, shown: pl.Series | None = None) -> None:
        """Refuse the first row where `wrong` holds.

        Args:
            column: the column to name.
            wrong: bool (n,).
            why: what is wrong, in words that follow the value.
            shown: texts (n,) to quote instead of those of the column.

        Raises:
            DataUnreadable: there is one; its line, column and value are named.
        """
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            value = (self.texts[column] if shown is None else shown)[row]
            fault(self.layout.path, int(self.lines_T[row]), column, value, why)


@dataclass(frozen=True)
class Table:
    """A table that was read.

    Attributes:
        values_TD: float32 (T, D), contiguous.
        lines_T: int64 (T,), each row's line in the file.
        columns: what the caller made of the text columns, each (T,).
        repairs: what was mended on the way.
    """

    values_TD: FloatArray
    lines_T: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]
    repairs: tuple[Repair, ...] = ()


def fault(path: Path, line: int, column: str, value: str | None, why: str) -> None:
    """Refuse one cell.

    Raises:
        DataUnreadable: always.
    """
    shown = "an empty cell" if value is None else repr(value[:40])
    raise DataUnreadable(f"{path}, line {line}, column {column}: {shown} {why}.")


def read(
    layout: Layout,
    numbers: Sequence[str],
    texts: Sequence[str],
    make: Callable[[Block], Mapping[str, NDArray[Any]]],
    ignored: Sequence[str] = (),
) -> Table:
    """Read a table in two passes: count its lines, then fill one array of that length.

    Columns that are not asked for are left out with a note. Lines that hold nothing are, too.

    Args:
        layout: as found.
        numbers: names of the columns that become `values_TD`, in this order.
        texts: names of the columns that `make` is given.
        make: turns the text columns of a block into arrays of as many rows; may refuse them.
        ignored: names of columns that are known to be of no use, so not worth a note.

    Raises:
        DataUnreadable: a column is missing or named twice, a line has too few or too many fields or is no text, a cell
            is not a number, there are no rows, or rows stand above the header.
    """
    _check_names(layout, numbers, texts)
    most, blocks = _opened(layout, numbers, texts)
    values_TD = np.empty((max(most, 0), len(numbers)), dtype=np.float32)
    numbered, made, at = [], [], 0
    for block in blocks:
        if at + len(block.lines_T) > most:
            raise DataUnreadable(f"{layout.path} grew while it was read.", "Wait until it is written to its end.")
        values_TD[at : (at := at + len(block.lines_T))] = block.values_TD
        numbered.append(block.lines_T)
        made.append(make(block))
    if not at:
        raise DataUnreadable(f"{layout.path} has a header but no rows.")
    columns = {name: np.concatenate([part[name] for part in made]) for name in made[0]}
    lines_T = np.concatenate(numbered)
    return Table(values_TD[:at], lines_T, columns, tuple(_notes(layout, {*numbers, *texts, *ignored}, lines_T, most)))


def _check_names(layout: Layout, numbers: Sequence[str], texts: Sequence[str]) -> None:
    where, wanted = f"{layout.path}, line {layout.header_line}", (*texts, *numbers)
    if layout.stray_line:
        raise DataUnreadable(f"{layout.path}, line {layout.stray_line}: a row of readings stands above the header.")
    missing = [name for name in wanted if name not in layout.names]
    if missing:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DataUnreadable(f"{where}: {len(missing)} columns are missing: {shown}.")
    twice = [name for name, times in Counter(layout.names).items() if times > 1 and name in wanted]
    if twice:
        raise DataUnreadable(f"{where}: the column {twice[0]!r} occurs twice.")


def _notes(layout: Layout, used: set[str], lines_T: NDArray[np.int64], most: int) -> Iterator[Repair]:
    name = layout.path.name
    if spare := [column for column in layout.names if column not in used]:
        unnamed = [column for column in spare if _UNNAMED.fullmatch(column)]
        named = [repr(column[:40]) for column in spare if column not in unnamed]
        if unnamed:
            yield Repair(name, "columns without a name: left out", len(unnamed))
        if named:
            yield Repair(
                name, f"columns that are no tags of this data set: left out: {', '.join(named[:5])}", len(named)
            )
    if empty := int(lines_T[-1] - layout.header_line - len(lines_T)):
        yield Repair(name, "lines between the rows hold nothing: left out", empty)
    if layout.form == "xlsx":
        yield from sheet.others(layout.path, layout.sheet)
    if layout.form == "text":
        if after := layout.header_line + most - int(lines_T[-1]):
            yield Repair(name, "lines after the last row hold nothing: left out", after)
        elif not text.ends_with_newline(layout.path):
            yield Repair(name, "the last line has no line end: check that the file was copied whole", 1)


def _opened(layout: Layout, numbers: Sequence[str], texts: Sequence[str]) -> tuple[int, Iterator[Block]]:
    """No fewer than the rows to come, and the rows."""
    if layout.form == "xlsx":
        frame = sheet.read(layout, numbers, texts)
        return len(frame), _sheet_blocks(layout, frame, numbers, texts)
    return text.count(layout.path) - layout.header_line, _text_blocks(layout, numbers, texts)


def _sheet_blocks(layout: Layout, frame: pl.DataFrame, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[Block]:
    lines_T = np.arange(len(frame), dtype=np.int64) + layout.header_line + 1
    held = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    kept = frame.filter(held)
    if len(kept):
        yield _block(layout, kept, lines_T[held.to_numpy()], numbers, texts)


def _text_blocks(layout: Layout, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[Block]:
    for lines in text.blocks(layout.path, skip=layout.header_line):
        content, lines_T = _whole_rows(layout, lines)
        if len(lines_T):
            yield _parse(layout, content, lines_T, numbers, texts)


def _whole_rows(layout: Layout, lines: text.Lines) -> tuple[bytes, NDArray[np.int64]]:
    """The lines that hold something, and their numbers, each with as many fields as the header."""
    width = len(layout.names)
    buffer = np.frombuffer(lines.text, dtype=np.uint8)
    ends = np.flatnonzero(buffer == 10)
    marks = _marks(lines.text, buffer, layout.separator)
    separators = np.diff(np.searchsorted(marks, ends), prepend=0)
    length = np.diff(ends, prepend=-1) - 1
    empty = (length == 0) | ((separators == length) & (separators == width - 1))
    wrong = np.flatnonzero((separators != width - 1) & ~empty)
    if len(wrong):
        line, found = lines.first + int(wrong[0]), int(separators[wrong[0]]) + 1
        raise DataUnreadable(f"{layout.path}, line {line}: {found} fields where the header has {width}.")
    lines_T = lines.first + np.arange(len(ends), dtype=np.int64)
    if not empty.any():
        return lines.text, lines_T
    rows = lines.text.split(b"\n")
    return b"".join(rows[row] + b"\n" for row in np.flatnonzero(~empty)), lines_T[~empty]


def _marks(content: bytes, buffer: NDArray[np.uint8], separator: str) -> NDArray[np.int64]:
    """Where fields are separated; a separator between quotes separates nothing."""
    marks = np.flatnonzero(buffer == ord(separator))
    if b'"' in content:
        quotes = np.flatnonzero(buffer == ord('"'))
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    return marks


def _parse(
    layout: Layout, content: bytes, lines_T: NDArray[np.int64], numbers: Sequence[str], texts: Sequence[str]
) -> Block:
    try:
        plain = layout.decimal == "." or b"." not in content
        frame = _csv(layout, content, {name: pl.Float32() for name in numbers} if plain else {})
        if plain and len(frame) == len(lines_T):
            return _block(layout, frame, lines_T, numbers, texts)
    except pl.exceptions.PolarsError:
        pass  # a cell is no plain number: find out which, or strip it
    try:
        frame = _csv(layout, content, {})
    except pl.exceptions.PolarsError as error:
        raise DataUnreadable(f"{layout.path}, from line {lines_T[0]}: no table: {first_line(error)}.") from error
    if len(frame) != len(lines_T):
        raise DataUnreadable(f"{layout.path}, from line {lines_T[0]}: a quoted cell runs over the end of its line.")
    return _block(layout, _numbers(layout, frame, lines_T, numbers), lines_T, numbers, texts)


def _csv(layout: Layout, content: bytes, dtypes: Mapping[str, pl.DataType]) -> pl.DataFrame:
    quoted = b'"' in content
    frame = pl.read_csv(
        io.BytesIO(content),
        separator=layout.separator,
        has_header=False,
        schema={f"{at}": dtypes.get(name, pl.String()) for at, name in enumerate(layout.names)},
        quote_char='"' if quoted else None,
        decimal_comma=layout.decimal == ",",
    )
    wanted = {name: f"{at}" for at, name in enumerate(layout.names)}
    return frame.select(pl.col(at).alias(name) for name, at in wanted.items())


def _numbers(layout: Layout, frame: pl.DataFrame, lines_T: NDArray[np.int64], numbers: Sequence[str]) -> pl.DataFrame:
    """Number columns that were read as text; the first cell that is no number, line by line, is refused."""
    text_of = frame.with_columns(pl.col(name).str.strip_chars().replace("", None) for name in numbers)
    dotted = text_of.with_columns(_turned(name) for name in numbers) if layout.decimal == "," else text_of
    parsed = dotted.with_columns(pl.col(numbers).cast(pl.Float32, strict=False))
    wrong = [(text_of[name].is_not_null() & parsed[name].is_null()).to_numpy() for name in numbers]
    row, at = min((int(mask.argmax()) if mask.any() else len(frame), at) for at, mask in enumerate(wrong))
    if row < len(frame):
        fault(layout.path, int(lines_T[row]), numbers[at], text_of[numbers[at]][row], "is not a number")
    return parsed


def _turned(name: str) -> pl.Expr:
    """A cell with a decimal comma. 1.234 among them may be a thousand or a fraction: it is taken for no number."""
    cell = pl.col(name)
    return pl.when(~cell.str.contains(".", literal=True)).then(cell.str.replace(",", ".", literal=True)).alias(name)


def _block(
    layout: Layout, frame: pl.DataFrame, lines_T: NDArray[np.int64], numbers: Sequence[str], texts: Sequence[str]
) -> Block:
    values_TD = frame.select(pl.col(numbers).cast(pl.Float32).fill_null(float("nan"))).to_numpy()
    stripped = {name: frame[name].str.strip_chars().replace("", None) for name in texts}
    return Block(layout, lines_T, values_TD, stripped)
