"""`msl` and `smap`: NASA's telemetry with labelled anomalies, one site a channel.

Source: Hundman et al. 2018, doi 10.1145/3219819.3219845, https://github.com/khundman/telemanom. Layout below PATH, as
in the repository or nested as in the public zip: `train/*.npy`, `test/*.npy`, `labeled_anomalies.csv`. Column 0 is the
telemetry, the others are 0/1 command flags. There are no times; one sample is about one minute by common statement.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.ingest.base import SITE_NAME, natural_key, register
from client.ingest.files import read_array, read_text, to_float32
from shared.errors import DataError, DataNotFound, DataUnreadable
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData

LABELS = "labeled_anomalies.csv"
COLUMNS = ("chan_id", "spacecraft", "anomaly_sequences", "num_values")
PERIOD_S = 60.0
WILD = 10.0
"""The publishers scaled telemetry to -1..1, so a reading beyond this is a fault of the file and worth a note."""

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LabelRow:
    """What the label file says of one channel: anomalous test rows (ends inclusive) and its number of test rows."""

    spacecraft: str
    sequences: Ranges
    rows: int
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True)
class Telemanom:
    """The channels of one spacecraft.

    Attributes:
        name: data set name.
        spacecraft: as in the label file.
        dim: columns that each channel must have.
    """

    name: str
    spacecraft: str
    dim: int
    natural_partition: str = "by-channel"

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read the channels that are there; see `Loader.load`."""
        data, label_file = _locate(path)
        labels = read_labels(label_file)
        wanted = {name: row for name, row in labels.items() if row.spacecraft == self.spacecraft}
        present = [name for name in sorted(wanted, key=natural_key) if all(_files(data, name))]
        if not present:
            raise DataNotFound(f"{data} holds files of none of the {len(wanted)} {self.spacecraft} channels.")
        sites = [self._channel(data, name, wanted[name]) for name in present]
        general = (*self._left_out(data, wanted, present), *self._unlabelled(data, labels))
        sites[0] = replace(sites[0], repairs=(*general, *sites[0].repairs))
        return tuple(_note_twins(sites))

    def _channel(self, data: Path, name: str, row: LabelRow) -> SiteData:
        train_TD, test_TD = (self._values(data / part / f"{name}.npy") for part in ("train", "test"))
        if len(test_TD) != row.rows:
            cause = f"{LABELS} gives {row.rows} rows to the channel {name}, but test/{name}.npy has {len(test_TD)}."
            raise DataUnreadable(cause, "Copy both again from one source: labels of another length would be shifted.")
        labels_T, clipped = label_rows(name, row)
        return SiteData(
            name=name,
            schema=SensorSchema(tags=self._tags(), period_s=PERIOD_S),
            train_TD=train_TD,
            test_TD=test_TD,
            labels_T=labels_T,
            group=name.partition("-")[0],
            source=f"telemanom {self.spacecraft} {data}",
            repairs=(*row.repairs, *clipped, *_wild(f"{name}/train", train_TD), *_wild(f"{name}/test", test_TD)),
        )

    def _values(self, path: Path) -> FloatArray:
        array = read_array(path)
        if array.dtype.kind not in "fiu":
            raise DataUnreadable(f"{path} holds {array.dtype} where numbers are expected.")
        if array.ndim != 2 or array.shape[1] != self.dim or not len(array):
            raise DataUnreadable(f"{path} has the shape {array.shape}, {self.spacecraft} needs (rows, {self.dim}).")
        return to_float32(array)

    def _tags(self) -> tuple[str, ...]:
        return ("telemetry", *(f"command{at:02d}" for at in range(1, self.dim)))

    def _left_out(self, data: Path, wanted: Mapping[str, LabelRow], present: list[str]) -> Iterator[Repair]:
        for name in sorted(set(wanted) - set(present), key=natural_key):
            train, test = _files(data, name)
            if train or test:
                there, lacking = ("train", "test") if train else ("test", "train")
                yield Repair(name, f"has a {there} file but no {lacking} file: left out", 1)
        if lost := len(wanted) - len(present):
            yield Repair(LABELS, f"of {len(wanted)} {self.spacecraft} channels these have no files: left out", lost)

    def _unlabelled(self, data: Path, labels: Mapping[str, LabelRow]) -> Iterator[Repair]:
        names = {path.stem for path in (data / "test").glob("*.npy")} - set(labels)
        for name in sorted(names, key=natural_key):
            if _dim(data / "test" / f"{name}.npy") in (self.dim, None):
                yield Repair(name, f"no row in {LABELS}: left out", 1)


def _locate(path: Path) -> tuple[Path, Path]:
    for data in (path, path / "data", path / "data" / "data"):
        if (data / "train").is_dir() and (data / "test").is_dir():
            break
    else:
        raise DataNotFound(f"{path} holds no folders train and test, neither at its top nor in data.")
    for folder in dict.fromkeys((data, data.parent, path, path.parent)):
        if (folder / LABELS).is_file():
            return data, folder / LABELS
    raise DataNotFound(f"there is no {LABELS} in {path} or beside it.")


def _files(data: Path, name: str) -> tuple[bool, bool]:
    return (data / "train" / f"{name}.npy").is_file(), (data / "test" / f"{name}.npy").is_file()


def _dim(path: Path) -> int | None:
    try:
        shape: tuple[int, ...] = read_array(path).shape
        return shape[-1]
    except (DataError, IndexError):
        return None


def read_labels(path: Path) -> dict[str, LabelRow]:
    """Every channel's row of the label file; rows of one channel are merged (the official file has P-2 twice).

    Raises:
        DataUnreadable: a column is missing, or a cell is not what it must be.
    """
    try:
        table = list(csv.reader(read_text(path).rstrip("\n").split("\n"), strict=True))
    except csv.Error as error:
        raise DataUnreadable(f"{path} is no table: {error}.") from error
    header = [name.strip() for name in table[0]] if table else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise DataUnreadable(f"{path}, line 1: the column {missing[0]} is missing.")
    rows: dict[str, LabelRow] = {}
    for line, cells in enumerate(table[1:], start=2):
        if len(cells) != len(header):
            raise DataUnreadable(f"{path}, line {line}: {len(cells)} fields where the header has {len(header)}.")
        name, row = _label_row(f"{path}, line {line}", dict(zip(header, cells, strict=True)))
        rows[name] = _merge(f"{path}, line {line}", name, rows[name], row) if name in rows else row
    return rows


def _label_row(where: str, cells: Mapping[str, str]) -> tuple[str, LabelRow]:
    name, spacecraft, text, rows = (cells[column].strip() for column in COLUMNS)
    if not SITE_NAME.fullmatch(name):
        raise DataUnreadable(f"{where}: {name[:80]!r} is no channel name.")
    if not re.fullmatch(r"[0-9]{1,9}", rows):
        raise DataUnreadable(f"{where}: num_values of {name} is {rows[:40]!r}, not a number of rows.")
    return name, LabelRow(spacecraft, _sequences(f"{where}, anomaly_sequences of {name}", text), int(rows))


def _sequences(where: str, text: str) -> Ranges:
    try:
        if not re.fullmatch(r"[\[\]0-9, ]{0,100000}", text):
            raise ValueError("not a list of numbers")
        pairs = ast.literal_eval(text)
        ranges = tuple((int(first), int(last)) for first, last in pairs)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataUnreadable(f"{where}: {text[:60]!r} is no list of [first, last] pairs.") from error
    for first, last in ranges:
        if first > last:
            raise DataUnreadable(f"{where}: [{first}, {last}] ends before it begins.")
    return ranges


def _merge(where: str, name: str, old: LabelRow, new: LabelRow) -> LabelRow:
    if (old.spacecraft, old.rows) != (new.spacecraft, new.rows):
        raise DataUnreadable(f"{where}: {name} occurs twice, with different spacecraft or num_values.")
    note = Repair(name, f"occurs twice in {LABELS}: both rows' anomalies were taken", len(new.sequences))
    return replace(old, sequences=(*old.sequences, *new.sequences), repairs=(*old.repairs, note))


def label_rows(name: str, row: LabelRow) -> tuple[BoolArray, tuple[Repair, ...]]:
    """A channel's labels as bool (rows,), with a note for each sequence that runs past the end.

    Raises:
        DataUnreadable: a sequence lies wholly past the end.

    Example:
        >>> label_rows("C-1", LabelRow("MSL", ((1, 2),), 4))[0].tolist()
        [False, True, True, False]
    """
    labels_T = np.zeros(row.rows, dtype=np.bool_)
    notes = []
    for first, last in row.sequences:
        if first >= row.rows:
            raise DataUnreadable(f"{LABELS}: [{first}, {last}] of {name} lies past its {row.rows} test rows.")
        if last >= row.rows:
            what = f"the labelled range [{first}, {last}] runs past the last row: cut there"
            notes.append(Repair(f"{name}/test", what, last - row.rows + 1))
        labels_T[first : last + 1] = True
    return labels_T, tuple(notes)


def _wild(where: str, values_TD: FloatArray) -> tuple[Repair, ...]:
    telemetry_T = values_TD[:, 0][np.isfinite(values_TD[:, 0])]
    wild_T = telemetry_T[np.abs(telemetry_T) > WILD]
    if not len(wild_T):
        return ()
    peak = float(wild_T[np.abs(wild_T).argmax()])
    return (Repair(where, f"telemetry scaled to -1..1 jumps to {peak:.2f}: kept", len(wild_T)),)


def _note_twins(sites: list[SiteData]) -> Iterator[SiteData]:
    first: dict[bytes, str] = {}
    for site in sites:
        twin = first.setdefault(hashlib.sha256(site.test_TD.tobytes()).digest(), site.name)
        note = Repair(
            f"{site.name}/test", f"equals {twin}/test: kept; keep both on one side of any split", len(site.test_TD)
        )
        yield site if twin == site.name else replace(site, repairs=(*site.repairs, note))


register(Telemanom("msl", "MSL", 55))
register(Telemanom("smap", "SMAP", 25))
