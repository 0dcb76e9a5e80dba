"""Thresholds in motion: they follow what is slow and harmless, and no attack teaches them."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from shared.config import ThresholdConfig
from shared.thresholds import Threshold, fit, resume, start
from shared.thresholds.tracking import HIGHEST, LOWEST

ADAPTIVE = ["dspot", "ewma", "moving-percentile"]
MEMORY = 1000
NORMAL = np.random.default_rng(0).gamma(9.0, size=20_000)


def calibrated(rule: str, scores: np.ndarray = NORMAL, rate: float = 0.005) -> Threshold:
    threshold = fit(rule, scores, ThresholdConfig(false_alarm_rate=rate, memory=MEMORY))
    assert (threshold.status, threshold.tracking is not None) == ("ok", True)
    return threshold


def live(size: int, factor: float = 1.0) -> list[float]:
    return (factor * np.random.default_rng(1).gamma(9.0, size=size)).tolist()


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_it_starts_where_calibration_left_it(rule: str) -> None:
    threshold = calibrated(rule)
    assert start(threshold).step(1.0) == threshold.value


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_it_keeps_its_rate_when_nothing_changes(rule: str) -> None:
    tracker = start(calibrated(rule))
    alarmed = [score > tracker.step(score) for score in live(100_000)]
    assert np.mean(alarmed) == pytest.approx(0.005, rel=0.4)
    assert np.mean(alarmed[50_000:]) == pytest.approx(0.005, rel=0.5)  # no drift of its own


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_it_follows_a_slow_change_of_the_level(rule: str) -> None:
    threshold = calibrated(rule)
    size = 40_000
    rising = np.array(live(size)) * np.linspace(1.0, 1.2, size)
    tracker = start(threshold)
    alarmed = np.array([score > tracker.step(score) for score in rising.tolist()])
    still = threshold.alarms(rising)
    assert still[-10_000:].mean() > 4 * 0.005
    assert alarmed[-10_000:].mean() < 0.5 * still[-10_000:].mean()


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_a_slow_attack_cannot_lead_it_out_of_its_cage(rule: str) -> None:
    """Scores kept just below the threshold for ever: the worst that un-alarmed scores can do."""
    threshold, moved = calibrated(rule), []
    tracker = start(threshold)
    value = threshold.value
    for _ in range(20 * MEMORY):
        value = tracker.step(0.999 * value)
        moved.append(value)
    assert max(moved) <= 1.25 * threshold.value * (1 + 1e-12)
    assert tracker.step(2 * threshold.value) < 2 * threshold.value  # the attack itself is found when it comes


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_it_cannot_be_led_below_its_cage_nor_by_one_score(rule: str) -> None:
    threshold = calibrated(rule)
    tracker = start(threshold)
    tracker.step(-1e300)
    assert tracker.step(1.0) == pytest.approx(threshold.value, rel=0.01)
    values = [tracker.step(0.0) for _ in range(20 * MEMORY)]
    assert min(values) >= 0.8 * threshold.value * (1 - 1e-12)
    assert json.loads(tracker.state)["position"] >= LOWEST


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_it_takes_its_memory_to_cross_its_cage(rule: str) -> None:
    threshold = calibrated(rule)
    tracker = start(threshold)
    values = np.array([tracker.step(score) for score in [*live(3 * MEMORY, 1.4), *live(6 * MEMORY, 0.5)]])
    assert np.abs(np.diff(values)).max() <= (HIGHEST - LOWEST) / MEMORY * threshold.value * (1 + 1e-9)


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_only_quiet_scores_below_it_teach(rule: str) -> None:
    threshold = calibrated(rule)
    tracker = start(threshold)
    for score in live(300):
        tracker.step(min(score, 5.0))
    before = tracker.state
    for score in (float("nan"), float("inf"), float("-inf"), 10 * threshold.value):
        tracker.step(score)
    for score in live(5 * MEMORY, 1.1):
        tracker.step(score, quiet=False)
    assert tracker.state == before


@pytest.mark.parametrize("rule", ADAPTIVE)
@pytest.mark.parametrize("unit", [1e-3, 750.0])
def test_the_unit_of_the_score_does_not_matter(rule: str, unit: float) -> None:
    one, other = start(calibrated(rule)), start(calibrated(rule, NORMAL * unit))
    for score in live(4000, 1.1):
        assert other.step(score * unit) == pytest.approx(one.step(score) * unit, rel=1e-5)


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_scores_around_zero_have_a_cage_too(rule: str) -> None:
    threshold = calibrated(rule, NORMAL - 30.0)
    assert threshold.value < 0
    tracker = start(threshold)
    values = [tracker.step(score - 30.0) for score in live(10 * MEMORY, 1.3)]
    assert threshold.value - 0.2 * abs(threshold.value) <= min(values) <= max(values)
    assert max(values) <= threshold.value + 0.25 * abs(threshold.value)
    assert values[-1] > values[0]


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_the_state_is_small_and_a_step_is_quick(rule: str) -> None:
    tracker = start(fit(rule, NORMAL, ThresholdConfig(false_alarm_rate=0.005, memory=100_000)))
    scores = live(20_000)
    before = time.process_time()
    for score in scores:
        tracker.step(score)
    assert (time.process_time() - before) / len(scores) < 100e-6
    assert len(tracker.state) < 40_000


def test_modes_move_together() -> None:
    pooled = calibrated("ewma")
    by_mode = Threshold.of({**pooled.as_dict(), "by_mode": (10.0, 40.0)})
    tracker = start(by_mode)
    for score in live(5 * MEMORY, 1.1):
        tracker.step(score)
    moved = tracker.position
    assert moved > 0.01
    assert tracker.step(1.0, 0) == pytest.approx(10 * (1 + moved), rel=1e-3)
    assert tracker.step(1.0, 1) == pytest.approx(40 * (1 + moved), rel=1e-3)
    assert tracker.step(1.0, 7) == pytest.approx(pooled.value * (1 + moved), rel=1e-3)


def test_a_threshold_that_stands_still_has_a_tracker_too() -> None:
    threshold = fit("conformal", NORMAL, ThresholdConfig())
    tracker = start(threshold)
    assert {tracker.step(score) for score in live(100, 3.0)} == {threshold.value}
    assert resume(threshold, tracker.state).step(1.0) == threshold.value


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_the_state_of_another_threshold_is_refused(rule: str) -> None:
    state = start(calibrated(rule)).state
    with pytest.raises(ValueError, match="of another threshold"):
        resume(calibrated(rule, rate=0.006), state)


@pytest.mark.parametrize("rule", ADAPTIVE)
@pytest.mark.parametrize(
    "change",
    [
        {"position": 0.3},
        {"position": "high"},
        {"learnt": -1},
        {"numbers": [1.0, -1.0, 2.0, 3.0, 4.0, 5.0, 6.0]},
        {"ring": ["x"]},
        {"ring": [1.0] * 10_001},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_damaged_state_is_refused(rule: str, change: dict[str, object]) -> None:
    threshold = calibrated(rule)
    fields = json.loads(start(threshold).state) | change
    with pytest.raises(ValueError):
        resume(threshold, json.dumps(fields).encode())
    for broken in (b"", b"{", b"[]", b"\xff", start(threshold).state[:-3]):
        with pytest.raises(ValueError):
            resume(threshold, broken)
