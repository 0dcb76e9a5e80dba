"""What `crossplant data list` prints: each data set, what it needs, and where below a folder it lies."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypedDict

from client.ingest.base import Recognition, find, known
from client.ingest.doctor.findings import shown
from client.ingest.doctor.recognise import recognise_readable
from shared.errors import DataNotFound


class Need(NamedTuple):
    """What a data set is and what its folder must hold."""

    title: str
    needs: str


NEEDS: dict[str, Need] = {
    "batadal": Need("C-Town water distribution, hourly, 43 tags", "BATADAL_dataset03.csv and a dataset04 .csv"),
    "historian": Need("a plant's own export", "one CSV, Parquet or XLSX file: a timestamp column, a column a tag"),
    "msl": Need("NASA Mars rover, 27 channels of 55", "train/*.npy, test/*.npy, labeled_anomalies.csv (telemanom)"),
    "secom": Need("semiconductor line, 590 readings a lot", "secom.data and secom_labels.data"),
    "skab": Need("water-circulation rig, 1 Hz, 8 tags", "data/{valve1,valve2,other}/N.csv"),
    "smap": Need(
        "NASA SMAP satellite, 54 channels of 25", "train/*.npy, test/*.npy, labeled_anomalies.csv (telemanom)"
    ),
    "smd": Need("28 servers, 38 metrics", "ServerMachineDataset/{train,test,test_label}/machine-X-Y.txt"),
    "swat": Need(
        "water treatment, 1 Hz, 51 tags, from iTrust", "SWaT_Dataset_Normal_v0 or v1 and Attack_v0, xlsx or csv"
    ),
    "tep": Need("Tennessee Eastman process, 3 min, 52 tags", "d00.dat ... d21.dat, d00_te.dat ... d21_te.dat"),
    "wadi": Need("water distribution, 1 Hz, 127 tags, from iTrust", "WADI_14days*.csv and WADI_attackdata*.csv"),
}


class Entry(TypedDict):
    """One data set; `path` and `version` are null where it was not found."""

    name: str
    title: str
    needs: str
    partition: str
    path: str | None
    version: str | None


def inventory(root: Path | None) -> list[Entry]:
    """Every known data set, and the first folder below `root` (or `root` itself) that holds it.

    Raises:
        DataNotFound: `root` is no folder.
    """
    if root is not None and not root.is_dir():
        raise DataNotFound(f"{shown(root)} is no folder.", "Give the folder that holds the data sets' folders.")
    held = {} if root is None else _held(root)
    return [_entry(name, held.get(name)) for name in known()]


def _entry(name: str, held: tuple[Path, Recognition] | None) -> Entry:
    need = NEEDS.get(name, Need(name, "see docs/data.md"))
    return Entry(
        name=name,
        title=need.title,
        needs=need.needs,
        partition=find(name).natural_partition,
        path=shown(held[0]) if held else None,
        version=held[1].version if held else None,
    )


def _held(root: Path) -> dict[str, tuple[Path, Recognition]]:
    """Sub-folders are asked before the folder itself, which a loader that searches deep would always find."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    held: dict[str, tuple[Path, Recognition]] = {}
    for folder in (*folders[:100], root):
        for found in recognise_readable(folder):
            held.setdefault(found.dataset, (folder, found))
    return held
