"""MSL or SMAP as others hand it on: all channels laid end to end in three arrays, one site.

`MSL_train.npy` (58,317 x 55), `MSL_test.npy` (73,729 x 55), `MSL_test_label.npy` (73,729). Where one channel ends and
the next begins is not in the files, so a few windows straddle two channels; telemanom's own files are better. The same
as `.pkl` is recognised and refused: opening a pickled file can run whatever its writer put into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.ingest.base import FoundFile, Recognition
from client.ingest.files import read_array, to_float32
from client.ingest.peek import files_below, peek
from shared.errors import DataError, DataNotFound, DataUnreadable
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData

TRAIN, TEST, LABEL, PICKLED = "train", "test", "test labels", "pickled, never opened"
VERSION, REFUSED = "channels laid end to end", "pickled channels laid end to end, which are not read"
SPACECRAFT = ("MSL", "SMAP")
_CURE = "Get the .npy files, or telemanom's own layout: pickled files can run programs when they are opened."


def find(path: Path, spacecraft: str, dim: int) -> dict[str, Path]:
    """The files of one spacecraft by their part: by width (values), or by name (labels, pickled files)."""
    found: dict[str, Path] = {}
    for file in files_below(path, depth=1):
        if role := _role(file, spacecraft, dim):
            found.setdefault(role, file)
    if set(found) <= {LABEL}:
        return found if LABEL in found and spacecraft in found[LABEL].name.upper() else {}
    return found


def _role(file: Path, spacecraft: str, dim: int) -> str | None:
    name = file.stem.lower()
    if any(other in file.name.upper() for other in SPACECRAFT if other != spacecraft):
        return None
    if file.suffix.lower() in (".pkl", ".pickle"):
        return PICKLED if spacecraft in file.name.upper() else None
    if file.suffix.lower() != ".npy":
        return None
    if "label" in name:
        return LABEL
    part = TRAIN if "train" in name else TEST if "test" in name else None
    return part if part and (_width(file) == dim or spacecraft in file.name.upper()) else None


def _width(file: Path) -> int | None:
    try:
        shape: tuple[int, ...] = read_array(file).shape
    except DataError:
        return None
    return shape[1] if len(shape) == 2 else None


def recognise(path: Path, dataset: str, spacecraft: str, dim: int) -> Recognition | None:
    """See `Loader.recognise`."""
    found = find(path, spacecraft, dim)
    if not found:
        return None
    files = tuple(FoundFile(file, role) for role, file in found.items())
    if set(found) <= {PICKLED, LABEL}:
        refused = any(peek(file.path).form != "npy" for file in files)
        return Recognition(dataset, REFUSED if refused else VERSION, files, (TRAIN, TEST))
    return Recognition(dataset, VERSION, files, tuple(role for role in (TRAIN, TEST, LABEL) if role not in found))


def load(path: Path, found: Mapping[str, Path], dataset: str, schema: SensorSchema) -> SiteData:
    """The one site; without labels where their file is not there.

    Raises:
        DataNotFound: there is no training file.
        DataUnreadable: a pickled file, or arrays that do not belong together.
    """
    if TRAIN not in found and PICKLED in found:
        raise DataUnreadable(f"{found[PICKLED]} is a pickled file, which is never opened.", _CURE)
    if TRAIN not in found:
        raise DataNotFound(f"{path} holds {', '.join(found)} of {dataset.upper()}, but no training file.")
    train_TD = _values(found[TRAIN], schema.dim)
    test_TD = _values(found[TEST], schema.dim) if TEST in found else train_TD[:0]
    labelled = TEST in found and LABEL in found
    note = "channels laid end to end: where one begins is not in the files, so a few windows straddle two"
    return SiteData(
        name=dataset,
        schema=schema,
        train_TD=train_TD,
        test_TD=test_TD,
        labels_T=_labels(found[LABEL], len(test_TD)) if labelled else None,
        source=f"{dataset.upper()} {path}",
        repairs=(Repair(dataset, note, len(train_TD) + len(test_TD)),),
        ranges=((-1.0, 1.0),) * schema.dim,
    )


def _values(file: Path, dim: int) -> FloatArray:
    array = read_array(file)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] != dim or not len(array):
        raise DataUnreadable(f"{file} holds {array.dtype} {array.shape} where numbers (rows, {dim}) are expected.")
    return to_float32(array)


def _labels(file: Path, rows: int) -> BoolArray:
    array: NDArray[np.generic] = read_array(file)
    if array.dtype.kind not in "bfiu" or array.shape not in ((rows,), (rows, 1)):
        cause = f"{file} holds {array.dtype} {array.shape}, but the test file has {rows} rows."
        raise DataUnreadable(cause, "Copy both again from one source: labels of another length would be shifted.")
    values_T = np.asarray(array, dtype=np.float64).reshape(rows)
    if wrong := np.flatnonzero((values_T != 0) & (values_T != 1)).tolist():
        raise DataUnreadable(f"{file}, row {wrong[0]}: {values_T[wrong[0]]:g} is neither 0 nor 1.")
    labels_T: BoolArray = values_T == 1
    return labels_T
