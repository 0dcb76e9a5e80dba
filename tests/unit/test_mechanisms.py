"""Noise is Gaussian, its own every time, keyed, and as large as what one record can move."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shared.clustering import Statistic, statistic
from shared.lag.packing import moment_matrix, moment_vector
from shared.privacy.mechanisms import (
    Randomness,
    StatisticNoise,
    noised_statistic,
    noised_sum,
)
from shared.privacy.quantiles import noised_ranges

_REJECT = 1e-6


def stream(*parts: str) -> Randomness:
    return Randomness.keyed(b"secret of a plant", *parts)


# ---- where the numbers come from -------------------------------------------------------------------------------------


def test_the_stream_is_chacha20() -> None:
    """The first block of the key and nonce of zeros (RFC 8439, appendix A.1, test vector 1)."""
    words = [0x903DF1A0ADE0B876, 0x28BD8653E56A5D40]
    assert Randomness(bytes(32))._uniform(2).tolist() == [(word >> 11) * 2.0**-53 for word in words]


def test_the_same_key_gives_the_same_numbers_and_reading_on_gives_others() -> None:
    one, again = stream("weights"), stream("weights")
    first = one.normal(1000, 2.0)
    assert (first == again.normal(1000, 2.0)).all()
    assert (first != one.normal(1000, 2.0)).all()


@pytest.mark.parametrize(
    "parts", [("centroids", "x"), ("weights", "y"), ("weightsx",), ("weight", "sx"), ("x", "weights")]
)
def test_another_purpose_or_another_border_between_parts_gives_other_numbers(parts: tuple[str, ...]) -> None:
    assert (stream("weights", "x").normal(100, 1.0) != stream(*parts).normal(100, 1.0)).all()


def test_another_secret_gives_other_numbers() -> None:
    mine, theirs = Randomness.keyed(b"a", "weights"), Randomness.keyed(b"b", "weights")
    assert (mine.normal(100, 1.0) != theirs.normal(100, 1.0)).all()


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_has_32_bytes(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Randomness(key)


# ---- Gaussians -------------------------------------------------------------------------------------------------------


def test_draws_are_gaussian_with_the_variance_asked_for() -> None:
    """80,000 draws: a standard deviation that is off by 3 % would be ten standard errors away."""
    draws = stream("calibration").normal(80_000, 3.0) / 3.0
    assert stats.kstest(draws, "norm").pvalue > _REJECT
    low, high = stats.chi2.ppf([_REJECT / 2, 1 - _REJECT / 2], len(draws))
    assert low < float((draws**2).sum()) < high
    assert stats.kstest(draws[draws > 2.5], lambda x: 1 - stats.norm.sf(x) / stats.norm.sf(2.5)).pvalue > _REJECT


def test_draws_do_not_follow_from_each_other() -> None:
    draws = stream("independence").normal((40_000, 2), 1.0)
    along = draws.ravel()
    for lag in (1, 2, 3, 8_192, 16_384):
        assert abs(np.corrcoef(along[:-lag], along[lag:])[0, 1]) < 5 / np.sqrt(len(along) - lag)
    assert len(np.unique(along)) == along.size


def test_no_noise_is_no_noise_and_a_shape_is_kept() -> None:
    assert stream("shape").normal((2, 3), 0.0).tolist() == [[0.0] * 3] * 2
    assert stream("shape").normal((2, 3), 1.0).shape == (2, 3)
    assert stream("shape").normal(0, 1.0).shape == (0,)


@pytest.mark.parametrize("sd", [-1.0, float("inf"), float("nan")])
def test_what_is_no_standard_deviation_is_refused(sd: float) -> None:
    with pytest.raises(ValueError, match="standard deviation"):
        stream("sd").normal(3, sd)


def test_noise_for_a_model_takes_milliseconds() -> None:
    noise = stream("speed")
    noise.normal(1000, 1.0)
    began = time.process_time()
    noise.normal(220_000, 1.0)
    assert time.process_time() - began < 0.15  # 0.011 on an idle core


# ---- Poisson sampling ------------------------------------------------------------------------------------------------


def test_each_record_is_chosen_on_its_own() -> None:
    noise, times, count, share = stream("poisson"), 2_000, 50, 0.1
    picked = np.zeros((times, count))
    for at in range(times):
        picked[at, noise.chosen(count, share)] = 1
    sizes, per_record = picked.sum(axis=1), picked.sum(axis=0)
    assert stats.binomtest(int(picked.sum()), times * count, share).pvalue > _REJECT
    assert sizes.var() == pytest.approx(count * share * (1 - share), rel=0.2)  # a fixed batch size would have none
    assert all(stats.binomtest(int(k), times, share).pvalue > _REJECT for k in per_record)
    assert abs(np.corrcoef(picked[:-1].ravel(), picked[1:].ravel())[0, 1]) < 5 / np.sqrt(picked.size)


def test_everything_is_chosen_at_a_share_of_one_and_indices_ascend() -> None:
    assert stream("all").chosen(1000, 1.0).tolist() == list(range(1000))
    some = stream("some").chosen(1000, 0.3)
    assert (np.diff(some) > 0).all()
    assert some.dtype == np.int64


# ---- cluster statistic -----------------------------------------------------------------------------------------------


def test_the_parts_of_a_statistic_together_have_the_multiplier() -> None:
    sd = StatisticNoise.of(5.0, 0.7)
    assert (sd.sums / 0.7) ** -2 + sd.counts**-2 + (sd.spread / 0.49) ** -2 == pytest.approx(5.0**-2)


def test_a_statistic_bears_the_noise_it_must() -> None:
    exact, noise = Statistic(np.zeros((4, 16)), np.zeros(4), 0.0), stream("statistic")
    found = [noised_statistic(exact, 5.0, 0.7, noise) for _ in range(1_500)]
    sd = StatisticNoise.of(5.0, 0.7)
    for draws, due in (
        (np.array([one.sums_KZ for one in found]).ravel(), sd.sums),
        (np.array([one.counts_K for one in found]).ravel(), sd.counts),
        (np.array([one.spread for one in found]), sd.spread),
    ):
        assert stats.kstest(draws / due, "norm").pvalue > _REJECT


def test_noise_is_added_to_what_is_there() -> None:
    exact = Statistic(np.full((2, 3), 7.0), np.array([4.0, 5.0]), 6.0)
    found = noised_statistic(exact, 0.0, 1.0, stream("none"))
    assert (found.sums_KZ == exact.sums_KZ).all()
    assert (found.counts_K == exact.counts_K).all()
    assert found.spread == 6.0


def test_without_a_radius_there_is_no_noise_that_suffices() -> None:
    with pytest.raises(ValueError, match="standard deviation"):
        noised_statistic(Statistic(np.zeros((1, 2)), np.zeros(1), 0.0), 5.0, float("inf"), stream("radius"))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0.01, 10), windows=st.integers(1, 6), far=st.booleans())
def test_one_segment_moves_a_statistic_by_no_more_than_its_noise_is_scaled_to(
    seed: int, radius: float, windows: int, far: bool
) -> None:
    rng = np.random.default_rng(seed)
    centroids_KZ = rng.normal(size=(4, 5)).astype(np.float32)
    latents_NZ = rng.normal(size=(12, 5))
    added_MZ = rng.normal(size=(windows, 5)) * (1e6 if far else 1.0)
    ids_N = np.repeat(np.arange(6), 2)
    before = statistic(latents_NZ, ids_N, centroids_KZ, radius)
    after = statistic(np.vstack([latents_NZ, added_MZ]), np.append(ids_N, np.full(windows, 6)), centroids_KZ, radius)
    assert np.linalg.norm(after.sums_KZ - before.sums_KZ) <= radius * (1 + 1e-6)
    assert np.linalg.norm(after.counts_K - before.counts_K) <= 1 + 1e-6
    assert abs(after.spread - before.spread) <= radius**2 * (1 + 1e-6)


# ---- second moments --------------------------------------------------------------------------------------------------


def test_a_moment_vector_is_as_long_as_its_matrix() -> None:
    rows_TP = np.random.default_rng(0).normal(size=(7, 4))
    ones_TP = np.column_stack([np.ones(7), rows_TP])
    due_PP = ones_TP.T @ ones_TP / 7
    assert np.linalg.norm(moment_vector(rows_TP)) == pytest.approx(np.linalg.norm(due_PP))
    assert np.allclose(moment_matrix(moment_vector(rows_TP)), due_PP)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), radius=st.floats(0.01, 100), size=st.sampled_from([1e-6, 1.0, 1e6, np.inf, np.nan])
)
def test_one_record_moves_a_sum_of_moments_by_no_more_than_the_radius(seed: int, radius: float, size: float) -> None:
    rng = np.random.default_rng(seed)
    records = [moment_vector(rng.normal(size=(5, 3)) * 3) for _ in range(4)]
    added = np.full(len(records[0]), 1.0) * size
    sums = [noised_sum(some, len(added), 0.0, radius, stream("moments")) for some in (records, [*records, added])]
    assert np.linalg.norm(sums[1] - sums[0]) <= radius * (1 + 1e-6)


def test_a_sum_of_moments_bears_the_noise_it_must() -> None:
    draws = noised_sum([], 20_000, 4.0, 0.5, stream("moments")) / 2.0
    assert stats.kstest(draws, "norm").pvalue > _REJECT


# ---- operating ranges ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("centre", "spread"), [(0.0, 0.01), (0.0, 5.0), (-50.0, 100.0), (1000.0, 20.0), (1e5, 3e3)])
def test_noised_quantiles_find_where_readings_lie(centre: float, spread: float) -> None:
    medians_RD = np.random.default_rng(1).normal(centre, spread, (8_760, 12))
    ranges_D2 = noised_ranges(medians_RD, 5.0, stream("ranges"))
    due_2 = np.quantile(medians_RD, [0.02, 0.98])
    width_D = np.diff(ranges_D2, axis=1)[:, 0] / np.diff(due_2)
    assert (width_D > 0.5).all()
    assert (width_D < 2.0).all()
    assert (np.abs(ranges_D2.mean(axis=1) - due_2.mean()) < np.diff(due_2)).all()


def test_what_a_tag_lacks_counts_nowhere_and_noise_alone_finds_no_narrow_range() -> None:
    medians_RD = np.full((6_000, 3), np.nan)
    medians_RD[:, 0] = 1.0
    ranges_D2 = noised_ranges(medians_RD, 5.0, stream("lacks"))
    assert 0.5 < ranges_D2[0, 0] <= 1.0 <= ranges_D2[0, 1] < 1.5
    assert (np.diff(ranges_D2[1:], axis=1) > 1e6).all()
