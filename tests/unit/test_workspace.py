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


def test_held_out_windows_begin_a_segment_after_training_where_there_is_room() -> None:
    made = prepare(site(np.arange(500), starts=(0, 400)), recipe(unit=30))
    np.testing.assert_array_equal(made.holdout.rows_TD[:, 0], [*range(320, 400), *range(480, 500)])
    # The first recording holds out 80 rows, of which 30 are the gap; the second holds out 20, too few to lose any.
    assert made.holdout.starts_N.tolist() == [*range(30, 73), *range(80, 93)]
    assert made.train.starts_N.tolist()[-1] == 320 + 80 - 8


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
    assert [repair.count for repair in made.repairs] == [1, 1]  # nothing was carried forward
    assert str(made.repairs[0]) == "north: tags without any training value, taken as 0: b (1)"


def test_training_does_not_see_what_a_sensor_shows_in_the_hold_out() -> None:
    """A column that begins to report in the hold-out is unknown in training, so that nothing tells its unit."""
    late = np.where(COUNTING < 85, NAN, 700.0)
    made = prepare(site(np.stack([COUNTING, late], axis=1)), recipe())
    assert not made.train.rows_TD[:, 1].any()
    assert not made.holdout.rows_TD[:, 1].any()
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


# ---- long gaps -------------------------------------------------------------------------------------------------------


def gappy(*gaps: tuple[int, int], rows: int = 200) -> np.ndarray:
    """Two ramps; the second lacks its values from row a up to row b."""
    values = np.stack([np.arange(rows), np.arange(rows)], axis=1).astype(np.float32)
    for a, b in gaps:
        values[a:b, 1] = NAN
    return values


def test_a_long_gap_of_training_data_is_bridged_and_one_of_the_hold_out_is_not() -> None:
    made = prepare(site(gappy((50, 70), (165, 180))), recipe(fill_limit=10, max_imputed=1))
    np.testing.assert_array_equal(made.train.rows_TD[:, 1], range(160))
    assert made.holdout.rows_TD[5:20, 1].tolist() == [164] * 15
    assert [str(repair) for repair in made.repairs] == [
        "north: missing or infinite training readings, last value carried forward (15)",
        "north: training readings missing for more than 10 rows, bridged by a line (20)",
    ]


def test_no_line_is_drawn_into_the_hold_out() -> None:
    made = prepare(site(gappy((140, 170))), recipe(fill_limit=10, max_imputed=1))
    assert made.train.rows_TD[140:, 1].tolist() == [139] * 20
    assert made.holdout.rows_TD[:11, 1].tolist() == [139] * 10 + [170]


def test_windows_of_mostly_missing_readings_are_left_out_of_both_parts() -> None:
    """Windows of 8 rows, a quarter of 16 readings: those with more than 4 rows in a gap."""
    made = prepare(site(gappy((50, 60), (170, 190))), recipe(max_imputed=0.25))
    left = set(range(153)) - set(made.train.starts_N.tolist())
    assert left == set(range(47, 56))  # rows 47..54 hold 5 missing ones, rows 46..53 hold 4
    assert set(range(33)) - set(made.holdout.starts_N.tolist()) == set(range(7, 26))
    assert len(made.segments_N) == len(made.train.starts_N)
    assert [str(repair) for repair in made.repairs[1:]] == [
        "north: training windows left out: more than 25% of their readings are missing (9)",
        "north: held-out windows left out: more than 25% of their readings are missing (19)",
    ]


def test_a_tag_that_a_site_does_not_have_costs_no_windows() -> None:
    values = np.concatenate([gappy(), np.full((200, 6), NAN, np.float32)], axis=1)
    made = prepare(site(values), recipe(max_imputed=0.1))
    assert len(made.train.starts_N) == 153
    assert made.preprocessor.unknown == (2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("gap", [(2, 158), (162, 200)])
def test_a_site_of_mostly_missing_readings_is_refused(gap: tuple[int, int]) -> None:
    with pytest.raises(
        TooFewRows, match=r"site 'north' has \d+ training and \d+ held-out windows in which at most 10%"
    ):
        prepare(site(gappy(gap)), recipe(max_imputed=0.1, fill_limit=1))


# ---- joining, rolling, muting ----------------------------------------------------------------------------------------


def test_rows_are_joined_before_they_are_split() -> None:
    made = prepare(site(np.arange(403), starts=(0, 201)), recipe(every=2, join="last"))
    np.testing.assert_array_equal(made.train.rows_TD[:, 0], [*range(1, 161, 2), *range(202, 363, 2)])
    np.testing.assert_array_equal(made.holdout.rows_TD[:, 0], [*range(161, 201, 2), *range(364, 403, 2)])
    assert made.preprocessor.every == 2


def test_the_rows_that_an_error_asks_for_are_counted_before_joining() -> None:
    asked = recipe(every=7)
    say = needed(200, asked)
    assert say == 7 * needed(5, recipe())
    assert complaint(say, asked) == ""
    assert needed(say - 1, asked) == say
    assert "200 training rows of which every 7 become one" in complaint(200, asked)


def test_the_rolling_mean_of_a_hold_out_goes_on_from_the_training_rows_before_it() -> None:
    values = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    made = prepare(site(values, starts=(0, 100)), recipe(rolling=10, scaling="none"))
    live = made.preprocessor.live(values, (0, 100)).values_TD
    np.testing.assert_allclose(made.holdout.rows_TD, live[[*range(80, 100), *range(180, 200)]], atol=1e-5)
    np.testing.assert_allclose(made.train.rows_TD, live[[*range(80), *range(100, 180)]], atol=1e-5)


def test_a_repeated_tag_is_muted_in_both_parts_and_said() -> None:
    values = np.stack([COUNTING % 13, 5 - 2 * (COUNTING % 13), COUNTING % 7], axis=1)
    made = prepare(site(values), recipe(max_correlation=0.99))
    assert made.preprocessor.muted == (1,)
    for part in (made.train, made.holdout):
        assert part.rows_TD.shape[1] == 3
        assert not part.rows_TD[:, 1].any()
    assert [str(repair) for repair in made.repairs] == [
        "north: tags that vary too little or repeat another one, muted: b (1)"
    ]


def test_a_constant_tag_is_either_kept_or_muted() -> None:
    values = np.stack([COUNTING % 13, 0 * COUNTING + 5], axis=1)
    assert "kept unscaled: b" in str(prepare(site(values), recipe()).repairs)
    muted = str(prepare(site(values), recipe(min_variance=0.0)).repairs)
    assert "muted: b" in muted
    assert "kept" not in muted


def test_training_rows_are_what_the_preprocessor_gives_for_them() -> None:
    values = gappy((20, 30), (90, 95), rows=300) % 17
    asked = recipe(every=2, rolling=12, scaling="robust", fill_limit=3, clip_quantile=0.99, max_imputed=1)
    made = prepare(site(values), asked)
    again = made.preprocessor.training(values[:240])
    np.testing.assert_array_equal(made.train.rows_TD, again.values_TD)


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
