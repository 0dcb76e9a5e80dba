"""The global model as a value: named weights and the clusters that belong to them, with one digest over both.

The file format is safetensors (no pickle); `SHA-256 of the file` is the model's digest and its file name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from shared.errors import ModelCorrupt
from shared.series import FloatArray

Weights = Mapping[str, FloatArray]

_WEIGHT = "weights/"
_CLUSTER = "clusters/"


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of a detector: public, the same at every plant.

    Attributes:
        name: parameter name; weights are exchanged by name, never by position.
        shape: its shape.
        bound: the initial value is uniform in [-bound, bound].
    """

    name: str
    shape: tuple[int, ...]
    bound: float

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Clusters:
    """Centroids in the coordinates of the encoder they were computed with. Buffers, not SGD parameters.

    Attributes:
        centroids_KZ: float32 (K, Z).
        frequency_K: float32 (K,), the released cluster frequency, on the simplex.
        active_K: bool (K,), False masks a cluster out of q, p and the entropy.
        misses_K: int64 (K,), refreshes in a row in which the cluster was nearly empty.
        radius: root mean square distance of a latent from the common mean at seeding; unit of displacement.
    """

    centroids_KZ: FloatArray
    frequency_K: FloatArray
    active_K: NDArray[np.bool_]
    misses_K: NDArray[np.int64]
    radius: float

    @property
    def count(self) -> int:
        """Number of clusters, K."""
        return len(self.centroids_KZ)


@dataclass(frozen=True)
class GlobalModel:
    """Weights by name, sorted, and the clusters (None before they are seeded)."""

    weights: Weights
    clusters: Clusters | None = field(default=None)

    @cached_property
    def file_bytes(self) -> bytes:
        """The model as one safetensors file; equal models give equal bytes."""
        tensors = {f"{_WEIGHT}{name}": np.asarray(value, order="C") for name, value in sorted(self.weights.items())}
        if self.clusters is not None:
            c = self.clusters
            tensors |= {
                f"{_CLUSTER}active": c.active_K.astype(np.uint8),
                f"{_CLUSTER}centroids": np.ascontiguousarray(c.centroids_KZ, np.float32),
                f"{_CLUSTER}frequency": np.ascontiguousarray(c.frequency_K, np.float32),
                f"{_CLUSTER}misses": np.ascontiguousarray(c.misses_K, np.int64),
                f"{_CLUSTER}radius": np.asarray([c.radius], np.float64),
            }
        return safetensors.numpy.save(tensors)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over `file_bytes`, hex."""
        return hashlib.sha256(self.file_bytes).hexdigest()

    @property
    def parameter_count(self) -> int:
        """Number of trained values, and of centroid coordinates where there are any."""
        centroids = 0 if self.clusters is None else self.clusters.centroids_KZ.size
        return sum(value.size for value in self.weights.values()) + centroids


def parse_model(data: bytes, source: str = "model") -> GlobalModel:
    """Read what `GlobalModel.file_bytes` wrote.

    Raises:
        ModelCorrupt: not a model file.
    """
    try:
        tensors = safetensors.numpy.load(data)
        weights = {k.removeprefix(_WEIGHT): v for k, v in sorted(tensors.items()) if k.startswith(_WEIGHT)}
        clusters = _parse_clusters({k.removeprefix(_CLUSTER): v for k, v in tensors.items() if k.startswith(_CLUSTER)})
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelCorrupt(f"{source} is not a model file: {error}.") from error
    if not weights:
        raise ModelCorrupt(f"{source} holds no weights.")
    other = [name for name, value in weights.items() if value.dtype != np.float32]
    if other:
        raise ModelCorrupt(f"{source}: {other[0]} is {weights[other[0]].dtype}, weights are float32.")
    return GlobalModel(MappingProxyType(weights), clusters)


def _parse_clusters(parts: Mapping[str, NDArray[np.generic]]) -> Clusters | None:
    if not parts:
        return None
    centroids = parts["centroids"].astype(np.float32)
    k = len(centroids)
    active, frequency, misses = parts["active"], parts["frequency"], parts["misses"]
    if centroids.ndim != 2 or any(part.shape != (k,) for part in (active, frequency, misses)):
        raise ValueError("cluster tensors disagree about the number of clusters")
    if parts["radius"].shape != (1,):
        raise ValueError("the radius of the clusters is not one number")
    return Clusters(
        centroids_KZ=centroids,
        frequency_K=frequency.astype(np.float32),
        active_K=active.astype(bool),
        misses_K=misses.astype(np.int64),
        radius=float(parts["radius"][0]),
    )


def read_model(path: Path, digest: str | None = None) -> GlobalModel:
    """Read a model file and check its digest (its own file name's, when none is given).

    Raises:
        ModelCorrupt: the file is missing, no model, or its content has another digest.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelCorrupt(f"cannot read {path}: {error.strerror}.") from error
    expected = digest or path.stem
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ModelCorrupt(
            f"{path} has digest {found[:12]}, expected {expected[:12]}: the file was changed or cut short."
        )
    return parse_model(data, str(path))


def initial_weights(manifest: tuple[TensorSpec, ...], seed: int) -> Weights:
    """Weights before training: each tensor uniform in its bound, from the run's public seed and its own name.

    Framework-free, so that the server needs no torch and every machine gets the same numbers.
    """
    return MappingProxyType({spec.name: _initial(spec, seed) for spec in sorted(manifest, key=lambda s: s.name)})


def _initial(spec: TensorSpec, seed: int) -> FloatArray:
    key = hashlib.sha256(f"{seed}:{spec.name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:16], "little"))
    return rng.uniform(-spec.bound, spec.bound, spec.shape).astype(np.float32)
