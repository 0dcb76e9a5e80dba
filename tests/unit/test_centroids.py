from __future__ import annotations

import numpy as np
import pytest

from server import centroids
from shared.clustering import Statistic, inertia, nearest, statistic, update
from shared.model import Clusters


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def seeds(points: object, radius: float = 0.5) -> Clusters:
    made = centroids.overseed(np.zeros(2), radius, len(points), rng(), 1.0)
    return Clusters(**{**vars(made), "centroids_KZ": np.asarray(points, np.float32)})


def test_seeding_starts_from_one_cluster_at_the_origin() -> None:
    start = centroids.single(4, 2.0)
    np.testing.assert_array_equal(start.centroids_KZ, np.zeros((1, 4)))
    assert (start.radius, start.frequency_K.tolist(), start.active_K.tolist()) == (2.0, [1.0], [True])


def test_seeds_lie_in_the_ball_and_apart_from_each_other() -> None:
    centre = np.full(6, 0.2)
    made = centroids.overseed(centre, 0.4, 20, rng(), 1.0).centroids_KZ
    assert made.shape == (20, 6)
    assert np.linalg.norm(made - centre, axis=1).max() <= 1.2 * 0.4 + 1e-6
    gaps = np.linalg.norm(made[:, None] - made[None], axis=2) + 9 * np.eye(20)
    assert gaps.min() > 0.25  # 20 points drawn without care come far closer


def test_seeds_stay_behind_the_bottleneck() -> None:
    made = centroids.overseed(np.full(3, 0.99), 0.5, 12, rng(), 1.0).centroids_KZ
    assert np.abs(made).max() <= 1.0
    assert np.abs(centroids.overseed(np.full(3, 0.99), 0.5, 12, rng(), np.inf).centroids_KZ).max() > 1.0


def test_seeds_depend_on_the_public_seed_alone() -> None:
    first, again, other = (centroids.overseed(np.zeros(3), 0.5, 8, rng(s), 1.0).centroids_KZ for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_dead_seed_moves_beside_a_busy_one() -> None:
    now = seeds([[0.0, 0.0], [0.9, 0.9], [-0.5, 0.5]])
    after = centroids.replace_dead(now, np.asarray([40.0, 0.0, 10.0]), 1.0, rng(), 1.0)
    np.testing.assert_array_equal(after.centroids_KZ[[0, 2]], now.centroids_KZ[[0, 2]])
    beside = np.linalg.norm(after.centroids_KZ[1] - now.centroids_KZ[[0, 2]], axis=1)
    assert beside.min() == pytest.approx(0.4 * now.radius, rel=1e-5)


def test_busy_seeds_attract_by_their_count() -> None:
    now = seeds([[0.0, 0.0], [0.5, 0.5], *[[0.9, -0.9]] * 400])
    counts = np.asarray([75.0, 25.0, *[0.0] * 400])
    after = centroids.replace_dead(now, counts, 1.0, rng(), 1.0).centroids_KZ[2:]
    near_first = np.linalg.norm(after, axis=1) < np.linalg.norm(after - 0.5, axis=1)
    assert 0.68 < near_first.mean() < 0.82


@pytest.mark.parametrize("counts", [[5.0, 5.0], [0.0, 0.0]])
def test_with_all_or_none_alive_nothing_moves(counts: list[float]) -> None:
    now = seeds([[0.0, 0.0], [0.5, 0.5]])
    assert centroids.replace_dead(now, np.asarray(counts), 1.0, rng(), 1.0) is now


def test_merging_weighs_seeds_by_their_counts() -> None:
    now = seeds([[0.0, 0.0], [0.1, 0.0], [0.9, 0.9], [0.9, 0.9]])
    merged = centroids.merge(now, np.asarray([30.0, 10.0, 5.0, 0.0]), 2, rng(), 1.0, 1.0)
    found = merged.centroids_KZ[np.argsort(merged.centroids_KZ[:, 0])]
    np.testing.assert_allclose(found, [[0.025, 0.0], [0.9, 0.9]], atol=1e-6)
    np.testing.assert_allclose(merged.frequency_K, 0.5)


@pytest.mark.parametrize("live", [0, 1, 3])
def test_merging_fewer_live_seeds_than_clusters_fills_up_beside_them(live: int) -> None:
    points = [[0.1 * i, -0.2] for i in range(6)]
    counts = np.asarray([5.0] * live + [0.0] * (6 - live))
    merged = centroids.merge(seeds(points), counts, 4, rng(), 1.0, 1.0)
    assert merged.count == 4
    np.testing.assert_allclose(merged.centroids_KZ[:live], np.asarray(points[:live], np.float32).reshape(-1, 2))
    base = np.asarray(points[:live]) if live else np.zeros((1, 2))
    gaps = np.linalg.norm(merged.centroids_KZ[live:, None] - base[None], axis=2).min(axis=1)
    np.testing.assert_allclose(gaps, 0.4 * 0.5, atol=0.1)
    assert len(np.unique(merged.centroids_KZ, axis=0)) == 4


def test_the_whole_of_seeding_finds_the_modes_of_sites_that_lack_some() -> None:
    """Phase 2 on latents alone: eight modes, six sites with four of them each, as good as pooled k-means."""
    from sklearn.cluster import KMeans

    generator = rng(4)
    modes = generator.uniform(-0.7, 0.7, (8, 6))
    sites = [
        modes[generator.choice(8, 4, replace=False)[generator.integers(4, size=300)]]
        + 0.04 * generator.normal(size=(300, 6))
        for _ in range(6)
    ]

    def total(now: Clusters, radius: float) -> object:
        said = [statistic(z, np.arange(len(z)), now.centroids_KZ, radius) for z in sites]
        return sum(said[1:], said[0])

    whole = total(centroids.single(6, 2.45), 4.9)
    centre = (whole.sums_KZ / whole.counts_K[:, None])[0]
    now = centroids.overseed(centre, float(np.sqrt(whole.spread / whole.counts_K.sum())), 32, generator, 1.0)
    for step in range(4):
        said = total(now, 4.9)
        now = update(now, said, 4.9, kappa=0, floor=1, box=1)
        if step < 3:
            now = centroids.replace_dead(now, said.counts_K, 1, generator, 1.0)
    now = centroids.merge(now, said.counts_K, 8, generator, 1, 1.0)
    for _ in range(3):
        now = update(now, total(now, 4.9), 4.9, kappa=0, floor=1, box=1)
    pooled = np.concatenate(sites)
    best = KMeans(8, n_init=10, random_state=0).fit(pooled).inertia_
    assert inertia(pooled, now.centroids_KZ) <= 1.02 * best


# ---- how many there are ----------------------------------------------------------------------------------------------


def seeded(latents: np.ndarray, seed: int = 0, count: int = 32) -> tuple[Clusters, Statistic]:
    """Seeds after a step of Lloyd's on latents, one a segment, and the statistic that they were moved by."""
    generator = rng(seed)
    now = centroids.overseed(latents.mean(axis=0), float(latents.std(axis=0).sum()), count, generator, np.inf)
    for _ in range(4):
        said = statistic(latents, np.arange(len(latents)), now.centroids_KZ, np.inf)
        before, now = now, update(now, said, np.inf, kappa=0, floor=1)
        kept = now
        now = centroids.replace_dead(now, said.counts_K, 1, generator, np.inf)
    assert before.count == count
    return kept, said


def blobs(sizes: list[int], apart: float, dim: int = 6, seed: int = 1) -> np.ndarray:
    generator = rng(seed)
    middles = apart * np.eye(dim)[: len(sizes)]
    return np.concatenate([m + 0.1 * generator.normal(size=(n, dim)) for m, n in zip(middles, sizes, strict=True)])


@pytest.mark.parametrize("sizes", [[200, 200], [300, 200, 100], [400, 60, 60, 60, 200]])
def test_as_many_clusters_are_chosen_as_there_are_blobs_and_where_they_are(sizes: list[int]) -> None:
    latents = blobs(sizes, 1.0)
    found = centroids.choose(*seeded(latents), 8, 1.0)
    assert found.count == len(sizes)
    assert (found.active_K.all(), found.misses_K.sum(), found.frequency_K.sum()) == (True, 0, pytest.approx(1))
    gaps = np.linalg.norm(found.centroids_KZ[:, None] - np.eye(6)[None, : len(sizes)], axis=2)
    assert gaps.min(axis=0).max() < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_a_cloud_that_shows_no_clusters_keeps_few(seed: int) -> None:
    assert centroids.choose(*seeded(rng(seed).normal(size=(600, 16)), seed), 8, 1.0).count <= 3


def test_never_more_are_chosen_than_there_may_be_nor_fewer_than_two() -> None:
    many = blobs([100] * 6, 1.0)
    assert [centroids.choose(*seeded(many), most, 1.0).count for most in (8, 6, 4, 2)] == [6, 6, 4, 2]
    assert centroids.choose(*seeded(blobs([600], 1.0)), 8, 1.0).count >= 2


@pytest.mark.parametrize(("odd", "count"), [(6, 2), (30, 3)])
def test_a_handful_of_odd_segments_is_no_cluster(odd: int, count: int) -> None:
    latents = np.concatenate([blobs([300, 300], 1.0), np.full((odd, 6), -3.0)])
    assert centroids.choose(*seeded(latents), 8, 1.0).count == count


def test_the_sum_of_squares_on_the_way_down_is_exact_at_every_step() -> None:
    """What sums, counts and the spread say of a partition is what its points say."""
    latents = rng(3).normal(size=(200, 3))
    now, said = seeded(latents, 3, 12)
    mine, _ = nearest(latents, before_of(now, said))
    live = np.flatnonzero(said.counts_K)
    means, counts = now.centroids_KZ[live].astype(float), said.counts_K[live]
    within = said.spread - float(((said.sums_KZ[live] ** 2).sum(axis=1) / counts).sum())
    groups = [{int(k)} for k in live]
    while len(means) > 1:
        direct = sum(
            ((members - members.mean(axis=0)) ** 2).sum()
            for members in (latents[np.isin(mine, sorted(group))] for group in groups)
        )
        assert within == pytest.approx(direct, rel=1e-5)
        after, _, more = centroids._unite(means, counts, within)
        i, j = united(means, counts, more - within)
        groups[i] |= groups.pop(j)
        means, counts, within = centroids._unite(means, counts, within)
        assert len(after) == len(groups)
    assert within == pytest.approx(((latents - latents.mean(axis=0)) ** 2).sum(), rel=1e-5)


def before_of(now: Clusters, said: Statistic) -> np.ndarray:
    """Where the seeds were when the statistic was taken."""
    return now.centroids_KZ - said.sums_KZ / np.maximum(said.counts_K, 1e-12)[:, None]


def united(means: np.ndarray, counts: np.ndarray, added: float) -> tuple[int, int]:
    pairs = [(i, j) for j in range(len(means)) for i in range(j)]
    cost = [counts[i] * counts[j] / (counts[i] + counts[j]) * ((means[i] - means[j]) ** 2).sum() for i, j in pairs]
    assert min(cost) == pytest.approx(added)
    return pairs[int(np.argmin(cost))]


@pytest.mark.parametrize("live", [0, 1])
def test_where_there_is_nothing_to_choose_nothing_is_chosen(live: int) -> None:
    counts = np.asarray([40.0] * live + [0.0] * (4 - live))
    said = Statistic(np.zeros((4, 2)), counts, 0.0)
    assert centroids.choose(seeds([[0.1, 0.1], [0.2, 0.1], [0.3, 0.1], [0.4, 0.1]]), said, 8, 1.0) is None
    same = Statistic(np.zeros((4, 2)), np.full(4, 10.0), 0.0)
    assert centroids.choose(seeds([[0.1, 0.1]] * 4), same, 8, 1.0) is None
