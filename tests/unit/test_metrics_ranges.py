import math

import numpy as np
import pytest

from shared.metrics.ranges import Bias, Cardinality, range_based, range_recall


def rows(text: str) -> np.ndarray:
    return np.array([c == "#" for c in text], dtype=bool)


@pytest.mark.parametrize(
    ("labels", "alarms", "cardinality", "precision", "recall"),
    [
        # aeon-toolkit/aeon, anomaly_detection/tests/test_range_ts_metrics.py (alpha 0, flat).
        ("..#####", ".####..", "one", 0.75, 0.6),
        ("...##....##", ".##....##..", "one", 0.0, 0.0),
        ("..#####.###", ".###.###...", "one", 0.666667, 0.4),
        ("..#####.###..", ".###.###..###", "one", 0.555556, 0.566667),
        ("..##.##.##.", ".##########", "one", 0.6, 1.0),
        ("..#####.###", ".###.###...", "reciprocal", 0.666667, 0.2),
        (".#..", ".##.", "reciprocal", 0.5, 1.0),
    ],
)
def test_published_values(labels: str, alarms: str, cardinality: Cardinality, precision: float, recall: float) -> None:
    found = range_based(rows(alarms), rows(labels), alpha=0.0, cardinality=cardinality)
    assert (found.precision, found.recall) == pytest.approx((precision, recall), abs=1e-6)
    total = precision + recall
    assert found.f1 == pytest.approx(2 * precision * recall / total if total else 0.0, abs=1e-6)


@pytest.mark.parametrize(("cardinality", "recall"), [("one", 0.333333), ("reciprocal", 0.166667)])
def test_published_values_with_middle_bias(cardinality: Cardinality, recall: float) -> None:
    labels, alarms = rows("..#####.###"), rows(".###.###...")
    assert range_recall(alarms, labels, (0,), 0.0, "middle", cardinality) == pytest.approx(recall, abs=1e-6)
    assert range_recall(labels, alarms, (0,), 0.0, "middle", cardinality) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("bias", "first", "last"), [("flat", 0.25, 0.25), ("front", 0.4, 0.1), ("back", 0.1, 0.4), ("middle", 1 / 6, 1 / 6)]
)
def test_bias_by_hand(bias: Bias, first: float, last: float) -> None:
    # Four rows weigh 1 1 1 1, 4 3 2 1, 1 2 3 4 or 1 2 2 1.
    assert range_recall(rows("#..."), rows("####"), alpha=0.0, bias=bias) == pytest.approx(first)
    assert range_recall(rows("...#"), rows("####"), alpha=0.0, bias=bias) == pytest.approx(last)
    assert range_recall(rows("####"), rows("####"), alpha=0.0, bias=bias) == pytest.approx(1.0)


def test_middle_bias_of_an_odd_range() -> None:
    # Five rows weigh 1 2 3 2 1.
    assert range_recall(rows(".###."), rows("#####"), alpha=0.0, bias="middle") == pytest.approx(7 / 9)


def test_alpha_rewards_existence_and_pieces_are_punished() -> None:
    labels = rows("####....")
    assert range_recall(rows("#......."), labels, alpha=1.0) == 1.0
    assert range_recall(rows("#......."), labels, alpha=0.2) == pytest.approx(0.2 + 0.8 * 0.25)
    assert range_recall(rows("#.#....."), labels, alpha=0.2) == pytest.approx(0.2 + 0.8 * 0.5 / 2)


def test_an_episode_over_two_events_is_one_piece_for_each() -> None:
    found = range_based(rows(".######."), rows("..##.##."), alpha=0.0)
    assert (found.recall, found.precision) == pytest.approx((1.0, 4 / 6 / 2))


def test_recordings_cut_events_and_episodes() -> None:
    labels, alarms = rows("####"), rows("##..")
    assert range_recall(alarms, labels, alpha=0.0) == 0.5
    assert range_recall(alarms, labels, (0, 2), alpha=0.0) == 0.5  # one found whole, one missed
    assert range_recall(alarms, labels, (0, 1), alpha=0.0) == pytest.approx((1 + 1 / 3) / 2)


def test_undefined() -> None:
    nothing = range_based(rows("..."), rows("..."))
    assert all(math.isnan(value) for value in nothing)
    silent = range_based(rows("..."), rows(".#."))
    assert math.isnan(silent.precision)
    assert (silent.recall, silent.f1) == (0.0, 0.0)
    wrong = range_based(rows("#.."), rows("..."))
    assert wrong.precision == 0.0
    assert math.isnan(wrong.f1)
    assert range_based(rows("#"), rows("#")) == (1.0, 1.0, 1.0)


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        range_based(rows("#"), rows("#"), alpha=1.5)
    with pytest.raises(ValueError, match="equal length"):
        range_based(rows("#"), rows("##"))
