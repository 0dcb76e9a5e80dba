"""Text files of nothing but numbers, without a header: every fault names the file, the line and the field."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.ingest.files import first_line, read_text
from client.ingest.peek import Head
from shared.errors import DataUnreadable


def read_matrix(path: Path, separator: str | None = None) -> NDArray[np.float64]:
    """A text file of numbers as float64 (lines, fields); `NaN` is a missing reading.

    Args:
        path: the file.
        separator: what stands between two fields; None: any blanks.

    Raises:
        DataNotFound: no such file.
        DataUnreadable: a line has another number of fields than the first, a field is no number, or there are none.
    """
    lines = read_text(path).rstrip().split("\n")
    if separator is None:
        lines, separator = [" ".join(line.split()) for line in lines], " "
    fields = lines[0].count(separator) + 1
    for at, line in enumerate(lines, start=1):
        if not line.strip():
            raise DataUnreadable(f"{path}, line {at} is empty.")
        if (found := line.count(separator) + 1) != fields:
            raise DataUnreadable(f"{path}, line {at}: {found} fields where line 1 has {fields}.")
    return _parse(path, "\n".join(lines), separator)


def _parse(path: Path, text: str, separator: str) -> NDArray[np.float64]:
    try:
        cells = pl.read_csv(
            io.StringIO(text), separator=separator, has_header=False, infer_schema=False, quote_char=None
        ).select(pl.all().str.strip_chars())
    except pl.exceptions.PolarsError as error:
        raise DataUnreadable(f"{path} is no table of numbers: {first_line(error)}.") from error
    parsed = cells.cast(pl.Float64, strict=False)
    if sum(parsed.null_count().row(0)):
        missing_TD = np.column_stack([column.is_null().to_numpy() for column in parsed])
        row, column = (int(at) for at in np.argwhere(missing_TD)[0])
        value = cells[row, column]
        shown = "an empty field" if value is None else repr(value[:40])
        raise DataUnreadable(f"{path}, line {row + 1}, field {column + 1}: {shown} is not a number.")
    return parsed.to_numpy()


def first_numbers(head: Head, line: int = 0, separator: str | None = None) -> tuple[float, ...]:
    """The numbers of one of a file's first lines; empty when it is not all numbers.

    Example:
        >>> first_numbers(Head(Path("a"), "text", ("1 2", "x 3"), 7)), first_numbers(Head(Path("a"), "text", (), 0))
        ((1.0, 2.0), ())
    """
    if len(head.lines) <= line:
        return ()
    try:
        return tuple(float(field) for field in head.lines[line].split(separator))
    except ValueError:
        return ()
