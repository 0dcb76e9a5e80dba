"""Files played back: CSV in any order of columns, by the names in its header; Parquet.

The file is read as it is played, a line at a time; nothing of its size is ever in memory. Times come from the column
`time` or `timestamp` (option `time` names another one), or rows are one period apart from 1970-01-01 on.
"""

from __future__ import annotations

import asyncio
import csv
import importlib
import stat
import time as wall_clock
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from client.edge.options import one_line, read_options
from client.edge.records import Notice, Sample
from client.edge.sources.base import Source, SourceSettings
from client.edge.sources.rows import Columns, Order, Refused, match, number, read_time
from shared.artefact import Artefact
from shared.errors import DataNotFound, DataUnreadable, InvalidConfig, MissingExtra
from shared.series import FloatArray

_TIMES = ("time", "timestamp", "datetime", "date time", "date_time", "date", "ts")
_DELIMITERS = (",", ";", "\t", "|")
_LONGEST_LINE = 4 * 2**20  # bytes; a longer one is no row
_BREATH = 32  # rows between two looks at the rest of the world
_LONGEST_WAIT = 10.0  # periods that are waited for at most, before playing goes on
_PARQUET_ROWS = 4096
_TORN = f"a quotation mark without its end, or a cell of more than {csv.field_size_limit()} characters"


class ReplayOptions(Artefact, frozen=True, kw_only=True):
    """Options of a file.

    Attributes:
        time: name of the column of times; `-`: there is none.
        time_format: of `strptime`, where times are neither numbers of seconds nor ISO 8601.
    """

    time: str = ""
    time_format: str = ""


def open_replay(settings: SourceSettings) -> Source:
    """A file, by its ending: `.parquet`, else CSV.

    Raises:
        DataNotFound, DataUnreadable: there is no such file, or it has no header.
        SchemaMismatch: it lacks more than half of the tags.
        InvalidConfig: an unknown option.
        MissingExtra: Parquet without the package polars.
    """
    path, options = Path(settings.location), read_options(ReplayOptions, settings.options, "a replayed file")
    _check_file(path)
    if settings.speed is not None and not 0 < settings.speed < float("inf"):
        raise InvalidConfig(f"speed {settings.speed} is not above 0.", "Say --speed max, 1x or 100x.")
    rows = _Parquet(path, settings, options) if path.suffix == ".parquet" else _Csv(path, settings, options)
    return Replay(rows, settings)


class Replay:
    """Plays rows at a speed.

    Args:
        rows: iterable of samples and notices, and `columns`.
        settings: of the source.
    """

    def __init__(self, rows: _Rows, settings: SourceSettings) -> None:
        self._rows, self._speed, self._period = rows, settings.speed, settings.schema.period_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()

    async def __aiter__(self) -> AsyncIterator[Sample | Notice]:
        """Samples at their time; when playing falls behind, without waiting."""
        due, last = wall_clock.monotonic(), None
        for at, item in enumerate(self._rows):
            if at % _BREATH == 0:
                await asyncio.sleep(0)
            if item is None:
                continue
            if isinstance(item, Sample):
                if self._speed is not None:
                    due += self._wait_s(last, item.time)
                    await asyncio.sleep(max(0.0, due - wall_clock.monotonic()))
                    due = max(due, wall_clock.monotonic() - 1.0)  # A second behind is not caught up with.
                last = item.time
            yield item

    def _wait_s(self, last: float | None, time: float) -> float:
        if last is None or self._speed is None:
            return 0.0
        return min(max(time - last, 0.0), _LONGEST_WAIT * self._period) / self._speed


class _Rows(ABC):
    """Rows of a table as samples.

    Args:
        header: names of its columns.
        settings, options: of the source.
    """

    def __init__(self, header: Sequence[str], settings: SourceSettings, options: ReplayOptions) -> None:
        self._path, self._schema, self._options = settings.location, settings.schema, options
        self._time = _time_column(header, settings, options)
        self.columns: Columns = match(header, settings.schema, settings.location, self._time)
        self._at_D = [at if at is not None else -1 for at in self.columns.at_D]
        self._width = len(header)
        self._refused, self._order = Refused(), Order(settings.schema.period_s)
        self._number, self._unread = 0, 0

    def close(self) -> None:  # noqa: B027  most formats hold nothing open
        """Let the file go."""

    def __iter__(self) -> Iterator[Sample | Notice | None]:
        """Samples and notices; None for a line that gives neither, so that a file of nothing else holds nobody up."""
        started = wall_clock.time()
        yield from (Notice(started, "columns", f"{self._path}: {told}") for told in self.columns.told())
        last = 0.0
        for line, cells in self._cells():
            for item in self._made(line, cells) or (None,):
                last = item.time if isinstance(item, Sample) else last
                yield item
        unread = f", {self._unread} cells are no numbers and were taken as missing" if self._unread else ""
        yield self._refused.ended(last, f"{self._path} ends after {self._number} rows{unread}")

    @abstractmethod
    def _cells(self) -> Iterator[tuple[int, Sequence[str] | str]]:
        """Number of the line, and its cells or why it has none; an empty text is an empty line."""

    def _made(self, line: int, cells: Sequence[str] | str) -> list[Sample | Notice]:
        if not cells:
            return []
        if isinstance(cells, str):
            return list(self._refused.notice(f"{self._path}, line {line}: {cells}"))
        if len(cells) != self._width:
            told = f"{self._path}, line {line}: {len(cells)} cells where the header has {self._width}"
            return list(self._refused.notice(told))
        try:
            time = self._time_of(cells)
        except (ValueError, OverflowError) as error:
            return list(self._refused.notice(f"{self._path}, line {line}: no time: {error!s:.100}"))
        sample = Sample(time, self._values(cells), self._number)
        self._number += 1
        return [*self._order.check(time), sample]

    def _time_of(self, cells: Sequence[str]) -> float:
        if self._time is None:
            return self._number * self._schema.period_s
        return read_time(cells[self._time], self._options.time_format)

    def _values(self, cells: Sequence[str]) -> FloatArray:
        values = [self._value(cells[at]) if at >= 0 else np.nan for at in self._at_D]
        with np.errstate(over="ignore"):
            return np.array(values, np.float32)

    def _value(self, cell: str) -> float:
        found = number(cell)
        if found is None:
            self._unread += bool(cell.strip())
            return np.nan
        return found


class _Csv(_Rows):
    """A CSV file."""

    def __init__(self, path: Path, settings: SourceSettings, options: ReplayOptions) -> None:
        self._file: BinaryIO = path.open("rb")
        try:
            first = self._line()
            text = first if isinstance(first, str) else ""
            if not text.strip():
                raise DataUnreadable(f"{path} does not begin with a header.", "Its first line must name the tags.")
            self._delimiter = max(_DELIMITERS, key=lambda mark: len(_split(text, mark) or ()))
            super().__init__(_split(text, self._delimiter) or [], settings, options)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def _cells(self) -> Iterator[tuple[int, Sequence[str] | str]]:
        at = 1
        while True:
            at += 1
            line = self._line()
            if line is None:
                return
            if line == "":
                yield at, f"longer than {_LONGEST_LINE} bytes"
            else:
                cells = _split(line, self._delimiter) if line.strip() else []
                yield at, _TORN if cells is None else self._numbers(cells)

    def _numbers(self, cells: list[str]) -> list[str]:
        """Cells with a decimal point: where the delimiter is no comma, a comma may be one."""
        return cells if self._delimiter == "," else [_pointed(cell) for cell in cells]

    def _line(self) -> str | None:
        """The next line with its end; empty if it is too long, None at the end of the file."""
        data = self._read_line()
        if len(data) == _LONGEST_LINE and not data.endswith(b"\n"):
            while data and not data.endswith(b"\n"):
                data = self._read_line()
            return ""
        return data.decode("utf-8-sig", "replace") if data else None

    def _read_line(self) -> bytes:
        try:
            return self._file.readline(_LONGEST_LINE)
        except OSError as error:
            raise DataUnreadable(f"{self._file.name} cannot be read: {error.strerror or error}.") from error


class _Parquet(_Rows):
    """A Parquet file."""

    def __init__(self, path: Path, settings: SourceSettings, options: ReplayOptions) -> None:
        try:
            pl = importlib.import_module("polars")
        except ImportError as error:
            cause = f"{path}: Parquet needs the package 'polars'."
            raise MissingExtra(cause, "Install it with `pip install polars`, or give a CSV file.") from error
        # A damaged file may make polars panic, which is no Exception.
        self._errors = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, OverflowError, ValueError)
        try:
            self._frame = pl.scan_parquet(path)
            header = self._frame.collect_schema().names()
        except self._errors as error:
            raise DataUnreadable(f"{path} is no Parquet file: {one_line(error, 200)}.") from error
        super().__init__(header, settings, options)

    def _cells(self) -> Iterator[tuple[int, Sequence[str] | str]]:
        begin = 0
        while True:
            rows = self._read(begin)
            yield from ((begin + at, [_shown(cell) for cell in row]) for at, row in enumerate(rows, 1))
            begin += len(rows)
            if len(rows) < _PARQUET_ROWS:
                return

    def _read(self, begin: int) -> list[tuple[object, ...]]:
        try:
            found: list[tuple[object, ...]] = self._frame.slice(begin, _PARQUET_ROWS).collect().rows()
        except self._errors as error:
            told = f"{self._path} is damaged after row {begin}: {one_line(error, 200)}."
            raise DataUnreadable(told) from error
        return found


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise DataNotFound(f"{path}: {told}.", "--source takes a file, `-`, opc.tcp://... or mqtt://...") from error
    if not stat.S_ISREG(mode):
        raise DataUnreadable(f"{path} is no file.", "--source takes a CSV or Parquet file.")


def _time_column(header: Sequence[str], settings: SourceSettings, options: ReplayOptions) -> int | None:
    names = [name.strip() for name in header]
    if options.time == "-":
        return None
    if options.time:
        if options.time not in names:
            raise InvalidConfig(f"{settings.location} has no column {options.time!r}.", "See the option `time`.")
        return names.index(options.time)
    tags = set(settings.schema.tags)
    return next((at for at, name in enumerate(names) if name.lower() in _TIMES and name not in tags), None)


def _split(line: str, delimiter: str) -> list[str] | None:
    """A line's cells; None where a quotation mark has no end."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return None


def _pointed(cell: str) -> str:
    return cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell


def _shown(cell: object) -> str:
    return "" if cell is None else str(float(cell)) if isinstance(cell, bool) else str(cell)
