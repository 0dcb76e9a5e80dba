from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from shared.errors import NothingToLearn
from shared.preprocess import Scaler, constant_tags, fill_gaps, fit_scaler, gap_repair

NAN, INF = float("nan"), float("inf")


def columns(*values: list[float]) -> np.ndarray:
    return np.asarray(values, np.float32).T


# ---- gaps ------------------------------------------------------------------------------------------------------------


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
    ],
)
def test_gaps_take_the_last_value_seen(column: list[float], filled: list[float]) -> None:
    values, count = fill_gaps(columns(column, [9, 9, 9, 9]))
    np.testing.assert_array_equal(values, columns(filled, [9, 9, 9, 9]))
    assert count == sum(not np.isfinite(x) for x in column)
    assert values.dtype == np.float32


def test_no_value_is_carried_from_one_recording_into_the_next() -> None:
    values, count = fill_gaps(columns([1, 2, NAN, NAN, 5, NAN]), (0, 3))
    np.testing.assert_array_equal(values, columns([1, 2, 2, 5, 5, 5]))
    assert count == 3


def test_a_leading_gap_of_live_data_takes_what_is_given_and_nothing_that_follows() -> None:
    values, count = fill_gaps(columns([NAN, 2, NAN, NAN, NAN, 6], [NAN] * 6), (0, 3), first=(7.5, -1))
    np.testing.assert_array_equal(values, columns([7.5, 2, 2, 7.5, 7.5, 6], [-1] * 6))
    assert count == 10
    assert values.dtype == np.float32


def test_filling_live_data_row_by_row_is_filling_it_at_once() -> None:
    rng = np.random.default_rng(5)
    gappy = np.where(rng.random((40, 3)) < 0.4, NAN, rng.normal(size=(40, 3))).astype(np.float32)
    whole = fill_gaps(gappy, first=(1, 2, 3))[0]
    for end in range(1, 41):
        np.testing.assert_array_equal(fill_gaps(gappy[:end], first=(1, 2, 3))[0], whole[:end])


def test_a_recording_without_a_number_takes_the_columns_first_one() -> None:
    values, _ = fill_gaps(columns([NAN, NAN, 4, 5]), (0, 2))
    np.testing.assert_array_equal(values, columns([4, 4, 4, 5]))


def test_without_gaps_nothing_is_copied_and_with_gaps_the_input_stays() -> None:
    whole, gappy = columns([1, 2, 3]), columns([1, NAN, 3])
    before = gappy.copy()
    assert fill_gaps(whole)[0] is whole
    fill_gaps(gappy)
    np.testing.assert_array_equal(gappy, before)


def test_an_empty_series_has_no_gaps() -> None:
    empty = np.empty((0, 3), np.float32)
    assert fill_gaps(empty)[1] == 0


def test_the_repair_is_told_only_when_there_was_one() -> None:
    assert gap_repair("north", "training", 0) == ()
    assert str(gap_repair("north", "training", 3)[0]).startswith("north: missing or infinite training readings")


# ---- fitting ---------------------------------------------------------------------------------------------------------


def test_standard_scaling_by_hand() -> None:
    scaler = fit_scaler(columns([1, 2, 3, 4]), "standard", clip_quantile=None)
    np.testing.assert_allclose(scaler.shift, [2.5])
    np.testing.assert_allclose(scaler.scale, [np.sqrt(1.25)])
    np.testing.assert_allclose(scaler.training(columns([2.5])), [[0.0]])


def test_minmax_scaling_by_hand() -> None:
    scaler = fit_scaler(columns([2, 4, 6]), "minmax", clip_quantile=None)
    np.testing.assert_allclose(scaler.training(columns([2, 4, 6])), columns([0, 0.5, 1]))


def test_none_leaves_the_values() -> None:
    values = columns([2, 4, 6], [0, 0, 1])
    scaler = fit_scaler(values, "none", clip_quantile=None)
    np.testing.assert_array_equal(scaler.training(values), values)


def test_a_constant_column_shows_a_later_change_in_raw_units() -> None:
    scaler = fit_scaler(columns([1, 2, 3], [7, 7, 7], [7e5, 7e5, 7e5]), "standard")
    np.testing.assert_allclose(scaler.live(columns([2], [9], [7e5 + 3])), columns([0], [2], [3]), atol=1e-6)
    assert constant_tags(columns([1, 2], [7, 7]), ("a", "b")) == ("b",)


@pytest.mark.parametrize("values", [columns([7, 7, 7], [0, 0, 0]), fill_gaps(columns([NAN, NAN], [INF, NAN]))[0]])
def test_nothing_but_constants_is_refused_by_name(values: np.ndarray) -> None:
    with pytest.raises(NothingToLearn, match="all 2 tags of site 'north'"):
        fit_scaler(values, "standard", site="north")


def test_a_wild_training_reading_does_not_spoil_the_scale() -> None:
    rng = np.random.default_rng(0)
    calm = rng.normal(size=(1000, 1)).astype(np.float32)
    wild = calm.copy()
    wild[500] = 1e6
    kept = fit_scaler(wild, "standard", clip_quantile=0.995)
    assert kept.scale[0] < 1.1
    assert fit_scaler(wild, "standard", clip_quantile=None).scale[0] > 1e4
    assert abs(kept.training(wild)[500, 0]) < 5


def test_a_command_that_fires_rarely_keeps_its_range() -> None:
    pulses = np.zeros((1000, 1), np.float32)
    pulses[::500] = 1
    scaler = fit_scaler(pulses, "minmax", clip_quantile=0.99)
    assert scaler.training(pulses).max() == 1.0


# ---- applying --------------------------------------------------------------------------------------------------------


def test_training_data_is_clipped_and_live_data_is_guarded() -> None:
    values = np.linspace(0, 1, 101, dtype=np.float32)[:, None]
    scaler = fit_scaler(values, "minmax", clip_quantile=0.9, guard=3.0)
    np.testing.assert_allclose(scaler.training(columns([-50, 50])), columns([0, 1]), atol=1e-6)
    np.testing.assert_array_equal(scaler.live(columns([-50, 50])), columns([-3, 3]))
    paper = fit_scaler(values, "minmax", clip_quantile=0.9, clip_live=True, guard=3.0)
    np.testing.assert_allclose(paper.live(columns([-50, 50])), columns([0, 1]), atol=1e-6)


def test_the_guard_holds_against_the_wildest_reading() -> None:
    scaler = fit_scaler(columns([0, 1e-3]), "standard")
    wildest = columns([3e38, -3e38])
    assert (scaler.live(wildest) == columns([20, -20])).all()


@pytest.mark.parametrize("kind", ["standard", "minmax", "none"])
@pytest.mark.parametrize("clip_live", [False, True])
def test_batch_equals_row_by_row(kind: str, clip_live: bool) -> None:
    rng = np.random.default_rng(1)
    train = (rng.normal(size=(300, 4)) * [1, 100, 1e-3, 0] + [0, 50, 7, 3]).astype(np.float32)
    live = (rng.normal(size=(50, 4)) * 300).astype(np.float32)
    scaler = fit_scaler(train, kind, clip_live=clip_live)
    rows = np.concatenate([scaler.live(row[None]) for row in live])
    np.testing.assert_array_equal(scaler.live(live), rows)
    assert rows.dtype == np.float32


@pytest.mark.parametrize("clip_quantile", [None, 0.99])
def test_a_scaler_survives_json_to_the_bit(clip_quantile: float | None) -> None:
    rng = np.random.default_rng(2)
    train = (rng.normal(size=(200, 3)) * [1e-4, 1, 1e5]).astype(np.float32)
    scaler = fit_scaler(train, "standard", clip_quantile)
    again = Scaler.model_validate_json(scaler.model_dump_json())
    assert again == scaler
    np.testing.assert_array_equal(again.training(train), scaler.training(train))


@pytest.mark.parametrize("broken", [{"scale": (0.0,)}, {"scale": (NAN,)}, {"shift": (INF,)}, {"guard": -1.0}])
def test_a_scaler_that_divides_by_nothing_is_none(broken: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Scaler.model_validate({"kind": "standard", "shift": (0.0,), "scale": (1.0,)} | broken)


def test_the_input_is_left_alone() -> None:
    values = columns([1, 2, 3, 400])
    before = values.copy()
    scaler = fit_scaler(values, "standard", clip_quantile=0.9)
    scaler.training(values), scaler.live(values)
    np.testing.assert_array_equal(values, before)
