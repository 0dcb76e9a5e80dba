"""What every registered baseline must do; a new file beside `simulations/baselines/forest.py` is picked up here."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from shared.errors import NothingToLearn, TooFewRows, UnknownName
from shared.series import FloatArray
from simulations.baselines import Fitted, find, known
from simulations.baselines.base import Float64Array
from tests.support.baselines import brief

pytestmark = pytest.mark.parametrize("name", known())
ROWS, DIM, STARTS = 240, 3, (0, 120)


def plant(rows: int = ROWS, seed: int = 0) -> FloatArray:
    """Three tags that swing together, and a little noise."""
    phase_T = np.arange(rows)[:, None] / np.array([3.0, 5.0, 7.0])
    noise_TD = np.random.default_rng(seed).normal(size=(rows, DIM))
    return (np.sin(phase_T) + 0.1 * noise_TD).astype(np.float32)


@cache
def fitted(name: str) -> Fitted:
    torch.set_num_threads(1)
    return find(name).fit(plant(), STARTS, seed=0)


@cache
def briefly(name: str) -> Fitted:
    """As `fitted`, but for fewer steps: for what depends on them in no way."""
    torch.set_num_threads(1)
    with brief():
        return find(name).fit(plant(), STARTS, seed=0)


def first_scores(name: str) -> int:
    """Rows at the beginning of a recording that no window ends in."""
    return int(np.isnan(fitted(name).scores(plant(), (0,))).sum())


def test_one_finite_score_a_row_but_for_the_first_of_each_recording(name: str) -> None:
    scores_T, lead = fitted(name).scores(plant(), STARTS), first_scores(name)
    assert (scores_T.shape, scores_T.dtype) == ((ROWS,), np.dtype(np.float64))
    missing_T = np.zeros(ROWS, bool)
    missing_T[:lead] = missing_T[120 : 120 + lead] = True
    np.testing.assert_array_equal(np.isnan(scores_T), missing_T)
    assert np.isfinite(scores_T[~missing_T]).all()
    assert np.ptp(scores_T[~missing_T]) > 0


def test_the_same_rows_and_seed_give_the_same_scores_whatever_was_drawn_before(name: str) -> None:
    np.random.seed(7)
    random.seed(7)
    torch.manual_seed(7)
    with brief():
        again = find(name).fit(plant(), STARTS, seed=0).scores(plant(seed=1), STARTS)
    np.testing.assert_allclose(again, briefly(name).scores(plant(seed=1), STARTS), rtol=1e-6, equal_nan=True)


def test_nobody_else_s_draws_are_moved(name: str) -> None:
    before = torch.random.get_rng_state()
    fitted(name).scores(plant(), STARTS)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_row_s_score_depends_on_a_later_row(name: str) -> None:
    rows_TD = plant(seed=2)
    whole_T = fitted(name).scores(rows_TD, (0,))
    changed_TD = rows_TD.copy()
    changed_TD[150:] += 20
    assert_close(fitted(name).scores(changed_TD, (0,))[:150], whole_T[:150])
    assert_close(fitted(name).scores(rows_TD[:150], (0,)), whole_T[:150])


def test_no_score_looks_across_the_start_of_a_recording(name: str) -> None:
    rows_TD = plant(seed=3)
    apart_T = fitted(name).scores(rows_TD, STARTS)
    assert_close(apart_T[120:], fitted(name).scores(rows_TD[120:], (0,)))


def assert_close(found: Float64Array, due: Float64Array) -> None:
    np.testing.assert_allclose(found, due, rtol=1e-4, atol=1e-6, equal_nan=True)


def test_rows_are_left_as_they_are_and_are_not_kept(name: str) -> None:
    rows_TD = plant()
    with brief():
        mine = find(name).fit(rows_TD, STARTS, seed=0)
    np.testing.assert_array_equal(rows_TD, plant())
    rows_TD[:] = 99
    test_TD = plant(seed=1)
    assert_close(mine.scores(test_TD, STARTS), briefly(name).scores(plant(seed=1), STARTS))
    np.testing.assert_array_equal(test_TD, plant(seed=1))


def test_planted_spikes_are_found_better_than_by_chance(name: str) -> None:
    rows_TD, at = plant(seed=4), np.arange(45, ROWS, 40)
    rows_TD[at] += 6
    scores_T, lead = fitted(name).scores(rows_TD, (0,)), first_scores(name)
    # A window is as wrong with the spike anywhere in it: told apart are windows that end at one, and windows without.
    clean_T = np.ones(ROWS, bool)
    for spike in at:
        clean_T[spike : spike + lead + 1] = False
    clean_T[:lead] = False
    judged = np.concatenate([scores_T[at], scores_T[clean_T]])
    assert roc_auc_score(np.arange(len(judged)) < len(at), judged) > 0.75


def test_what_is_not_finite_is_not_learnt_from_and_has_no_score(name: str) -> None:
    rows_TD, lead = plant(seed=1), first_scores(name)
    rows_TD[60, 0], rows_TD[180, 2] = np.nan, np.inf
    with brief():
        scores_T = find(name).fit(rows_TD, STARTS, seed=0).scores(rows_TD, (0,))
    missing_T = np.zeros(ROWS, bool)
    for row in (0, 61, 181):
        missing_T[row - (row > 0) : row + lead] = True
    np.testing.assert_array_equal(np.isnan(scores_T), missing_T)
    assert np.isfinite(scores_T[~missing_T]).all()


def test_a_constant_tag_does_no_harm(name: str) -> None:
    rows_TD = plant()
    rows_TD[:, 0] = 0
    with brief():
        scores_T = find(name).fit(rows_TD, STARTS, seed=0).scores(rows_TD, STARTS)
    assert np.isfinite(scores_T[~np.isnan(scores_T)]).all()
    assert np.isfinite(scores_T).any()


def test_fewer_rows_than_a_window_have_no_scores(name: str) -> None:
    lead = first_scores(name)
    assert np.isnan(fitted(name).scores(plant(lead), (0,))).all()
    assert fitted(name).scores(plant(0), (0,)).shape == (0,)


def test_too_few_rows_are_refused(name: str) -> None:
    with pytest.raises(TooFewRows, match=name):
        find(name).fit(plant(first_scores(name) + 1), (0,), seed=0)


def test_rows_that_do_not_vary_are_refused(name: str) -> None:
    with pytest.raises(NothingToLearn, match=name):
        find(name).fit(np.ones((ROWS, DIM), np.float32), (0,), seed=0)


def test_an_unknown_baseline_is_told_what_there_is(name: str) -> None:
    with pytest.raises(UnknownName, match="there is no baseline called 'spy'") as caught:
        find("spy")
    assert name in caught.value.cure
