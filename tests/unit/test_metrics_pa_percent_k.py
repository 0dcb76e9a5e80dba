import math
from pathlib import Path

import numpy as np
import pytest

from shared.metrics.adjusted import best_point_adjusted_f1, point_adjusted_f1_at, random_control
from shared.metrics.events import spans
from shared.metrics.pa_percent_k import (
    PERCENTS,
    best_percent_adjusted_area,
    best_percent_adjusted_f1,
    percent_adjusted_area_at,
    percent_adjusted_f1_at,
    random_area,
)
from shared.metrics.pointwise import best_f1, f1_at
from tests.unit.test_metrics_adjusted import read_msl_labels


def adjusted_the_slow_way(
    scores: np.ndarray, labels: np.ndarray, threshold: float, percent: float, starts: tuple[int, ...]
) -> float:
    alarms = scores > threshold
    for a, b in spans(labels, starts):
        if 100 * int(alarms[a:b].sum()) > percent * (b - a):
            alarms[a:b] = True
    return f1_at(alarms.astype(float), labels, 0.5)


def test_by_hand() -> None:
    scores = np.array([0.9, 0.1, 0.2, 0.8, 0.1, 0.3])
    labels = np.array([False, True, True, True, False, True])
    # Above 0.5: a false alarm, one of three rows of the first event (33 %), none of the second.
    assert percent_adjusted_f1_at(scores, labels, 0.5, 33) == pytest.approx(2 * 3 / (3 + 1 + 4))
    assert percent_adjusted_f1_at(scores, labels, 0.5, 34) == pytest.approx(2 * 1 / (1 + 1 + 4))
    # Above 0.15: two of three rows, and the second event.
    assert best_percent_adjusted_f1(scores, labels, 50) == pytest.approx(2 * 4 / (4 + 1 + 4))


def test_more_than_k_percent_is_needed_not_k_percent() -> None:
    scores, labels = np.array([0.9, 0.1]), np.array([True, True])
    assert percent_adjusted_f1_at(scores, labels, 0.5, 49) == 1.0
    assert percent_adjusted_f1_at(scores, labels, 0.5, 50) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_as_the_slow_way_at_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels, starts = np.round(rng.random(80), 1), rng.random(80) < 0.5, (0, 20, 50)
    for percent in (0, 10, 37.5, 50, 99, 100):
        cuts = (-1.0, *np.unique(scores))
        slow = [adjusted_the_slow_way(scores, labels, cut, percent, starts) for cut in cuts]
        fast = [percent_adjusted_f1_at(scores, labels, cut, percent, starts) for cut in cuts]
        np.testing.assert_allclose(fast, slow)
        assert best_percent_adjusted_f1(scores, labels, percent, starts) == pytest.approx(max(slow))


def test_between_point_adjustment_and_none() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.random(300), np.arange(300) % 50 > 35
    assert best_percent_adjusted_f1(scores, labels, 0) == pytest.approx(best_point_adjusted_f1(scores, labels)[0])
    assert best_percent_adjusted_f1(scores, labels, 100) == pytest.approx(best_f1(scores, labels)[0])
    assert percent_adjusted_f1_at(scores, labels, 0.9, 0) == point_adjusted_f1_at(scores, labels, 0.9)
    assert percent_adjusted_f1_at(scores, labels, 0.9, 100) == f1_at(scores, labels, 0.9)


def test_the_area_is_the_mean_over_k() -> None:
    rng = np.random.default_rng(2)
    scores, labels = rng.random(200), np.arange(200) % 40 > 30
    at = [percent_adjusted_f1_at(scores, labels, 0.8, percent) for percent in PERCENTS]
    best = [best_percent_adjusted_f1(scores, labels, percent) for percent in PERCENTS]
    assert percent_adjusted_area_at(scores, labels, 0.8) == pytest.approx(np.trapezoid(at) / 100)
    assert best_percent_adjusted_area(scores, labels) == pytest.approx(np.trapezoid(best) / 100)
    assert np.all(np.diff(best) <= 1e-12)


def test_perfect_scores_and_infinite_ones() -> None:
    labels = np.arange(20) % 5 > 2
    assert best_percent_adjusted_area(labels.astype(float), labels) == 1.0
    assert best_percent_adjusted_area(np.where(labels, np.inf, -np.inf), labels) == 1.0
    assert percent_adjusted_area_at(labels.astype(float), labels, 0.5) == 1.0


def test_an_unscored_row_counts_neither_as_found_nor_as_missed() -> None:
    scores = np.array([0.1, np.nan, 0.9, np.nan, 0.2])
    labels = np.array([False, True, True, True, False])
    assert percent_adjusted_f1_at(scores, labels, 0.5, 90) == 1.0
    assert best_percent_adjusted_area(scores, labels) == 1.0


def test_undefined_without_a_scored_event() -> None:
    scores, labels = np.array([0.1, np.nan]), np.array([False, True])
    assert math.isnan(percent_adjusted_f1_at(scores, labels, 0.0, 20))
    assert math.isnan(percent_adjusted_area_at(scores, labels, 0.0))
    assert math.isnan(best_percent_adjusted_f1(scores, labels, 20))
    assert math.isnan(best_percent_adjusted_area(scores, labels))
    assert math.isnan(random_area(np.zeros(5, bool), seed=0))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal length"):
        best_percent_adjusted_area(np.zeros(3), np.zeros(4, bool))


def test_k_takes_most_of_a_random_scores_gift_on_msl(data_root: Path) -> None:
    labels, starts = read_msl_labels(data_root)
    adjusted, area = random_control(labels, 0, starts=starts), random_area(labels, 0, starts=starts)
    assert adjusted == pytest.approx(0.92, abs=0.02)
    assert area == pytest.approx(0.36, abs=0.02)
    drawn = np.random.default_rng(0).random(len(labels))
    assert best_percent_adjusted_f1(drawn, labels, 20, starts) == pytest.approx(0.48, abs=0.03)
    assert best_percent_adjusted_f1(drawn, labels, 100, starts) == pytest.approx(0.19, abs=0.01)
