"""How a column of times may be written: formats are tried on the cells, never assumed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import polars as pl

DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d"),
    *(f"{a}{mark}{b}{mark}{year}" for a, b in (("%d", "%m"), ("%m", "%d")) for mark in "/.-" for year in ("%Y", "%y")),
    *("%y/%m/%d", "%y-%m-%d"),
    *(f"%d{mark}%b{mark}{year}" for mark in "- /" for year in ("%Y", "%y")),
)
TIMES = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S%.f %p", "%I:%M %p", "%H")
ZONES = ("", "%#z", " %#z")
EARLIEST, YEAR_2000, LATEST = 0, 946_684_800_000_000, 4_102_444_800_000_000
"""Years 1970 to 2099, in microseconds: a format that puts readings elsewhere is the wrong one."""
EPOCHS = ((1_000_000, "epoch in s"), (1_000, "epoch in ms"), (1, "epoch in us"), (0.001, "epoch in ns"))
TRIED = 5
_LETTERS = {
    "%Y": r"\d{4}",
    "%y": r"\d\d",
    "%S%.f": r"\d\d?([.]\d+)?",
    "%b": "[A-Za-z]{3,}",
    "%p": "[AaPp][Mm]",
    "%#z": r"(Z|[+-]\d\d:?(\d\d)?)",
}


@dataclass(frozen=True)
class Reading:
    """One way to read a column of times.

    Attributes:
        layout: the format, as for `strptime`, or `epoch in ...`, or `datetime of the file`.
        moments: the times, null where a cell is none; in UTC unless naive.
        naive: the cells carry no offset from UTC.
    """

    layout: str
    moments: pl.Series
    naive: bool = True

    @property
    def share(self) -> float:
        """How many of the cells are times of this format, 0 to 1."""
        return 1 - self.moments.null_count() / max(len(self.moments), 1)

    @property
    def counted(self) -> bool:
        """Whether the cells are plain numbers, which may be readings as well."""
        return self.layout.startswith("epoch")

    @property
    def dates_only(self) -> bool:
        """Whether the cells say the day but not the time of day."""
        return self.layout in DATES


def readings(cells: pl.DataFrame, layout: str | None) -> Iterator[Reading]:
    """Every way to read one column, or two that are joined by a blank, that fits at least one cell.

    Args:
        cells: one or two columns.
        layout: try this format only.
    """
    columns = cells.get_columns()
    if len(columns) == 1 and columns[0].dtype.is_temporal():
        yield from _typed(columns[0])
        return
    if len(columns) == 1 and not layout and (epoch := _epoch(columns[0])) is not None:
        yield epoch
    text = cells.select(pl.concat_str(pl.all().cast(pl.String).str.strip_chars(), separator=" ")).to_series()
    text = text.replace("", None).str.replace(r"^(\d{4}-\d\d-\d\d)[T_]", "${1} ")
    for candidate in (layout,) if layout else _likely(text.drop_nulls().head(TRIED).to_list()):
        reading = _as(text, candidate)
        if reading is not None and reading.moments.null_count() < len(text):
            yield reading


@cache
def _layouts() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Every format, beside what its cells look like: far quicker to try than the format itself."""
    timed = (f"{date} {time}{zone}" for date, time, zone in product(DATES, TIMES, ZONES))
    return tuple((layout, re.compile(_looks(layout))) for layout in (*DATES, *timed))


def _looks(layout: str) -> str:
    for letters, pattern in _LETTERS.items():
        layout = layout.replace(letters, pattern)
    return re.sub(r"%[dmHIM]", r"\\d\\d?", layout)


def _likely(cells: Sequence[str]) -> Iterator[str]:
    for layout, looks in _layouts():
        if any(looks.fullmatch(cell) for cell in cells):
            yield layout


def _as(text: pl.Series, layout: str) -> Reading | None:
    if "%H" in layout and "%M" not in layout and "%T" not in layout:  # polars needs minutes beside hours
        text, layout_used = text.str.replace(r"^(\S+\s+\d\d?)", "${1}:00"), layout.replace("%H", "%H:%M")
    else:
        layout_used = layout
    try:
        moments = text.str.to_datetime(layout_used, strict=False, time_unit="us")
    except pl.exceptions.PolarsError:
        return None
    zoned = isinstance(moments.dtype, pl.Datetime) and moments.dtype.time_zone is not None
    return Reading(layout, _sensible(moments.dt.replace_time_zone(None) if zoned else moments), naive=not zoned)


def _sensible(moments: pl.Series) -> pl.Series:
    right = moments.dt.epoch("us").is_between(EARLIEST, LATEST).fill_null(value=False)
    return moments.to_frame("at").select(pl.when(right).then(pl.col("at"))).to_series()


def _typed(column: pl.Series) -> Iterator[Reading]:
    if isinstance(column.dtype, pl.Datetime):
        zoned = column.dtype.time_zone is not None
        plain = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else column
        yield Reading("datetime of the file", _sensible(plain.dt.cast_time_unit("us")), naive=not zoned)
    elif column.dtype == pl.Date:
        yield Reading(DATES[0], _sensible(column.cast(pl.Datetime("us"))))


def _epoch(column: pl.Series) -> Reading | None:
    """Seconds, or thousandths of them down to nanoseconds, since 1970, in numbers that mostly rise."""
    numbers = column.cast(pl.Float64, strict=False).fill_nan(None)
    known = numbers.drop_nulls().to_numpy()
    if len(known) < 2 or known.min() == known.max() or not np.isfinite(known).all():
        return None
    for factor, layout in EPOCHS:
        if np.median(known) * factor >= YEAR_2000 and np.median(known) * factor <= LATEST:
            moments = (numbers * factor).round().cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
            return Reading(layout, _sensible(moments), naive=False)
    return None
