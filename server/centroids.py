"""Seeding clusters from statistics alone: the server never sees a latent (docs/algorithm.md, phase 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.clustering import Statistic
from shared.model import Clusters

Double = NDArray[np.float64]

_DRAWS_PER_SEED = 32
_RESTARTS = 30
_TINY = 1e-12

LEAST_SHARE = 0.02
"""Share of all segments that a cluster must hold to be one, where their number is chosen."""


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
        from sklearn.cluster import KMeans  # a second and a half, which whoever only looks at rounds need not wait

        seed = int(rng.integers(2**31))
        fitted = KMeans(count, n_init=_RESTARTS, random_state=seed).fit(points, sample_weight=weights)
        return _fresh(np.clip(fitted.cluster_centers_, -box, box), clusters.radius)
    # Fewer live seeds than clusters asked for: the rest start beside the live ones and are masked out if they stay
    # empty.
    base = points if len(points) else np.zeros((1, clusters.centroids_KZ.shape[1]))
    spare = base[rng.integers(len(base), size=count - len(points))]
    spare = spare + _directions(len(spare), base.shape[1], rng) * 0.4 * clusters.radius
    return _fresh(np.clip(np.concatenate([points, spare]), -box, box), clusters.radius)


def choose(clusters: Clusters, total: Statistic, most: int, floor: float) -> Clusters | None:
    """As few centroids as the released statistics call for, at most `most`: post-processing of what was released.

    Let n_j and m_j be the count and the mean of the members of each live seed, so that W = spread - sum_j n_j
    ||m_j - mu_j||^2 is the sum of squares within the seeds' cells. Uniting cells i and j adds exactly

        n_i n_j / (n_i + n_j) ||m_i - m_j||^2                   (Ward 1963, "Hierarchical grouping", equation for W)

    to it, so that W_K is known for every K on the way down from the seeds to one, without a latent. At K = `most` cells
    with less than 2 % of the segments are dropped; of those left, K >= 2 is taken at the highest

        CH(K) = ((W_1 - W_K) / (K - 1)) / (W_K / (N - K))       (Calinski & Harabasz 1974, equation 3)

    The silhouette, the usual rule, needs the points themselves, which never leave a plant; CH says of the same two
    things, how close members lie and how far clusters, what sums, counts and the spread say.

    Args:
        clusters: the seeds, moved to the means of their members already (`shared.clustering.update`).
        total: the statistic that they were moved by: relative to where they were.
        most: clusters at most.
        floor: counts below this are taken for nothing.

    Returns:
        the chosen centroids; None where there is nothing to choose: one seed has all members, or they lie in one point.
    """
    live_K = total.counts_K >= max(floor, 1e-12)
    means, counts = clusters.centroids_KZ[live_K].astype(np.float64), total.counts_K[live_K].astype(np.float64)
    shift_K = (total.sums_KZ[live_K] ** 2).sum(axis=1) / np.maximum(counts, 1e-12)
    within = max(total.spread - float(shift_K.sum()), 0.0)
    while len(means) > max(most, 2):
        means, counts, within = _unite(means, counts, within)
    kept_K = counts >= min(LEAST_SHARE * counts.sum(), np.sort(counts)[-2:].min(initial=np.inf))
    means, counts = means[kept_K], counts[kept_K]
    path = [(means, counts, within)]
    while len(path[-1][0]) > 1:
        path.append(_unite(*path[-1]))
    found = _highest([(len(m), w) for m, _, w in path], float(counts.sum()))
    return None if found is None else _fresh(path[found][0], clusters.radius)


def _unite(means_KZ: Double, counts_K: Double, within: float) -> tuple[Double, Double, float]:
    """Ward's step: the two cells whose union adds least to the sum of squares within become one."""
    square_KK = ((means_KZ[:, None] - means_KZ[None]) ** 2).sum(axis=2)
    added_KK = counts_K[:, None] * counts_K[None] / (counts_K[:, None] + counts_K[None]) * square_KK
    np.fill_diagonal(added_KK, np.inf)
    i, j = sorted(divmod(int(added_KK.argmin()), len(counts_K)))
    share = counts_K[i] / (counts_K[i] + counts_K[j])
    means, counts = means_KZ.copy(), counts_K.copy()
    means[i], counts[i] = share * means_KZ[i] + (1.0 - share) * means_KZ[j], counts_K[i] + counts_K[j]
    return np.delete(means, j, axis=0), np.delete(counts, j), within + float(added_KK[i, j])


def _highest(path: Sequence[tuple[int, float]], segments: float) -> int | None:
    """Where on a path of (K, W_K), K falling to 1, CH is highest; equals go to fewer. None: nothing lies apart."""
    whole = path[-1][1]
    if len(path) < 2 or whole <= _TINY:
        return None
    indices = [
        ((whole - w) / (k - 1)) / (max(w, _TINY * whole) / (segments - k)) if segments > k else 0.0
        for k, w in path[:-1]
    ]
    return max(range(len(indices)), key=lambda i: (indices[i], i))


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
