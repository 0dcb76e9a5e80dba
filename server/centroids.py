"""Seeding clusters from statistics alone: the server never sees a latent (docs/algorithm.md, phase 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from shared.model import Clusters

Double = NDArray[np.float64]

_DRAWS_PER_SEED = 32
_RESTARTS = 30


def single(latent: int, radius: float) -> Clusters:
    """One cluster at the origin: where seeding starts. `radius` is the public bound R on a latent's norm."""
    return _fresh(np.zeros((1, latent)), radius)


def overseed(centre_Z: Double, radius: float, count: int, rng: np.random.Generator, box: float) -> Clusters:
    """Farthest-first seeds among points drawn in the ball of 1.2 radii around the common mean."""
    draws = _in_ball(_DRAWS_PER_SEED * count, len(centre_Z), rng) * 1.2 * radius
    points_PZ = np.clip(centre_Z + draws, -box, box)
    chosen = [0]
    distance_P = np.linalg.norm(points_PZ - points_PZ[0], axis=1)
    for _ in range(count - 1):
        chosen.append(int(distance_P.argmax()))
        distance_P = np.minimum(distance_P, np.linalg.norm(points_PZ - points_PZ[chosen[-1]], axis=1))
    return _fresh(points_PZ[chosen], radius)


def replace_dead(clusters: Clusters, counts_K: Double, floor: float, rng: np.random.Generator, box: float) -> Clusters:
    """Put every seed without members beside a busy one, drawn by its count, 0.4 radii away."""
    dead_K = counts_K < max(floor, 1e-12)
    if dead_K.all() or not dead_K.any():
        return clusters
    weight_K = np.where(dead_K, 0.0, counts_K)
    busy = rng.choice(len(counts_K), size=int(dead_K.sum()), p=weight_K / weight_K.sum())
    offsets = _directions(len(busy), clusters.centroids_KZ.shape[1], rng) * 0.4 * clusters.radius
    centroids = clusters.centroids_KZ.astype(np.float64)
    centroids[dead_K] = np.clip(centroids[busy] + offsets, -box, box)
    return _fresh(centroids, clusters.radius)


def merge(
    clusters: Clusters, counts_K: Double, count: int, rng: np.random.Generator, floor: float, box: float
) -> Clusters:
    """Weighted k-means of the live seeds down to `count` centroids: post-processing of what was released."""
    live_K = counts_K >= max(floor, 1e-12)
    points, weights = clusters.centroids_KZ[live_K].astype(np.float64), counts_K[live_K]
    if len(points) > count:
        seed = int(rng.integers(2**31))
        fitted = KMeans(count, n_init=_RESTARTS, random_state=seed).fit(points, sample_weight=weights)
        return _fresh(np.clip(fitted.cluster_centers_, -box, box), clusters.radius)
    # Fewer live seeds than clusters asked for: the rest start beside the live ones and are masked out if they stay
    # empty.
    base = points if len(points) else np.zeros((1, clusters.centroids_KZ.shape[1]))
    spare = base[rng.integers(len(base), size=count - len(points))]
    spare = spare + _directions(len(spare), base.shape[1], rng) * 0.4 * clusters.radius
    return _fresh(np.clip(np.concatenate([points, spare]), -box, box), clusters.radius)


def _fresh(centroids_KZ: Double, radius: float) -> Clusters:
    k = len(centroids_KZ)
    return Clusters(
        centroids_KZ=centroids_KZ.astype(np.float32),
        frequency_K=np.full(k, 1.0 / k, np.float32),
        active_K=np.ones(k, bool),
        misses_K=np.zeros(k, np.int64),
        radius=radius,
    )


def _directions(count: int, dim: int, rng: np.random.Generator) -> Double:
    vectors = rng.normal(size=(count, dim))
    units: Double = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return units


def _in_ball(count: int, dim: int, rng: np.random.Generator) -> Double:
    return _directions(count, dim, rng) * rng.uniform(size=(count, 1)) ** (1.0 / dim)
