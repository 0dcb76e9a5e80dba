import math

import numpy as np
import pytest

from shared.config import ScoringConfig
from shared.errors import NothingToLearn, TooFewRows
from shared.scoring import (
    RobustScale,
    ScoreScale,
    entropy,
    fit_score_scale,
    scores_over_time,
    student_t_assignments,
)
from shared.windows import window_starts

ALL = np.ones(3, bool)
CENTROIDS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]], np.float32)


def test_assignments_by_hand() -> None:
    q = student_t_assignments(np.zeros((1, 2), np.float32), CENTROIDS, ALL)
    np.testing.assert_allclose(q, np.array([[1.0, 0.5, 0.1]]) / 1.6)
    assert q.dtype == np.float64


def test_a_masked_cluster_gets_nothing() -> None:
    latents = np.random.default_rng(0).normal(size=(50, 2))
    q = student_t_assignments(latents, CENTROIDS, np.array([True, False, True]))
    assert not q[:, 1].any()
    np.testing.assert_allclose(q.sum(axis=1), 1.0)
    np.testing.assert_allclose(q[:, [0, 2]], student_t_assignments(latents, CENTROIDS[[0, 2]], ALL[:2]))


def test_without_active_clusters_there_is_no_entropy() -> None:
    q = student_t_assignments(np.zeros((4, 2)), CENTROIDS, ~ALL)
    assert not q.any()
    assert entropy(q).tolist() == [0.0] * 4


def test_no_windows() -> None:
    assert student_t_assignments(np.zeros((0, 2)), CENTROIDS, ALL).shape == (0, 3)


def test_entropy_lies_between_none_and_uniform() -> None:
    q = np.array([[1.0, 0.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(entropy(q), [0.0, math.log(4), math.log(2)])
    assert not np.signbit(entropy(q)).any()


def test_robust_scale_of_normal_numbers_is_their_standard_deviation() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 20_000)
    scale = RobustScale.fit(np.concatenate([values, np.full(100, 1e6)]))
    assert scale.median == pytest.approx(5.0, abs=0.1)
    assert scale.spread == pytest.approx(2.0, rel=0.05)
    np.testing.assert_allclose(scale.apply(np.array([scale.median + scale.spread])), [1.0])


def test_a_constant_part_is_not_blown_up() -> None:
    scale = RobustScale.fit(np.full(10, 3.0))
    assert scale.spread == 1e-3
    assert scale.apply(np.array([3.0])).tolist() == [0.0]


def test_the_papers_score() -> None:
    scale = fit_score_scale(np.ones(5), np.ones(5), ScoringConfig(entropy_weight=0.35, standardise=False))
    assert scale == ScoreScale(entropy_weight=0.35)
    np.testing.assert_allclose(scale.combine(np.array([0.01, 0.02]), np.array([2.0, 0.0])), [0.71, 0.02])


def test_the_standardised_score_by_hand() -> None:
    error, ent = np.exp([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    scale = fit_score_scale(error, ent, ScoringConfig(entropy_weight=0.1))
    got = scale.combine(np.exp([3.0, 3.0 + 1.4826]), np.array([0.7, 0.7 + 1000]))
    np.testing.assert_allclose(got, [0.0, 1.0 + 0.1 * 5.0], atol=1e-6)
    assert scale.combine(np.exp([3.0]), np.array([-1000.0]))[0] == pytest.approx(-0.5, abs=1e-6)


def test_without_clusters_the_entropy_has_no_weight() -> None:
    scale = fit_score_scale(np.ones(3), None, ScoringConfig())
    assert scale.entropy_weight == 0
    assert scale.combine(np.ones(1), None).tolist() == [0.0]
    assert scale.combine(np.ones(1), np.full(1, 2.0)).tolist() == [0.0]


def test_a_needed_entropy_must_be_given() -> None:
    with pytest.raises(ValueError, match="entropy"):
        ScoreScale(entropy_weight=0.1).combine(np.ones(1))


@pytest.mark.parametrize("standardise", [True, False])
def test_what_is_not_a_number_is_not_normal(standardise: bool) -> None:
    scale = fit_score_scale(np.ones(3), np.ones(3), ScoringConfig(standardise=standardise))
    got = scale.combine(np.array([1.0, np.nan, np.inf, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, np.nan, 1.0]))
    assert np.isinf(got).tolist() == [False, True, True, True, False]
    assert (got[np.isinf(got)] > 0).all()


def test_scales_survive_json() -> None:
    rng = np.random.default_rng(1)
    scale = fit_score_scale(rng.random(50), rng.random(50), ScoringConfig())
    again = ScoreScale.parse(scale.json)
    assert again == scale
    error, ent = rng.random(9).astype(np.float32), rng.random(9).astype(np.float32)
    np.testing.assert_array_equal(again.combine(error, ent), scale.combine(error, ent))


def test_a_spread_of_zero_is_refused() -> None:
    with pytest.raises(ValueError):
        RobustScale(median=0.0, spread=0.0)


def test_nothing_to_calibrate_on() -> None:
    with pytest.raises(TooFewRows):
        fit_score_scale(np.zeros(0), None, ScoringConfig())
    with pytest.raises(NothingToLearn, match="1 of 2 calibration errors"):
        fit_score_scale(np.array([1.0, np.nan]), None, ScoringConfig())
    with pytest.raises(NothingToLearn, match="entropies"):
        fit_score_scale(np.ones(2), np.array([1.0, np.inf]), ScoringConfig())


def test_scores_stand_on_the_last_row_of_their_window() -> None:
    starts = window_starts(6, 3, 1)
    got = scores_over_time(np.arange(4.0), starts, window=3, rows=6)
    np.testing.assert_array_equal(got, [np.nan, np.nan, 0.0, 1.0, 2.0, 3.0])


def test_strided_scores_leave_holes_unless_held() -> None:
    starts = window_starts(9, 3, 3)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(scores_over_time(np.ones(3), starts, 3, 9))), [2, 5, 8])
    held = scores_over_time(np.arange(3.0), starts, window=3, rows=9, hold=3)
    np.testing.assert_array_equal(held, [np.nan, np.nan, 0, 0, 0, 1, 1, 1, 2])
    short = scores_over_time(np.arange(3.0), starts, window=3, rows=9, hold=2)
    np.testing.assert_array_equal(short, [np.nan, np.nan, 0, 0, np.nan, 1, 1, np.nan, 2])


def test_no_score_is_held_into_the_next_recording() -> None:
    recordings = (0, 5)
    starts = window_starts(10, 3, 2, recordings)
    got = scores_over_time(np.arange(4.0), starts, window=3, rows=10, hold=2, recordings=recordings)
    np.testing.assert_array_equal(got, [np.nan, np.nan, 0, 0, 1, np.nan, np.nan, 2, 2, 3])


def test_no_window_no_score() -> None:
    assert np.isnan(scores_over_time(np.zeros(0), window_starts(2, 3, 1), window=3, rows=2)).all()
