"""WADI's files as issued: release A2 (2019, with labels) and A1 (2017, without)."""

from __future__ import annotations

from datetime import timedelta
from io import BufferedWriter
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from shared.catalogue import tags
from shared.errors import InvalidConfig
from shared.series import FloatArray
from simulations.twin.network.published import BEGINS, RANGES
from simulations.twin.recording import Recording

Version = Literal["A1", "A2"]
NAMES = {"A2": ("WADI_14days_new.csv", "WADI_attackdataLABLE.csv"), "A1": ("WADI_14days.csv", "WADI_attackdata.csv")}
PREFIX = "\\\\WIN-25J4RO10SBF\\LOG_DATA\\SUTD_WADI\\LOG_DATA\\"
LABEL = "Attack LABLE (1:No Attack, -1:Attack)"
CHUNK = 50_000  # rows written at once
CODED = ("_STATUS", "_AL", "_AH", "_LOG")  # tags of whole numbers, written as such


def write(folder: Path, normal: Recording, attack: Recording, version: Version = "A2") -> None:
    """Write both stretches under their official names.

    A2: short names; the attack file has a line without content first, blanks behind `Row` and `Date`, labels 1 (no
    attack) and -1 in its last column, and two empty rows at its end. A1: four lines before the header of the normal
    file, 46-character prefixes, and no labels: those follow from the published seconds, so the attacks must lie there
    (`NetworkTwin.published` runs them).

    Raises:
        InvalidConfig: the normal stretch holds attacks, or the attacks of an A1 release are not the published ones.
        OSError: the files cannot be written.
    """
    if normal.labels_T.any():
        raise InvalidConfig("the normal stretch holds attacks.", "Run it without events.")
    if version == "A1":
        _check_published(attack)
    first, second = (folder / name for name in NAMES[version])
    with first.open("wb") as file:
        _write_normal(file, normal, version)
    with second.open("wb") as file:
        _write_attack(file, attack, version)


def _write_normal(file: BufferedWriter, recording: Recording, version: Version) -> None:
    if version == "A1":
        end = recording.begin + timedelta(seconds=len(recording.labels_T) - 1)
        file.write(f"Historian export\r\nFrom {recording.begin} to {end}\r\nInterval 1 s\r\n\r\n".encode())
    _line(file, ["Row", "Date", "Time", *_columns(version)])
    _rows(file, recording, labelled=False)


def _write_attack(file: BufferedWriter, recording: Recording, version: Version) -> None:
    if version == "A1":
        _line(file, ["Row", "Date", "Time", *_columns(version)])
        _rows(file, recording, labelled=False)
        return
    columns = ["Row ", "Date ", "Time", *_columns(version), f'"{LABEL}"']
    _line(file, [""] * len(columns))
    _line(file, columns)
    _rows(file, recording, labelled=True)
    for _ in range(2):
        _line(file, [""] * len(columns))


def _columns(version: Version) -> list[str]:
    prefix = PREFIX if version == "A1" else ""
    return [prefix + tag.name for tag in tags("wadi")]


def _line(file: BufferedWriter, cells: list[str]) -> None:
    file.write((",".join(cells) + "\n").encode())


def _rows(file: BufferedWriter, recording: Recording, labelled: bool) -> None:
    for first in range(0, len(recording.labels_T), CHUNK):
        _table(recording, slice(first, first + CHUNK), labelled).write_csv(file, include_header=False)


def _table(recording: Recording, rows: slice, labelled: bool) -> pl.DataFrame:
    """One chunk as text would have it: row numbers from 1, `10/9/2017`, `6:00:00.000 PM`, empty cells for NaN."""
    values_TD = recording.values_TD[rows]
    number_T = np.arange(rows.start, rows.start + len(values_TD))
    begin = np.datetime64(recording.begin, "ms")
    moment = pl.Series("t", begin + number_T * np.timedelta64(1000, "ms"))
    table = {
        "Row": pl.Series(number_T + 1),
        "Date": moment.dt.strftime("%-m/%-d/%Y"),
        "Time": moment.dt.strftime("%-I:%M:%S%.3f %p"),
        **{tag.name: _cells(values_TD[:, at], tag.name) for at, tag in enumerate(tags("wadi"))},
    }
    if labelled:
        table[LABEL] = pl.Series(np.where(recording.labels_T[rows], -1, 1))
    return pl.DataFrame(table)


def _cells(values_T: FloatArray, name: str) -> pl.Series:
    column = pl.Series(values_T, dtype=pl.Float32).fill_nan(None)
    return column.cast(pl.Int64) if name.endswith(CODED) else column


def _check_published(attack: Recording) -> None:
    seconds = len(attack.labels_T)
    due_T = np.zeros(seconds, dtype=np.bool_)
    for first, end in RANGES:
        due_T[first:end] = True
    if attack.begin != BEGINS or not np.array_equal(due_T, attack.labels_T):
        raise InvalidConfig(
            f"release A1 has no label column, and the attacks from {attack.begin} on are not its published ones.",
            f"Begin at {BEGINS} and play simulations.twin.network.published.attacks, or write release A2.",
        )
