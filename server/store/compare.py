"""How two rounds and their models differ; pure functions on values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from server.rounds import RoundRecord
from server.store.words import finite as finite
from shared.clustering import displacement
from shared.model import Clusters, GlobalModel, Weights


def compare_rounds(a: RoundRecord, b: RoundRecord) -> dict[str, Any]:
    """Metrics of two rounds side by side, over all plants and plant by plant; `difference` is b - a."""
    plants_a, plants_b = ({p.plant: p for p in record.plants} for record in (a, b))
    names = sorted(plants_a.keys() | plants_b.keys())
    metrics_a, metrics_b = ({n: p[n].metrics if n in p else {} for n in names} for p in (plants_a, plants_b))
    return {
        "run": a.run,
        "a": {"number": a.number, "phase": a.phase.value, "label": a.label, "model": a.model},
        "b": {"number": b.number, "phase": b.phase.value, "label": b.label, "model": b.model},
        "metrics": _side_by_side(a.metrics, b.metrics),
        "plants": {name: _side_by_side(metrics_a[name], metrics_b[name]) for name in names},
    }


def _side_by_side(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    return {name: _difference(a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys())}


def _difference(a: float | None, b: float | None) -> dict[str, float | None]:
    a, b = finite(a), finite(b)
    return {"a": a, "b": b, "difference": None if a is None or b is None else finite(b - a)}


def compare_models(a: GlobalModel, b: GlobalModel) -> dict[str, Any]:
    """How far two models are apart.

    Returns:
        `weights` with `distance` = |b - a|, `relative` = |b - a| / |a| and `cosine` of a and b, all L2, over the
        tensors that both have; `tensors` with the same of each, largest relative movement first; `unmatched` names;
        `centroids` with each one's displacement in radii of the latent cloud, None without clusters of equal shape.
    """
    common = sorted(name for name in a.weights.keys() & b.weights.keys() if _same_shape(a.weights, b.weights, name))
    tensors = [{"name": name, **_apart([(a.weights[name], b.weights[name])])} for name in common]
    return {
        "weights": _apart((a.weights[name], b.weights[name]) for name in common),
        "tensors": sorted(tensors, key=_movement, reverse=True),
        "unmatched": sorted((a.weights.keys() | b.weights.keys()) - set(common)),
        "centroids": _centroids(a.clusters, b.clusters),
    }


def _same_shape(a: Weights, b: Weights, name: str) -> bool:
    return a[name].shape == b[name].shape


def _movement(tensor: Mapping[str, Any]) -> float:
    relative = tensor["relative"]
    return math.inf if relative is None else float(relative)


def _apart(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float | None]:
    moved = length_a = length_b = product = 0.0
    for left, right in pairs:
        a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
        moved += float(np.square(b - a).sum())
        length_a, length_b, product = length_a + float(a @ a), length_b + float(b @ b), product + float(a @ b)
    lengths = math.sqrt(length_a) * math.sqrt(length_b)
    return {
        "distance": finite(math.sqrt(moved)),
        "relative": finite(math.sqrt(moved / length_a)) if length_a > 0 else (0.0 if moved == 0 else None),
        "cosine": finite(max(-1.0, min(1.0, product / lengths))) if lengths > 0 else None,
    }


def _centroids(a: Clusters | None, b: Clusters | None) -> dict[str, Any] | None:
    if a is None or b is None or a.centroids_KZ.shape != b.centroids_KZ.shape:
        return None
    moved = [finite(value) for value in displacement(a, b).tolist()]
    known = [value for value in moved if value is not None]
    return {"displacement": moved, "largest": max(known, default=None)}
