"""Trailing means that do not outlast their cause: what lasts counts, and only while it lasts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.evidence.fit import Choice, fit_judge
from shared.evidence.lasting import CHANNEL, SCORE, held, persistent
from shared.lag.score import trailing
from tests.unit.test_evidence import JUDGE, SMALL, normal, plant, scores

ROWS = 30
values = st.lists(st.floats(-10, 10), min_size=1, max_size=80).map(np.array)


def bump(height: float, rows: int, count: int = 200, at: int = 50) -> np.ndarray:
    """Quiet values with something in them."""
    plain_N = np.zeros(count)
    plain_N[at : at + rows] = height
    return plain_N


@given(plain_N=values, rows=st.integers(1, 40), most=st.floats(0.1, 5))
def test_a_mean_is_never_more_than_the_newest_value_and_a_bit(plain_N: np.ndarray, rows: int, most: float) -> None:
    found_N = held(plain_N, rows, most)
    assert (found_N <= np.maximum(plain_N, 0) + most).all()
    assert (found_N <= trailing(plain_N, rows)).all()
    below_N = trailing(plain_N, rows) <= np.maximum(plain_N, 0) + most
    np.testing.assert_array_equal(found_N[below_N], trailing(plain_N, rows)[below_N])  # elsewhere it is the mean


@pytest.mark.parametrize("height", [5.0, 50.0, 1e6])
def test_a_burst_does_not_outlast_itself(height: float) -> None:
    """Its plain mean would: a row of 1,000 says 33 for 30 rows."""
    burst_N = bump(height, rows=20)
    assert held(burst_N, ROWS, CHANNEL)[70:].max() <= CHANNEL
    assert persistent(burst_N, ROWS)[70:].max() <= SCORE / 2
    assert trailing(burst_N, ROWS)[70] > 3.0
    assert persistent(burst_N, ROWS)[100:].max() == 0.0


def test_what_cannot_be_measured_is_infinite_and_does_not_stay() -> None:
    found_N = persistent(bump(np.inf, rows=1), ROWS)
    assert found_N[50] == np.inf
    assert np.isfinite(np.delete(found_N, 50)).all()
    assert found_N[51:].max() <= SCORE / 2


@pytest.mark.parametrize("height", [0.5, 2.0, 50.0])
def test_a_long_weak_disturbance_scores_more_than_a_short_one_of_the_same_height(height: float) -> None:
    noise_N = np.random.default_rng(0).normal(0, 0.1, 200)
    brief_N, long_N = (persistent(noise_N + bump(height, rows), ROWS) for rows in (3, ROWS))
    assert long_N.max() > 1.5 * brief_N.max()
    np.testing.assert_array_equal(brief_N[:53], long_N[:53])  # no look ahead


@given(plain_N=values, more=st.floats(0, 10), at=st.integers(0, 79))
def test_no_score_falls_where_a_row_says_more(plain_N: np.ndarray, more: float, at: int) -> None:
    louder_N = plain_N.copy()
    louder_N[at % len(plain_N)] += more
    assert (persistent(louder_N, ROWS) >= persistent(plain_N, ROWS) - 1e-9).all()


def test_thirty_rows_of_two_count_full_and_one_row_of_two_about_half() -> None:
    brief, lasting = (float(persistent(bump(2.0, rows), ROWS).max()) for rows in (1, ROWS))
    assert (brief, lasting) == pytest.approx(((2 + 2 / 30) / 2, 2.0))


def test_what_a_row_says_by_itself_is_never_smoothed_away_by_more_than_half() -> None:
    assert persistent(bump(40.0, rows=1), ROWS)[50] >= 20.0


def test_a_judges_own_scores_fall_with_their_cause() -> None:
    live = normal(plant(160, 2))
    loud = plant(160, 2)
    loud[60:75, 0] += 40.0
    found_T = scores(JUDGE, normal(loud))
    over = 75 + JUDGE.rows  # the oldest row that is looked at is behind it
    quiet_T = scores(JUDGE, live)
    assert found_T[60:75].min() > quiet_T.max() + 2
    assert found_T[over:].max() <= quiet_T[over:].max() + CHANNEL + SCORE


def test_a_threshold_rests_on_ceilings_never_below_what_the_same_rows_score() -> None:
    found = normal(plant(), (0, 170))
    fitted = fit_judge(found, SMALL)
    alone_T = ((fitted.logs_TC - fitted.judge.median_C) / fitted.judge.spread_C) @ fitted.judge.weight_C
    scored_T = fitted.judge.combined(fitted.logs_TC, found.starts)
    assert not np.isnan(fitted.scores_T).any()
    assert (fitted.scores_T >= scored_T).all()
    assert (fitted.scores_T >= alone_T).all()
    np.testing.assert_array_equal(fitted.scores_T, np.maximum(alone_T, scored_T))
    assert (fitted.scores_T > scored_T).mean() > 0.2  # by themselves rows are louder than their means
    assert np.quantile(fitted.scores_T, 0.99) > np.quantile(scored_T, 0.99)


def test_rows_that_do_not_count_have_no_ceiling_and_those_beyond_measure_an_infinite_one() -> None:
    logs_TC = np.tile(JUDGE.median_C, (12, 1))
    logs_TC[3], logs_TC[7, 0] = np.nan, np.nan
    ceilings_T = JUDGE.ceilings(logs_TC, (0,))
    assert np.isnan(ceilings_T[3])
    assert ceilings_T[7] == np.inf
    assert np.isfinite(ceilings_T[[0, 1, 2, 4, 5, 6]]).all()


def test_the_recipes_shortest_is_the_trail_of_the_score() -> None:
    assert Choice().shortest == ROWS
    assert JUDGE.trail == SMALL.shortest
