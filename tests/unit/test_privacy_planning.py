"""From a budget to noise: the plan keeps within it, and says what does not fit."""

from __future__ import annotations

import time

import pytest

from shared.config import PrivacyConfig
from shared.errors import BudgetTooSmall, PrivacyUnmet
from shared.privacy.accounting import Event, epsilon, multiplier_for, together
from shared.privacy.planning import (
    RANGES_SHARE,
    STATISTIC_SHARE,
    Releases,
    check_delta,
    least_epsilon,
    most_delta,
    public_size,
    spend,
    statistic_event,
    training_event,
)


def local(budget: float | None = 3.0, **given: object) -> PrivacyConfig:
    return PrivacyConfig.model_validate({"mode": "local", "epsilon": budget, **given})


@pytest.mark.parametrize(("budget", "statistic"), [(1.0, 9), (3.0, 19), (8.0, 25)])
def test_a_plan_spends_its_budget_and_no_more(budget: float, statistic: int) -> None:
    plan = spend(local(budget), Releases(150, statistic))
    assert 0.99 * budget < plan.epsilon <= budget
    assert plan.events == (
        Event(training_event(plan.privacy).multiplier, 0.1, 150),
        Event(statistic_event(plan.privacy).multiplier, 1.0, statistic),
    )
    assert plan.epsilon == epsilon(plan.events, 1e-5)


def test_it_takes_seconds() -> None:
    began = time.process_time()
    spend(local(2.9), Releases(150, 19))
    assert time.process_time() - began < 5.0


def test_cluster_statistics_and_ranges_take_their_share_and_training_the_rest() -> None:
    plan = spend(local(), Releases(150, 19, 1))
    noise = plan.privacy.noise
    assert epsilon([Event(noise.statistic, 1.0, 19)], 1e-5) == pytest.approx(STATISTIC_SHARE * 3, rel=2e-3)
    assert epsilon([Event(noise.ranges, 1.0, 1)], 1e-5) == pytest.approx(RANGES_SHARE * 3, rel=2e-3)
    alone = multiplier_for(3.0, 1e-5, 0.1, 150)
    assert alone < training_event(plan.privacy).multiplier < 1.2 * alone
    assert plan.epsilon <= 3.0


def test_a_training_exchange_is_mostly_gradient() -> None:
    noise = spend(local(), Releases(150, 19)).privacy.noise
    whole = together(noise.weights, noise.below, noise.loss)
    assert whole < noise.weights < 1.02 * whole
    assert noise.below > noise.loss > 5 * noise.weights
    fixed = spend(local(clip_quantile=None), Releases(150, 19)).privacy.noise
    assert fixed.below == 0.0
    assert together(fixed.weights, fixed.loss) == pytest.approx(whole)


def test_kinds_that_do_not_occur_have_no_noise_and_no_event() -> None:
    plan = spend(local(), Releases(0, 5))
    assert [event.count for event in plan.events] == [5]
    assert plan.privacy.noise.weights == plan.privacy.noise.ranges == 0.0
    assert spend(local(), Releases(10, 0)).privacy.noise.statistic == 0.0


def test_under_central_privacy_every_plant_is_in_every_round() -> None:
    plan = spend(PrivacyConfig(mode="central", epsilon=8.0, sampling=0.1), Releases(50, 10))
    noise = plan.privacy.noise
    assert {event.sampling for event in plan.events} == {1.0}
    assert (noise.below, noise.loss) == (0.0, 0.0)
    assert plan.epsilon <= 8.0


def test_without_a_claim_nothing_is_planned_and_a_claim_needs_its_epsilon() -> None:
    assert spend(PrivacyConfig(), Releases(150, 19)).events == ()
    with pytest.raises(PrivacyUnmet, match="needs its epsilon"):
        spend(local(None), Releases(150, 19))


def test_a_budget_that_buys_nothing_says_so() -> None:
    with pytest.raises(BudgetTooSmall):
        spend(local(1e-3), Releases(100_000, 25))


@pytest.mark.parametrize(
    ("records", "offered"),
    [(0, None), (499, None), (500, 8.0), (1499, 8.0), (1500, 3.0), (4999, 3.0), (5000, 1.0), (10**9, 1.0)],
)
def test_what_a_plant_can_honestly_offer(records: int, offered: float | None) -> None:
    assert least_epsilon(records) == offered


def test_delta_is_at_most_a_tenth_of_one_in_the_records() -> None:
    assert most_delta(100) == 1e-5
    assert most_delta(100_000) == pytest.approx(1e-6)
    check_delta(local(), 10_000)
    with pytest.raises(PrivacyUnmet, match=r"delta 1e-05 is more than 1e-06.*100,000 records"):
        check_delta(local(), 100_000)
    with pytest.raises(PrivacyUnmet, match=r"0\.0001 is more than 1e-05"):
        check_delta(local(delta=1e-4), 100)
    check_delta(PrivacyConfig(delta=1e-4), 100_000)


def test_the_declared_size_is_a_power_of_two() -> None:
    assert [public_size(n) for n in (0, 1, 2, 3, 4095, 4096, 6000)] == [1, 1, 2, 2, 2048, 4096, 4096]
