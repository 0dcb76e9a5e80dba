import ast
import csv
import math
from pathlib import Path

import numpy as np
import pytest

from shared.metrics.adjusted import best_point_adjusted_f1, point_adjusted_f1_at, random_control
from shared.metrics.events import spans
from shared.metrics.pointwise import best_f1, f1_at, f1_of_all_ones


def adjusted_the_slow_way(scores: np.ndarray, labels: np.ndarray, threshold: float, starts: tuple[int, ...]) -> float:
    alarms = scores > threshold
    for a, b in spans(labels, starts):
        alarms[a:b] = alarms[a:b].any()
    return f1_at(alarms.astype(float), labels, 0.5)


def test_by_hand() -> None:
    scores = np.array([0.9, 0.1, 0.2, 0.8, 0.1, 0.3])
    labels = np.array([False, True, True, True, False, True])
    # Above 0.5: one false alarm, an event of three rows found, an event of one row missed.
    assert point_adjusted_f1_at(scores, labels, 0.5) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert f1_at(scores, labels, 0.5) == pytest.approx(2 * 1 / (2 + 4))
    # Above 0.2 both events are found at the same false alarm.
    assert best_point_adjusted_f1(scores, labels) == (pytest.approx(8 / 9), 0.1)


@pytest.mark.parametrize("seed", range(5))
def test_as_the_slow_way_at_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels, starts = np.round(rng.random(80), 1), rng.random(80) < 0.5, (0, 20, 50)
    slow = [adjusted_the_slow_way(scores, labels, cut, starts) for cut in (-1.0, *np.unique(scores))]
    fast = [point_adjusted_f1_at(scores, labels, cut, starts) for cut in (-1.0, *np.unique(scores))]
    np.testing.assert_allclose(fast, slow)
    best, threshold = best_point_adjusted_f1(scores, labels, starts)
    assert best == pytest.approx(max(slow))
    assert point_adjusted_f1_at(scores, labels, threshold, starts) == best


def test_an_unscored_row_counts_neither_as_found_nor_as_missed() -> None:
    scores = np.array([0.1, np.nan, 0.9, np.nan, 0.2])
    labels = np.array([False, True, True, True, False])
    assert point_adjusted_f1_at(scores, labels, 0.5) == 1.0
    assert best_point_adjusted_f1(scores, labels) == (1.0, 0.2)


def test_undefined_without_a_scored_event() -> None:
    scores, labels = np.array([0.1, np.nan]), np.array([False, True])
    assert math.isnan(point_adjusted_f1_at(scores, labels, 0.0))
    assert all(math.isnan(value) for value in best_point_adjusted_f1(scores, labels))
    assert math.isnan(random_control(np.zeros(5, bool), seed=0))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal length"):
        best_point_adjusted_f1(np.zeros(3), np.zeros(4, bool))


def test_the_control_repeats_under_its_seed() -> None:
    labels = np.arange(400) % 100 > 60
    assert random_control(labels, seed=3) == random_control(labels, seed=3) != random_control(labels, seed=4)


def read_msl_labels(data_root: Path) -> tuple[np.ndarray, tuple[int, ...]]:
    with (data_root / "telemanom" / "labeled_anomalies.csv").open(newline="", encoding="utf-8") as file:
        channels = [row for row in csv.DictReader(file) if row["spacecraft"] == "MSL"]
    pieces = []
    for row in channels:
        labels = np.zeros(int(row["num_values"]), bool)
        for first, last in ast.literal_eval(row["anomaly_sequences"]):
            labels[first : last + 1] = True
        pieces.append(labels)
    starts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
    return np.concatenate(pieces), tuple(starts.tolist())


def test_a_random_score_shines_on_msl_only_after_point_adjustment(data_root: Path) -> None:
    labels, starts = read_msl_labels(data_root)
    assert len(labels) == 73_729
    assert len(spans(labels, starts)) == 36
    assert random_control(labels, seed=0, starts=starts) >= 0.88
    best, _ = best_f1(np.random.default_rng(0).random(len(labels)), labels)
    assert best == pytest.approx(0.19, abs=0.01)
    assert f1_of_all_ones(labels) == pytest.approx(0.191, abs=0.001)
