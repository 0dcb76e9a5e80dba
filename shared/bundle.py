"""A bundle: everything a site needs to score and alarm, as one folder with one digest.

    SITE.bundle/
        bundle.json          what it is: site, run, round, model digest, the SHA-256 of every other file, and its own
        model.safetensors    weights and centroids, the global model of the round
        recipe.json          detector and window
        schema.json          the columns, in order
        preprocessor.json    what happens to a reading before the network sees it, fitted on the site's training data
        score.json           how error and entropy become one score
        threshold.json       value, rule and provenance

A model and its threshold are one artefact: a bundle whose files do not match their digests is refused as a whole.
A folder cannot be replaced by another in one step everywhere, so publishing renames twice. Between the two, and after a
publisher was killed there, the older bundle is beside its place as `.SITE.bundle.old`: readers take it from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.artefact import Artefact
from shared.config import Recipe
from shared.disk import sync_folder
from shared.errors import BundleInvalid, ModelCorrupt
from shared.model import GlobalModel, parse_model
from shared.preprocess import Preprocessor, Scaler
from shared.schema import SensorSchema
from shared.scoring import ScoreScale
from shared.thresholds import Threshold

FORMAT = 2  # 1 held a scaler only
_MODEL = "model.safetensors"
_INDEX = "bundle.json"


class Provenance(Artefact, frozen=True, kw_only=True):
    """Where a bundle came from.

    Attributes:
        site: whose it is.
        run, round: the federated round that its model came out of.
        model: digest of the global model.
        holdout_loss: mean reconstruction error on the site's held-out normal data.
    """

    site: str
    run: str
    round: int
    model: str
    holdout_loss: float


@dataclass(frozen=True)
class Bundle:
    """The parts of a bundle, parsed."""

    provenance: Provenance
    model: GlobalModel
    recipe: Recipe
    schema: SensorSchema
    preprocessor: Preprocessor
    score: ScoreScale
    threshold: Threshold

    @property
    def scaler(self) -> Scaler:
        """The preprocessor's last map."""
        return self.preprocessor.scaler


def publish(bundle: Bundle, folder: Path) -> None:
    """Write a bundle, all or nothing: `read_bundle` finds the old one or the new one, whenever the power goes.

    The files are written and synced beside the target, then renamed; an older bundle of the same name is replaced.

    Raises:
        BundleInvalid: the disk is full or the folder cannot be written; the older bundle stays.
    """
    try:
        _publish(bundle, folder)
    except OSError as error:
        cure = "Free some space or check the folder's permissions; the older bundle still serves."
        raise BundleInvalid(f"{folder} cannot be written: {error.strerror or error}.", cure) from error


def _publish(bundle: Bundle, folder: Path) -> None:
    files = {
        _MODEL: bundle.model.file_bytes,
        "recipe.json": bundle.recipe.model_dump_json(indent=1).encode(),
        "schema.json": bundle.schema.pretty,
        "preprocessor.json": bundle.preprocessor.pretty,
        "score.json": bundle.score.pretty,
        "threshold.json": bundle.threshold.pretty,
    }
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    index = {"format": FORMAT, "provenance": bundle.provenance.as_dict(), "digests": digests}
    fresh, old = _beside(folder, "new"), _beside(folder, "old")
    if old.is_dir() and not folder.exists():
        old.rename(folder)  # An earlier publisher was killed between its renames.
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, data in {**files, _INDEX: json.dumps({**index, "digest": _seal(index)}, indent=1).encode()}.items():
        _write_synced(fresh / name, data)
    sync_folder(fresh)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, part: str) -> Path:
    return folder.with_name(f".{folder.name}.{part}")


def _seal(index: dict[str, Any]) -> str:
    """Digest of an index without its `digest`."""
    kept = {name: value for name, value in index.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every digest. May run while another process publishes.

    Raises:
        BundleInvalid: a file is missing, changed or malformed; the cause names it.
    """
    while True:
        place = _place(folder)
        try:
            return _read(place.folder)
        except BundleInvalid:
            if _place(folder) == place:
                raise  # Otherwise the bundle was replaced while it was being read: read the new one.


@dataclass(frozen=True)
class _Place:
    """Where a bundle is at this moment; not equal to the place of the one that replaces it."""

    folder: Path
    identity: tuple[int, int] | None


def _place(folder: Path) -> _Place:
    for candidate in (folder, _beside(folder, "old")):
        try:
            found = candidate.stat()
        except OSError:
            continue
        return _Place(candidate, (found.st_ino, found.st_mtime_ns))
    return _Place(folder, None)


def _read(folder: Path) -> Bundle:
    index = _read_index(folder)
    data = {name: _checked(folder, name, digest) for name, digest in index["digests"].items()}
    try:
        provenance = Provenance.of(index["provenance"])
        if provenance.model != index["digests"][_MODEL]:
            raise BundleInvalid(f"{folder}: {_MODEL} is not the model that the threshold was set for.")
        return Bundle(
            provenance=provenance,
            model=parse_model(data[_MODEL], str(folder / _MODEL)),
            recipe=Recipe.model_validate_json(data["recipe.json"]),
            schema=_parse(SensorSchema, data, "schema.json"),
            preprocessor=_parse(Preprocessor, data, "preprocessor.json"),
            score=_parse(ScoreScale, data, "score.json"),
            threshold=_parse(Threshold, data, "threshold.json"),
        )
    except (KeyError, ValueError, ModelCorrupt) as error:
        raise BundleInvalid(f"{folder}: {error}") from error


Parsed = TypeVar("Parsed", bound=Artefact)


def _parse(kind: type[Parsed], data: dict[str, bytes], name: str) -> Parsed:
    return kind.parse(data[name])


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise ValueError(f"it has format {index['format']!r:.20}, where this version reads format {FORMAT}")
        if not isinstance(index["digests"], dict):
            raise ValueError("its digests are no table")
        if index["digest"] != _seal(index):
            raise ValueError("it was changed after publishing")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleInvalid(f"{folder} holds no readable {_INDEX}: {error}.") from error
    return dict(index)


def _checked(folder: Path, name: str, digest: str) -> bytes:
    if name != Path(name).name:
        raise BundleInvalid(f"{folder}: {name!r} is no file name.")
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise BundleInvalid(f"{folder}: {name} cannot be read: {error.strerror}.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise BundleInvalid(f"{folder}: {name} was changed after publishing.")
    return data
