from __future__ import annotations

import numpy as np
import pytest

from shared.preprocess import Rolling, roll
from shared.preprocess.rolling import EPSILON


def plain(rows: int, width: int, shift: float = 0.0, scale: float = 1.0) -> Rolling:
    return Rolling(rows=rows, shift=(shift,) * width, scale=(scale,) * width, first=(shift,) * width)


def by_definition(values_TD: np.ndarray, rows: int, scale: float = 1.0) -> np.ndarray:
    values = values_TD.astype(np.float64)
    out = np.empty_like(values)
    for t in range(len(values)):
        seen = values[max(0, t - rows + 1) : t + 1]
        out[t] = (values[t] - seen.mean(axis=0)) / (seen.std(axis=0) + EPSILON * scale)
    return out


@pytest.mark.parametrize("rows", [2, 3, 10, 64, 1000])
@pytest.mark.parametrize("width", [1, 5])
def test_it_is_the_formula(rows: int, width: int) -> None:
    values = np.random.default_rng(rows).normal(size=(300, width)).cumsum(axis=0).astype(np.float32)
    expected = by_definition(values, rows, scale=7.0)
    roll(values, (0,), plain(rows, width, shift=3.0, scale=7.0))
    np.testing.assert_allclose(values, expected, atol=2e-5)


def test_the_first_row_is_zero_and_each_recording_begins_anew() -> None:
    values = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
    pieces = [by_definition(piece, 8) for piece in np.split(values, [20, 21, 50])]
    roll(values, (0, 20, 21, 50), plain(8, 3))
    np.testing.assert_allclose(values, np.concatenate(pieces), atol=1e-5)
    assert not values[[0, 20, 21, 50]].any()


def test_a_large_offset_does_not_eat_the_digits() -> None:
    """A level of 10,000 training deviations that wiggles by one of them."""
    wiggle = np.random.default_rng(0).normal(size=(500, 1))
    values = (wiggle + 10_000).astype(np.float32)
    expected = by_definition(values, 30)
    roll(values, (0,), plain(30, 1))
    np.testing.assert_allclose(values[1:], expected[1:], atol=1e-4)


def test_a_wild_reading_leaves_no_trace_once_it_is_out_of_the_window() -> None:
    rng = np.random.default_rng(0)
    calm = rng.normal(size=(400, 2)).astype(np.float32)
    wild = calm.copy()
    wild[100, 0] = 3e38
    roll(calm, (0,), plain(16, 2))
    roll(wild, (0,), plain(16, 2))
    assert np.isfinite(wild).all()
    np.testing.assert_array_equal(wild[:100], calm[:100])
    np.testing.assert_array_equal(wild[116:], calm[116:])
    assert wild[100, 0] == pytest.approx(np.sqrt(15), rel=1e-3)


def test_the_noise_of_a_resting_sensor_stays_small() -> None:
    values = (1e-4 * np.random.default_rng(0).normal(size=(200, 1))).astype(np.float32)
    roll(values, (0,), plain(20, 1))
    assert np.abs(values).max() < 0.05


def test_long_series_and_many_columns_are_done_in_pieces() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 130)).astype(np.float32)
    some = range(2499, 5000, 97)
    windows = [values[t - 2499 : t + 1].astype(np.float64) for t in some]
    expected = [(window[-1] - window.mean(axis=0)) / (window.std(axis=0) + EPSILON) for window in windows]
    roll(values, (0,), plain(2500, 130))
    np.testing.assert_allclose(values[some], expected, atol=1e-5)


@pytest.mark.parametrize("broken", [{"rows": 1}, {"rows": 10**6}, {"shift": ()}, {"scale": (0.0,)}, {"first": (1, 2)}])
def test_what_is_no_rolling_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Rolling.of({"rows": 5, "shift": (0.0,), "scale": (1.0,), "first": (0.0,)} | broken)
