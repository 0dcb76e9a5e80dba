"""`skab`: a water-circulation rig, one site an experiment, 1 Hz, 8 sensors.

Source: Katser and Kozitsin 2020, doi 10.34740/KAGGLE/DSV/1693952, https://github.com/waico/SKAB. Layout below PATH:
`data/{valve1,valve2,other}/N.csv`, or the same without `data`. As the publishers do, the first 400 rows of a file are
training data and the rest is test data.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.ingest.base import natural_key, register
from client.ingest.files import to_float32
from client.ingest.tables import flags, numbers, read_table, seconds
from shared.errors import DataNotFound, TooFewRows
from shared.schema import SensorSchema
from shared.series import Repair, SiteData

FOLDERS = ("valve1", "valve2", "other")
TIME, FLAG = "datetime", "anomaly"
TAGS = (
    *("Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure"),
    *("Temperature", "Thermocouple", "Voltage", "Volume Flow RateRMS"),
)
TRAIN_ROWS = 400
GAP_S = 10
"""The logger skips one second in twenty, which is left as it is; a pause longer than this begins a new recording."""


class Skab:
    """The rig's experiments."""

    name = "skab"
    natural_partition = "by-channel"

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read every experiment; see `Loader.load`."""
        root = path / "data" if any((path / "data" / folder).is_dir() for folder in FOLDERS) else path
        files = [file for folder in FOLDERS for file in (root / folder).glob("*.csv")]
        numbered = sorted((file for file in files if _is_number(file.stem)), key=lambda file: natural_key(_name(file)))
        if not numbered:
            raise DataNotFound(f"{root} holds no experiments like {FOLDERS[0]}/0.csv.")
        sites = [_experiment(file) for file in numbered]
        other = tuple(
            Repair(f"{f.parent.name}/{f.name}", "name is no number: left out", 1) for f in files if f not in numbered
        )
        sites[0] = replace(sites[0], repairs=(*other, *sites[0].repairs))
        return tuple(sites)


def _is_number(stem: str) -> bool:
    return stem.isascii() and stem.isdigit() and len(stem) < 10


def _name(file: Path) -> str:
    return f"{file.parent.name}-{file.stem}"


def _experiment(file: Path) -> SiteData:
    table = read_table(file, (TIME, *TAGS, FLAG), separator=";")
    if len(table) <= TRAIN_ROWS:
        raise TooFewRows(
            f"{file} has {len(table)} rows; the first {TRAIN_ROWS} are training data and test data must follow."
        )
    values_TD = to_float32(numbers(file, table, TAGS))
    labels_T = flags(file, table, FLAG, (0, 1)) == 1
    steps_T = np.diff(seconds(file, table, TIME, "%Y-%m-%d %H:%M:%S"))
    breaks_T = np.flatnonzero(steps_T > GAP_S) + 1
    return SiteData(
        name=_name(file),
        schema=SensorSchema(tags=TAGS, period_s=1),
        train_TD=values_TD[:TRAIN_ROWS],
        test_TD=values_TD[TRAIN_ROWS:],
        labels_T=labels_T[TRAIN_ROWS:],
        train_starts=(0, *breaks_T[breaks_T < TRAIN_ROWS].tolist()),
        test_starts=(0, *(breaks_T[breaks_T > TRAIN_ROWS] - TRAIN_ROWS).tolist()),
        group=file.parent.name,
        source=f"SKAB {file}",
        repairs=_notes(_name(file), steps_T, int(labels_T[:TRAIN_ROWS].sum())),
    )


def _notes(name: str, steps_T: NDArray[np.int64], labelled: int) -> tuple[Repair, ...]:
    skips, pauses = int(((steps_T > 1) & (steps_T <= GAP_S)).sum()), int((steps_T > GAP_S).sum())
    notes = (
        Repair(name, f"a step of 2 to {GAP_S} s where 1 s is nominal: rows kept as if 1 s apart", skips),
        Repair(name, f"a pause longer than {GAP_S} s: a new recording begins after it", pauses),
        Repair(name, "training rows that are labelled anomalous: kept", labelled),
    )
    return tuple(note for note in notes if note.count)


register(Skab())
