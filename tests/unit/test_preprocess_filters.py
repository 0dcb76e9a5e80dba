from __future__ import annotations

import numpy as np
import pytest

from shared.preprocess import constant_columns, muted_columns

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 2000))


def rows(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=1).astype(np.float32)


def test_without_limits_nothing_is_muted() -> None:
    assert muted_columns(rows(A, A, 0 * A), None, None) == ()


def test_the_variance_filter_knows_constants_and_what_hardly_moves() -> None:
    rare = np.zeros(2000)
    rare[7] = 1e5  # variance is that of the range: 1 / 2000
    values = rows(A, 0 * A + 5, rare, 1e-6 * B)
    assert muted_columns(values, 0.0, None) == (1,)
    assert muted_columns(values, 0.001, None) == (1, 2)
    assert constant_columns(values).tolist() == [False, True, False, False]


def test_of_columns_that_say_the_same_the_first_stays() -> None:
    assert muted_columns(rows(A, B, 3 - 2 * A, A + 0.01 * B, B + A), None, 0.95) == (2, 3)


def test_a_column_is_compared_with_those_that_stay_only() -> None:
    """A chain: each is close to its neighbour, the ends are not. The second goes, so the third has nobody like it."""
    a, b, c = A, A + 0.5 * B, A + 1.2 * B
    r = np.corrcoef([a, b, c])
    assert min(r[0, 1], r[1, 2]) > 0.85 > r[0, 2]
    assert muted_columns(rows(a, b, c), None, 0.85) == (1,)


def test_a_constant_repeats_nobody_and_a_muted_one_mutes_nobody() -> None:
    assert muted_columns(rows(0 * A, 0 * A, A), None, 0.5) == ()
    rare = np.zeros(2000)
    rare[7] = 1.0
    assert muted_columns(rows(rare, rare + 1e-4 * A, B), 0.001, 0.9) == (0, 1)
    assert muted_columns(rows(rare, A, rare), None, 0.9) == (2,)


def test_long_series_are_sampled_and_always_alike() -> None:
    long = np.random.default_rng(1).normal(size=(60_000, 3)).astype(np.float32)
    long[:, 2] = long[:, 0] + np.float32(0.2) * long[:, 1]  # r = 0.98
    assert muted_columns(long, None, 0.95) == (2,)
    assert muted_columns(long, None, 0.99) == ()
    assert muted_columns(long, None, 0.95) == muted_columns(long, None, 0.95)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_an_offset_does_not_look_like_correlation(offset: float) -> None:
    assert muted_columns(rows(A + offset, B + offset), None, 0.2) == ()
