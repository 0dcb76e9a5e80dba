import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from shared.metrics.pointwise import (
    auroc,
    average_precision,
    best_f1,
    f1_at,
    f1_of_all_ones,
    false_alarm_share,
)

SCORES = np.array([0.1, 0.4, 0.35, 0.8])
LABELS = np.array([False, False, True, True])


def tied(seed: int, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < 0.2
    return np.round(rng.normal(labels, 1.0), 1), labels


def test_average_precision_by_hand() -> None:
    # Descending: 0.8 hit (P 1, R 1/2), 0.4 miss, 0.35 hit (P 2/3, R 1).
    assert average_precision(SCORES, LABELS) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_auroc_by_hand_with_a_tie() -> None:
    # Pairs (0.5, 0.5) tie, (0.5, 0.1) won, (0.9, 0.5) won, (0.9, 0.1) won.
    assert auroc(np.array([0.5, 0.1, 0.5, 0.9]), LABELS) == pytest.approx(3.5 / 4)


def test_f1_alarms_strictly_above_the_threshold() -> None:
    assert f1_at(SCORES, LABELS, 0.35) == pytest.approx(2 * 1 / (2 + 2))
    assert f1_at(SCORES, LABELS, 0.8) == 0.0


def test_a_float32_score_does_not_round_the_threshold() -> None:
    scores = np.array([0.1, 0.9], np.float32)
    just_below = float(np.nextafter(float(scores[1]), 0.0))
    assert f1_at(scores, np.array([False, True]), just_below) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn_with_ties(seed: int) -> None:
    scores, labels = tied(seed)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert f1_at(scores, labels, 0.5) == pytest.approx(f1_score(labels, scores > 0.5))
    precision, recall, _ = precision_recall_curve(labels, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert best_f1(scores, labels)[0] == pytest.approx(best)


def test_the_best_threshold_reaches_the_best_f1() -> None:
    scores, labels = tied(9)
    best, threshold = best_f1(scores, labels)
    assert f1_at(scores, labels, threshold) == best


def test_a_constant_score_is_worth_all_ones() -> None:
    best, threshold = best_f1(np.zeros(4), LABELS)
    assert best == f1_of_all_ones(LABELS) == pytest.approx(2 / 3)
    assert threshold < 0
    assert auroc(np.zeros(4), LABELS) == 0.5


def test_undefined_without_anomalies() -> None:
    none = np.zeros(4, bool)
    values = [average_precision(SCORES, none), auroc(SCORES, none), f1_at(SCORES, none, 0.2), f1_of_all_ones(none)]
    assert all(math.isnan(value) for value in (*values, *best_f1(SCORES, none)))


def test_undefined_on_nothing() -> None:
    nothing, none = np.zeros(0), np.zeros(0, bool)
    assert math.isnan(average_precision(nothing, none))
    assert math.isnan(best_f1(nothing, none)[0])
    assert math.isnan(f1_of_all_ones(none))


def test_without_normal_rows() -> None:
    every = np.ones(4, bool)
    assert average_precision(SCORES, every) == 1.0
    assert math.isnan(auroc(SCORES, every))
    assert math.isnan(false_alarm_share(every, every))


def test_an_infinite_score_ranks_first() -> None:
    scores = np.array([0.1, 0.4, np.inf, 0.8])
    assert average_precision(scores, LABELS) == auroc(scores, LABELS) == 1.0
    assert best_f1(scores, LABELS) == (1.0, 0.4)


@pytest.mark.parametrize("metric", [average_precision, auroc, best_f1])
def test_mistakes_are_refused(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="NaN"):
        metric(np.array([np.nan, 1.0]), np.array([False, True]))
    with pytest.raises(ValueError, match="equal length"):
        metric(np.array([1.0]), np.array([False, True]))
