"""A bundle as the training side knows it, with the recipe, and how it is published."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from shared.bundle import files
from shared.bundle.edge import check_judge, check_relations, parse_judge, parse_part, parse_relations
from shared.bundle.files import OPTIONAL, REQUIRED
from shared.bundle.folder import DIGEST, current, located, versions, write_pointer
from shared.bundle.index import Index, make_index, read_index, read_parts
from shared.bundle.parts import Calibration, Probe, Provenance, Setup
from shared.bundle.trust import read_signature
from shared.config import Recipe
from shared.disk import sync_folder
from shared.errors import BundleInvalid, ModelCorrupt
from shared.evidence.file import to_bytes as judge_bytes
from shared.evidence.judge import Judge
from shared.model import GlobalModel, parse_model
from shared.preprocess import Preprocessor, Scaler
from shared.relations import Relations
from shared.relations import to_bytes as relations_bytes
from shared.schema import SensorSchema
from shared.scoring import ScoreScale
from shared.sensor_limits import SensorLimits
from shared.thresholds import Threshold

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEEP = 5
_SCRATCH = ".new"
_EDGE_ONLY = (OPTIONAL - {files.JUDGE, files.RELATIONS}) | {
    files.GRAPH,
    files.PROBE,
    files.CALIBRATION,
    files.SETUP,
    files.LIMITS,
}
_OLD_FILES = (files.INDEX, files.MODEL, files.RECIPE, files.SCHEMA, files.PREPROCESSOR, files.SCORE, files.THRESHOLD)


@dataclass(frozen=True)
class Bundle:
    """The parts of a bundle that come out of training, parsed; `judge` scores where there is one, else `score`;
    `relations` beside a judge.
    """

    provenance: Provenance
    model: GlobalModel
    recipe: Recipe
    schema: SensorSchema
    preprocessor: Preprocessor
    score: ScoreScale
    threshold: Threshold
    judge: Judge | None = None
    relations: Relations | None = None

    @property
    def scaler(self) -> Scaler:
        """The preprocessor's last map."""
        return self.preprocessor.scaler


@dataclass(frozen=True, eq=False)
class Live:
    """What a bundle holds besides, for live scoring.

    Attributes:
        graph: `Detector.graph()` of the model's weights.
        calibration: what normal data scores.
        probe: held-out rows with their scores.
        graph_int8: the same graph in 8 bits, or None.
        guard: the plant's local guard as bytes, or None.
        limits: of its healthy sensors.
    """

    graph: bytes
    calibration: Calibration
    probe: Probe
    graph_int8: bytes | None = None
    guard: bytes | None = None
    limits: SensorLimits = field(kw_only=True)


def setup_of(recipe: Recipe, threshold: Threshold | None = None) -> Setup:
    """What of a recipe scoring needs; the false alarm rate is that of the threshold, where its rule has one."""
    d, s, t = recipe.detector, recipe.scoring, recipe.threshold
    return Setup(
        detector=d.name,
        window=d.window,
        latent=d.latent,
        tail=None if s.tail is None else min(s.tail, d.window),
        max_imputed=recipe.preprocess.max_imputed,
        entropy_weight=s.entropy_weight,
        standardise=s.standardise,
        evidence=s.evidence,
        rule=t.rule,
        false_alarm_rate=(threshold and threshold.false_alarm_rate) or t.false_alarm_rate,
        alarms_a_day=t.alarms_a_day,
        sigmas=t.sigmas,
        fit_on=t.fit_on,
        memory=t.memory,
        peaks=t.peaks,
        members=t.members,
    )


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every digest; its signature is not looked at. May run while another is published.

    Args:
        folder: of one bundle, or a folder of versions: then the one in force.

    Raises:
        BundleInvalid: a file is missing, changed or malformed; the cause names it.
    """
    while True:
        place = located(folder)
        try:
            return _read(place)
        except BundleInvalid:
            if located(folder) == place:
                raise  # Otherwise another version came into force, and this one may be gone: read that.


def _read(folder: Path) -> Bundle:
    index = read_index(folder)
    parts = read_parts(folder, index, leave=_EDGE_ONLY)
    if hashlib.sha256(parts[files.MODEL]).hexdigest() != index.provenance.model:
        raise BundleInvalid(f"{folder}: {files.MODEL} is not the model that the threshold was set for.")
    try:
        model = parse_model(parts[files.MODEL], str(folder / files.MODEL))
        recipe = Recipe.model_validate_json(parts[files.RECIPE])
    except (ValueError, ModelCorrupt) as error:
        raise BundleInvalid(f"{folder}: {error}") from error
    schema, judge = parse_part(SensorSchema, folder, files.SCHEMA, parts), parse_judge(folder, parts)
    check_judge(folder, judge, schema.dim, model.clusters)
    relations = parse_relations(folder, parts)
    check_relations(folder, relations, judge, schema.dim)
    return Bundle(
        provenance=index.provenance,
        model=model,
        recipe=recipe,
        schema=schema,
        preprocessor=parse_part(Preprocessor, folder, files.PREPROCESSOR, parts),
        score=parse_part(ScoreScale, folder, files.SCORE, parts),
        threshold=parse_part(Threshold, folder, files.THRESHOLD, parts),
        judge=judge,
        relations=relations,
    )


def publish(bundle: Bundle, live: Live, folder: Path, key: Ed25519PrivateKey, keep: int = KEEP) -> str:
    """Write a bundle into a folder of versions and put it in force, all or nothing: whoever reads finds the version
    before it or this one, whenever the power goes.

    The number and the software's version in its provenance are set here. A bundle equal to the newest one is not
    written again. Two publishers at the same time are the caller's to keep apart.

    Args:
        bundle, live: its parts.
        folder: of versions; made if it is missing. A bundle of an older format in its place makes room.
        key: of the plant's agent.
        keep: versions that stay, this one included, 2 or more; the one that was in force until now always does.

    Returns:
        its digest.

    Raises:
        BundleInvalid: the disk is full or the folder cannot be written; the version before it stays in force.
    """
    try:
        return _publish(bundle, live, folder, key, keep)
    except OSError as error:
        cure = "Free some space or check the folder's permissions; the older bundle still serves."
        raise BundleInvalid(f"{folder} cannot be written: {error.strerror or error}.", cure) from error


def _publish(bundle: Bundle, live: Live, folder: Path, key: Ed25519PrivateKey, keep: int) -> str:
    from shared.bundle.keys import sign

    content = _files(bundle, live)
    there = _whole_versions(folder)
    last = max((index.provenance.number for index in there.values()), default=0)
    index = _index(bundle.provenance, content, max(last, 1))
    if index.digest not in there or not _intact(folder / index.digest):
        index = _index(bundle.provenance, content, last + 1)
        signature = sign(key, index.data).pretty
        _write(folder, index.digest, {**content, files.INDEX: index.data, files.SIGNATURE: signature})
    listed, before = tuple(dict.fromkeys((index.digest, *there))), _in_force(folder)
    kept = tuple(one for at, one in enumerate(listed) if at < max(keep, 2) or one == before)
    write_pointer(folder, index.digest, kept)
    _tidy(folder, kept)
    return index.digest


def _files(bundle: Bundle, live: Live) -> dict[str, bytes]:
    found = {
        files.MODEL: bundle.model.file_bytes,
        files.GRAPH: live.graph,
        files.RECIPE: bundle.recipe.model_dump_json(indent=1).encode(),
        files.SETUP: setup_of(bundle.recipe, bundle.threshold).pretty,
        files.SCHEMA: bundle.schema.pretty,
        files.PREPROCESSOR: bundle.preprocessor.pretty,
        files.SCORE: bundle.score.pretty,
        files.THRESHOLD: bundle.threshold.pretty,
        files.CALIBRATION: live.calibration.pretty,
        files.PROBE: live.probe.file_bytes,
        files.LIMITS: live.limits.pretty,
        files.GRAPH_INT8: live.graph_int8,
        files.GUARD: live.guard,
        files.JUDGE: None if bundle.judge is None else judge_bytes(bundle.judge),
        files.RELATIONS: None if bundle.relations is None else relations_bytes(bundle.relations),
    }
    return {name: data for name, data in found.items() if data is not None}


def _index(provenance: Provenance, content: dict[str, bytes], number: int) -> Index:
    return make_index(structs.replace(provenance, number=number, version=_version()), content)


def _version() -> str:
    try:
        return version("crossplant")
    except PackageNotFoundError:
        return ""


def _whole_versions(folder: Path) -> dict[str, Index]:
    """The versions in a folder whose index can be read, newest first; none where there is no such folder."""
    try:
        listed = versions(folder)
    except BundleInvalid:  # The first one, or a damaged pointer: what lies there still has its numbers.
        listed = tuple(path.name for path in folder.glob("*/")) if folder.is_dir() else ()
    found = {}
    for digest in listed:
        try:
            index = read_index(folder / digest)
        except BundleInvalid:
            continue
        if index.digest == digest:
            found[digest] = index
    return dict(sorted(found.items(), key=lambda one: -one[1].provenance.number))


def _intact(folder: Path) -> bool:
    try:
        read_parts(folder, read_index(folder), leave=REQUIRED | OPTIONAL)
        read_signature(folder)
    except BundleInvalid:
        return False
    return True


def _in_force(folder: Path) -> str:
    try:
        return current(folder)
    except BundleInvalid:
        return ""


def _write(folder: Path, digest: str, content: dict[str, bytes]) -> None:
    """Write a version beside its place, then give it its name."""
    scratch = folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name, data in content.items():
        _write_synced(scratch / name, data)
    sync_folder(scratch)
    if (folder / digest).exists():  # Damaged, or its publisher was killed before the pointer was written.
        shutil.rmtree(folder / digest)
    scratch.rename(folder / digest)
    sync_folder(folder)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _tidy(folder: Path, kept: tuple[str, ...]) -> None:
    """Remove what is no longer listed, and what older formats and killed publishers left."""
    for path in folder.iterdir():
        ours = path.name == _SCRATCH or DIGEST.fullmatch(path.name)
        if ours and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for name in _OLD_FILES:
        (folder / name).unlink(missing_ok=True)
    for part in ("new", "old"):
        shutil.rmtree(folder.with_name(f".{folder.name}.{part}"), ignore_errors=True)
