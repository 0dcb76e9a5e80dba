"""The cluster statistic's sensitivity: what one segment more can do to the numbers that leave a plant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clustering import Statistic, statistic

SEEDS = st.integers(0, 2**32 - 1)
RADII = st.sampled_from([1e-3, 0.5, 1.0, 4.0])
SIZES = st.integers(1, 12)


def added(before: np.ndarray, segment: np.ndarray, centroids: np.ndarray, radius: float) -> Statistic:
    """What the statistic gains by one segment of windows, as difference of two releases."""
    ids = np.repeat(np.arange(len(before) // 3), 3)
    old = statistic(before, ids, centroids, radius)
    new = statistic(np.concatenate([before, segment]), np.append(ids, [len(before)] * len(segment)), centroids, radius)
    return Statistic(new.sums_KZ - old.sums_KZ, new.counts_K - old.counts_K, new.spread - old.spread)


def assert_bounded(gain: Statistic, radius: float) -> None:
    slack = 1e-9 * max(1.0, radius)
    assert np.linalg.norm(gain.sums_KZ) <= radius + slack
    assert np.linalg.norm(gain.counts_K) <= 1 + slack
    assert gain.counts_K.sum() == pytest.approx(1)
    assert (gain.counts_K >= -1e-9).all()
    assert -slack <= gain.spread <= radius**2 + slack


@given(SEEDS, RADII, SIZES, st.integers(1, 20), st.floats(0.01, 100))
def test_a_random_segment(seed: int, radius: float, k: int, length: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    centroids = rng.uniform(-1, 1, (k, 4))
    gain = added(rng.uniform(-1, 1, (30, 4)), scale * rng.normal(size=(length, 4)), centroids, radius)
    assert_bounded(gain, radius)


@given(SEEDS, RADII, SIZES, st.integers(1, 20))
def test_an_aligned_segment_reaches_the_bound_and_not_more(seed: int, radius: float, k: int, length: int) -> None:
    """All its windows far out in one direction, at one cluster: the worst there is."""
    rng = np.random.default_rng(seed)
    centroids = rng.uniform(-1, 1, (k, 4))
    direction = np.eye(4)[rng.integers(4)] * rng.choice([-1.0, 1.0])
    gain = added(rng.uniform(-1, 1, (30, 4)), np.repeat(1e4 * direction[None], length, axis=0), centroids, radius)
    assert_bounded(gain, radius)
    assert np.linalg.norm(gain.sums_KZ) == pytest.approx(radius, rel=1e-6)
    assert np.linalg.norm(gain.counts_K) == pytest.approx(1)


@given(SEEDS, RADII, st.integers(2, 6))
def test_a_segment_spread_over_clusters_moves_the_sums_less(seed: int, radius: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    centroids = 1000.0 * np.eye(k)
    far = centroids + 400 * rng.choice([-1.0, 1.0], (k, k)) / np.sqrt(k)
    gain = added(np.zeros((3, k)), far, centroids, radius)
    assert_bounded(gain, radius)
    assert np.linalg.norm(gain.sums_KZ) == pytest.approx(radius / np.sqrt(k), rel=1e-6)


@given(SEEDS, RADII)
def test_how_often_a_segment_is_sampled_does_not_make_it_count_more(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    centroids, windows = rng.uniform(-1, 1, (5, 4)), rng.uniform(-2, 2, (7, 4))
    once = added(np.zeros((3, 4)), windows, centroids, radius)
    often = added(np.zeros((3, 4)), np.repeat(windows, 9, axis=0), centroids, radius)
    np.testing.assert_allclose(once.sums_KZ, often.sums_KZ, atol=1e-9)
    np.testing.assert_allclose(once.counts_K, often.counts_K, atol=1e-9)
