"""SWaT's official files: `SWaT_Dataset_Normal_v1` and `SWaT_Dataset_Attack_v0`, as CSV or XLSX.

A row of stages, then the header with its stray blanks, then a row a second. Sensors are written with the fewest digits
that give the same float32 back.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import xlsxwriter

from shared.catalogue import tags
from shared.errors import InvalidConfig
from simulations.twin.recording import Recording

NORMAL, ATTACK = "SWaT_Dataset_Normal_v1", "SWaT_Dataset_Attack_v0"
BLANKED = ("MV101", "AIT201", "MV201", "P201", "P202", "P204", "MV303")  # a blank before their names, as issued
TIME, LABEL = " Timestamp", "Normal/Attack"
TIME_FORMAT = " %-d/%-m/%Y %-I:%M:%S %p"
BLOCK = 86_400  # rows turned into text at once
SHEET_ROWS = 1_048_576 - 2  # what a sheet holds below the two header rows


def write(folder: Path, normal: Recording, attack: Recording, xlsx: bool) -> None:
    """Write both runs into `folder`.

    Raises:
        InvalidConfig: a run is longer than a sheet.
        OSError: the disk is full, the folder cannot be written.
    """
    for name, recording in ((NORMAL, normal), (ATTACK, attack)):
        if xlsx:
            _write_xlsx(folder / f"{name}.xlsx", recording)
        else:
            _write_csv(folder / f"{name}.csv", recording)


def header() -> tuple[list[str], list[str]]:
    """The row of stages and the row of names.

    Example:
        >>> stages, names = header()
        >>> stages[:4], names[:4]
        (['', 'P1', '', ''], [' Timestamp', 'FIT101', 'LIT101', ' MV101'])
    """
    plant = tags("swat")
    before = ("", *(tag.stage for tag in plant))
    stages = [tag.stage if tag.stage != last else "" for tag, last in zip(plant, before, strict=False)]
    names = [f" {tag.name}" if tag.name in BLANKED else tag.name for tag in plant]
    return ["", *stages, ""], [TIME, *names, LABEL]


def _write_csv(path: Path, recording: Recording) -> None:
    with path.open("wb") as file:
        for row in header():
            file.write((",".join(row) + "\n").encode())
        for frame in _frames(recording):
            frame.write_csv(file, include_header=False)


def _write_xlsx(path: Path, recording: Recording) -> None:
    rows = len(recording.values_TD)
    if rows > SHEET_ROWS:
        cause = f"a run of {rows} rows does not fit into a sheet, which holds {SHEET_ROWS}."
        raise InvalidConfig(cause, "Make at most 12 days, or write CSV.")
    try:
        _write_book(path, recording)
    except xlsxwriter.exceptions.FileCreateError as error:  # What it makes of any OSError when it closes the file.
        raise OSError(str(error)) from error


def _write_book(path: Path, recording: Recording) -> None:
    with xlsxwriter.Workbook(path, {"constant_memory": True, "tmpdir": str(path.parent)}) as book:
        sheet = book.add_worksheet()
        for at, row in enumerate(header()):
            sheet.write_row(at, 0, row)
        at = 2
        for frame in _frames(recording):
            for cells in _shortest(frame).iter_rows():
                sheet.write_row(at, 0, cells)
                at += 1


def _shortest(frame: pl.DataFrame) -> pl.DataFrame:
    """Floats as the float64 nearest to their shortest decimal form: a sheet then says 502.51, not 502.510009765625."""
    return frame.with_columns(pl.col(pl.Float32).cast(pl.String).cast(pl.Float64))


def _frames(recording: Recording) -> Iterator[pl.DataFrame]:
    """The recording as text and numbers, a block at a time."""
    plant = tags("swat")
    for first in range(0, len(recording.values_TD), BLOCK):
        values_TD = recording.values_TD[first : first + BLOCK]
        begin = recording.begin + timedelta(seconds=first)
        last = begin + timedelta(seconds=len(values_TD) - 1)
        times = pl.datetime_range(begin, last, "1s", eager=True).dt.strftime(TIME_FORMAT)
        columns: dict[str, pl.Series] = {TIME: times}
        for at, tag in enumerate(plant):
            kind = np.int8 if tag.kind == "actuator" else np.float32
            columns[tag.name] = pl.Series(np.ascontiguousarray(values_TD[:, at]).astype(kind))
        words = np.where(recording.labels_T[first : first + BLOCK], "Attack", "Normal")
        columns[LABEL] = pl.Series(words.astype(object), dtype=pl.String)
        yield pl.DataFrame(columns)
