from __future__ import annotations

import numpy as np
import pytest

from shared.errors import NothingToLearn
from shared.preprocess import Scaler, constant_columns, fit_scaler
from shared.preprocess.scale import Scaling

NAN, INF = float("nan"), float("inf")


def columns(*values: list[float]) -> np.ndarray:
    return np.asarray(values, np.float32).T


# ---- fitting ---------------------------------------------------------------------------------------------------------


def test_standard_scaling_by_hand() -> None:
    scaler = fit_scaler(columns([1, 2, 3, 4]), "standard", clip_quantile=None)
    np.testing.assert_allclose(scaler.shift, [2.5])
    np.testing.assert_allclose(scaler.scale, [np.sqrt(1.25)])
    np.testing.assert_allclose(scaler.training(columns([2.5])), [[0.0]])


def test_minmax_scaling_by_hand() -> None:
    scaler = fit_scaler(columns([2, 4, 6]), "minmax", clip_quantile=None)
    np.testing.assert_allclose(scaler.training(columns([2, 4, 6])), columns([0, 0.5, 1]))


def test_robust_scaling_by_hand() -> None:
    scaler = fit_scaler(columns([0, 1, 2, 3, 1000]), "robust", clip_quantile=None)
    np.testing.assert_allclose(scaler.shift, [2])
    np.testing.assert_allclose(scaler.scale, [2 / 1.34898], rtol=1e-5)  # the middle half reaches from 1 to 3


def test_robust_scaling_is_standard_scaling_of_normal_data_and_stays_so_with_a_tenth_of_wild_values() -> None:
    rng = np.random.default_rng(3)
    calm = rng.normal(50, 4, size=(20_000, 1)).astype(np.float32)
    wild = calm.copy()
    wild[:2000] = 1e5
    for values in (calm, wild):
        scaler = fit_scaler(values, "robust", clip_quantile=None)
        assert scaler.shift[0] == pytest.approx(50, abs=0.7)
        assert scaler.scale[0] == pytest.approx(4, rel=0.2)


def test_robust_scaling_of_a_command_at_rest_takes_its_standard_deviation() -> None:
    command = columns([0] * 90 + [1] * 10)
    assert fit_scaler(command, "robust", None).scale[0] == pytest.approx(0.3)
    assert fit_scaler(command, "robust", None).shift[0] == 0


def test_the_centre_is_a_value_that_occurs() -> None:
    for kind in ("standard", "minmax", "robust", "none"):
        assert fit_scaler(columns([0, 0, 0, 1, 1], [3, 1, 2, 50, 40]), kind, None).centre == (0, 3)


def test_none_leaves_the_values() -> None:
    values = columns([2, 4, 6], [0, 0, 1])
    scaler = fit_scaler(values, "none", clip_quantile=None)
    np.testing.assert_array_equal(scaler.training(values), values)


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
@pytest.mark.parametrize("unit", [1e-7, 1e-12])
def test_the_unit_of_a_tag_does_not_matter(kind: Scaling, unit: float) -> None:
    values = np.random.default_rng(0).normal(3, 1, (500, 1)).astype(np.float32)
    small = (values * unit).astype(np.float32)
    expected, got = (fit_scaler(each, kind).live(each) for each in (values, small))
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_what_is_below_any_unit_is_constant() -> None:
    logged = np.linspace(1e-43, 9e-41, 100, dtype=np.float32)  # as WADI's 2A_AIT_002_PV
    scaler = fit_scaler(np.stack([logged, np.arange(100, dtype=np.float32)], axis=1), "standard")
    assert scaler.scale[0] == 1


def test_a_constant_column_shows_a_later_change_in_raw_units() -> None:
    scaler = fit_scaler(columns([1, 2, 3], [7, 7, 7], [7e5, 7e5, 7e5]), "standard")
    np.testing.assert_allclose(scaler.live(columns([2], [9], [7e5 + 3])), columns([0], [2], [3]), atol=1e-6)
    assert constant_columns(columns([1, 2], [7, 7])).tolist() == [False, True]


@pytest.mark.parametrize("values", [columns([7, 7, 7], [0, 0, 0]), columns([0, 0], [0, 0])])
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


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust", "none"])
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
    again = Scaler.parse(scaler.json)
    assert again == scaler
    np.testing.assert_array_equal(again.training(train), scaler.training(train))


@pytest.mark.parametrize(
    "broken",
    [{"scale": (0.0,)}, {"scale": (NAN,)}, {"shift": (INF,)}, {"guard": -1.0}, {"centre": ()}, {"low": (1.0,)}],
)
def test_a_scaler_that_divides_by_nothing_is_none(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Scaler.of({"kind": "standard", "shift": (0.0,), "scale": (1.0,), "centre": (0.0,)} | broken)


def test_the_input_is_left_alone() -> None:
    values = columns([1, 2, 3, 400])
    before = values.copy()
    scaler = fit_scaler(values, "standard", clip_quantile=0.9)
    scaler.training(values), scaler.live(values)
    np.testing.assert_array_equal(values, before)


def test_large_data_is_scaled_in_place_as_it_is_in_one_piece() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(9000, 40)).astype(np.float32)  # more cells than one block holds
    scaler = fit_scaler(values, "robust", 0.99)
    whole = scaler.training(values)
    np.testing.assert_array_equal(np.concatenate([scaler.training(part) for part in np.array_split(values, 7)]), whole)
    assert scaler.training(values, out_TD=values) is values
    np.testing.assert_array_equal(values, whole)
