"""The gates: values in, verdict out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec import structs
from scipy.stats import binom

from client.edge.gates import (
    Figures,
    Seen,
    SwapSettings,
    Tally,
    binomial_interval,
    hopeless,
    judge_at_rest,
    judge_live,
    trial_over,
)

SETTINGS = SwapSettings()
NOW = Figures(
    loss=1.0, prepared="a", threshold=3.0, quantiles=(-1.0, 0.0, 2.9), alpha=0.01, unseen=0.01, unseen_worth=500.0,
    modes=4, guard=True, latency_ms=0.4, faults=100, found=60,
)  # fmt: skip


@pytest.mark.parametrize(("n", "p"), [(1, 0.01), (20, 0.01), (100, 0.01), (750, 0.002), (5000, 0.05), (300, 0.5)])
@pytest.mark.parametrize("confidence", [0.9, 0.99, 0.9999])
def test_binomial_interval_is_scipys(n: int, p: float, confidence: float) -> None:
    low, high = binom.interval(confidence, n, p)
    assert binomial_interval(n, p, confidence) == pytest.approx((low / n, high / n), abs=1.0 / n * 1e-6)


def test_equal_model_passes_all_gates_at_rest() -> None:
    verdict = judge_at_rest(NOW, NOW, SETTINGS)
    assert verdict.passed
    assert verdict.why == ""
    assert len(verdict.checks) == 8


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"unseen": 0.05}, "held-out alarms"),
        ({"carried": False}, "calibration"),
        ({"unseen": 0.0, "unseen_worth": 5000.0}, "held-out alarms"),  # blind
        ({"quantiles": (0.5, 0.5, 0.5)}, "held-out scores"),  # it says the same of everything
        ({"quantiles": (-1.0, 3.5, 4.0)}, "held-out scores"),
        ({"loss": 1.11}, "held-out loss"),
        ({"found": 54}, "injected faults"),
        ({"latency_ms": 10.1}, "latency"),
        ({"modes": 1}, "operating modes"),
        ({"modes": None}, "operating modes"),
        ({"guard": False}, "local guard"),
    ],
)
def test_each_gate_at_rest_stops_alone_and_says_why(change: dict[str, object], gate: str) -> None:
    verdict = judge_at_rest(structs.replace(NOW, **change), NOW, SETTINGS)
    assert [check.name for check in verdict.checks if not check.passed] == [gate]
    assert verdict.why.startswith(f"{gate}: ")


def test_five_points_of_recall_may_be_lost_and_not_more() -> None:
    assert judge_at_rest(structs.replace(NOW, found=55), NOW, SETTINGS).passed


def test_losses_of_differently_prepared_rows_are_not_compared() -> None:
    assert judge_at_rest(structs.replace(NOW, prepared="b", loss=50.0), NOW, SETTINGS).passed


def test_held_out_data_worth_too_little_leaves_the_rate_to_the_shadow() -> None:
    assert judge_at_rest(structs.replace(NOW, unseen=0.5, unseen_worth=4.0), NOW, SETTINGS).passed


def seen(**changes: float) -> Seen:
    return Seen(**{"windows": 2000, "alarms": 20, "quiet": 2000, "false": 20, "worth": 400.0, "median": 0.0, **changes})  # type: ignore[arg-type]


def test_alarm_rate_inside_the_interval_passes() -> None:
    assert judge_live(seen(), 0.01, (-1, 1), 0.99).passed


def test_alarms_while_the_other_model_alarms_do_not_count_as_false() -> None:
    attack = seen(windows=3000, alarms=1020)
    assert judge_live(attack, 0.01, (-1, 1), 0.99).passed
    flood = seen(windows=3000, alarms=1020, false=1020)
    assert not judge_live(flood, 0.01, (-1, 1), 0.99).passed


def test_blind_model_is_not_let_through() -> None:
    verdict = judge_live(seen(alarms=0, false=0, worth=2000.0), 0.01, (-1, 1), 0.99)
    assert "it may be blind" in verdict.why


def test_model_that_was_never_compared_in_quiet_is_not_let_through() -> None:
    assert "nothing to judge by" in judge_live(seen(quiet=0, false=0, worth=0.0), 0.01, (-1, 1), 0.99).why


@pytest.mark.parametrize("change", [{"median": 1.5}, {"median": -1.5}, {"broken": 1}, {"strange": 500}])
def test_live_scores_and_modes_must_be_those_of_calibration(change: dict[str, float]) -> None:
    assert not judge_live(seen(**change), 0.01, (-1, 1), 0.99).passed


def test_trial_lasts_until_enough_was_seen_or_its_time_is_up() -> None:
    assert trial_over(seen(), 2000, SETTINGS)
    assert not trial_over(seen(quiet=1999), 2000, SETTINGS)
    assert not trial_over(seen(worth=19.0), 2000, SETTINGS)
    assert trial_over(seen(windows=50_000, quiet=0, worth=0.0), 2000, SETTINGS)


def test_flood_ends_a_trial_early_and_chance_does_not() -> None:
    assert hopeless(seen(quiet=64, false=30, worth=20.0), 0.01) is not None
    assert hopeless(seen(quiet=64, false=3, worth=20.0), 0.01) is None
    assert hopeless(seen(quiet=64, false=0, broken=1), 0.01) is not None


def test_honest_model_is_rarely_rolled_back_by_many_looks() -> None:
    rng, ended = np.random.default_rng(0), 0
    for _ in range(200):
        tally = Tally()
        for number in range(640):
            tally.add(float(rng.uniform()), 0.99, None, True)
            ended += number % 64 == 63 and hopeless(tally.seen(), 0.01) is not None
    assert ended <= 4


def test_tally_counts_and_stays_bounded() -> None:
    tally = Tally(occupancy=(0.5, 0.5, 0.0))
    for number in range(20_000):
        tally.add(float(number % 7), 5.5, number % 3, quiet=number % 2 == 0)
    tally.add(math.inf, 5.5, 0, True)
    tally.add(math.nan, 5.5, 0, True)
    found = tally.seen()
    assert (found.windows, found.quiet, found.broken) == (20_002, 10_002, 2)
    assert found.false == sum(n % 7 == 6 for n in range(0, 20_000, 2)) + 2
    assert found.strange == sum(n % 3 == 2 for n in range(0, 20_000, 2))
    assert tally._scores_N.nbytes == 65_536


@pytest.mark.parametrize("bad", [{"look_s": 0.0}, {"confidence": 1.0}, {"share": 0.0}, {"shadow_windows": 0}])
def test_settings_out_of_bounds_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        SwapSettings(**bad)  # type: ignore[arg-type]


# ---- too little to tell by -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"unseen": None}, "held-out alarms"),
        ({"unseen": 0.01, "unseen_worth": 19.0}, "held-out alarms"),
        ({"faults": 0, "found": 0}, "injected faults"),
    ],
)
def test_gate_at_rest_that_cannot_tell_says_so_and_is_the_only_one(change: dict[str, object], gate: str) -> None:
    verdict = judge_at_rest(structs.replace(NOW, **change), NOW, SETTINGS)
    assert verdict.passed
    assert [check.name for check in verdict.checks if check.weak] == [gate]
    assert verdict.doubt.startswith(f"{gate}: ")


def test_gates_that_had_enough_to_tell_by_leave_no_doubt() -> None:
    assert judge_at_rest(structs.replace(NOW, unseen_worth=20.0), NOW, SETTINGS).doubt == ""
    assert judge_live(seen(worth=20.0), 0.01, (-1, 1), 0.99).doubt == ""


@pytest.mark.parametrize("worth", [2.0, 4.0, 10.0, 19.0])
def test_held_out_data_worth_little_still_refuse_a_model_that_alarms_nearly_always(worth: float) -> None:
    verdict = judge_at_rest(structs.replace(NOW, unseen=1.0, unseen_worth=worth), NOW, SETTINGS)
    assert verdict.why.startswith("held-out alarms: 100.00% of unseen normal windows") == (worth >= 4)


def test_settling_for_fewer_windows_does_not_make_them_tell_more() -> None:
    lax = structs.replace(SETTINGS, effective=1)
    assert judge_at_rest(structs.replace(NOW, unseen_worth=19.0), NOW, lax).doubt
    assert judge_live(seen(worth=19.0), 0.01, (-1, 1), 0.99, wanted=1).doubt
    assert judge_live(seen(worth=30.0), 0.01, (-1, 1), 0.99, wanted=50).doubt.startswith("alarm rate: 1.00% of 2000")


def test_gate_that_fails_is_a_reason_and_no_doubt() -> None:
    verdict = judge_live(seen(false=2000, worth=5.0), 0.01, (-1, 1), 0.99)
    assert verdict.why
    assert verdict.doubt == ""


def test_honest_model_passes_where_held_out_data_are_worth_little() -> None:
    """The rehearsal of an honest model: the highest of n independent scores, counted on n others."""
    rng, refused = np.random.default_rng(0), 0
    for _ in range(2000):
        n = int(rng.integers(2, 20))
        rate = float((rng.normal(size=n) > rng.normal(size=n).max()).mean())
        refused += not judge_at_rest(structs.replace(NOW, unseen=rate, unseen_worth=float(n)), NOW, SETTINGS).passed
    assert refused <= 2000 * 0.05
