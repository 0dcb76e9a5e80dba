"""The threshold that rises with the median of all scores, and how far it can be taught."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shared.config import ThresholdConfig
from shared.thresholds import Threshold, fit, followed, resume, start
from shared.thresholds.tracking import TAUGHT

NORMAL_N = np.random.default_rng(0).normal(size=4000)


@pytest.fixture(name="threshold")
def _threshold() -> Threshold:
    return fit("settled", NORMAL_N, ThresholdConfig())


def test_it_begins_at_conformals_value_and_stays_there_on_normal_data(threshold: Threshold) -> None:
    assert threshold.value == fit("conformal", NORMAL_N, ThresholdConfig()).value
    values_T = followed(threshold, np.random.default_rng(1).normal(size=3000))
    assert values_T[0] == threshold.value
    assert np.abs(values_T - threshold.value).max() < 0.2


def test_a_drift_of_all_scores_raises_it_though_all_are_alarmed(threshold: Threshold) -> None:
    drifted_T = np.random.default_rng(2).normal(size=3000) + 1.5
    values_T = followed(threshold, drifted_T)
    assert values_T[-1] == pytest.approx(threshold.value + 1.5, abs=0.2)
    assert np.mean(drifted_T[1500:] > values_T[1500:]) < 0.03 < np.mean(drifted_T > threshold.value)


def test_an_attack_cannot_teach_it_more_than_its_cage(threshold: Threshold) -> None:
    assert threshold.tracking is not None
    values_T = followed(threshold, np.full(5000, np.inf))
    assert values_T.max() == pytest.approx(threshold.value + TAUGHT * threshold.tracking.spread)


def test_an_event_shorter_than_half_of_its_memory_does_not_move_it(threshold: Threshold) -> None:
    scores_T = np.random.default_rng(3).normal(size=2000)
    scores_T[500:900] += 30.0
    assert followed(threshold, scores_T)[900] < threshold.value + 1.6


def test_it_never_falls_below_the_calibrated_value(threshold: Threshold) -> None:
    assert followed(threshold, np.full(3000, -50.0)).min() == threshold.value


def test_it_looks_at_no_later_score(threshold: Threshold) -> None:
    scores_T = np.random.default_rng(4).normal(size=2000) + 1.0
    changed_T = np.where(np.arange(2000) < 1200, scores_T, 99.0)
    assert np.array_equal(followed(threshold, scores_T)[:1201], followed(threshold, changed_T)[:1201])


def test_a_missing_score_teaches_nothing(threshold: Threshold) -> None:
    assert (followed(threshold, np.full(3000, np.nan)) == threshold.value).all()


def test_it_goes_on_where_it_was(threshold: Threshold) -> None:
    scores = (np.random.default_rng(5).normal(size=1500) + 1.0).tolist()
    whole = start(threshold)
    expected = [whole.step(score) for score in scores]
    first = start(threshold)
    for score in scores[:700]:
        first.step(score)
    second = resume(threshold, first.state)
    assert [second.step(score) for score in scores[700:]] == expected[700:]


def test_a_state_with_too_few_scores_is_refused(threshold: Threshold) -> None:
    state = json.loads(start(threshold).state)
    state["ring"].append(0.5)
    with pytest.raises(ValueError, match="1000 scores are due"):
        resume(threshold, json.dumps(state).encode())


def test_scores_without_spread_get_none(threshold: Threshold) -> None:
    assert fit("settled", np.ones(500), ThresholdConfig()).tracking is None
