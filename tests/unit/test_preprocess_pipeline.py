from __future__ import annotations

import copy
import time

import numpy as np
import pytest
from msgspec import structs

from shared.config import PreprocessConfig
from shared.errors import NothingToLearn, SchemaMismatch, TooFewRows
from shared.preprocess import Preprocessor, Rolling, Scaler, fit_preprocessor
from shared.windows import window_starts

NAN = np.nan
FULL = {"every": 3, "join": "mean", "fill_limit": 4, "rolling": 9, "scaling": "robust", "max_correlation": 0.9}


def plant(rows: int = 600, width: int = 5, gaps: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, width)).cumsum(axis=0)
    values[:, -1] = 3 - 2 * values[:, 0]
    return np.where(rng.random(values.shape) < gaps, NAN, values).astype(np.float32)


def fitted(**settings: object) -> Preprocessor:
    return fit_preprocessor(plant(), (0, 200), PreprocessConfig.model_validate(settings))[0]


# ---- fitting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, FULL, {"scaling": "minmax", "clip_live": True, "clip_quantile": 0.9}])
def test_fitting_prepares_the_training_rows_and_leaves_the_input_alone(settings: dict[str, object]) -> None:
    train = plant()
    before = train.copy()
    made, rows = fit_preprocessor(train, (0, 200), PreprocessConfig.model_validate(settings))
    again = made.training(train, (0, 200))
    np.testing.assert_array_equal(train, before)
    np.testing.assert_array_equal(rows.values_TD, again.values_TD)
    np.testing.assert_array_equal(rows.imputed_TD, again.imputed_TD)
    assert rows.starts == again.starts
    assert np.isfinite(rows.values_TD).all()
    assert rows.values_TD.dtype == np.float32
    made.live(train, (0, 200))
    np.testing.assert_array_equal(train, before)


@pytest.mark.parametrize("settings", [{}, FULL, {"clip_quantile": None, "min_variance": 0.01}])
def test_it_survives_json_to_the_bit(settings: dict[str, object]) -> None:
    made = fitted(**settings)
    again = Preprocessor.parse(made.json)
    assert again == made
    live = plant(seed=1)
    np.testing.assert_array_equal(again.live(live).values_TD, made.live(live).values_TD)


def test_a_muted_column_keeps_its_place_and_is_zero_whatever_it_reads() -> None:
    made = fitted(max_correlation=0.95)
    assert made.muted == (4,)
    live = plant(seed=1)
    live[:, 4] = 1e9
    for values in (made.live(live).values_TD, made.training(live).values_TD):
        assert values.shape == live.shape
        assert not values[:, 4].any()
        assert values[:, :4].any(axis=0).all()


def test_where_all_is_muted_nothing_is_left_to_learn() -> None:
    with pytest.raises(NothingToLearn, match=r"none of the 5 tags of site 'north' .*recipe.preprocess.min_variance"):
        fit_preprocessor(plant(), (0,), PreprocessConfig(min_variance=0.9), "north")


@pytest.mark.parametrize(("rows", "every"), [(0, 1), (6, 7)])
def test_no_rows_at_all(rows: int, every: int) -> None:
    with pytest.raises(TooFewRows, match=f"'north' has less than {every} training rows"):
        fit_preprocessor(plant(rows), (0,), PreprocessConfig(every=every, rolling=5), "north")


def test_columns_without_any_reading_are_known_as_such() -> None:
    train = plant()
    train[:, 2] = NAN
    made = fit_preprocessor(train, (0,), PreprocessConfig())[0]
    assert made.unknown == (2,)
    assert made.first[2] == 0


@pytest.mark.parametrize("level", [5.3, 0.1, 7e5, 1e8 / 3, 1e-20])
def test_rolling_a_constant_column_makes_no_noise_of_rounding(level: float) -> None:
    train = plant(rows=1000)
    train[:, 2] = level
    made = fit_preprocessor(train, (0,), PreprocessConfig(rolling=7))[0]
    assert made.scaler.scale[2] == 1
    assert np.abs(made.live(train).values_TD[:, 2]).max() < 1e-6


@pytest.mark.parametrize("rolling", [None, 9])
def test_a_column_that_nothing_was_known_of_stays_zero_when_it_comes_alive(rolling: int | None) -> None:
    train, live = plant(), plant()
    train[:, 2] = NAN
    live[:, 2] = 8279.1
    made = fit_preprocessor(train, (0,), PreprocessConfig(rolling=rolling))[0]
    rows, stream = made.live(live).values_TD, made.stream()
    assert not rows[:, 2].any()
    np.testing.assert_array_equal(rows, [stream.step(row) for row in live])


def test_live_data_is_not_bridged_and_training_data_is() -> None:
    train = plant(gaps=0)
    made = fit_preprocessor(train, (0,), PreprocessConfig(fill_limit=5))[0]
    train[100:200, 0] = NAN
    assert len(np.unique(made.live(train).values_TD[99:200, 0])) == 1
    assert len(np.unique(made.training(train).values_TD[99:200, 0])) > 50
    assert made.live(train).imputed_TD.sum() == made.training(train).imputed_TD.sum() == 100


def test_a_leading_gap_takes_the_median_of_the_raw_values() -> None:
    train = plant(gaps=0)
    for rolling in (None, 9):
        made = fit_preprocessor(train, (0,), PreprocessConfig(rolling=rolling))[0]
        np.testing.assert_allclose(made.first, np.median(train, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    "broken",
    [{"muted": (1,)}, {"unknown": (-1,)}, {"every": 0}, {"rolling": Rolling(rows=5, shift=(), scale=(), first=())}],
)
def test_what_does_not_fit_together_is_refused(broken: dict[str, object]) -> None:
    scaler = Scaler(kind="standard", shift=(0.0,), scale=(1.0,), centre=(0.0,))
    with pytest.raises(ValueError):
        Preprocessor.of({"scaler": scaler} | broken)


def test_rows_of_another_width_are_refused_by_number() -> None:
    made = fitted()
    for call in (made.live, made.training):
        with pytest.raises(SchemaMismatch, match=r"rows of shape \(7, 4\) came, the model was fitted on 5 tags"):
            call(np.zeros((7, 4), np.float32))


# ---- imputed windows -------------------------------------------------------------------------------------------------


def test_the_imputed_share_of_windows_leaves_out_muted_and_unknown_columns() -> None:
    made = structs.replace(fitted(), muted=(0,), unknown=(1,))
    imputed = np.zeros((20, 5), bool)
    imputed[:, :2] = True
    imputed[4:8, 2] = True
    starts = window_starts(20, 4, 1)
    by_hand = [imputed[a : a + 4, 2:].mean() for a in starts]
    np.testing.assert_allclose(made.imputed_share(imputed, starts, 4), by_hand, rtol=1e-6)
    everything = structs.replace(made, muted=(0, 1, 2, 3, 4))
    assert not everything.imputed_share(imputed, starts, 4).any()


# ---- the stream ------------------------------------------------------------------------------------------------------


def test_a_stream_says_what_stands_in_for_a_reading() -> None:
    stream = fitted().stream()
    stream.step([1, 2, 3, 4, 5])
    assert not stream.imputed_D.any()
    stream.step([1, NAN, 3, np.inf, 1e300])
    assert stream.imputed_D.tolist() == [False, True, False, True, True]


def test_a_snapshot_of_a_stream_goes_on_by_itself() -> None:
    made, live = fitted(**FULL), plant(seed=1)
    stream = made.stream()
    for row in live[:100]:
        stream.step(row)
    twin = copy.deepcopy(stream)
    rest = [stream.step(row) for row in live[100:]]
    for row, expected in zip(live[100:], rest, strict=True):
        np.testing.assert_array_equal(twin.step(row), expected)


def test_what_a_stream_gives_out_is_the_callers() -> None:
    stream, twin = fitted(rolling=4).stream(), fitted(rolling=4).stream()
    for row in plant(seed=1)[:20]:
        given, kept = stream.step(row), twin.step(row)
        assert given is not None
        np.testing.assert_array_equal(given, kept)
        given[:], row[:] = 99, 99
        stream.imputed_D[:] = True


@pytest.mark.parametrize("row", [[1, 2, 3], 5.0, [[1, 2, 3, 4, 5]], []])
def test_a_row_of_another_shape_is_refused_and_changes_nothing(row: object) -> None:
    stream, twin = fitted(**FULL).stream(), fitted(**FULL).stream()
    for n, good in enumerate(plant(seed=1)[:60]):
        if n == 31:
            with pytest.raises(SchemaMismatch, match="the model was fitted on 5 tags"):
                stream.step(row)  # type: ignore[arg-type]
        np.testing.assert_array_equal(stream.step(good), twin.step(good))


def test_a_step_of_51_tags_takes_tens_of_microseconds() -> None:
    train = np.random.default_rng(0).normal(size=(2000, 51)).astype(np.float32)
    stream = fit_preprocessor(train, (0,), PreprocessConfig(rolling=60))[0].stream()
    seconds = []
    for row in train:
        begin = time.perf_counter()
        stream.step(row)
        seconds.append(time.perf_counter() - begin)
    assert np.median(seconds) < 500e-6  # measured: 15; a busy machine is no fault
