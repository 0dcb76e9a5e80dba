"""`batadal`: the C-Town water distribution network, one plant, hourly, 43 tags.

Source: Taormina et al. 2018, doi 10.1061/(ASCE)WR.1943-5452.0000969, http://www.batadal.net. Training data is
`BATADAL_dataset03.csv` (a normal year). Test data is `dataset04_fully_labelled.csv` where it is there, else the
official `BATADAL_dataset04.csv`, whose ATT_FLAG is 1 for known attacks and -999 for rows that nobody labelled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.ingest.base import register
from client.ingest.files import to_float32
from client.ingest.tables import flags, numbers, read_table, seconds
from shared.errors import DataNotFound, DataUnreadable
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData

TIME, FLAG, UNLABELLED = "DATETIME", "ATT_FLAG", -999
PERIOD_S = 3600
TRAIN = ("BATADAL_dataset03.csv", "training_dataset_1.csv")
TEST = ("dataset04_fully_labelled.csv", "BATADAL_dataset04.csv", "training_dataset_2.csv")
JUNCTIONS = ("J280", "J269", "J300", "J256", "J289", "J415", "J302", "J306", "J307", "J317", "J14", "J422")
TAGS = (
    *(f"L_T{tank}" for tank in range(1, 8)),
    *(f"{kind}_PU{pump}" for pump in range(1, 12) for kind in "FS"),
    *("F_V2", "S_V2"),
    *(f"P_{junction}" for junction in JUNCTIONS),
)
KNOWN_ATTACK_ROWS, OFFICIAL_ROWS = 219, 4_177
"""Of the official dataset04: 219 rows are flagged, 492 are attacks in truth."""


class Batadal:
    """C-Town."""

    name = "batadal"
    natural_partition = "by-time"

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read the one plant; see `Loader.load`."""
        train_file, test_file = _locate(path, TRAIN), _locate(path, TEST)
        train_TD, train_flags_T = _read(train_file)
        if train_flags_T.any():
            line = int(np.flatnonzero(train_flags_T)[0]) + 2
            raise DataUnreadable(
                f"{train_file}, line {line}: ATT_FLAG is {train_flags_T[line - 2]} in the normal year."
            )
        test_TD, test_flags_T = _read(test_file)
        labels_T, repairs = _labels(test_file.name, test_flags_T)
        schema = SensorSchema(tags=TAGS, period_s=PERIOD_S)
        source = f"BATADAL {train_file} and {test_file.name}"
        return (SiteData("c-town", schema, train_TD, test_TD, labels_T, source=source, repairs=repairs),)


def _locate(path: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (path / name).is_file():
            return path / name
    raise DataNotFound(f"{path} holds none of {', '.join(names)}.")


def _read(path: Path) -> tuple[FloatArray, NDArray[np.int64]]:
    table = read_table(path, (TIME, *TAGS, FLAG))
    _check_hourly(path, table)
    return to_float32(numbers(path, table, TAGS)), flags(path, table, FLAG, (0, 1, UNLABELLED))


def _check_hourly(path: Path, table: pl.DataFrame) -> None:
    steps = np.diff(seconds(path, table, TIME, "%d/%m/%y %H"))
    if (wrong := np.flatnonzero(steps != PERIOD_S)).size:
        row = int(wrong[0]) + 1
        hours = f"{steps[row - 1] / PERIOD_S:g} hours after the line before it"
        cause = f"{path}, line {row + 2}: {table[TIME][row]!r} comes {hours}."
        raise DataUnreadable(cause, "The rows must be hourly without gaps: copy the file again from its source.")


def _labels(name: str, flags_T: NDArray[np.int64]) -> tuple[BoolArray | None, tuple[Repair, ...]]:
    unknown = int((flags_T == UNLABELLED).sum())
    if unknown:
        what = "ATT_FLAG -999, attack or not is unknown: no labels are used; dataset04_fully_labelled.csv has them"
        return None, (Repair(name, what, unknown),)
    if len(flags_T) == OFFICIAL_ROWS and flags_T.sum() == KNOWN_ATTACK_ROWS:
        what = "only the known attacks are flagged and the unlabelled rows say 0: no labels are used"
        return None, (Repair(name, what, OFFICIAL_ROWS - KNOWN_ATTACK_ROWS),)
    return flags_T == 1, ()


register(Batadal())
