"""A plant's own data folder: `site.json`, `train.npy`, `test.npy` and, where there are labels, `labels.npy`; where
faults of the training period are known, `faults.npy`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError, model_validator

from client.ingest.base import check_name
from client.ingest.files import read_array, read_text
from shared.disk import sync_folder
from shared.errors import DataError, DataNotFound, DataUnreadable, InvalidConfig
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData

Count = Annotated[int, Field(ge=0)]
Starts = Annotated[tuple[Count, ...], Field(min_length=1)]


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    where: str
    what: str
    count: Count


def _sensors(value: object) -> SensorSchema:
    return value if isinstance(value, SensorSchema) else SensorSchema.parse(json.dumps(value))


Bound = Annotated[float, Field(allow_inf_nan=False)]

_Sensors = Annotated[SensorSchema, PlainValidator(_sensors), PlainSerializer(SensorSchema.as_dict)]


class _SiteFile(BaseModel):
    """`site.json`: everything about a site but its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True, validate_by_alias=True)

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z")]
    sensors: Annotated[_Sensors, Field(alias="schema")]
    labelled: bool
    train_starts: Starts
    test_starts: Starts
    group: str
    source: str
    repairs: tuple[_Note, ...]
    ranges: tuple[tuple[Bound, Bound] | None, ...] | None = None  # public operating ranges; written when known

    @model_validator(mode="after")
    def _ranges_fit(self) -> Self:
        if self.ranges is None:
            return self
        if len(self.ranges) != self.sensors.dim:
            raise ValueError(f"{len(self.ranges)} ranges for {self.sensors.dim} tags")
        for tag, span in zip(self.sensors.tags, self.ranges, strict=True):
            if span is not None and not span[0] < span[1]:
                raise ValueError(f"the range of {tag} goes from {span[0]:g} to {span[1]:g}")
        return self


def write_site(folder: Path, site: SiteData) -> None:
    """Write a site so that the folder is either whole or not there, whatever is switched off in between.

    Raises:
        InvalidConfig: the folder already holds something, or the site's name cannot be part of a file name.
        DataError: the disk refuses.
    """
    about = _SiteFile(
        name=check_name(site.name),
        sensors=site.schema,
        labelled=site.labels_T is not None,
        train_starts=site.train_starts,
        test_starts=site.test_starts,
        group=site.group,
        source=site.source,
        repairs=tuple(_Note(where=note.where, what=note.what, count=note.count) for note in site.repairs),
        ranges=site.ranges,
    )
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidConfig(f"{folder} already holds something.", "Choose another folder, or remove it first.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write_then_rename(folder, site, about)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error}.", "Check free space and rights.") from error


def _write_then_rename(folder: Path, site: SiteData, about: _SiteFile) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, array in _arrays(site):
            with (scratch / name).open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        with (scratch / "site.json").open("w", encoding="utf-8") as text:
            unknown = {"ranges"} if about.ranges is None else None  # older versions read what names none
            json.dump(about.model_dump(mode="json", by_alias=True, exclude=unknown), text, indent=2)
            text.flush()
            os.fsync(text.fileno())
        scratch.chmod(0o755)  # mkdtemp makes it private to its maker
        sync_folder(scratch)
        scratch.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _arrays(site: SiteData) -> Iterator[tuple[str, NDArray[np.generic]]]:
    yield "train.npy", np.asarray(site.train_TD, dtype=np.float32)
    yield "test.npy", np.asarray(site.test_TD, dtype=np.float32)
    if site.faults_TD is not None:
        yield "faults.npy", np.asarray(site.faults_TD, dtype=np.float32)
    if site.labels_T is not None:
        yield "labels.npy", np.asarray(site.labels_T, dtype=np.bool_)


def read_site(folder: Path) -> SiteData:
    """Read a site; its arrays are memory maps, so that only what is used is read.

    Raises:
        DataNotFound: the folder or one of its files is missing.
        DataUnreadable: a file is not what it must be, or the files contradict each other.
    """
    if not folder.is_dir():
        raise DataNotFound(f"there is no site folder {folder}.", "Check the path; `site.json` must lie in it.")
    about = _read_about(folder / "site.json")
    train_TD = _matrix(folder / "train.npy", about.sensors)
    test_TD = _matrix(folder / "test.npy", about.sensors)
    for key, starts, values_TD in (("train", about.train_starts, train_TD), ("test", about.test_starts, test_TD)):
        _check_starts(folder / "site.json", f"{key}_starts", starts, len(values_TD))
    return SiteData(
        name=about.name,
        schema=about.sensors,
        train_TD=train_TD,
        test_TD=test_TD,
        labels_T=_labels(folder / "labels.npy", len(test_TD)) if about.labelled else None,
        train_starts=about.train_starts,
        test_starts=about.test_starts,
        group=about.group,
        source=about.source,
        repairs=tuple(Repair(note.where, note.what, note.count) for note in about.repairs),
        ranges=about.ranges,
        faults_TD=_matrix(folder / "faults.npy", about.sensors) if (folder / "faults.npy").exists() else None,
    )


def _read_about(path: Path) -> _SiteFile:
    try:
        return _SiteFile.model_validate_json(read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataUnreadable(
            f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}, found {str(first['input'])[:60]!r}."
        ) from error


def _matrix(path: Path, schema: SensorSchema) -> FloatArray:
    array = read_array(path)
    if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] != schema.dim:
        cause = f"{path} holds {array.dtype} {array.shape}; site.json needs float32 (rows, {schema.dim})."
        raise DataUnreadable(cause)
    return array.view(np.float32)


def _labels(path: Path, rows: int) -> BoolArray:
    array = read_array(path)
    if array.dtype != np.bool_ or array.shape != (rows,):
        raise DataUnreadable(f"{path} holds {array.dtype} {array.shape}; test.npy needs bool ({rows},).")
    return array.view(np.bool_)


def _check_starts(path: Path, key: str, starts: tuple[int, ...], rows: int) -> None:
    rising = all(a < b for a, b in pairwise(starts))
    if starts[0] != 0 or not rising or starts[-1] >= max(rows, 1):
        raise DataUnreadable(f"{path}: {key} must rise from 0 and stay below {rows} rows, found {str(starts)[:80]}.")
