"""The calibration ring: raw rows that a person at the plant has confirmed as normal, and that no model is trained on.

    FOLDER/00001700000000000-3f2a91c04b17.rows    one confirmed stretch a file, put there whole or not at all

An edge box adds stretches (`crossplant client alarms confirm-normal`), the plant's agent sets the next thresholds on
them, beside its held-out data. The oldest make room. A file is a line that names the format, a line of JSON, then
float32 rows in little-endian order. Shapes: T rows, D tags.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta

from shared.artefact import Artefact
from shared.bundle.files import read_file
from shared.disk import replace_file
from shared.errors import BundleInvalid
from shared.schema import SensorSchema
from shared.series import FloatArray

MAGIC = b"crossplant confirmed rows 1\n"
MOST_BYTES = 128 * 2**20  # of all stretches: a week of 51 tags at 1 Hz
_MOST_FILE = 32 * 2**20
_MOST_HEAD = 2**20
_SAME = 0.5  # of a stretch's rows: so many in the training data are no chance


class Stretch(Artefact, frozen=True, kw_only=True):
    """What stands before the rows; `digest` is their SHA-256, hex.

    Attributes:
        columns: of the rows.
        first, last: the plant's times of the first and last row.
        starts: rows at which recordings begin: the source had stopped before.
        by, note: who confirmed it, and why.
    """

    columns: SensorSchema
    first: float
    last: float
    starts: tuple[Annotated[int, Meta(ge=0)], ...]
    by: str
    note: str = ""
    digest: str = ""


@dataclass(frozen=True, eq=False)
class Ring:
    """Confirmed stretches as one series.

    Attributes:
        id: SHA-256 over their digests, hex; empty when there are none.
        rows_TD: float32 (T, D), raw, may hold NaN.
        starts: rows at which recordings begin; nothing reaches across.
        troubles: files that were left out, in words.
    """

    id: str
    rows_TD: FloatArray
    starts: tuple[int, ...]
    troubles: tuple[str, ...] = ()


def add(folder: Path, head: Stretch, rows_TD: FloatArray) -> Path:
    """Put a stretch into the ring; the oldest ones make room for it.

    Raises:
        OSError: the disk refuses; the ring is as it was.
        ValueError: the rows are none, too many, or of other columns.
    """
    numbers = np.ascontiguousarray(rows_TD, "<f4").tobytes()
    if rows_TD.ndim != 2 or rows_TD.shape[1] != head.columns.dim or not 0 < len(numbers) <= _MOST_FILE - _MOST_HEAD:
        raise ValueError(f"rows of shape {rows_TD.shape} are no stretch of {head.columns.dim} tags")
    fields = {**head.as_dict(), "digest": hashlib.sha256(numbers).hexdigest()}
    head = Stretch.of(fields)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{max(0, round(head.first * 1000)):017d}-{head.digest[:12]}.rows"
    replace_file(path, MAGIC + head.json + b"\n" + numbers)
    _make_room(folder)
    return path


def read(folder: Path, schema: SensorSchema) -> Ring:
    """All stretches of a plant's ring, oldest first; what cannot be read or has other columns is left out and told."""
    found: list[_Part] = []
    troubles: list[str] = []
    for path in sorted(folder.glob("*.rows")):
        try:
            found.append(_read(path, schema))
        except BundleInvalid as error:
            troubles.append(error.cause)
    return _joined(found, schema, troubles)


def never_trained(ring: Ring, train_TD: FloatArray) -> Ring:
    """The ring without recordings whose rows lie in the training data: normal data exported later may hold them."""
    known = {row_D.tobytes() for row_D in np.ascontiguousarray(train_TD, np.float32)} if len(ring.rows_TD) else set()
    parts, told = [], list(ring.troubles)
    for begin, end in zip(ring.starts, (*ring.starts[1:], len(ring.rows_TD)), strict=True):
        rows_TD = ring.rows_TD[begin:end]
        same = sum(row_D.tobytes() in known for row_D in rows_TD)
        if same >= _SAME * len(rows_TD):
            told.append(f"{len(rows_TD)} confirmed rows were left out: the model is trained on {same} of them")
        else:
            parts.append(rows_TD)
    if len(parts) == len(ring.starts):
        return ring
    rows_TD = np.concatenate([ring.rows_TD[:0], *parts])
    digest = hashlib.sha256(rows_TD.tobytes()).hexdigest() if parts else ""
    return Ring(digest, rows_TD, _starts([len(part) for part in parts]), tuple(told))


class _Part(NamedTuple):
    digest: str
    starts: tuple[int, ...]
    rows_TD: FloatArray


def _read(path: Path, schema: SensorSchema) -> _Part:
    data = read_file(path.parent, path.name, _MOST_FILE)
    end = data.find(b"\n", len(MAGIC), len(MAGIC) + _MOST_HEAD)
    if not data.startswith(MAGIC) or end < 0:
        raise BundleInvalid(f"{path.name} holds no confirmed rows.")
    try:
        head = Stretch.parse(data[len(MAGIC) : end])
    except ValueError as error:
        raise BundleInvalid(f"{path.name} has an unreadable head: {error}.") from error
    numbers = data[end + 1 :]
    count, rest = divmod(len(numbers), 4 * head.columns.dim)
    if rest or not count or hashlib.sha256(numbers).hexdigest() != head.digest:
        raise BundleInvalid(f"{path.name} was cut or changed after it was written.")
    if head.columns.json != schema.json:
        raise BundleInvalid(f"{path.name} is for other columns.")
    if not head.starts or head.starts[0] != 0 or sorted(set(head.starts)) != [*head.starts] or head.starts[-1] >= count:
        raise BundleInvalid(f"{path.name}: its recordings do not begin within its rows.")
    rows_TD = np.frombuffer(numbers, "<f4").astype(np.float32).reshape(count, head.columns.dim)
    return _Part(head.digest, head.starts, rows_TD)


def _joined(parts: list[_Part], schema: SensorSchema, troubles: list[str]) -> Ring:
    offsets = _starts([len(part.rows_TD) for part in parts])
    starts = tuple(offset + start for offset, part in zip(offsets, parts, strict=True) for start in part.starts)
    rows_TD = np.concatenate([np.empty((0, schema.dim), np.float32), *(part.rows_TD for part in parts)])
    told = hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest() if parts else ""
    return Ring(told, rows_TD, starts, tuple(troubles))


def _starts(lengths: list[int]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.cumsum([0, *lengths[:-1]])) if lengths else ()


def _make_room(folder: Path) -> None:
    """Drop the oldest stretches until the rest fits; at least the newest stays."""
    paths = sorted(folder.glob("*.rows"))
    with suppress(OSError):
        sizes = [path.stat().st_size for path in paths]
        while len(paths) > 1 and sum(sizes) > MOST_BYTES:
            paths.pop(0).unlink(missing_ok=True)
            sizes.pop(0)
