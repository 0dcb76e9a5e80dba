"""Which column of an export holds the times, and what moment each row is.

Where day and month could be either, the order is taken under which the rows follow each other in regular steps; where
both do, the file does not tell, and the plant must (`time_format`).
"""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.ingest.files import first_line
from client.ingest.historian.formats import Reading, readings
from client.ingest.historian.settings import HistorianSettings
from client.ingest.historian.source import SAMPLE, Source
from shared.errors import DataUnreadable, InvalidConfig
from shared.series import BoolArray, Repair

NEARLY_ALL, IN_SAMPLE = 0.95, 0.9
_WORDS = ("time", "date", "stamp", "epoch")
_ADVICE = 'Say it in historian.toml beside the data: time = "COLUMN" and time_format = "%d/%m/%Y %H:%M:%S".'

Stamps = NDArray[np.int64]


@dataclass(frozen=True)
class Clock:
    """The times of one file.

    Attributes:
        columns: the column of times, or those of date and time of day.
        layout: the format, in words where it is none of `strptime`.
        stamps_T: int64 (T,) microseconds since 1970, UTC; 0 where `known_T` is False.
        known_T: bool (T,), whether the cell was a time.
        naive: whether the times carry no offset from UTC.
        notes: what was decided.
    """

    columns: tuple[str, ...]
    layout: str
    stamps_T: Stamps
    known_T: BoolArray
    naive: bool
    notes: tuple[Repair, ...] = ()


def read_clock(source: Source, settings: HistorianSettings) -> Clock:
    """Find and read the times of a file.

    Raises:
        DataUnreadable: no column holds times, or day and month cannot be told apart.
        InvalidConfig: the column or the format that was named does not fit.
    """
    start = source.read(pl.all(), most=SAMPLE)
    columns = _columns(source, start, settings)
    whole = source.read(columns)
    found = [reading for reading in readings(whole, settings.time_format) if reading.share >= NEARLY_ALL]
    if not found:
        raise _no_times(source, whole, columns, settings)
    chosen, notes = _decide(source, columns, found)
    if not settings.time_format:
        _refuse_both_orders(source, whole, chosen)
    stamps = chosen.moments.dt.epoch("us")
    known_T = stamps.is_not_null().to_numpy()
    stamps_T = stamps.fill_null(0).to_numpy()
    if chosen.naive and settings.timezone:
        stamps_T, known_T, zoned = in_zone(stamps_T, known_T, settings.timezone, source.path.name)
        notes = (*notes, *zoned)
    lost = int((~known_T).sum())
    if lost:
        line = source.first_line + int((~known_T).argmax())
        notes = (*notes, Repair(source.path.name, f"rows without a time, the first in line {line}: left out", lost))
    return Clock(columns, chosen.layout, stamps_T, known_T, chosen.naive and not settings.timezone, notes)


def _columns(source: Source, start: pl.DataFrame, settings: HistorianSettings) -> tuple[str, ...]:
    if settings.time:
        missing = [name for name in settings.time if name not in source.columns]
        if missing:
            cause = f"{source.path} has no column {missing[0]!r}, which historian.toml names as the time."
            raise InvalidConfig(cause, f"Its columns begin: {', '.join(source.columns[:8])}.")
        return settings.time
    dates = counts = ""
    for at, name in enumerate(source.columns):
        reading = _fitting(start.select(name), settings)
        if reading is None:
            continue
        if reading.counted and not _is_word_of_time(name):  # a running number, unless nothing else is a time
            counts = counts or (name if at < 2 else "")
            continue
        if not reading.dates_only:
            return (name,)
        after = source.columns[at + 1 : at + 2]
        if after and _fitting(start.select(name, *after), settings):
            return (name, *after)
        dates = dates or name
    if dates or counts:
        return (dates or counts,)
    raise _no_times(source, start, source.columns[:1], settings)


def _fitting(cells: pl.DataFrame, settings: HistorianSettings) -> Reading | None:
    return next((way for way in readings(cells, settings.time_format) if way.share >= IN_SAMPLE), None)


def _is_word_of_time(name: str) -> bool:
    """Whether a column of large counting numbers is called what columns of times are."""
    return any(word in name.lower() for word in _WORDS)


def _decide(source: Source, columns: tuple[str, ...], found: list[Reading]) -> tuple[Reading, tuple[Repair, ...]]:
    """The best reading; two that disagree must differ in how regular the rows become."""
    most = max(reading.share for reading in found)
    best = [reading for reading in found if reading.share == most]
    ways = [best[0], *(reading for reading in best[1:] if not reading.moments.equals(best[0].moments))]
    if len(ways) == 1:
        told = f"the numbers of {columns[0]!r} are taken for times, {ways[0].layout}: read"
        return ways[0], (Repair(source.path.name, told, len(ways[0].moments)),) if ways[0].counted else ()
    scored = sorted((_irregular(reading.moments), at) for at, reading in enumerate(ways))
    if scored[0][0] == scored[1][0]:
        cell = " ".join(map(str, source.read(columns, most=1).row(0)))
        either = f"{ways[0].layout} or {ways[1].layout}".replace("%.f", "")
        cause = f"{source.path}, column {columns[0]!r}: {cell[:40]!r} may be {either}, and the rows do not tell."
        raise DataUnreadable(cause, _ADVICE)
    chosen = ways[scored[0][1]]
    shown = chosen.layout.replace("%.f", "")
    what = f"times read as {shown}: the other order makes irregular steps"
    return chosen, (Repair(source.path.name, what, scored[1][0] - scored[0][0]),)


def _refuse_both_orders(source: Source, cells: pl.DataFrame, chosen: Reading) -> None:
    """Excel turns round the days it can read the American way and leaves the others: time jumps to and fro then."""
    if not chosen.layout.startswith(("%d", "%m")) or not _jumps_about(chosen.moments):
        return
    other = chosen.layout.replace("%d", "%D").replace("%m", "%d").replace("%D", "%m")
    for turned in readings(cells, other):
        if not _jumps_about(pl.select(pl.coalesce(turned.moments, chosen.moments)).to_series()):
            cause = (
                f"{source.path}, column {cells.columns[0]!r}: time is in order only if some rows put the month first"
            )
            cure = (
                "Export the file again, with times such as 2024-05-31 14:00:00; opening it in Excel turned some days."
            )
            raise DataUnreadable(f"{cause} and some the day.", cure)


def _jumps_about(moments: pl.Series) -> bool:
    steps = moments.dt.epoch("us").drop_nulls().diff().drop_nulls()
    return bool((steps < 0).any() and (steps > 0).any())


def _irregular(moments: pl.Series) -> int:
    """Steps that go back, or are far from the usual one."""
    steps = moments.dt.epoch("us").drop_nulls().diff().drop_nulls().to_numpy()
    rising = steps[steps > 0]
    usual = float(np.median(rising)) if len(rising) else 0.0
    return int(((steps < 0) | (steps > 3 * usual)).sum())


def in_zone(
    stamps_T: Stamps, known_T: BoolArray, zone: str, where: str
) -> tuple[Stamps, BoolArray, tuple[Repair, ...]]:
    """Local times to UTC. An hour that occurs twice is told apart by where time goes back; one that never was is lost.

    Example:
        >>> midnight = 1_729_987_200_000_000  # 27 October 2024, when 02:30 comes twice
        >>> twice = np.array([9_000, 9_000]) * 1_000_000 + midnight
        >>> ((in_zone(twice, np.array([True, True]), "Europe/Berlin", "a.csv")[0] - midnight) / 1_000_000).tolist()
        [1800.0, 5400.0]
    """
    if len(stamps_T) > 1 and np.median(np.diff(stamps_T)) < 0:  # newest first
        turned_T, kept_T, notes = in_zone(stamps_T[::-1], known_T[::-1], zone, where)
        return turned_T[::-1], kept_T[::-1], notes
    local = pl.Series(stamps_T).cast(pl.Datetime("us"))
    key = ZoneInfo(zone).key
    try:
        early, late = (
            local.dt.replace_time_zone(key, ambiguous=which, non_existent="null").dt.epoch("us")
            for which in ("earliest", "latest")
        )
    except pl.exceptions.PolarsError as error:
        raise InvalidConfig(f"historian.toml: timezone {zone!r}: {first_line(error)}.") from error
    there_T = known_T & early.is_not_null().to_numpy()
    early_T, late_T = early.fill_null(0).to_numpy(), late.fill_null(0).to_numpy()
    utc_T = np.where(_second_pass(stamps_T, there_T & (early_T != late_T)), late_T, early_T)
    lost = int((known_T & ~there_T).sum())
    notes = (Repair(where, f"times that never were in {zone}, when clocks are set forward: left out", lost),)
    return utc_T, there_T, notes if lost else ()


def _second_pass(stamps_T: Stamps, twice_T: BoolArray) -> BoolArray:
    """Among the times that occur twice, those after time has gone back (or stood still) within the same hour."""
    second_T = np.zeros(len(stamps_T), dtype=np.bool_)
    edges = np.flatnonzero(np.diff(twice_T.astype(np.int8), prepend=0, append=0))
    for start, end in edges.reshape(-1, 2):
        steps_T = np.diff(stamps_T[start:end], prepend=stamps_T[start] - 1)
        back_T = steps_T < 0 if (steps_T < 0).any() else steps_T == 0
        second_T[start:end] = np.cumsum(back_T) == 1
        if back_T.sum() != 1:  # seen once, or so often that the order of rows does not tell
            second_T[start:end] = False
    return second_T


def _no_times(
    source: Source, cells: pl.DataFrame, columns: tuple[str, ...], settings: HistorianSettings
) -> DataUnreadable | InvalidConfig:
    sample = next((str(cell) for cell in cells.select(columns).row(0) if cell is not None), "") if len(cells) else ""
    if settings.time_format:
        cause = f"{source.path}: {sample[:40]!r} in column {columns[0]!r} is no time like {settings.time_format}."
        return InvalidConfig(cause, "Mend time and time_format in historian.toml.")
    begins = f"the column {columns[0]!r} begins with {sample[:40]!r}"
    cause = f"{source.path}: no column holds times in nearly all rows; {begins}."
    return DataUnreadable(cause, _ADVICE)
