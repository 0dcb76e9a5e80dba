"""The bound of an audit is the paper's, and too high in one audit of twenty at most."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from shared.privacy.accounting import Event, epsilon
from shared.privacy.audit import Guesses, epsilon_bound, guess, p_value

DELTA = 1e-5


def by_the_paper(m: int, r: int, v: int, eps: float, delta: float) -> float:
    """Appendix D of arXiv 2305.08846, as it is printed there."""
    q = 1 / (1 + math.exp(-eps))
    beta = stats.binom.sf(v - 1, r, q)
    alpha, total = 0.0, 0.0
    for i in range(1, v + 1):
        total += stats.binom.pmf(v - i, r, q)
        if total > i * alpha:
            alpha = total / i
    return float(min(beta + alpha * delta * 2 * m, 1))


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
@pytest.mark.parametrize(("m", "r", "v"), [(1, 1, 1), (20, 12, 0), (100, 30, 22), (1000, 1000, 620), (500, 0, 0)])
def test_the_p_value_is_that_of_the_paper(m: int, r: int, v: int, delta: float) -> None:
    for eps in (0.0, 0.3, 1.0, 4.0, 9.0):
        assert p_value(Guesses(m, r, v), eps, delta) == pytest.approx(by_the_paper(m, r, v, eps, delta), abs=1e-12)


def test_the_p_value_holds_for_randomised_response_exactly() -> None:
    """Each coin is shown rightly with chance e^eps / (1 + e^eps): no mechanism with that epsilon shows more."""
    m, eps = 6, 1.2
    right = 1 / (1 + math.exp(-eps))
    for v in range(m + 1):
        chance = sum(
            right ** sum(said) * (1 - right) ** (m - sum(said)) for said in product((0, 1), repeat=m) if sum(said) >= v
        )
        assert p_value(Guesses(m, m, v), eps, 0.0) == pytest.approx(chance)


def test_more_correct_guesses_refute_more_and_a_larger_epsilon_is_harder_to_refute() -> None:
    bounds = [epsilon_bound(Guesses(400, 100, v), DELTA) for v in range(0, 101, 5)]
    assert bounds == sorted(bounds)
    assert bounds[10] == 0.0 < bounds[-1]
    grid = np.linspace(0.0, 8.0, 81)
    assert (np.diff([p_value(Guesses(400, 100, 90), eps, DELTA) for eps in grid]) >= -1e-12).all()


@pytest.mark.parametrize(("canaries", "most"), [(20, 1.8), (100, 3.5), (1000, 5.8)])
def test_no_audit_can_find_more_than_its_size_allows(canaries: int, most: float) -> None:
    """A perfect attack, which guesses every canary."""
    assert epsilon_bound(Guesses(canaries, canaries, canaries), DELTA) == pytest.approx(most, abs=0.06)


def test_the_bound_is_where_the_p_value_crosses() -> None:
    found = Guesses(300, 120, 95)
    bound = epsilon_bound(found, DELTA)
    assert p_value(found, bound, DELTA) < 0.05 <= p_value(found, bound + 2e-4, DELTA)
    assert epsilon_bound(found, DELTA, confidence=0.99) < bound < epsilon_bound(found, DELTA, confidence=0.8)


def audits(multiplier: float, canaries: int, guessed: int, repeats: int) -> list[float]:
    """Bounds found for a Gaussian mechanism with ideal canaries: orthogonal, each moving its own coordinate by 1."""
    rng, bounds = np.random.default_rng(0), []
    for _ in range(repeats):
        included_M = rng.random(canaries) < 0.5
        scores_M = included_M + rng.normal(0.0, multiplier, canaries) if multiplier else included_M * 1.0
        bounds.append(epsilon_bound(guess(scores_M, included_M, guessed), DELTA))
    return bounds


@pytest.mark.parametrize("multiplier", [1.0, 3.73, 20.0])
def test_the_bound_is_below_the_true_epsilon_in_at_least_95_of_100_audits(multiplier: float) -> None:
    true = epsilon([Event(multiplier, 1.0, 1)], DELTA)
    over = sum(bound > true for bound in audits(multiplier, 500, 60, 300))
    assert stats.binom.sf(over - 1, 300, 0.05) > 1e-3


def test_at_randomised_response_the_bound_is_tight_and_still_holds() -> None:
    """So that it holds elsewhere is no accident of weak attacks."""
    true = 1.0
    correct = np.random.default_rng(1).binomial(500, 1 / (1 + math.exp(-true)), size=400)
    bounds = {v: epsilon_bound(Guesses(500, 500, v), 0.0) for v in set(correct.tolist())}
    over = sum(bounds[v] > true for v in correct.tolist())
    assert 4 <= over <= 38  # 5 % of 400 is 20


def test_a_mechanism_without_noise_is_refuted_by_far_and_one_with_noise_is_not() -> None:
    without, with_noise = audits(0.0, 500, 200, 1)[0], audits(3.73, 500, 200, 1)[0]
    assert with_noise < 1.0 < 3.0 < without


def test_scores_are_split_into_the_highest_and_the_lowest() -> None:
    scores_M = np.array([0.0, 9.0, 1.0, 8.0, 2.0, 7.0])
    included_M = np.array([False, True, False, False, True, True])
    assert guess(scores_M, included_M, 2) == Guesses(6, 2, 2)
    assert guess(scores_M, included_M, 4) == Guesses(6, 4, 3)
    assert guess(scores_M, included_M, 0) == Guesses(6, 0, 0)
    assert guess(-scores_M, included_M, 6).correct == 6 - guess(scores_M, included_M, 6).correct


@pytest.mark.parametrize("bad", [(3, 4, 2), (3, 2, 3), (0, 0, 0), (3, 2, -1)])
def test_impossible_counts_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="correct of"):
        Guesses(*bad)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite scores"):
        guess(np.array([0.0, np.nan]), np.array([True, False]), 1)
    with pytest.raises(ValueError, match="3 guesses about 2"):
        guess(np.zeros(2), np.array([True, False]), 3)
