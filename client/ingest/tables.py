"""Reading tables that may be broken: every fault names the file, the line, the column and the value."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.ingest.files import first_line, read_text
from shared.errors import DataUnreadable


def read_table(path: Path, columns: Sequence[str], separator: str = ",") -> pl.DataFrame:
    """A table of stripped text cells, empty ones null, with at least the given columns. Row i stands in line i + 2.

    Raises:
        DataNotFound: no such file.
        DataUnreadable: a column is missing or named twice, a line has too few or too many fields, or there are no rows.
    """
    lines = read_text(path).rstrip("\n").split("\n")
    header = [name.strip() for name in lines[0].split(separator)]
    _check_header(path, header, columns)
    for at, line in enumerate(lines, start=1):
        if (fields := line.count(separator) + 1) != len(header):
            raise DataUnreadable(f"{path}, line {at}: {fields} fields where the header has {len(header)}.")
    if len(lines) < 2:
        raise DataUnreadable(f"{path} has a header but no rows.")
    try:
        table = pl.read_csv(
            io.StringIO("\n".join(lines[1:])),
            separator=separator,
            has_header=False,
            new_columns=header,
            infer_schema=False,
            quote_char=None,
        )
    except pl.exceptions.PolarsError as error:
        raise DataUnreadable(f"{path} is no table: {first_line(error)}.") from error
    return table.select(pl.col(name).str.strip_chars().replace("", None) for name in columns)


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DataUnreadable(f"{path}, line 1: {len(missing)} columns are missing: {shown}.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataUnreadable(f"{path}, line 1: the column {twice[0]!r} occurs twice.")


def numbers(path: Path, table: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """Columns as float64 (T, D); empty cells are NaN.

    Raises:
        DataUnreadable: a cell holds something else than a number.
    """
    text = table.select(columns)
    parsed = text.cast(pl.Float64, strict=False)
    for name in columns:
        _refuse(path, text[name], text[name].is_not_null() & parsed[name].is_null(), "is not a number")
    return parsed.fill_null(float("nan")).to_numpy()


def seconds(path: Path, table: pl.DataFrame, column: str, layout: str) -> NDArray[np.int64]:
    """A column of times as int64 (T,) seconds since 1970, rising.

    Args:
        layout: as for `strptime`, without minutes where the data has none.

    Raises:
        DataUnreadable: a cell is no time of this layout, or time stands still or goes back.
    """
    text = table[column]
    full, suffix = (layout, "") if "%M" in layout else (f"{layout}:%M", ":00")  # polars needs minutes beside hours
    parsed = (text + suffix).str.to_datetime(full, time_unit="us", strict=False)
    _refuse(path, text, parsed.is_null(), f"is no time like {layout}")
    stamps = parsed.dt.epoch("s")
    _refuse(path, text, (stamps.diff() <= 0).fill_null(value=False), "does not come after the line before it")
    return stamps.to_numpy()


def flags(path: Path, table: pl.DataFrame, column: str, allowed: Sequence[int]) -> NDArray[np.int64]:
    """A column of labels as int64 (T,), each one of `allowed`.

    Raises:
        DataUnreadable: a cell is empty or holds something else.
    """
    parsed = table[column].cast(pl.Float64, strict=False)
    wrong = ~parsed.is_in([float(value) for value in allowed]).fill_null(value=False)
    _refuse(path, table[column], wrong, f"is none of {', '.join(map(str, allowed))}")
    return parsed.cast(pl.Int64).to_numpy()


def _refuse(path: Path, text: pl.Series, wrong: pl.Series, why: str) -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        value = "an empty cell" if text[row] is None else repr(text[row][:40])
        raise DataUnreadable(f"{path}, line {row + 2}, column {text.name}: {value} {why}.")
