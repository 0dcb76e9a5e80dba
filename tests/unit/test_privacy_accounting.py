"""Accounting against an independent implementation: Google's privacy loss distributions (dp-accounting)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BudgetTooSmall
from shared.privacy import accounting
from shared.privacy.accounting import Event, epsilon, gaussian_delta, merged, multiplier_for, together, upper

DELTA = 1e-5
MIXED = (Event(11.2, 1.0, 9), Event(20.0, 1.0, 10))
GRID = {
    "the usual run": [Event(2.116, 0.1, 150), *MIXED],
    "z 1, q .02": [Event(1.0, 0.02, 1000)],
    "little noise": [Event(0.7, 0.05, 400)],
    "z 2, q .1": [Event(2.0, 0.1, 500)],
    "all records": [Event(5.0, 1.0, 50)],
    "half of them": [Event(6.0, 0.5, 30)],
    "a small epsilon": [Event(5.22, 0.02, 1000)],
    "one sampled": [Event(1.0, 0.1, 1)],
    "two kinds": [Event(1.5, 0.1, 100), Event(3.0, 0.05, 300)],
    "four kinds": [Event(1.2, 0.1, 50), Event(2.2, 0.1, 150), Event(3.0, 0.05, 50), Event(4.0, 1.0, 1)],
}


@lru_cache
def oracle(events: tuple[Event, ...], delta: float) -> float:
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=2e-4)
    for event in events:
        gaussian = dp_accounting.GaussianDpEvent(event.multiplier)
        sampled = gaussian if event.sampling >= 1 else dp_accounting.PoissonSampledDpEvent(event.sampling, gaussian)
        accountant.compose(sampled, event.count)
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize("events", GRID.values(), ids=GRID)
@pytest.mark.parametrize("delta", [1e-5, 1e-7])
def test_epsilon_is_within_a_per_cent_of_the_oracle_and_not_below_it(events: list[Event], delta: float) -> None:
    truth, found = oracle(tuple(events), delta), epsilon(events, delta)
    assert truth * (1 - 1e-3) <= found <= truth * 1.01
    assert upper(events, delta) >= found


def test_the_central_limit_would_have_told_less_than_the_truth() -> None:
    """What `GDP` accountants report for z = 1, q = .02, T = 1000, and why none is used."""
    mu = 0.02 * math.sqrt(1000 * math.expm1(1))
    assert gaussian_delta(mu, 3.53) < DELTA < gaussian_delta(mu, 3.50)
    assert epsilon([Event(1.0, 0.02, 1000)], DELTA) > 3.89


@pytest.mark.parametrize("events", [[Event(5.0, 1.0, 50)], list(MIXED), [Event(0.05, 1.0, 3)], [Event(900.0, 1.0, 1)]])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-10])
def test_releases_of_all_records_are_solved_exactly(events: list[Event], delta: float) -> None:
    mu = math.sqrt(sum(event.count / event.multiplier**2 for event in events))
    found = epsilon(events, delta)
    assert gaussian_delta(mu, found) <= delta
    if found > 0:
        assert gaussian_delta(mu, found * (1 - 1e-6)) > delta


def test_nothing_costs_nothing_and_no_noise_costs_all() -> None:
    assert epsilon([], DELTA) == upper([], DELTA) == 0.0
    assert epsilon([Event(1.0, 0.1, 0), Event(1.0, 0.0, 9)], DELTA) == 0.0
    assert epsilon([Event(0.0, 0.1, 1)], DELTA) == upper([Event(0.0, 1.0, 1), Event(3.0, 0.1, 5)], DELTA) == math.inf


def test_the_order_and_the_grouping_of_releases_change_nothing() -> None:
    one_by_one = [Event(2.1, 0.1, 1)] * 150 + [Event(11.2, 1.0, 1)] * 9
    shuffled = one_by_one[100:] + one_by_one[:100]
    assert merged(one_by_one) == merged(shuffled) == merged([Event(11.2, 1.0, 9), Event(2.1, 0.1, 150)])
    assert epsilon(one_by_one, DELTA) == epsilon(shuffled, DELTA)


def test_where_prv_fails_the_bound_is_that_of_renyi(monkeypatch: pytest.MonkeyPatch) -> None:
    from opacus.accountants import PRVAccountant

    def fails(*_: object, **__: object) -> float:
        raise RuntimeError("Discrete mean differs significantly from continuous mean.")

    monkeypatch.setattr(PRVAccountant, "get_epsilon", fails)
    events = [Event(1.93, 0.1, 77)]
    assert epsilon(events, DELTA) == upper(events, DELTA) > 0


def test_many_kinds_of_releases_and_a_huge_epsilon_are_left_to_renyi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "_prv", lambda *_: pytest.fail("PRV would take long"))
    many = [Event(1.0 + i / 10, 0.1, 20) for i in range(12)]
    assert epsilon(many, DELTA) == upper(many, DELTA) > oracle(tuple(many[:2]), DELTA)
    assert epsilon([Event(0.3, 0.1, 2000)], DELTA) > 100


def test_parts_of_one_release() -> None:
    assert together(2.0, 0.0) == 2.0
    assert together() == together(0.0) == 0.0
    assert together(11.2 / math.sqrt(0.75), 11.2 / math.sqrt(0.25)) == pytest.approx(11.2)
    whole = epsilon([Event(together(3.0, 4.0), 1.0, 1)], DELTA)
    assert whole == pytest.approx(epsilon([Event(3.0, 1.0, 1), Event(4.0, 1.0, 1)], DELTA))


@pytest.mark.parametrize(
    ("target", "sampling", "count", "others"),
    [(3.0, 0.1, 150, MIXED), (1.0, 0.1, 150, ()), (8.0, 0.2, 60, MIXED), (3.0, 1.0, 50, MIXED), (0.5, 0.02, 500, ())],
)
def test_the_multiplier_is_the_least_that_stays_within_the_budget(
    target: float, sampling: float, count: int, others: Sequence[Event]
) -> None:
    found = multiplier_for(target, DELTA, sampling, count, others)
    assert epsilon([*others, Event(found, sampling, count)], DELTA) <= target
    assert epsilon([*others, Event(found / 1.003, sampling, count)], DELTA) > target


def test_a_budget_that_the_others_spend_buys_nothing() -> None:
    with pytest.raises(BudgetTooSmall, match=r"cost epsilon 1\.\d+ of 1 "):
        multiplier_for(1.0, DELTA, 0.1, 10, [Event(3.0, 1.0, 1)])
    with pytest.raises(BudgetTooSmall, match="1,000 times"):
        multiplier_for(1e-3, 1e-9, 1.0, 10_000)


def test_no_releases_need_no_noise_to_speak_of() -> None:
    assert multiplier_for(1.0, DELTA, 0.1, 0) == 1e-3


multipliers = st.floats(0.6, 50)
rates = st.one_of(st.just(1.0), st.floats(1e-3, 0.95))
counts = st.integers(1, 2000)


@settings(max_examples=25, deadline=None)
@given(multipliers, rates, counts, st.floats(1.0, 2.0), st.floats(1.0, 3.0), st.integers(0, 500), st.booleans())
def test_more_noise_costs_less_and_more_sampling_or_releases_cost_more(
    z: float, q: float, n: int, quieter: float, wider: float, more: int, mixed: bool
) -> None:
    others = MIXED if mixed else ()

    def costs(event: Event) -> float:
        return upper([*others, event], DELTA)

    base = costs(Event(z, q, n))
    assert costs(Event(z * quieter, q, n)) <= base * (1 + 1e-6) + 1e-9
    assert costs(Event(z, min(1.0, q * wider), n)) >= base * (1 - 1e-6) - 1e-9 or q * wider >= 1
    assert costs(Event(z, q, n + more)) >= base * (1 - 1e-9)
    assert upper(others, DELTA) <= base


@settings(max_examples=6, deadline=None)
@given(st.floats(1.0, 6), st.floats(0.01, 0.3), st.integers(10, 300), st.floats(1.1, 1.5), st.booleans())
def test_the_tight_epsilon_is_monotone_too(z: float, q: float, n: int, factor: float, mixed: bool) -> None:
    others = MIXED if mixed else ()
    base = epsilon([*others, Event(z, q, n)], DELTA)
    assert epsilon([*others, Event(z * factor, q, n)], DELTA) <= base * 1.005
    assert epsilon([*others, Event(z, q * factor, n)], DELTA) >= base * 0.995
    assert epsilon([*others, Event(z, q, int(n * factor) + 1)], DELTA) >= base * 0.995
    assert base <= upper([*others, Event(z, q, n)], DELTA)


@pytest.mark.parametrize("tiny", [1e-200, 5e-324])
def test_noise_that_hides_nothing_costs_everything_and_does_not_overflow(tiny: float) -> None:
    assert together(tiny, 3.0) == 0.0
    assert epsilon([Event(tiny, 1.0, 1)], 1e-5) == math.inf
    assert epsilon([Event(tiny, 0.1, 1)], 1e-5) == math.inf
