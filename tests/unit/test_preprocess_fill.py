from __future__ import annotations

import numpy as np
import pytest

from shared.preprocess import fill_live, fill_training

NAN, INF = float("nan"), float("inf")
ANY = 10**9


def columns(*values: list[float]) -> np.ndarray:
    return np.asarray(values, np.float32).T


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "filled"),
    [
        ([1, NAN, NAN, 4], [1, 1, 1, 4]),
        ([NAN, NAN, 3, 4], [3, 3, 3, 4]),
        ([1, 2, NAN, NAN], [1, 2, 2, 2]),
        ([1, INF, -INF, 4], [1, 1, 1, 4]),
        ([NAN, NAN, NAN, NAN], [0, 0, 0, 0]),
        ([INF, INF, INF, INF], [0, 0, 0, 0]),
        ([NAN, 2, NAN, 5], [2, 2, 2, 5]),
        ([1, 2, 3, 4], [1, 2, 3, 4]),
    ],
)
def test_short_gaps_take_the_last_value_seen(column: list[float], filled: list[float]) -> None:
    values = columns(column, [9, 9, 9, 9])
    imputed, bridged = fill_training(values, (0,), limit=2)
    np.testing.assert_array_equal(values, columns(filled, [9, 9, 9, 9]))
    np.testing.assert_array_equal(imputed, columns([not np.isfinite(x) for x in column], [0, 0, 0, 0]))
    assert bridged == 0


def many(*gap: tuple[int, int]) -> np.ndarray:
    """A ramp 0, 10, 20 ... of 40 rows, with gaps from row a up to row b."""
    ramp = np.arange(0, 400, 10, dtype=np.float32)[:, None]
    for a, b in gap:
        ramp[a:b] = NAN
    return ramp


def test_a_gap_of_more_than_the_limit_is_bridged_by_a_line_and_one_of_the_limit_is_not() -> None:
    values = many((10, 13), (20, 24))
    imputed, bridged = fill_training(values, (0,), limit=3)
    assert values[9:14, 0].tolist() == [90, 90, 90, 90, 130]
    assert values[19:25, 0].tolist() == [190, 200, 210, 220, 230, 240]
    assert (int(imputed.sum()), bridged) == (7, 4)


def test_a_limit_of_nothing_bridges_every_gap_that_has_two_sides() -> None:
    values = many((0, 2), (10, 11), (30, 40))
    assert fill_training(values, (0,), limit=0)[1] == 1
    assert values[:3, 0].tolist() == [20, 20, 20]
    assert values[10, 0] == 100
    assert (values[30:, 0] == 290).all()


def test_no_line_and_no_value_crosses_into_another_recording() -> None:
    values = many((15, 25))
    _, bridged = fill_training(values, (0, 20), limit=3)
    assert bridged == 0
    assert (values[15:20, 0] == 140).all()
    assert (values[20:25, 0] == 250).all()


def test_between_open_and_shut_there_is_nothing() -> None:
    valve = np.where(np.arange(40) < 25, 1.0, 2.0).astype(np.float32)[:, None]
    valve[20:30] = NAN
    assert fill_training(valve, (0,), limit=3)[1] == 0
    assert set(valve[:, 0].tolist()) == {1.0, 2.0}
    assert (valve[20:30] == 1).all()


def test_the_line_holds_between_the_largest_numbers() -> None:
    values = many((10, 20))
    values[9], values[20] = -3e38, 3e38
    fill_training(values, (0,), limit=3)
    assert np.isfinite(values).all()
    assert (np.diff(values[9:21, 0]) > 0).all()


def test_a_recording_without_a_number_takes_the_columns_first_one() -> None:
    values = columns([NAN, NAN, 4, 5])
    fill_training(values, (0, 2), limit=5)
    np.testing.assert_array_equal(values, columns([4, 4, 4, 5]))


# ---- live ------------------------------------------------------------------------------------------------------------


def test_no_value_is_carried_from_one_recording_into_the_next() -> None:
    values = columns([1, 2, NAN, NAN, 5, NAN])
    imputed = fill_live(values, (0, 3), [8])
    np.testing.assert_array_equal(values, columns([1, 2, 2, 8, 5, 5]))
    assert imputed[:, 0].tolist() == [False, False, True, True, False, True]


def test_a_leading_gap_of_live_data_takes_what_is_given_and_nothing_that_follows() -> None:
    values = columns([NAN, 2, NAN, NAN, NAN, 6], [NAN] * 6)
    assert fill_live(values, (0, 3), (7.5, -1)).sum() == 10
    np.testing.assert_array_equal(values, columns([7.5, 2, 2, 7.5, 7.5, 6], [-1] * 6))


def test_live_data_is_never_bridged() -> None:
    values = many((3, 39))
    fill_live(values, (0,), [0])
    assert (values[3:39] == 20).all()


def test_filling_live_data_row_by_row_is_filling_it_at_once() -> None:
    rng = np.random.default_rng(5)
    gappy = np.where(rng.random((40, 3)) < 0.4, NAN, rng.normal(size=(40, 3))).astype(np.float32)
    whole = gappy.copy()
    fill_live(whole, (0,), (1, 2, 3))
    for end in range(1, 41):
        part = gappy[:end].copy()
        fill_live(part, (0,), (1, 2, 3))
        np.testing.assert_array_equal(part, whole[:end])


@pytest.mark.parametrize("fill", [lambda x: fill_training(x, (0,), 3)[0], lambda x: fill_live(x, (0,), [0, 0, 0])])
def test_without_gaps_the_mask_costs_nothing(fill: object) -> None:
    for rows in (0, 1, 50):
        imputed = fill(np.ones((rows, 3), np.float32))  # type: ignore[operator]
        assert imputed.shape == (rows, 3)
        assert not imputed.any()
        assert imputed.strides == (0, 0)
