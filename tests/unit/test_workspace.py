from __future__ import annotations

import re

import numpy as np
import pytest

from client.training.workspace import prepare
from shared.config import Recipe
from shared.errors import NothingToLearn, TooFewRows
from shared.schema import SensorSchema
from shared.series import SiteData
from shared.windows import window_view

NAN = np.nan


def recipe(window: int = 8, stride: int = 1, holdout: float = 0.2, unit: int = 20, **preprocess: object) -> Recipe:
    return Recipe.model_validate(
        {
            "detector": {"window": window},
            "training": {"stride": stride, "holdout": holdout},
            "clustering": {"unit": unit},
            "preprocess": {"scaling": "none", "clip_quantile": None, "guard": 1e4} | preprocess,
        }
    )


def site(values: object, starts: tuple[int, ...] = (0,)) -> SiteData:
    rows = np.asarray(values, np.float32)
    rows = rows if rows.ndim == 2 else np.stack([rows, rows % 7], axis=1)
    tags = tuple("abcdefgh"[: rows.shape[1]])
    return SiteData("north", SensorSchema(tags=tags, period_s=1), rows, rows[:0], None, train_starts=starts)


COUNTING = np.arange(100)


def test_the_end_is_held_out_and_no_window_sees_both_parts() -> None:
    made = prepare(site(COUNTING), recipe())
    np.testing.assert_array_equal(made.train.rows_TD[:, 0], COUNTING[:80])
    np.testing.assert_array_equal(made.holdout.rows_TD[:, 0], COUNTING[80:])
    assert (len(made.train.starts_N), len(made.holdout.starts_N)) == (73, 13)
    seen = window_view(made.train.rows_TD, 8)[made.train.starts_N][:, :, 0]
    held = window_view(made.holdout.rows_TD, 8)[made.holdout.starts_N][:, :, 0]
    assert seen.max() < held.min()


def test_the_stride_thins_training_windows_only() -> None:
    made = prepare(site(COUNTING), recipe(stride=4))
    assert made.train.starts_N.tolist() == list(range(0, 73, 4))
    assert len(made.holdout.starts_N) == 13


def test_every_recording_gives_its_end_to_the_hold_out() -> None:
    made = prepare(site(COUNTING, starts=(0, 50)), recipe())
    np.testing.assert_array_equal(made.train.rows_TD[:, 0], [*range(40), *range(50, 90)])
    np.testing.assert_array_equal(made.holdout.rows_TD[:, 0], [*range(40, 50), *range(90, 100)])
    assert made.train.starts_N.tolist() == [*range(33), *range(40, 73)]
    assert made.holdout.starts_N.tolist() == [0, 1, 2, 10, 11, 12]


def test_a_recording_too_short_to_share_is_trained_on_whole() -> None:
    made = prepare(site(COUNTING, starts=(0, 80)), recipe())
    np.testing.assert_array_equal(made.train.rows_TD[:, 0], [*range(64), *range(80, 100)])
    np.testing.assert_array_equal(made.holdout.rows_TD[:, 0], range(64, 80))


def test_segments_belong_to_windows() -> None:
    made = prepare(site(COUNTING, starts=(0, 50)), recipe(unit=20))
    assert len(made.segments_N) == len(made.train.starts_N)
    assert made.segments_N.tolist() == [0] * 20 + [1] * 13 + [2] * 20 + [3] * 13
    assert made.segment_count == 4


def test_scaling_is_fitted_on_the_training_part_alone() -> None:
    values = np.where(COUNTING < 80, COUNTING % 10, 1000.0)
    made = prepare(site(values), recipe(scaling="standard", guard=20.0))
    assert made.scaler.shift[0] == pytest.approx(4.5)
    np.testing.assert_allclose(made.train.rows_TD.mean(axis=0), 0, atol=1e-5)
    assert (made.holdout.rows_TD[:, 0] == 20.0).all()


def test_what_is_held_out_is_seen_as_live_data_is() -> None:
    """Clipping belongs to training: a threshold set on clipped data would alarm on every normal peak."""
    values = COUNTING % 10.0
    made = prepare(site(values), recipe(clip_quantile=0.8))
    assert made.train.rows_TD[:, 0].max() < 9
    np.testing.assert_array_equal(made.holdout.rows_TD[:, 0], values[80:])
    paper = prepare(site(values), recipe(clip_quantile=0.8, clip_live=True))
    assert paper.holdout.rows_TD[:, 0].max() < 9


def test_the_site_is_not_written_to() -> None:
    rows = np.where(COUNTING % 9 == 5, NAN, COUNTING).astype(np.float32)
    data = site(rows)
    before = data.train_TD.copy()
    prepare(data, recipe())
    np.testing.assert_array_equal(data.train_TD, before)


# ---- repairs ---------------------------------------------------------------------------------------------------------


def test_repairs_are_told_with_where_what_and_how_many() -> None:
    a, b = COUNTING.astype(np.float32), np.full(100, 5.0, np.float32)
    a[[3, 4, 90]] = NAN
    made = prepare(site(np.stack([a, b], axis=1)), recipe())
    assert [str(repair) for repair in made.repairs] == [
        "north: missing or infinite training readings, last value carried forward (3)",
        "north: tags constant in training, kept unscaled: b (1)",
    ]
    assert np.isfinite(made.train.rows_TD).all()
    assert made.train.rows_TD[4, 0] == 2


def test_a_column_without_any_number_is_a_constant_zero() -> None:
    empty = np.full(100, NAN, np.float32)
    made = prepare(site(np.stack([COUNTING, empty], axis=1)), recipe())
    assert not made.train.rows_TD[:, 1].any()
    assert not made.holdout.rows_TD[:, 1].any()
    assert [repair.count for repair in made.repairs] == [100, 1, 1]
    assert str(made.repairs[1]) == "north: tags without any training value, taken as 0: b (1)"


def test_training_does_not_see_what_a_sensor_shows_in_the_hold_out() -> None:
    """A column that begins to report in the hold-out is unknown in training, and the hold-out's own start too."""
    late = np.where(COUNTING < 85, NAN, 700.0)
    made = prepare(site(np.stack([COUNTING, late], axis=1)), recipe())
    assert not made.train.rows_TD[:, 1].any()
    np.testing.assert_array_equal(made.holdout.rows_TD[:, 1], [0.0] * 5 + [700.0] * 15)
    assert any("taken as 0: b" in str(repair) for repair in made.repairs)


def test_a_gap_at_the_start_of_the_hold_out_takes_the_last_training_value() -> None:
    rows = COUNTING.astype(np.float32)
    rows[[0, 78, 79, 80, 81]] = NAN
    made = prepare(site(np.stack([rows, COUNTING], axis=1)), recipe())
    assert made.train.rows_TD[0, 0] == 1
    assert made.train.rows_TD[78:80, 0].tolist() == [77, 77]
    assert made.holdout.rows_TD[:3, 0].tolist() == [77, 77, 82]
    assert made.repairs[0].count == 5


def test_each_hold_out_follows_the_training_part_of_its_own_recording() -> None:
    rows = COUNTING.astype(np.float32)
    rows[[40, 90, 91]] = NAN
    made = prepare(site(np.stack([rows, COUNTING], axis=1), starts=(0, 50)), recipe())
    assert made.holdout.rows_TD[[0, 10, 11, 12], 0].tolist() == [39, 89, 89, 92]


def test_a_recording_without_any_value_takes_the_first_of_another_recording() -> None:
    rows = np.where(COUNTING < 50, NAN, COUNTING)
    made = prepare(site(np.stack([rows, COUNTING], axis=1), starts=(0, 50)), recipe())
    assert made.train.rows_TD[:40, 0].tolist() == [50.0] * 40
    assert made.holdout.rows_TD[:10, 0].tolist() == [50.0] * 10


def test_a_clean_site_has_no_repairs() -> None:
    assert prepare(site(COUNTING), recipe()).repairs == ()


@pytest.mark.parametrize("values", [np.full((100, 2), 5.0), np.full((100, 2), NAN)])
def test_a_site_without_variation_is_refused(values: np.ndarray) -> None:
    with pytest.raises(NothingToLearn, match="'north'"):
        prepare(site(values), recipe())


# ---- too little ------------------------------------------------------------------------------------------------------


def complaint(rows: int, asked: Recipe) -> str:
    """What is said about a site of so many rows; empty when they are enough."""
    try:
        prepare(site(np.arange(rows)), asked)
    except TooFewRows as error:
        return str(error)
    return ""


def needed(rows: int, asked: Recipe) -> int:
    """The rows that the complaint asks for."""
    said = complaint(rows, asked)
    assert f"site 'north' has {rows} training rows" in said
    found = re.search(r"at least (\d+) rows are needed", said)
    assert found, said
    return int(found[1])


@pytest.mark.parametrize("window", [2, 8, 30])
@pytest.mark.parametrize("stride", [1, 4, 50])
@pytest.mark.parametrize("holdout", [0.05, 0.2, 0.5, 0.9])
def test_the_rows_that_an_error_asks_for_are_enough_and_no_fewer_are(window: int, stride: int, holdout: float) -> None:
    asked = recipe(window, stride, holdout)
    say = needed(window - 1, asked)
    assert complaint(say, asked) == ""
    assert all(needed(rows, asked) == say for rows in range(max(0, say - 5), say))


def test_the_least_rows_are_found_at_once_however_large() -> None:
    assert needed(50, recipe(window=10_000, stride=1_000_000, holdout=0.01)) == 1_020_202


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows(rows: int) -> None:
    assert needed(rows, recipe()) > 8
