"""A bundle as an edge box reads it: everything that live scoring needs, without pydantic, torch and cryptography."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from shared.artefact import Artefact
from shared.bundle import files
from shared.bundle.folder import located
from shared.bundle.index import Index, read_index, read_parts
from shared.bundle.parts import Calibration, Probe, Provenance, Setup
from shared.bundle.trust import Trust, check_signature
from shared.contributions import judge_scale
from shared.errors import BundleInvalid, ModelCorrupt
from shared.evidence.file import from_bytes as judge_of
from shared.evidence.judge import Judge
from shared.model import Clusters, parse_model
from shared.preprocess import Preprocessor
from shared.relations import Relations
from shared.relations import from_bytes as relations_of
from shared.relations.beside import WEIGHT
from shared.schema import SensorSchema, difference
from shared.scoring import ScoreScale
from shared.sensor_limits import SensorLimits
from shared.thresholds import Threshold

Parsed = TypeVar("Parsed", bound=Artefact)


@dataclass(frozen=True, eq=False)
class EdgeBundle:
    """The parts of a bundle that live scoring needs, parsed, fitting each other.

    Attributes:
        folder: where it was read.
        digest: of the whole bundle, hex; `digest[:12]` marks what it scored.
        signer: fingerprint of the key that signed it, as `ssh-keygen -l` prints it; empty when that was not checked.
        provenance: site, run, round, number, digest of the global model.
        setup: window, tail and how thresholds are set.
        schema: the columns.
        preprocessor: from raw readings to what the graph sees; `preprocessor.stream()` takes them row by row.
        scale: how error and entropy become one score.
        threshold: where alarms begin.
        clusters: centroids, frequency and active ones in the graph's latent coordinates; None without clusters.
        calibration: what normal data scored here; p-values.
        graph: ONNX model of one window: `windows` (1, W, D) to `reconstruction` (1, W, D) and `latents` (1, Z).
        probe: held-out rows with the trainer's scores.
        limits: of healthy sensors, to tell a broken one from a plant in trouble.
        graph_int8: the same model in 8 bits; None without.
        guard: the plant's local guard, as `shared.local_guard.from_bytes` reads it; None without.
        judge: what scores, in the place of `scale`; None without.
        relations: what scores beside the judge, on raw rows; None without.
    """

    folder: Path
    digest: str
    signer: str
    provenance: Provenance
    setup: Setup
    schema: SensorSchema
    preprocessor: Preprocessor
    scale: ScoreScale
    threshold: Threshold
    clusters: Clusters | None
    calibration: Calibration
    graph: bytes
    probe: Probe
    limits: SensorLimits
    graph_int8: bytes | None = None
    guard: bytes | None = None
    judge: Judge | None = None
    relations: Relations | None = None

    @property
    def alarm_scale(self) -> ScoreScale:
        """How a score falls with the error that it comes from; of a judge's about (`shared.contributions`)."""
        if self.judge is None:
            return self.scale
        spread_C, weight_C = self.judge.spread_C, self.judge.weight_C
        if self.relations is not None:
            spread_C = np.append(spread_C, self.relations.spread)
            weight_C = np.append((1 - WEIGHT) * weight_C, WEIGHT)
        return judge_scale(spread_C, weight_C)


def read_edge_bundle(folder: Path, trust: Trust | None = None) -> EdgeBundle:
    """Read a bundle: check its signature and every digest, and that its parts fit. May run while another is published.

    Args:
        folder: of one bundle, or a folder of versions: then the one in force.
        trust: whose signature counts; None leaves it unchecked, for tools on the plant's own machine.

    Raises:
        BundleInvalid: a file is missing, changed or malformed, or the signature is missing, wrong or somebody else's;
            the cause names it.
        MissingExtra: the package cryptography is not installed.
    """
    while True:
        place = located(folder)
        try:
            return _read(place, trust)
        except BundleInvalid:
            if located(folder) == place:
                raise  # Otherwise another version came into force, and this one may be gone: read that.


def refuse_older(candidate: Provenance, current: Provenance) -> None:
    """Refuse to replace a bundle by an older one without being asked; a person may still choose it.

    Older is a lower number among the plant's bundles, or a lower round of the same run.

    Raises:
        BundleInvalid: it is older.
    """
    back = candidate.run == current.run and candidate.round < current.round
    if candidate.number < current.number or back:
        older, newer = (f"bundle {p.number} (run {p.run}, round {p.round})" for p in (candidate, current))
        cause = f"{older} of {candidate.site} is older than the one in use, {newer}."
        raise BundleInvalid(cause, "The one in use goes on scoring; `crossplant client rollback` goes back by hand.")


def refuse_other_columns(bundle: EdgeBundle, expected: SensorSchema) -> None:
    """Refuse a bundle for other tags, another order of them or another period than those that are scored.

    Raises:
        BundleInvalid: it has; the cause lists what differs.
    """
    told = difference(expected, bundle.schema)
    if told:
        cause = f"{bundle.folder} is for other columns than those in use: it {told}."
        raise BundleInvalid(cause.replace("the federation expects", "these are"), "Publish one for these columns.")


def _read(folder: Path, trust: Trust | None) -> EdgeBundle:
    index = read_index(folder)
    signer = "" if trust is None else check_signature(folder, index.data, trust)
    parts = read_parts(folder, index, leave=frozenset((files.RECIPE,)))
    try:
        bundle = _parsed(folder, index, parts, signer)
    except ModelCorrupt as error:
        raise BundleInvalid(error.cause) from error
    _check_fit(bundle)
    return bundle


def _parsed(folder: Path, index: Index, parts: dict[str, bytes], signer: str) -> EdgeBundle:
    if hashlib.sha256(parts[files.MODEL]).hexdigest() != index.provenance.model:
        raise BundleInvalid(f"{folder}: {files.MODEL} is not the model that the threshold was set for.")
    return EdgeBundle(
        folder=folder,
        digest=index.digest,
        signer=signer,
        provenance=index.provenance,
        setup=parse_part(Setup, folder, files.SETUP, parts),
        schema=parse_part(SensorSchema, folder, files.SCHEMA, parts),
        preprocessor=parse_part(Preprocessor, folder, files.PREPROCESSOR, parts),
        scale=parse_part(ScoreScale, folder, files.SCORE, parts),
        threshold=parse_part(Threshold, folder, files.THRESHOLD, parts),
        clusters=parse_model(parts[files.MODEL], str(folder / files.MODEL)).clusters,
        calibration=parse_part(Calibration, folder, files.CALIBRATION, parts),
        graph=parts[files.GRAPH],
        probe=_probe(folder, parts[files.PROBE]),
        limits=parse_part(SensorLimits, folder, files.LIMITS, parts),
        graph_int8=parts.get(files.GRAPH_INT8),
        guard=parts.get(files.GUARD),
        judge=parse_judge(folder, parts),
        relations=parse_relations(folder, parts),
    )


def parse_part(kind: type[Parsed], folder: Path, name: str, parts: dict[str, bytes]) -> Parsed:
    """One part read from its JSON.

    Raises:
        BundleInvalid: it is none; the cause names the file.
    """
    try:
        return kind.parse(parts[name])
    except ValueError as error:
        raise BundleInvalid(f"{folder}: {name}: {error}.") from error


def parse_judge(folder: Path, parts: dict[str, bytes]) -> Judge | None:
    """The judge, if there is one.

    Raises:
        BundleInvalid: it is none; the cause names the file.
    """
    data = parts.get(files.JUDGE)
    return None if data is None else judge_of(data, f"{folder}: {files.JUDGE}")


def parse_relations(folder: Path, parts: dict[str, bytes]) -> Relations | None:
    """The relations, if there are any.

    Raises:
        BundleInvalid: they are none; the cause names the file.
    """
    data = parts.get(files.RELATIONS)
    return None if data is None else relations_of(data, f"{folder}: {files.RELATIONS}")


def check_relations(folder: Path, relations: Relations | None, judge: Judge | None, dim: int) -> None:
    """See that relations are of a bundle's tags, and beside a judge.

    Raises:
        BundleInvalid: they are not.
    """
    if relations is not None and (relations.frame.dim != dim or judge is None):
        told = f"{files.RELATIONS} is not for {dim} tags" if judge else f"{files.RELATIONS} is without a judge"
        raise BundleInvalid(f"{folder}: the parts do not fit each other: {told}.")


def check_judge(folder: Path, judge: Judge | None, dim: int, clusters: Clusters | None) -> None:
    """See that a judge is of a bundle's tags and clusters.

    Raises:
        BundleInvalid: it is not.
    """
    if judge is None:
        return
    network, count = judge.models.network, clusters.count if clusters else 0
    if judge.models.dim != dim or network is None or len(network.mean_KD) != count + 1:
        told = f"{files.JUDGE} is not for {dim} tags and {count} clusters"
        raise BundleInvalid(f"{folder}: the parts do not fit each other: {told}.")


def _probe(folder: Path, data: bytes) -> Probe:
    try:
        return Probe.parse(data)
    except ValueError as error:
        raise BundleInvalid(f"{folder}: {files.PROBE}: {error}.") from error


def _check_fit(bundle: EdgeBundle) -> None:
    """See that the parts are of one size."""
    dim, clusters, found = bundle.schema.dim, bundle.clusters, bundle.calibration
    check_judge(bundle.folder, bundle.judge, dim, clusters)
    check_relations(bundle.folder, bundle.relations, bundle.judge, dim)
    misfits = {
        f"{files.PREPROCESSOR} is for {bundle.preprocessor.dim} of {dim} tags": bundle.preprocessor.dim != dim,
        f"{files.PROBE} is not for {dim} tags": bundle.probe.rows_RD.shape[1] != dim,
        f"{files.LIMITS} is for other tags": bundle.limits.tags != bundle.schema.tags,
        f"{files.CALIBRATION} is not for {dim} tags": {len(found.tag_error), len(found.tag_error_high)} != {dim},
        f"{files.CALIBRATION} has other clusters": len(found.occupancy) != (clusters.count if clusters else 0),
        f"{files.SCORE} needs clusters": clusters is None and bundle.scale.entropy_weight > 0,
        f"{files.MODEL}: clusters that do not fit": clusters is not None and not _sound(clusters, bundle.setup.latent),
    }
    for told, wrong in misfits.items():
        if wrong:
            raise BundleInvalid(f"{bundle.folder}: the parts do not fit each other: {told}.")


def _sound(clusters: Clusters, latent: int) -> bool:
    return clusters.centroids_KZ.shape[1] == latent and bool(np.isfinite(clusters.centroids_KZ).all())
