"""`msl` and `smap`: NASA's telemetry with labelled anomalies, one site a channel.

Source: Hundman et al. 2018, doi 10.1145/3219819.3219845, https://github.com/khundman/telemanom. Layout below PATH, as
in the repository or nested as in the public zip (`data/train`, `data/data/train`): `train/*.npy`, `test/*.npy`,
`labeled_anomalies.csv`. Column 0 is the telemetry, the others are 0/1 command flags. There are no times; one sample is
about one minute by common statement. Files that others made by laying the channels end to end (`MSL_train.npy`,
`MSL_test.npy`, `MSL_test_label.npy`) are one site, see `client.ingest.telemanom_joined`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.ingest import telemanom_joined
from client.ingest.base import Figure, FoundFile, Recognition, natural_key, register
from client.ingest.files import read_array, to_float32
from client.ingest.telemanom_labels import LABELS, LabelRow, find_labels, is_label_file, label_rows, read_labels
from shared.errors import DataError, DataNotFound, DataUnreadable
from shared.schema import SensorSchema
from shared.series import FloatArray, Repair, SiteData

PERIOD_S = 60.0
WILD = 10.0
"""The publishers scaled telemetry to -1..1, so a reading beyond this is a fault of the file and worth a note."""

_CHANNEL = re.compile(r"[A-Z]-\d{1,2}")


@dataclass(frozen=True)
class Published:
    """What the publishers and those who used the data print.

    Attributes:
        channels: channels in the label file.
        train_rows, test_rows, labelled_rows: summed over channels; several where some leave out P-2.
        sequences: labelled sequences (Hundman et al., table 1); 68 once the overlapping ones of P-2 are merged.
    """

    channels: tuple[int, ...]
    train_rows: tuple[int, ...]
    test_rows: tuple[int, ...]
    labelled_rows: tuple[int, ...]
    sequences: tuple[int, ...]


@dataclass(frozen=True)
class Telemanom:
    """The channels of one spacecraft.

    Attributes:
        name: data set name.
        spacecraft: as in the label file.
        dim: columns that each channel must have.
        published: counts to compare with.
    """

    name: str
    spacecraft: str
    dim: int
    published: Published
    natural_partition: str = "by-channel"

    def recognise(self, path: Path) -> Recognition | None:
        """By the label file's header and the width of arrays; see `Loader.recognise`.

        A folder usually holds both spacecraft, and both loaders say so.
        """
        if path.is_file():
            return self._recognise_file(path)
        data = _data_folder(path)
        files = [*_channels(data, self.dim)] if data else []
        if data is None or not files:
            return telemanom_joined.recognise(path, self.name, self.spacecraft, self.dim)
        label_file = find_labels(data, data.parent, path, path.parent)
        if label_file is None:
            return Recognition(self.name, "telemanom", tuple(files), (LABELS,))
        whole = tuple(self._missing(data, label_file))
        return Recognition(self.name, "telemanom", (FoundFile(label_file, "labels"), *files), whole)

    def _recognise_file(self, path: Path) -> Recognition | None:
        channel = _CHANNEL.fullmatch(path.stem) is not None and _dim(path) == self.dim
        if channel or is_label_file(path):
            lone = FoundFile(path, "one channel" if channel else "labels")
            return Recognition(self.name, "telemanom", (lone,), ("the folders train and test",))
        return telemanom_joined.recognise(path, self.name, self.spacecraft, self.dim)

    def _missing(self, data: Path, label_file: Path) -> Iterator[str]:
        try:
            rows = read_labels(label_file)
        except DataError:
            return
        wanted = [name for name, row in rows.items() if row.spacecraft == self.spacecraft]
        lost = [name for name in sorted(wanted, key=natural_key) if not all(_files(data, name))]
        if lost:
            yield f"{len(lost)} of {len(wanted)} channels: {', '.join(lost)}"

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Channels, rows and labels; see `Loader.figures`."""
        labels = [site.labels_T for site in sites if site.labels_T is not None]
        sequences = sum(int((np.diff(labels_T, prepend=False) & labels_T).sum()) for labels_T in labels)
        joined = found.version != "telemanom"
        channels = () if joined else (Figure("channels", len(sites), self.published.channels),)
        events = () if joined else (Figure("labelled sequences", sequences, self.published.sequences),)
        return (
            *channels,
            Figure("training rows", sum(len(site.train_TD) for site in sites), self.published.train_rows),
            Figure("test rows", sum(len(site.test_TD) for site in sites), self.published.test_rows),
            Figure("labelled test rows", sum(int(rows.sum()) for rows in labels), self.published.labelled_rows),
            *events,
        )

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read the channels that are there; see `Loader.load`."""
        if _data_folder(path) is None and (found := telemanom_joined.find(path, self.spacecraft, self.dim)):
            return (telemanom_joined.load(path, found, self.name, self.schema),)
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
            schema=self.schema,
            train_TD=train_TD,
            test_TD=test_TD,
            labels_T=labels_T,
            group=name.partition("-")[0],
            source=f"telemanom {self.spacecraft} {data}",
            repairs=(*row.repairs, *clipped, *_wild(f"{name}/train", train_TD), *_wild(f"{name}/test", test_TD)),
            ranges=((-1.0, 1.0),) * self.dim,
        )

    def _values(self, path: Path) -> FloatArray:
        array = read_array(path)
        if array.dtype.kind not in "fiu":
            raise DataUnreadable(f"{path} holds {array.dtype} where numbers are expected.")
        if array.ndim != 2 or array.shape[1] != self.dim or not len(array):
            raise DataUnreadable(f"{path} has the shape {array.shape}, {self.spacecraft} needs (rows, {self.dim}).")
        return to_float32(array)

    @property
    def schema(self) -> SensorSchema:
        """The columns of every channel."""
        tags = ("telemetry", *(f"command{at:02d}" for at in range(1, self.dim)))
        return SensorSchema(tags=tags, period_s=PERIOD_S)

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


def _data_folder(path: Path) -> Path | None:
    for data in (path, path / "data", path / "data" / "data"):
        if (data / "train").is_dir() and (data / "test").is_dir():
            return data
    return None


def _locate(path: Path) -> tuple[Path, Path]:
    if path.is_file():
        raise DataNotFound(
            f"{path} is one file of telemanom.", "Give the folder that holds train, test and the labels."
        )
    data = _data_folder(path)
    if data is None:
        raise DataNotFound(f"{path} holds no folders train and test, neither at its top nor in data.")
    label_file = find_labels(data, data.parent, path, path.parent)
    if label_file is None:
        raise DataNotFound(f"there is no {LABELS} in {path} or beside it.")
    return data, label_file


def _channels(data: Path, dim: int) -> Iterator[FoundFile]:
    for part in ("train", "test"):
        files = (file for file in (data / part).glob("*.npy") if _CHANNEL.fullmatch(file.stem) and _dim(file) == dim)
        yield from (FoundFile(file, part) for file in sorted(files, key=lambda file: natural_key(file.stem)))


def _files(data: Path, name: str) -> tuple[bool, bool]:
    return (data / "train" / f"{name}.npy").is_file(), (data / "test" / f"{name}.npy").is_file()


def _dim(path: Path) -> int | None:
    try:
        shape: tuple[int, ...] = read_array(path).shape
        return shape[-1]
    except (DataError, IndexError):
        return None


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


register(Telemanom("msl", "MSL", 55, Published((27,), (58_317,), (73_729,), (7_766,), (36,))))
register(Telemanom("smap", "SMAP", 25, Published((54, 55), (135_183,), (427_617, 435_826), (54_696, 55_972), (69, 68))))
