"""`smd`: the Server Machine Dataset, one site a machine, 38 readings a minute.

Source: Su et al. 2019 (OmniAnomaly), doi 10.1145/3292500.3330672, https://github.com/NetManAIOps/OmniAnomaly. Layout
below PATH, with or without `ServerMachineDataset`: `train/`, `test/`, `test_label/` and `interpretation_label/`, each
with one `machine-X-Y.txt` a machine; comma-separated, no header, scaled to 0..1 by the publishers. A line of
`test_label` is 1 where the row of `test` is anomalous; `interpretation_label` names the readings of each event
(`first-last:reading,reading`, counted from 1) and is only compared with the labels. Columns have no published names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.ingest.base import Figure, FoundFile, Recognition, natural_key, register
from client.ingest.files import read_text, to_float32
from client.ingest.matrix import first_numbers, read_matrix
from client.ingest.peek import peek
from shared.errors import DataNotFound, DataUnreadable
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData

DIM, PERIOD_S = 38, 60
TAGS = tuple(f"m{at:02d}" for at in range(1, DIM + 1))
PARTS = ("train", "test", "test_label")
INTERPRETATION = "interpretation_label"
MACHINES, TRAIN_ROWS, TEST_ROWS = 28, 708_405, 708_420
_MACHINE = re.compile(r"machine-\d+-\d+")
_EVENT = re.compile(r"(\d{1,9})-(\d{1,9}):\d[\d, ]*")


class Smd:
    """The machines."""

    name = "smd"
    natural_partition = "by-channel"

    def recognise(self, path: Path) -> Recognition | None:
        """By folders of `machine-X-Y.txt` whose first line is 38 numbers; see `Loader.recognise`."""
        if path.is_file():
            right = _MACHINE.fullmatch(path.stem) and _is_matrix(path)
            lone = FoundFile(path, "one part of one machine")
            return Recognition(self.name, "OmniAnomaly", (lone,), ("the folders around this file",)) if right else None
        root = _root(path)
        files = [file for part in PARTS for file in _machines(root, part)]
        if not any(_is_matrix(file) for file in files if file.parent.name != "test_label"):
            return None
        lost = [f"the folder {part}" for part in (*PARTS, INTERPRETATION) if not _machines(root, part)]
        names = {file.stem for file in files}
        if len(names) < MACHINES:
            lost.append(f"{MACHINES - len(names)} of {MACHINES} machines")
        found = tuple(FoundFile(file, f"{file.parent.name} of {file.stem}") for file in files)
        return Recognition(self.name, "OmniAnomaly", found, tuple(lost))

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Machines and rows; see `Loader.figures`."""
        return (
            Figure("machines", len(sites), (MACHINES,)),
            Figure("training rows", sum(len(site.train_TD) for site in sites), (TRAIN_ROWS,)),
            Figure("test rows", sum(len(site.test_TD) for site in sites), (TEST_ROWS,)),
        )

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read every machine that has all three files; see `Loader.load`."""
        if path.is_file():
            raise DataNotFound(f"{path} is one file of SMD.", "Give the folder that holds train, test and test_label.")
        root = _root(path)
        parts = {part: {file.stem for file in _machines(root, part)} for part in PARTS}
        whole = sorted(set.intersection(*parts.values()), key=natural_key)
        if not whole:
            raise DataNotFound(f"{root} holds no machine with files in train, test and test_label.")
        sites = [_machine(root, name) for name in whole]
        loose = sorted(set.union(*parts.values()) - set(whole), key=natural_key)
        notes = tuple(Repair(name, f"no file in {_lacking(parts, name)}: left out", 1) for name in loose)
        sites[0] = replace(sites[0], repairs=(*notes, *sites[0].repairs))
        return tuple(sites)


def _root(path: Path) -> Path:
    nested = path / "ServerMachineDataset"
    return nested if nested.is_dir() else path


def _machines(root: Path, part: str) -> list[Path]:
    files = (file for file in (root / part).glob("machine-*.txt") if _MACHINE.fullmatch(file.stem) and file.is_file())
    return sorted(files, key=lambda file: natural_key(file.stem))


def _is_matrix(file: Path) -> bool:
    return len(first_numbers(peek(file), separator=",")) == DIM


def _lacking(parts: dict[str, set[str]], name: str) -> str:
    return " and ".join(part for part, names in parts.items() if name not in names)


def _machine(root: Path, name: str) -> SiteData:
    train_TD, test_TD = (_values(root / part / f"{name}.txt") for part in ("train", "test"))
    labels_T = _labels(root / "test_label" / f"{name}.txt", len(test_TD))
    return SiteData(
        name=name,
        schema=SensorSchema(tags=TAGS, period_s=PERIOD_S),
        train_TD=train_TD,
        test_TD=test_TD,
        labels_T=labels_T,
        group=name.rpartition("-")[0],
        source=f"SMD {root}",
        repairs=tuple(_compare(root / INTERPRETATION / f"{name}.txt", labels_T)),
    )


def _values(path: Path) -> FloatArray:
    values = read_matrix(path, ",")
    if values.shape[1] != DIM:
        raise DataUnreadable(f"{path} has {values.shape[1]} columns, SMD has {DIM}.")
    return to_float32(values)


def _labels(path: Path, rows: int) -> BoolArray:
    values = read_matrix(path, ",")
    if values.shape != (rows, 1):
        cause = f"{path} has the shape {values.shape}, but the test file has {rows} rows."
        raise DataUnreadable(cause, "Copy both again from one source: labels of another length would be shifted.")
    wrong = np.flatnonzero(~np.isin(values[:, 0], (0, 1)))
    if wrong.size:
        raise DataUnreadable(f"{path}, line {wrong[0] + 1}: {values[wrong[0], 0]:g} is neither 0 nor 1.")
    labels_T: BoolArray = values[:, 0] == 1
    return labels_T


def _compare(path: Path, labels_T: BoolArray) -> Iterator[Repair]:
    """Say where the interpretation and the labels contradict each other: one of the two may be shifted."""
    if not path.is_file():
        return
    lone = 0
    for at, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            if not (event := _EVENT.fullmatch(line.strip())):
                raise DataUnreadable(f"{path}, line {at}: {line[:40]!r} is not like 'first-last:reading,reading'.")
            lone += not labels_T[max(int(event[1]) - 1, 0) : int(event[2]) + 1].any()
    if lone:
        yield Repair(path.stem, f"events of {INTERPRETATION} without a labelled row: labels kept as they are", lone)


register(Smd())
