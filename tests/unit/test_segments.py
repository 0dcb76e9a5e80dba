"""A record is a segment: nothing of one reaches the windows of another, and nothing is fitted on the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.segments import (
    first_windows,
    medians,
    prepare_records,
    public_preprocessor,
    record_rows,
    segments,
    windows_a_record,
)
from client.training.workspace import Workspace, prepare
from shared.config import Recipe
from shared.errors import NothingToLearn, PrivacyUnmet
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData

WINDOW, UNIT = 4, 10
RANGES_D2 = np.array([[-4.0, 4.0], [0.0, 8.0]])


def recipe(**privacy: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "detector": {"window": WINDOW, "dropout": 0.0},
            "clustering": {"unit": UNIT},
            "training": {"holdout": 0.2},
            "preprocess": {"max_imputed": 0.5, "every": privacy.pop("every", 1)},
            "privacy": {"mode": "local", "epsilon": 3.0, **privacy},
        }
    )


def site(rows: int = 137, starts: tuple[int, ...] = (0, 60), seed: int = 0, period_s: float = 1.0) -> SiteData:
    values_TD = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
    schema = SensorSchema(tags=("a", "b"), period_s=period_s)
    return SiteData("north", schema, values_TD, values_TD[:0], None, train_starts=starts)


def prepared(data: SiteData, how: Recipe | None = None) -> Workspace:
    how = how or recipe()
    return prepare_records(data, how, segments(data, how), RANGES_D2)


def windows_of(workspace: Workspace, record: int) -> list[bytes]:
    rows_TD, starts_N = workspace.train.rows_TD, workspace.train.starts_N[workspace.segments_N == record]
    return [rows_TD[start : start + WINDOW].tobytes() for start in starts_N]


# ---- where records lie -----------------------------------------------------------------------------------------------


def test_windows_lie_inside_one_record_and_do_not_overlap() -> None:
    found = prepared(site())
    starts_N = found.train.starts_N
    assert (starts_N // UNIT == (starts_N + WINDOW - 1) // UNIT).all()
    assert (starts_N // UNIT == found.segments_N).all()
    assert (np.diff(starts_N) >= WINDOW).all()
    assert np.bincount(found.segments_N).tolist() == [UNIT // WINDOW] * found.records


def test_records_are_whole_and_counted_from_each_recordings_beginning() -> None:
    """Recordings of 60 and 77 rows, of which 48 and 62 are for training: four and six records."""
    data = site()
    rows_RUD = segments(data, recipe()).rows_RUD
    begins = [*range(0, 40, 10), *range(60, 120, 10)]
    assert rows_RUD.shape == (10, UNIT, 2)
    assert all((rows_RUD[i] == data.train_TD[at : at + UNIT]).all() for i, at in enumerate(begins))


def test_no_reading_is_in_two_records_or_in_a_record_and_held_out() -> None:
    data = site()
    numbered = replace(data, train_TD=np.arange(274, dtype=np.float32).reshape(137, 2))
    cut = segments(numbered, recipe())
    seen = np.concatenate([cut.rows_RUD.ravel(), *(part.ravel() for part in cut.cut.held)])
    assert len(np.unique(seen)) == len(seen)


def test_how_many_records_there_are_follows_from_no_reading() -> None:
    data = site()
    lost = replace(data, train_TD=np.full_like(data.train_TD, np.nan))
    assert len(segments(lost, recipe())) == len(segments(data, recipe())) == 10


@pytest.mark.parametrize(
    ("unit_s", "period_s", "every", "rows"),
    [(None, 7.0, 3, 10), (60.0, 1.0, 1, 60), (60.0, 10.0, 1, 6), (60.0, 2.0, 5, 6)],
)
def test_a_records_length_in_seconds_becomes_joined_rows(
    unit_s: float | None, period_s: float, every: int, rows: int
) -> None:
    assert record_rows(recipe(unit_s=unit_s, every=every), period_s) == rows


def test_a_record_that_holds_no_window_is_refused() -> None:
    with pytest.raises(PrivacyUnmet, match="3 rows holds no window of 4"):
        windows_a_record(recipe(unit_s=3.0), 1.0)


def test_joined_rows_stay_in_their_record() -> None:
    data = site(400, (0, 203))
    found = segments(data, recipe(every=3, unit_s=30.0))
    assert (found.rows_RUD[0, 0] == np.median(data.train_TD[:3], axis=0)).all()
    begins = list(range(203, 350, 30))
    assert (found.rows_RUD[5, 0] == np.median(data.train_TD[begins[0] : begins[0] + 3], axis=0)).all()


# ---- one reading, one record -----------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    row=st.integers(0, 136),
    column=st.integers(0, 1),
    value=st.sampled_from([float("nan"), float("inf"), 1e30, -1e30, 0.0, 3.5]),
    holes=st.lists(st.tuples(st.integers(0, 136), st.integers(0, 1)), max_size=60),
)
def test_a_reading_changes_the_windows_of_one_record_at_most(
    row: int, column: int, value: float, holes: list[tuple[int, int]]
) -> None:
    before_TD = site().train_TD.copy()
    for hole in holes:
        before_TD[hole] = np.nan
    after_TD = before_TD.copy()
    after_TD[row, column] = value
    one, two = prepared(replace(site(), train_TD=before_TD)), prepared(replace(site(), train_TD=after_TD))
    changed = [r for r in range(one.records) if windows_of(one, r) != windows_of(two, r)]
    assert one.records == two.records
    assert one.preprocessor == two.preprocessor
    assert len(changed) <= 1
    inside = [r for r, at in enumerate([*range(0, 40, 10), *range(60, 120, 10)]) if at <= row < at + UNIT]
    assert set(changed) <= set(inside)


def test_a_reading_does_change_its_record() -> None:
    """Or the property above would hold of nothing."""
    changed_TD = site().train_TD.copy()
    changed_TD[33, 1] = 3.5
    one, two = prepared(site()), prepared(replace(site(), train_TD=changed_TD))
    assert [r for r in range(10) if windows_of(one, r) != windows_of(two, r)] == [3]


@pytest.mark.parametrize("gone", range(10))
def test_a_record_that_is_removed_leaves_the_others_as_they_were(gone: int) -> None:
    data, how = site(), recipe()
    whole = segments(data, how)
    fewer = replace(whole, rows_RUD=np.delete(whole.rows_RUD, gone, axis=0))
    one, two = (prepare_records(data, how, records, RANGES_D2) for records in (whole, fewer))
    kept = [windows_of(one, r) for r in range(10) if r != gone]
    assert kept == [windows_of(two, r) for r in range(9)]


def test_filling_looks_neither_ahead_nor_into_another_record() -> None:
    values_TD = site().train_TD.copy()
    values_TD[9] = [77.0, 77.0]  # the last row of record 0
    values_TD[10:12] = np.nan  # a gap at the beginning of record 1: the middle of the range, which is 0 when scaled
    values_TD[12] = [2.0, 6.0]
    values_TD[13] = np.nan  # a gap inside: the row before
    rows_TD = prepared(replace(site(), train_TD=values_TD)).train.rows_TD[10:14]
    assert rows_TD.tolist() == [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]


def test_a_window_with_too_many_gaps_goes_alone_and_a_record_may_be_left_empty() -> None:
    values_TD = site().train_TD.copy()
    values_TD[10:13] = np.nan  # three of four rows of the first window of record 1
    values_TD[24:28] = np.nan  # the second window of record 2
    values_TD[30:40] = np.nan  # all of record 3
    found = prepared(replace(site(), train_TD=values_TD))
    assert np.bincount(found.segments_N, minlength=10).tolist() == [2, 1, 1, 0, 2, 2, 2, 2, 2, 2]
    assert found.train.starts_N[found.segments_N == 1].tolist() == [14]
    assert first_windows(found).tolist() == [0, 2, 3, 4, 4, 6, 8, 10, 12, 14, 16]


def test_whether_anything_was_read_where_data_is_held_out_does_not_show() -> None:
    """What is held out in this run may be records of another one."""
    values_TD = site().train_TD.copy()
    values_TD[48:60] = values_TD[122:] = np.nan
    found = prepared(replace(site(), train_TD=values_TD))
    assert not len(found.holdout.starts_N)
    assert len(found.train.starts_N) == len(prepared(site()).train.starts_N)


# ---- nothing is fitted -----------------------------------------------------------------------------------------------


def test_the_scaling_is_the_ranges() -> None:
    fitted = public_preprocessor(site().schema, RANGES_D2, recipe().preprocess)
    scaled = fitted.live(np.array([[-4, 0], [0, 4], [4, 8], [1e30, -1e30]], np.float32)).values_TD
    assert scaled.tolist() == [[-2, -2], [0, 0], [2, 2], [20, -20]]
    assert fitted.scaler.low is None
    assert not fitted.silent


def test_data_of_another_size_is_scaled_alike() -> None:
    larger = replace(site(), train_TD=site().train_TD * np.float32(1000))
    assert prepared(site()).preprocessor == prepared(larger).preprocessor


@pytest.mark.parametrize("span", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_that_is_none_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(PrivacyUnmet, match="range of b"):
        public_preprocessor(site().schema, np.array([[0.0, 1.0], span]), recipe().preprocess)


def test_the_held_out_part_is_the_one_of_a_run_without_a_claim() -> None:
    """It is scored at the plant only; its windows lie where they always did."""
    plain = prepare(site(400, (0,)), recipe().model_copy(update={"privacy": Recipe().privacy}))
    private = prepared(site(400, (0,)))
    assert private.holdout.starts_N.tolist() == plain.holdout.starts_N.tolist()
    assert private.holdout.rows_TD.shape == plain.holdout.rows_TD.shape


def test_medians_leave_out_what_was_not_measured() -> None:
    values_TD: FloatArray = site().train_TD.copy()
    values_TD[np.random.default_rng(3).random(values_TD.shape) < 0.4] = np.nan
    values_TD[20:30, 1] = np.nan
    found = segments(replace(site(), train_TD=values_TD), recipe())
    medians_RD = medians(found)
    assert np.isnan(medians_RD[2, 1])
    assert np.isnan(medians_RD).sum() == 1
    for r, d in np.argwhere(~np.isnan(medians_RD)):
        assert medians_RD[r, d] == pytest.approx(np.nanmedian(found.rows_RUD[r, :, d]))


def test_scaling_by_public_ranges_needs_no_privacy_and_is_the_same() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(5.0, 1.0, (900, 2)).astype(np.float32)
    schema = SensorSchema(tags=("a", "b"), period_s=1)
    site = SiteData("x", schema, values, values[:0], None, ranges=((0.0, 10.0), (2.0, 8.0)))
    recipe = Recipe.model_validate({"preprocess": {"scaling": "ranges"}})
    plain = prepare(site, recipe)
    private = prepare_records(site, recipe, segments(site, recipe), np.array(site.ranges))
    assert plain.preprocessor.scaler == private.preprocessor.scaler
    np.testing.assert_allclose(plain.train.rows_TD[:60], private.train.rows_TD[:60], rtol=1e-6)
    with pytest.raises(NothingToLearn, match="knows the operating range of 1 of its 2 tags"):
        prepare(replace(site, ranges=((0.0, 1.0), None)), recipe)
