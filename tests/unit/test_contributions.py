"""What tells of a tag, and what a score would be without it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.contributions import clear_level, score_without, share_of, telling
from shared.scoring import RobustScale, ScoreScale

SCALE = ScoreScale(
    entropy_weight=0.3, error=RobustScale(median=-1.0, spread=0.4), entropy=RobustScale(median=1, spread=1)
)
RAW = ScoreScale(entropy_weight=0.35)


@pytest.mark.parametrize("scale", [SCALE, RAW])
def test_a_score_without_a_share_is_the_score_of_the_error_that_is_left(scale: ScoreScale) -> None:
    entropy_1 = np.array([1.7])
    whole, left = (float(scale.combine(np.array([error]), entropy_1)[0]) for error in (2.0, 0.5))
    assert score_without(whole, 2.0, 0.75, scale) == pytest.approx(left, abs=1e-6)
    assert score_without(whole, 2.0, 0.0, scale) == pytest.approx(whole)


def test_an_infinite_error_is_gone_only_with_all_of_its_tags() -> None:
    assert score_without(math.inf, math.inf, 0.5, SCALE) == math.inf
    assert score_without(math.inf, math.inf, 1.0, SCALE) == -math.inf


@pytest.mark.parametrize("scale", [SCALE, RAW, None])
@pytest.mark.parametrize("threshold", [-3.0, 0.0, 0.4, 9.0])
def test_an_alarm_never_clears_above_its_threshold(scale: ScoreScale | None, threshold: float) -> None:
    assert clear_level(threshold, 0.9, scale) <= threshold
    assert clear_level(threshold, 1.0, scale) == threshold


def test_the_clear_level_is_the_score_of_a_fraction_of_the_error() -> None:
    scale = ScoreScale(entropy_weight=0.0, error=RobustScale(median=-1.0, spread=0.4))
    at, below = (float(scale.combine(np.array([error]))[0]) for error in (2.0, 1.8))
    assert clear_level(at, 0.9, scale) == pytest.approx(below)


def test_a_tag_that_is_always_rebuilt_badly_does_not_outshout_one_that_never_is() -> None:
    error_D, high_D = np.array([9.0, 2.0, 0.1]), np.array([8.9, 0.2, 0.1])
    assert int(telling(error_D, high_D).argmax()) == 1
    assert int(error_D.argmax()) == 0


def test_tags_beyond_what_they_ever_did_come_before_all_others_and_these_by_how_near_they_are() -> None:
    error_D, high_D = np.array([300.0, 1.1, 0.9, 0.2]), np.array([301.0, 1.0, 1.0, 0.1])
    assert np.argsort(-telling(error_D, high_D), kind="stable").tolist() == [1, 3, 0, 2]
    assert telling(high_D, high_D).tolist() == [1.0] * 4


def test_what_is_not_a_number_tells_most() -> None:
    for bad in (np.nan, np.inf):
        assert int(telling(np.array([1.0, bad, 3.0]), np.ones(3)).argmax()) == 1
    assert telling(np.zeros(2), np.zeros(2)).tolist() == [0.0, 0.0]


def test_only_known_shares_are_added_and_never_more_than_all() -> None:
    tags = [("A", 0.7), ("B", 0.6)]
    assert share_of(tags, frozenset()) == 0.0
    assert share_of(tags, frozenset({"A", "B"})) == 1.0
