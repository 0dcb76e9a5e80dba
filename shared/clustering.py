"""Federated clustering in the encoder's coordinates: what a plant computes, and how the sums become centroids.

A plant sends per-cluster sums and counts computed under the aggregated encoder (`statistic`); the server adds them up
and moves the
centroids (`update`). Without noise and with radius infinity this equals pooled Lloyd iterations exactly, and
`mu_j = sum_s n_sj mu_sj / sum_s n_sj` makes it FedAvg of centroids with per-cluster weights. Averaging centroids by
index is wrong:
clusters are numbered differently at each plant (docs/algorithm.md). Relative sums clipped at a radius follow FastLloyd
(arXiv 2405.02437); the evidence-weighted step and the activity rule are docs/algorithm.md, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.model import Clusters
from shared.windows import IntArray

Float = NDArray[np.floating]
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Statistic:
    """What one plant, or all of them together, says about the clusters.

    Attributes:
        sums_KZ: float64 (K, Z), V_j = sum_i v_ij, relative to the centroid.
        counts_K: float64 (K,), n_j = sum_i r_ij, in segments.
        spread: sum over segments of the mean squared distance to the nearest centroid, clipped at the radius.
    """

    sums_KZ: Double
    counts_K: Double
    spread: float

    def __add__(self, other: Statistic) -> Statistic:
        return Statistic(
            self.sums_KZ + other.sums_KZ,
            self.counts_K + other.counts_K,
            self.spread + other.spread,
        )


def nearest(latents_NZ: Float, centroids_KZ: Float) -> tuple[IntArray, Double]:
    """Index of the nearest centroid and the squared distance to it, for each latent: int64 (N,), float64 (N,)."""
    z, mu = latents_NZ.astype(np.float64), centroids_KZ.astype(np.float64)
    distance_NK = (z * z).sum(1)[:, None] - 2.0 * z @ mu.T + (mu * mu).sum(1)[None, :]
    index_N = distance_NK.argmin(axis=1)
    offset_NZ = z - mu[index_N]
    return index_N, (offset_NZ * offset_NZ).sum(axis=1)


def clip(offsets_NZ: Double, radius: float) -> Double:
    """Shorten rows to at most `radius`: u * min(1, radius / ||u||)."""
    norm_N = np.linalg.norm(offsets_NZ, axis=1)
    clipped_NZ: Double = offsets_NZ * np.minimum(1.0, radius / np.maximum(norm_N, 1e-300))[:, None]
    return clipped_NZ


def statistic(latents_NZ: Float, segments_N: IntArray, centroids_KZ: Float, radius: float) -> Statistic:
    """STAT of docs/algorithm.md: each segment counts once, however many windows it has.

    For segment i with windows t = 1..m:  r_ij = (1/m) sum_t 1[a_t = j],  v_ij = (1/m) sum_t 1[a_t = j] clip(z_t -
    mu_j).

    Args:
        latents_NZ: (N, Z), latents of all training windows under the aggregated encoder.
        segments_N: (N,), the segment of each window.
        centroids_KZ: (K, Z), present centroids.
        radius: clipping radius rho of the offsets; adding one segment's windows moves the sums by at most rho, the
            counts by at most 1.

    That is a statement about latents as given, not about raw readings: a segment owns the windows that start in it,
    and the last of them read up to W - 1 rows of the next segment, so one reading may move two segments' windows.
    Nothing private follows from it yet; differential privacy will cut windows inside segments.
    """
    k = len(centroids_KZ)
    index_N, square_N = nearest(latents_NZ, centroids_KZ)
    share_N = 1.0 / np.bincount(segments_N)[segments_N]
    offset_NZ = clip(latents_NZ.astype(np.float64) - centroids_KZ[index_N].astype(np.float64), radius)
    sums_KZ = np.zeros((k, latents_NZ.shape[1]))
    np.add.at(sums_KZ, index_N, offset_NZ * share_N[:, None])
    counts_K = np.bincount(index_N, weights=share_N, minlength=k).astype(np.float64)
    return Statistic(sums_KZ, counts_K, float((np.minimum(square_N, radius * radius) * share_N).sum()))


def update(
    clusters: Clusters, total: Statistic, radius: float, *, kappa: float, floor: float, box: float = np.inf
) -> Clusters:
    """UPD of docs/algorithm.md: move each centroid that has evidence towards the mean of its members.

    N_j >= floor:  mu_j <- box(mu_j + eta_j clip(V_j / N_j)),  eta_j = N_j / (N_j + kappa)
    N_j <  floor:  mu_j stays, misses_j += 1; three misses in a row make it inactive until N_j >= 2 floor.

    Args:
        clusters: present centroids.
        total: sum of the plants' statistics.
        radius: clipping radius of a step.
        kappa: prior weight of the present centroid, in segments; 0 gives Lloyd's step.
        floor: counts below this are taken for nothing.
        box: bound on each coordinate (1 behind a tanh bottleneck).
    """
    counts_K = np.maximum(total.counts_K, 0.0)
    enough_K = counts_K >= max(floor, 1e-12)
    eta_K = counts_K / np.maximum(counts_K + kappa, 1e-12)
    step_KZ = clip(total.sums_KZ / np.maximum(counts_K, 1e-12)[:, None], radius) * eta_K[:, None]
    moved_KZ = np.clip(clusters.centroids_KZ + np.where(enough_K[:, None], step_KZ, 0.0), -box, box)
    misses_K = np.where(enough_K, 0, clusters.misses_K + 1)
    active_K = np.where(clusters.active_K, misses_K < 3, counts_K >= max(2 * floor, 1e-12))
    return replace(
        clusters,
        centroids_KZ=moved_KZ.astype(np.float32),
        misses_K=misses_K.astype(np.int64),
        active_K=active_K if active_K.any() else clusters.active_K,
        frequency_K=frequencies(counts_K),
    )


def frequencies(counts_K: Double) -> NDArray[np.float32]:
    """Released cluster frequency: counts on the simplex, floored at 1 / (20 K) so that no target divides by nothing."""
    counts_K = np.maximum(counts_K, 0.0)
    k, total = len(counts_K), counts_K.sum()
    share_K = counts_K / total if total > 0 else np.full(k, 1.0 / k)
    floored_K = np.maximum(share_K, 1.0 / (20 * k))
    frequency_K: NDArray[np.float32] = (floored_K / floored_K.sum()).astype(np.float32)
    return frequency_K


def cloud_radius(clusters: Clusters, total: Statistic) -> float:
    """Root mean square distance of a latent from the common mean, from released numbers alone.

    Variance within clusters plus variance between them; the unit in which displacement is told.
    """
    weight_K = np.maximum(total.counts_K, 0.0)
    mass = max(float(weight_K.sum()), 1e-12)
    mu_KZ = clusters.centroids_KZ.astype(np.float64)
    mean_Z = (weight_K @ mu_KZ) / mass
    between = float((weight_K * ((mu_KZ - mean_Z) ** 2).sum(axis=1)).sum())
    return max(float(np.sqrt((max(total.spread, 0.0) + between) / mass)), 1e-6)


def displacement(before: Clusters, after: Clusters) -> Double:
    """How far each centroid moved, in radii of the latent cloud: float64 (K,)."""
    moved_KZ = after.centroids_KZ.astype(np.float64) - before.centroids_KZ.astype(np.float64)
    radii_K: Double = np.linalg.norm(moved_KZ, axis=1) / max(after.radius, 1e-12)
    return radii_K


def effective_count(frequency_K: Float) -> float:
    """exp(entropy) of the occupancy: how many clusters the data really uses."""
    f_K = np.asarray(frequency_K, np.float64)
    f_K = f_K[f_K > 0] / f_K.sum()
    return float(np.exp(-(f_K * np.log(f_K)).sum()))


def inertia(latents_NZ: Float, centroids_KZ: Float) -> float:
    """Sum of squared distances to the nearest centroid."""
    return float(nearest(latents_NZ, centroids_KZ)[1].sum())
