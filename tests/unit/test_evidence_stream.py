"""One row at a time: what is measured with few calls is what batch measures, wherever prototypes lie and rows go."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SchemaMismatch
from shared.evidence.courses import Courses, CourseTable
from shared.evidence.fit import Choice, fit_judge
from shared.evidence.judge import Judge, JudgeStream
from shared.evidence.recent import Recent
from shared.evidence.shape import ShapeModel
from shared.series import FloatArray
from tests.unit.test_evidence import JUDGE, KINDS, SMALL, normal, plant, scores, streamed

DIM = 9
LENGTHS = (2, 5, 11)


def shape(seed: int, spread: float, count: int = 24) -> ShapeModel:
    """Six analogue tags and two still ones of nine, in no order; prototypes are `spread` apart."""
    rng = np.random.default_rng(seed)
    courses_AKW = rng.normal(size=(6, 1, LENGTHS[-1])) + spread * rng.normal(size=(6, count, LENGTHS[-1]))
    columns = rng.permutation(DIM)
    level_S = rng.normal(size=2)
    return ShapeModel(columns[:6], courses_AKW.astype(np.float32), columns[6:8], level_S, LENGTHS)


@given(
    seed=st.integers(0, 999),
    spread=st.sampled_from([0.0, 1e-7, 1e-4, 1e-2, 1.0]),
    scale=st.sampled_from([0.0, 1.0, 20.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_nearest_course_is_that_of_batch_wherever_prototypes_lie(seed: int, spread: float, scale: float) -> None:
    model, rng = shape(seed, spread), np.random.default_rng(seed)
    newest_WD = (scale * rng.normal(size=(LENGTHS[-1], DIM))).astype(np.float32).astype(np.float64)
    if scale:
        newest_WD[:, model.columns_A[0]] = model.prototypes_AKW[0, seed % 24]  # as it was once before
    found_LX = Courses(CourseTable(model, DIM)).squares(newest_WD)
    assert found_LX is not None
    np.testing.assert_allclose(np.sqrt(found_LX), model.distances(newest_WD[None])[0], rtol=1e-12, atol=1e-9)


def test_prototypes_that_are_all_equally_near_are_left_to_batch() -> None:
    same = shape(0, 0.0, 400)
    assert Courses(CourseTable(same, DIM)).squares(np.ones((LENGTHS[-1], DIM))) is None


def test_where_all_courses_are_alike_a_stream_says_what_batch_says() -> None:
    shape = JUDGE.models.shape
    alike = replace(shape, prototypes_AKW=np.repeat(shape.prototypes_AKW[:, :1], 600, axis=1))
    judge = replace(JUDGE, models=replace(JUDGE.models, shape=alike))
    live = normal(plant(60, 4))
    np.testing.assert_allclose(streamed(judge, live), scores(judge, live), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_each_tags_part_is_that_of_batch(kind: str) -> None:
    rows_TD = KINDS[kind].astype(np.float32)
    judge = fit_judge(normal(rows_TD), SMALL).judge
    live, stream = normal(rows_TD[:40] * 2 + 1, seed=9), judge.stream()
    assert live.residual_TD is not None
    assert live.modes_T is not None
    for t, row_D in enumerate(live.rows_TD):
        stream.take(row_D)
        found_D = stream.judge(live.residual_TD[t], int(live.modes_T[t])).part_D
        due_D = part_in_batch(judge, live.rows_TD[: t + 1], live.residual_TD[t : t + 1], live.modes_T[t : t + 1])
        np.testing.assert_allclose(found_D, due_D, rtol=1e-9, atol=1e-9)


def part_in_batch(judge: Judge, rows_tD: FloatArray, residual_1D: FloatArray, modes_1: np.ndarray) -> np.ndarray:
    before = np.repeat(rows_tD[:1], judge.rows, axis=0)
    windows_1HD = np.concatenate([before, rows_tD])[None, -judge.rows :].astype(np.float64)
    residual = residual_1D.astype(np.float64)
    logs_1C = judge.models.logs(windows_1HD, residual, modes_1)
    found_1D = judge.parts(windows_1HD, logs_1C, residual, modes_1)
    return np.asarray(found_1D[0])


def test_a_judge_without_a_network_judges_row_by_row() -> None:
    rows_TD = plant(300)
    alone = replace(normal(rows_TD), residual_TD=None, modes_T=None)
    judge, stream, found = fit_judge(alone, SMALL).judge, None, []
    stream = judge.stream()
    for row_D in rows_TD[:80]:
        stream.take(row_D)
        found.append(stream.judge().score)
    due_T = judge.scores(rows_TD[:80], (0,), np.ones(80, np.bool_))
    np.testing.assert_allclose(found, due_T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [np.nan, 1e7])
def test_wild_values_are_judged_as_in_batch_and_do_not_stay(value: float) -> None:
    live = normal(plant(90, 2))
    rows_TD = live.rows_TD.copy()
    rows_TD[20, 0] = rows_TD[0, 1] = value
    wild = replace(live, rows_TD=rows_TD)
    found_T, due_T = streamed(JUDGE, wild), scores(JUDGE, wild)
    np.testing.assert_allclose(found_T, due_T, rtol=0, atol=1e-9)
    memory = JUDGE.rows + int(JUDGE.trail_C.max()) + JUDGE.trail
    np.testing.assert_allclose(found_T[20 + memory :], scores(JUDGE, live)[20 + memory :], rtol=0, atol=1e-9)


@pytest.mark.parametrize("rows", [1, 3, JUDGE.rows, 50])
def test_to_begin_with_rows_is_to_take_them(rows: int) -> None:
    rows_TD = plant(60, 7)
    taken, begun = JUDGE.stream(), JUDGE.stream()
    for row_D in rows_TD[:rows]:
        taken.take(row_D)
    begun.take(rows_TD[59])
    begun.judge(rows_TD[59], 0)  # forgotten
    begun.begin(rows_TD[:rows])
    assert [said(taken, row_D) for row_D in rows_TD[rows:]] == [said(begun, row_D) for row_D in rows_TD[rows:]]


def said(stream: JudgeStream, row_D: FloatArray) -> float:
    found = stream.judge(row_D, 1).score
    stream.take(row_D)
    return found


def test_to_begin_with_a_wild_row_is_to_take_it() -> None:
    rows_TD = plant(40, 7)
    rows_TD[9, 2] = np.nan
    taken, begun = JUDGE.stream(), JUDGE.stream()
    for row_D in rows_TD[:12]:
        taken.take(row_D)
    begun.begin(rows_TD[:12])
    assert [said(taken, row_D) for row_D in rows_TD[12:]] == [said(begun, row_D) for row_D in rows_TD[12:]]


@pytest.mark.parametrize("rows_TD", [np.zeros((9, 4)), np.zeros(5), np.zeros((0, 5))], ids=["tags", "row", "none"])
def test_a_recording_cannot_begin_with_what_are_no_rows_of_these_tags(rows_TD: np.ndarray) -> None:
    with pytest.raises(SchemaMismatch):
        JUDGE.stream().begin(rows_TD)


def test_a_snapshot_costs_no_second_judge() -> None:
    live = normal(plant(40))
    judge = fit_judge(normal(plant(), (0, 170)), Choice(lags=2, lengths=(3, 6), prototypes=16, shortest=10)).judge
    stream = judge.stream()
    stream.begin(live.rows_TD)
    held: dict[int, object] = {}
    copy.deepcopy(stream, held)
    assert not [one for one in held.values() if isinstance(one, Judge)]


def test_the_newest_rows_are_told_whatever_came_before() -> None:
    recent, rows_TD = Recent(3, 2), np.arange(40.0).reshape(20, 2)
    for t, row_D in enumerate(rows_TD):
        recent.put(row_D)
        count = min(t + 1, 3)
        assert recent.count == count
        np.testing.assert_array_equal(recent.newest(count), rows_TD[t + 1 - count : t + 1])
    single = Recent(1, 2)
    for row_D in rows_TD:
        single.put(row_D)
        np.testing.assert_array_equal(single.newest(1), row_D[None])


def test_a_judge_is_read_without_what_only_masked_arrays_need() -> None:
    """`numpy.unique` imports `numpy.ma`: 2 MB of an edge box."""
    told = (
        "import sys, pathlib; from shared.evidence.file import from_bytes; "
        "stream = from_bytes(sys.stdin.buffer.read()).stream(); "
        "stream.begin(__import__('numpy').zeros((3, 5))); stream.judge([0.0] * 5, 0); "
        "sys.exit('numpy.ma' in sys.modules)"
    )
    from shared.evidence.file import to_bytes

    done = subprocess.run([sys.executable, "-c", told], input=to_bytes(JUDGE), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
