"""`skab`: a water-circulation rig, one site an experiment, 1 Hz, 8 sensors.

Source: Katser and Kozitsin 2020, doi 10.34740/KAGGLE/DSV/1693952, https://github.com/waico/SKAB. Layout below PATH:
`data/{valve1,valve2,other}/N.csv`, or the same without `data`, or one experiment alone. As the publishers do, the first
400 rows of a file are training data and the rest is test data. `anomaly-free/anomaly-free.csv`, 9,405 normal rows
recorded a month before the experiments, is not used, as in the published protocol: an experiment is learnt from its own
beginning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.ingest.base import Figure, FoundFile, Recognition, natural_key, register
from client.ingest.files import read_text, to_float32
from client.ingest.peek import files_below, peek
from client.ingest.tables import flags, numbers, read_table, seconds
from shared.errors import DataNotFound, TooFewRows
from shared.schema import SensorSchema
from shared.series import Repair, SiteData

EXPERIMENTS = {"valve1": 16, "valve2": 4, "other": 14}
FOLDERS = tuple(EXPERIMENTS)
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

    def recognise(self, path: Path) -> Recognition | None:
        """By the header; see `Loader.recognise`."""
        experiments, free, other = _find(path)
        if not any(_has_header(file) for file in (*experiments, *free, *other)):
            return None
        counts = {folder: sum(file.parent.name == folder for file in experiments) for folder in EXPERIMENTS}
        lost = [f"{all_ - counts[name]} of {all_} experiments of {name}" for name, all_ in EXPERIMENTS.items()]
        some = [text for text in lost if not text.startswith("0 ")] + ["anomaly-free.csv"] * (not free)
        found = [FoundFile(file, f"experiment {_name(file)}") for file in experiments]
        found += [FoundFile(file, "anomaly-free run (not used)") for file in free]
        found += [FoundFile(file, "experiment whose name is no number (left out)") for file in other]
        return Recognition(self.name, "SKAB", tuple(found), tuple(some))

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Experiments in all and in each folder; see `Loader.figures`."""
        whole = Figure("experiments", len(sites), (sum(EXPERIMENTS.values()),))
        there = {name: sum(site.group == name for site in sites) for name in EXPERIMENTS}
        parts = [
            Figure(f"experiments of {name}", count, (EXPERIMENTS[name],)) for name, count in there.items() if count
        ]
        free = [
            Figure("rows of the anomaly-free run", _rows(file.path), (9_405,)) for file in found.files if _is_free(file)
        ]
        return (whole, *parts, *free)

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read every experiment; see `Loader.load`."""
        experiments, free, other = _find(path)
        if not experiments:
            raise DataNotFound(f"{path} holds no experiments like {FOLDERS[0]}/0.csv.")
        sites = [_experiment(file) for file in experiments]
        notes = [Repair(f"{file.parent.name}/{file.name}", "name is no number: left out", 1) for file in other]
        unused = "a normal run without labels: not used, as in the published protocol"
        notes += [Repair(file.name, unused, _rows(file)) for file in free]
        sites[0] = replace(sites[0], repairs=(*notes, *sites[0].repairs))
        return tuple(sites)


def _find(path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Experiments, anomaly-free runs, and experiments with other names than numbers; each in natural order."""
    kinds: dict[str, list[Path]] = {"experiment": [], "free": [], "other": []}
    for file in files_below(path, depth=3):
        kinds.get(_kind(file, alone=file == path), []).append(file)
    experiments, free, other = (sorted(files, key=lambda file: natural_key(_name(file))) for files in kinds.values())
    return experiments, free, other


def _kind(file: Path, alone: bool) -> str:
    by_header, by_place = _has_header(file), file.parent.name in FOLDERS and file.suffix == ".csv"
    if not by_header and not by_place:
        return ""
    if by_header and not _header(file) & {FLAG, "changepoint"}:
        return "free"
    return "experiment" if _is_number(file.stem) or alone else "other"


def _header(file: Path) -> set[str]:
    lines = peek(file).lines
    return {name.strip() for name in lines[0].split(";")} if lines else set()


def _has_header(file: Path) -> bool:
    return len(_header(file) & set(TAGS)) >= len(TAGS) - 1


def _is_free(file: FoundFile) -> bool:
    return file.role.startswith("anomaly-free")


def _rows(file: Path) -> int:
    return len(read_text(file).rstrip("\n").split("\n")) - 1


def _is_number(stem: str) -> bool:
    return stem.isascii() and stem.isdigit() and len(stem) < 10


def _name(file: Path) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", file.stem).strip("._-")[:40] or "experiment"
    return f"{file.parent.name}-{stem}" if file.parent.name in FOLDERS else stem


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
