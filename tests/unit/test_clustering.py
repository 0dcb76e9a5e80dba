"""Federated clustering: the pooled step, in any order of the sites, whatever modes they lack."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from shared.clustering import (
    Statistic,
    clip,
    cloud_radius,
    displacement,
    effective_count,
    frequencies,
    inertia,
    nearest,
    statistic,
    update,
)
from shared.model import Clusters

WIDE = 100.0


def clusters(centroids: object, radius: float = 1.0) -> Clusters:
    centroids_KZ = np.asarray(centroids, np.float32)
    k = len(centroids_KZ)
    return Clusters(centroids_KZ, np.full(k, 1 / k, np.float32), np.ones(k, bool), np.zeros(k, np.int64), radius)


def counted(counts: list[float], dim: int = 2) -> Statistic:
    return Statistic(np.zeros((len(counts), dim)), np.asarray(counts, np.float64), 0.0)


def blobs(seed: int, sites: int = 3, modes: int = 4, segments: int = 25, length: int = 4) -> list[np.ndarray]:
    """For each site latents (segments * length, Z) around common modes; every segment has the same length."""
    rng = np.random.default_rng(seed)
    modes_MZ = rng.uniform(-0.8, 0.8, (modes, 5))
    return [
        modes_MZ[rng.integers(modes, size=segments * length)] + 0.05 * rng.normal(size=(segments * length, 5))
        for _ in range(sites)
    ]


def segments(latents: np.ndarray, length: int = 4) -> np.ndarray:
    return np.arange(len(latents)) // length


# ---- the statistic ---------------------------------------------------------------------------------------------------


def test_the_statistic_by_hand() -> None:
    latents = np.asarray([[0.0, 1.0], [0.0, 3.0], [10.0, 0.0], [10.0, 2.0]])
    centroids = np.asarray([[0.0, 0.0], [10.0, 0.0], [99.0, 99.0]])
    found = statistic(latents, np.asarray([0, 0, 0, 1]), centroids, WIDE)
    # The first segment has three windows, two near the first centroid; the second segment has one.
    np.testing.assert_allclose(found.counts_K, [2 / 3, 1 / 3 + 1, 0])
    np.testing.assert_allclose(found.sums_KZ, [[0, (1 + 3) / 3], [0, 2], [0, 0]])
    assert found.spread == pytest.approx((1 + 9 + 0) / 3 + 4)


def test_offsets_are_clipped_and_so_is_the_spread() -> None:
    latents = np.asarray([[3.0, 4.0], [0.3, 0.4]])
    found = statistic(latents, np.asarray([0, 1]), np.zeros((1, 2)), radius=1.0)
    np.testing.assert_allclose(found.sums_KZ, [[0.6 + 0.3, 0.8 + 0.4]])
    assert found.spread == pytest.approx(1.0 + 0.25)


def test_without_a_radius_nothing_is_clipped() -> None:
    latents = np.asarray([[3e5, 4e5], [0.0, 0.0]])
    found = statistic(latents, np.asarray([0, 1]), np.zeros((1, 2)), radius=float("inf"))
    np.testing.assert_allclose(found.sums_KZ, [[3e5, 4e5]])
    assert found.spread == pytest.approx(25e10)


@pytest.mark.parametrize("radius", [1e200, 1e-200, 0.0])
def test_no_radius_breaks_the_statistic(radius: float) -> None:
    found = statistic(np.ones((2, 2)), np.asarray([0, 1]), np.zeros((1, 2)), radius)
    assert np.isfinite(found.sums_KZ).all()
    assert found.counts_K.tolist() == [2.0]


def test_a_long_segment_counts_as_much_as_a_short_one() -> None:
    long, short = np.full((50, 2), 0.5), np.full((2, 2), -0.5)
    found = statistic(np.concatenate([long, short]), np.repeat([0, 1], [50, 2]), np.asarray([[0.5] * 2, [-0.5] * 2]), 1)
    np.testing.assert_allclose(found.counts_K, [1, 1])


def test_a_plant_without_windows_says_nothing() -> None:
    found = statistic(np.empty((0, 2)), np.empty(0, np.int64), np.zeros((3, 2)), 1.0)
    assert (found.counts_K.tolist(), found.spread) == ([0, 0, 0], 0.0)
    assert not found.sums_KZ.any()


def test_nearest_is_exact_far_from_the_origin() -> None:
    rng = np.random.default_rng(0)
    centroids = 1000 + rng.normal(size=(6, 3))
    latents = centroids[rng.integers(6, size=40)] + 0.01 * rng.normal(size=(40, 3))
    index, square = nearest(latents, centroids)
    direct = ((latents[:, None] - centroids[None]) ** 2).sum(2)
    np.testing.assert_array_equal(index, direct.argmin(1))
    np.testing.assert_allclose(square, direct.min(1), rtol=1e-9)
    assert inertia(latents, centroids) == pytest.approx(direct.min(1).sum())


def test_clip_keeps_directions() -> None:
    np.testing.assert_allclose(
        clip(np.asarray([[6.0, 8.0], [0.6, 0.8], [0, 0]]), 2.0), [[1.2, 1.6], [0.6, 0.8], [0, 0]]
    )


# ---- federated Lloyd is pooled Lloyd -----------------------------------------------------------------------------


def lloyd(latents: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """One plain iteration, written out."""
    index = ((latents[:, None] - centroids[None]) ** 2).sum(2).argmin(1)
    return np.stack([latents[index == j].mean(0) if (index == j).any() else c for j, c in enumerate(centroids)])


@pytest.mark.parametrize("seed", range(5))
def test_federated_lloyd_equals_pooled_lloyd(seed: int) -> None:
    sites = blobs(seed)
    pooled = np.concatenate(sites)
    federated = central = np.random.default_rng(seed + 100).uniform(-0.8, 0.8, (4, 5))
    for _ in range(8):
        total = statistic(sites[0], segments(sites[0]), federated, WIDE)
        for latents in sites[1:]:
            total = total + statistic(latents, segments(latents), federated, WIDE)
        means = total.sums_KZ / np.maximum(total.counts_K, 1e-300)[:, None]
        federated = federated + np.where(total.counts_K[:, None] > 0, means, 0)
        central = lloyd(pooled, central)
        np.testing.assert_allclose(federated, central, rtol=0, atol=1e-12)


def test_an_update_takes_that_step() -> None:
    sites = blobs(1)
    before = clusters(np.random.default_rng(0).uniform(-0.8, 0.8, (4, 5)))
    total = statistic(sites[0], segments(sites[0]), before.centroids_KZ, WIDE)
    for latents in sites[1:]:
        total = total + statistic(latents, segments(latents), before.centroids_KZ, WIDE)
    after = update(before, total, WIDE, kappa=0, floor=1e-9)
    expected = lloyd(np.concatenate(sites), before.centroids_KZ.astype(np.float64))
    np.testing.assert_allclose(after.centroids_KZ, expected, atol=1e-7)


def test_averaging_by_index_is_another_thing() -> None:
    """Two plants number the same two modes the other way round: the index-wise mean lies between them."""
    one, other = np.asarray([[-1.0, 0.0], [1.0, 0.0]]), np.asarray([[1.0, 0.0], [-1.0, 0.0]])
    latents = np.repeat(one, 10, axis=0)
    ours = update(clusters(one), statistic(latents, segments(latents, 1), one, WIDE), WIDE, kappa=0, floor=1)
    assert inertia(latents, ours.centroids_KZ) == pytest.approx(0)
    assert inertia(latents, (one + other) / 2) == pytest.approx(20)


# ---- sites -------------------------------------------------------------------------------------------------------


def test_the_order_of_the_sites_changes_the_sums_by_rounding_at_most() -> None:
    said = [statistic(z, segments(z), blobs(9)[0][:4], WIDE) for z in blobs(3)]
    totals = [a + b + c for a, b, c in itertools.permutations(said)]
    for total in totals[1:]:
        np.testing.assert_allclose(total.sums_KZ, totals[0].sums_KZ, rtol=0, atol=1e-12)
        np.testing.assert_allclose(total.counts_K, totals[0].counts_K, rtol=0, atol=1e-12)


def test_a_site_without_a_mode_does_not_move_its_centroid() -> None:
    centroids = np.asarray([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.9]], np.float32)
    rng = np.random.default_rng(0)
    everywhere = np.repeat(centroids, 30, axis=0) + 0.02 * rng.normal(size=(90, 2)) + [0.1, 0.0]
    without_third = np.repeat(centroids[:2], 400, axis=0) + 0.02 * rng.normal(size=(800, 2)) - [0.05, 0.0]
    full = statistic(everywhere, segments(everywhere, 1), centroids, WIDE)
    partial = statistic(without_third, segments(without_third, 1), centroids, WIDE)
    alone = update(clusters(centroids), full, WIDE, kappa=0, floor=1)
    both = update(clusters(centroids), full + partial, WIDE, kappa=0, floor=1)
    np.testing.assert_array_equal(both.centroids_KZ[2], alone.centroids_KZ[2])
    assert np.linalg.norm(both.centroids_KZ[:2] - alone.centroids_KZ[:2], axis=1).min() > 0.05


# ---- the update ------------------------------------------------------------------------------------------------------


def test_a_prior_holds_a_centroid_back_by_its_evidence() -> None:
    total = Statistic(np.asarray([[10.0, 0.0]]), np.asarray([10.0]), 0.0)
    moved = [update(clusters([[0, 0]]), total, WIDE, kappa=kappa, floor=1).centroids_KZ[0, 0] for kappa in (0, 10, 90)]
    np.testing.assert_allclose(moved, [1.0, 0.5, 0.1], rtol=1e-6)


def test_a_step_is_no_longer_than_the_radius_and_stays_in_the_box() -> None:
    total = Statistic(np.asarray([[30.0, 40.0]]), np.asarray([1.0]), 0.0)
    np.testing.assert_allclose(update(clusters([[0, 0]]), total, 5.0, kappa=0, floor=1).centroids_KZ, [[3, 4]])
    np.testing.assert_allclose(update(clusters([[0, 0]]), total, 5.0, kappa=0, floor=1, box=1).centroids_KZ, [[1, 1]])


def test_a_cluster_is_masked_after_three_misses_and_wakes_with_twice_the_floor() -> None:
    now = clusters([[0, 0], [1, 1]])
    history = []
    for count in (0.5, 0.0, -3.0, 0.9, 1.9, 2.0, 0.1):
        now = update(now, counted([10.0, count]), WIDE, kappa=0, floor=1.0)
        history.append((int(now.misses_K[1]), bool(now.active_K[1])))
    # The misses end when the count reaches the floor, the mask only at twice the floor.
    assert history == [(1, True), (2, True), (3, False), (4, False), (0, False), (0, True), (1, True)]


@pytest.mark.parametrize("counts", [[0.0, 0.0], [-5.0, -1.0], [0.0, 3.0], [1e-300, 0.0]])
def test_no_count_makes_a_nan(counts: list[float]) -> None:
    sums = np.full((2, 2), 1e-3)
    now = clusters([[0.1, 0.2], [0.3, 0.4]])
    for _ in range(5):
        now = update(now, Statistic(sums, np.asarray(counts), -1.0), WIDE, kappa=0, floor=0.0, box=1)
        assert np.isfinite(now.centroids_KZ).all()
        assert (now.frequency_K > 0).all()
        assert now.frequency_K.sum() == pytest.approx(1)
        assert now.active_K.any()
        assert np.isfinite(cloud_radius(now, Statistic(sums, np.asarray(counts), -1.0)))


def test_a_dead_cluster_stays_where_it_was() -> None:
    after = update(clusters([[0.1, 0.2], [0.3, 0.4]]), counted([5.0, 0.0]), WIDE, kappa=0, floor=1)
    np.testing.assert_array_equal(after.centroids_KZ[1], np.asarray([0.3, 0.4], np.float32))


def test_dtypes_are_those_of_a_model_file() -> None:
    after = update(clusters([[0.1, 0.2]]), counted([5.0]), WIDE, kappa=0, floor=1)
    kinds = [part.dtype for part in (after.centroids_KZ, after.frequency_K, after.active_K, after.misses_K)]
    assert kinds == [np.float32, np.float32, np.bool_, np.int64]


# ---- numbers for people ----------------------------------------------------------------------------------------------


def test_frequencies_are_floored_so_that_no_target_divides_by_nothing() -> None:
    released = frequencies(np.asarray([99.0, 0.0, -4.0]))
    np.testing.assert_allclose(released, np.asarray([1, 1 / 60, 1 / 60]) / (1 + 2 / 60), rtol=1e-6)
    np.testing.assert_allclose(frequencies(np.zeros(4)), 0.25)


def test_the_cloud_radius_is_the_root_mean_square_distance_from_the_mean() -> None:
    latents = np.random.default_rng(0).normal(size=(200, 3)) * [1, 2, 0.5]
    centroids = latents[:5].copy()
    for _ in range(50):  # Lloyd's fixed point, where variances add up exactly
        centroids = lloyd(latents, centroids)
    total = statistic(latents, segments(latents, 1), centroids, WIDE)
    direct = np.sqrt(((latents - latents.mean(0)) ** 2).sum(1).mean())
    assert cloud_radius(clusters(centroids), total) == pytest.approx(direct, rel=1e-5)


def test_displacement_is_told_in_radii() -> None:
    moved = displacement(clusters([[0, 0], [1, 1]]), clusters([[3, 4], [1, 1]], radius=2.0))
    np.testing.assert_allclose(moved, [2.5, 0.0])


def test_the_effective_number_of_clusters() -> None:
    assert effective_count(np.full(8, 1 / 8)) == pytest.approx(8)
    assert effective_count(np.asarray([1.0, 0.0, 0.0])) == pytest.approx(1)
