"""The judge: in batch and row by row, without a look ahead or across recordings, on plants of every kind."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contributions import judge_scale, score_without
from shared.errors import CrossplantError, NothingToLearn, SchemaMismatch, TooFewRows
from shared.evidence.file import to_bytes
from shared.evidence.fit import Choice, Fitted, Normal, fit_judge
from shared.evidence.judge import Judge, channel_logs
from shared.lag.sums import moments
from shared.series import FloatArray

SMALL = Choice(lags=2, lengths=(3, 6), prototypes=16, shortest=10)


def plant(rows: int = 400, seed: int = 0) -> FloatArray:
    """Three tags that move together, one valve, one tag that stands still."""
    rng, t = np.random.default_rng(seed), np.arange(rows)
    wave = np.sin(t / 9) + 0.3 * np.sin(t / 23 + seed)
    tags = [wave, 0.5 * np.roll(wave, 2) + 0.05 * rng.normal(size=rows), np.cumsum(rng.normal(size=rows)) * 0.1]
    return np.stack([*tags, wave > 0.5, np.full(rows, 0.7)], axis=1).astype(np.float32)


def normal(rows_TD: FloatArray, starts: tuple[int, ...] = (0,), seed: int = 1) -> Normal:
    rng, rows = np.random.default_rng(seed), len(rows_TD)
    residual_TD = rng.normal(0, 0.2, rows_TD.shape).astype(np.float32)
    return Normal(rows_TD, starts, np.ones(rows, np.bool_), residual_TD, rng.integers(-1, 3, rows), 3, None)


def fitted(choice: Choice = SMALL) -> Fitted:
    return fit_judge(normal(plant(), (0, 170)), choice)


JUDGE = fitted().judge


def streamed(judge: Judge, found: Normal) -> np.ndarray:
    """Scores row by row; rows that are not scored are only taken."""
    stream, scores_T = judge.stream(), np.full(len(found.rows_TD), np.nan)
    assert found.residual_TD is not None
    assert found.modes_T is not None
    for t, row_D in enumerate(found.rows_TD):
        if t in found.starts:
            stream.restart()
        stream.take(row_D)
        if found.scored_T[t]:
            scores_T[t] = stream.judge(found.residual_TD[t], int(found.modes_T[t])).score
    return scores_T


def scores(judge: Judge, found: Normal) -> np.ndarray:
    return judge.scores(found.rows_TD, found.starts, found.scored_T, found.residual_TD, found.modes_T)


@given(
    cuts=st.sets(st.integers(1, 89), max_size=4),
    share=st.floats(0.1, 1.0),
    trail=st.integers(1, 5),
    scale=st.sampled_from([1.0, 30.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_a_stream_says_what_batch_says(cuts: set[int], share: float, trail: int, scale: float, seed: int) -> None:
    rows_TD = plant(90, seed) * np.float32(scale)
    some_T = np.random.default_rng(seed).random(90) < share
    live = replace(normal(rows_TD, (0, *sorted(cuts)), seed), scored_T=some_T)
    judge = replace(JUDGE, trail=trail)
    np.testing.assert_allclose(streamed(judge, live), scores(judge, live), rtol=0, atol=1e-9)


def test_what_comes_later_changes_no_score() -> None:
    live = normal(plant(120, 5))
    assert live.residual_TD is not None
    rows_TD, residual_TD = live.rows_TD.copy(), live.residual_TD.copy()
    rows_TD[70:], residual_TD[70:] = 9.0, 4.0
    other = replace(live, rows_TD=rows_TD, residual_TD=residual_TD)
    before, after = scores(JUDGE, live), scores(JUDGE, other)
    np.testing.assert_array_equal(before[:70], after[:70])
    assert (after[70:75] > before[70:75] + 1).all()


def test_nothing_is_looked_at_across_recordings() -> None:
    live = normal(plant(120, 5), (0, 60))
    wild = replace(live, rows_TD=np.concatenate([live.rows_TD[:60] + 5, live.rows_TD[60:]]))
    np.testing.assert_array_equal(scores(JUDGE, live)[60:], scores(JUDGE, wild)[60:])


def test_a_snapshot_goes_on_by_itself() -> None:
    live, stream = normal(plant(60, 3)), JUDGE.stream()
    for row_D in live.rows_TD[:40]:
        stream.take(row_D)
        stream.judge(row_D * 0, 1)
    kept = copy.deepcopy(stream)
    for row_D in live.rows_TD[40:]:
        stream.take(row_D)
        stream.judge(row_D, 1)
    kept.take(live.rows_TD[40])
    again = JUDGE.stream()
    for row_D in live.rows_TD[:40]:
        again.take(row_D)
        again.judge(row_D * 0, 1)
    again.take(live.rows_TD[40])
    assert kept.judge(live.rows_TD[0], 0).score == again.judge(live.rows_TD[0], 0).score


def test_parts_add_up_to_what_lies_above_ordinary_and_name_the_tag() -> None:
    live, stream = normal(plant(80, 2)), JUDGE.stream()
    assert live.residual_TD is not None
    rows_TD = live.rows_TD.copy()
    rows_TD[-1, 1] += 8
    for row_D in rows_TD[:-1]:
        stream.take(row_D)
    stream.take(rows_TD[-1])
    residual_D = np.zeros(5)
    residual_D[1] = -8
    verdict = stream.judge(residual_D, 0)
    windows_1HD = rows_TD[None, -JUDGE.rows :]
    logs_1C = JUDGE.models.logs(windows_1HD, residual_D[None], np.array([0]))
    above = np.maximum((logs_1C - JUDGE.median_C) / JUDGE.spread_C, 0) @ JUDGE.weight_C
    assert verdict.part_D.argmax() == 1
    assert verdict.part_D.min() >= 0
    assert verdict.part_D.sum() == pytest.approx(float(above[0]))
    assert verdict.score <= verdict.part_D.sum()


def test_a_score_falls_with_the_share_that_is_taken_out() -> None:
    scale = judge_scale(JUDGE.spread_C, JUDGE.weight_C)
    assert scale.error is not None
    left = [score_without(6.0, 1.0, share, scale) for share in (0.0, 0.5, 0.9, 1.0)]
    assert left[0] == 6.0
    assert left == sorted(left, reverse=True)
    assert left[1] == pytest.approx(6 + np.log(0.5) * float(np.sum(JUDGE.weight_C / JUDGE.spread_C)) / 2, abs=1e-6)


def test_values_that_are_no_numbers_are_infinite_and_do_not_stay() -> None:
    live = normal(plant(90, 2))
    rows_TD = live.rows_TD.copy()
    rows_TD[20, 0] = np.nan
    found = scores(JUDGE, replace(live, rows_TD=rows_TD))
    assert found[20] == np.inf
    memory = JUDGE.rows + int(JUDGE.trail_C.max()) + JUDGE.trail
    np.testing.assert_allclose(found[20 + memory :], scores(JUDGE, live)[20 + memory :], atol=1e-9)


def test_the_same_rows_give_the_same_judge_to_the_byte() -> None:
    assert to_bytes(fitted().judge) == to_bytes(JUDGE)


def test_ordinary_rows_score_about_nothing_and_each_by_models_that_had_not_seen_it() -> None:
    """With a prototype for every course that was seen, a model that had seen a row would say that nothing is new."""
    found = fitted(replace(SMALL, prototypes=512))
    assert abs(float(np.median(found.scores_T))) < 0.5
    shape = found.judge.models.channels.index("shape 6")
    live = normal(plant(), (0, 170))
    seen_TC = channel_logs(found.judge.models, live.rows_TD, (0, 170), live.scored_T, live.residual_TD, live.modes_T)
    assert (seen_TC[:, shape] < np.log(0.101)).mean() > 0.95
    assert (found.logs_TC[:, shape] < np.log(0.101)).mean() < 0.05


def alike(rows: int, seed: int) -> FloatArray:
    """Plants of six tags whose noise is mixed in the same way."""
    mix_DD, noise_TD = np.random.default_rng(0).normal(size=(6, 6)), np.random.default_rng(seed).normal(size=(rows, 6))
    rows_TD = noise_TD @ mix_DD * 0.4
    for t in range(1, rows):
        rows_TD[t] += 0.7 * rows_TD[t - 1]
    return rows_TD.astype(np.float32)


def test_moments_of_plants_alike_are_borrowed_by_a_plant_with_few_rows() -> None:
    others = moments(np.concatenate([alike(2000, 8), alike(2000, 9)]), (0, 2000), SMALL.lags)
    few, helped = (fit_judge(normal(alike(60, 1)), SMALL, lent) for lent in (None, others))
    assert (few.borrowed, helped.borrowed > 0) == (0, True)


KINDS = {
    "all coded": np.stack([np.arange(200) // 20 % 2, np.arange(200) // 30 % 2], axis=1),
    "one tag": np.sin(np.arange(200) / 7)[:, None],
    "one tag that moves": np.stack([np.sin(np.arange(200) / 7), np.full(200, 3.0)], axis=1),
    "twice the same": np.repeat(np.sin(np.arange(200) / 7)[:, None], 2, axis=1),
    "forty rows": plant(40),
    "recordings of twelve rows": plant(120),
}


@pytest.mark.parametrize("kind", KINDS)
def test_plants_of_every_kind_have_a_judge_with_finite_scores(kind: str) -> None:
    rows_TD = KINDS[kind].astype(np.float32)
    starts = tuple(range(0, 120, 12)) if kind.startswith("recordings") else (0,)
    found = fit_judge(normal(rows_TD, starts), SMALL)
    assert np.isfinite(found.scores_T).all()
    live = normal(rows_TD + 3, starts, 9)
    np.testing.assert_allclose(streamed(found.judge, live), scores(found.judge, live), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rows_TD", [np.ones((200, 2)), plant(3), np.empty((0, 2))], ids=["still", "three", "none"])
def test_where_there_is_nothing_to_learn_that_is_said(rows_TD: FloatArray) -> None:
    with pytest.raises((TooFewRows, NothingToLearn)) as told:
        fit_judge(normal(np.asarray(rows_TD, np.float32)), SMALL)
    assert isinstance(told.value, CrossplantError)


def test_rows_of_other_tags_are_refused() -> None:
    with pytest.raises(SchemaMismatch):
        JUDGE.stream().take(np.zeros(4))
    with pytest.raises(SchemaMismatch):
        JUDGE.scores(np.zeros((9, 4)), (0,), np.ones(9, np.bool_))
