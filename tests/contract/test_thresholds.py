"""What every registered threshold rule must do. A new rule is picked up by its name."""

from __future__ import annotations

import time

import numpy as np
import pytest

from shared.config import ThresholdConfig
from shared.errors import NothingToLearn, TooFewRows
from shared.thresholds import Threshold, fit, known, resume, start

RULES = known()
ASKED = [rule for rule in RULES if rule != "mean-sigma"]  # those that a false alarm rate can be asked of
UNORDERED = [rule for rule in RULES if rule not in ("pot", "dspot", "ensemble")]  # peaks are told apart by time
MODELLED = {"mixture": 0.35, "pot": 0.3, "dspot": 0.3, "ensemble": 0.3}  # relative; the others are ranks
SCORES = np.random.default_rng(0).gamma(4.0, size=12_000)
MODES = np.random.default_rng(1).integers(0, 3, size=12_000)


def config(rate: float = 0.01, **more: object) -> ThresholdConfig:
    return ThresholdConfig.model_validate({"false_alarm_rate": rate, "memory": 1000, **more})


@pytest.mark.parametrize("rule", RULES)
def test_its_provenance_is_stored_and_survives_json(rule: str) -> None:
    threshold = fit(rule, SCORES, config(), MODES)
    assert (threshold.rule, threshold.fitted_on, threshold.calibration_size) == (rule, "holdout", 12_000)
    assert (threshold.status, threshold.note) == ("ok", "")
    assert threshold.effective_size > 10_000
    assert Threshold.parse(threshold.json) == threshold == fit(rule, SCORES, config(), MODES)


@pytest.mark.parametrize("rule", RULES)
def test_a_tracker_goes_on_after_a_restart(rule: str) -> None:
    threshold, live = fit(rule, SCORES, config(), MODES), np.random.default_rng(2).gamma(4.4, size=6000).tolist()
    one = start(threshold)
    for score in live[:3000]:
        one.step(score, 1)
    two = resume(threshold, one.state)
    assert [one.step(score, 1) for score in live[3000:]] == [two.step(score, 1) for score in live[3000:]]
    assert one.state == two.state


@pytest.mark.parametrize("rule", ASKED)
def test_a_lower_rate_is_a_higher_threshold(rule: str) -> None:
    values = [fit(rule, SCORES, config(rate)).value for rate in (0.1, 0.03, 0.01, 0.003, 0.001)]
    assert values == sorted(values)
    assert values[0] < values[-1]


@pytest.mark.parametrize("rule", UNORDERED)
def test_the_order_of_the_scores_does_not_matter(rule: str) -> None:
    order = np.random.default_rng(3).permutation(len(SCORES))
    one, other = fit(rule, SCORES, config(), MODES), fit(rule, SCORES[order], config(), MODES[order])
    assert one.value == pytest.approx(other.value)
    assert one.by_mode == pytest.approx(other.by_mode)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("unit", [1e-3, 750.0, 1e12])
def test_another_unit_of_the_score_is_another_unit_of_the_threshold(rule: str, unit: float) -> None:
    one, other = fit(rule, SCORES, config(0.002), MODES), fit(rule, SCORES * unit, config(0.002), MODES)
    assert other.value == pytest.approx(one.value * unit, rel=1e-6)
    assert other.by_mode == pytest.approx([value * unit for value in one.by_mode], rel=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_scores_far_from_zero_are_as_good(rule: str) -> None:
    """Scores from 300 to 1000 broke a published implementation of SPOT."""
    value = fit(rule, 300 + 40 * SCORES, config(0.002)).value
    assert value == pytest.approx(300 + 40 * fit(rule, SCORES, config(0.002)).value, rel=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("level", [0.0, 2.0, -3.0])
def test_constant_scores_are_their_own_threshold_and_weak(rule: str, level: float) -> None:
    threshold = fit(rule, np.full(300, level), config(), np.zeros(300, np.int64))
    assert threshold.value == pytest.approx(level)
    assert set(threshold.by_mode) <= {threshold.value}
    assert threshold.status == "weak"  # one value tells nothing about independence
    assert start(threshold).step(level) == threshold.value


@pytest.mark.parametrize("rule", RULES)
def test_one_score_is_a_weak_threshold(rule: str) -> None:
    threshold = fit(rule, np.array([2.0]), config())
    assert (threshold.value, threshold.status, threshold.supports(0.5)) == (2.0, "weak", False)


@pytest.mark.parametrize("rule", RULES)
def test_ties_and_few_scores_give_a_finite_threshold(rule: str) -> None:
    rng = np.random.default_rng(4)
    for size in (2, 3, 9, 30, 300, 5000):
        assert np.isfinite(fit(rule, rng.integers(0, 3, size=size).astype(float), config()).value)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_no_number_is_refused(rule: str) -> None:
    with pytest.raises(TooFewRows):
        fit(rule, np.zeros(0), config())
    with pytest.raises(NothingToLearn, match="2 of 3 calibration scores"):
        fit(rule, np.array([1.0, np.nan, np.inf]), config())
    with pytest.raises(ValueError, match="3 scores and 2 modes"):
        fit(rule, np.arange(3.0), config(), np.zeros(2, np.int64))


@pytest.mark.parametrize("rule", RULES)
def test_single_precision_is_enough(rule: str) -> None:
    assert fit(rule, SCORES.astype(np.float32), config()).value == pytest.approx(
        fit(rule, SCORES, config()).value, 1e-4
    )


@pytest.mark.parametrize("rule", RULES)
def test_it_does_not_write_to_the_scores(rule: str) -> None:
    scores, modes = SCORES.copy(), MODES.copy()
    fit(rule, scores, config(), modes)
    np.testing.assert_array_equal(scores, SCORES)
    np.testing.assert_array_equal(modes, MODES)


@pytest.mark.parametrize("rule", RULES)
def test_a_million_scores_take_less_than_a_second(rule: str) -> None:
    scores = np.random.default_rng(5).gamma(4.0, size=1_000_000)
    before = time.process_time()
    fit(rule, scores, config())
    assert time.process_time() - before < 1.0


@pytest.mark.parametrize("rule", ASKED)
@pytest.mark.parametrize("rate", [0.01, 0.002])
def test_the_rate_is_near_the_one_asked_for(rule: str, rate: float) -> None:
    """On exchangeable data of three modes; the rate is that of all windows, averaged over calibrations."""
    rng, rates = np.random.default_rng(6), []
    for _ in range(3 if rule in MODELLED else 10):
        modes = rng.integers(0, 3, size=60_000)
        scores = rng.gamma(4.0, size=60_000) * np.array([1.0, 1.0, 1.1])[modes]
        threshold = fit(rule, scores[:20_000], config(rate), modes[:20_000])
        rates.append(np.mean(threshold.alarms(scores[20_000:], modes[20_000:])))
    below = 1.0 if rule == "context" else MODELLED.get(rule, 0.12)
    assert (1 - below) * rate < np.mean(rates) < (1 + MODELLED.get(rule, 0.12)) * rate
