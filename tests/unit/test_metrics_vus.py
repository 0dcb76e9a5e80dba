import math
from pathlib import Path

import numpy as np
import pytest

from shared.metrics.pointwise import auroc, average_precision
from shared.metrics.vus import Form, coarse_windows, mean_area, random_vus_pr, range_auc, vus
from tests.support.vus_reference import FIRST_RELEASE, TSB_AD, VLDB_2022, Habit, range_auc_slow, vus_slow
from tests.unit.test_metrics_adjusted import read_msl_labels


def published() -> tuple[np.ndarray, np.ndarray]:
    """The series of TimeEval's and aeon's tests."""
    labels = np.zeros(200, bool)
    for first, end in ((10, 20), (28, 33), (110, 120)):
        labels[first:end] = True
    scores = np.random.default_rng(41).random(200) * 0.5
    for first, end in ((16, 22), (33, 38), (160, 170)):
        scores[first:end] = 1.0
    return scores, labels


def test_the_slow_way_gives_the_published_values() -> None:
    # aeon-toolkit/aeon, anomaly_detection/tests/test_ad_metrics.py, the same in TimeEval's tests/test_metrics.py:
    # buffer 10 (the median length of an event), buffer 4, and volumes up to 200. 250 thresholds cover all 200 scores.
    scores, labels = published()
    assert range_auc_slow(scores, labels, 10, FIRST_RELEASE) == pytest.approx((0.3737854660, 0.7108527197), abs=1e-10)
    assert range_auc_slow(scores, labels, 4, FIRST_RELEASE) == pytest.approx((0.2506464391, 0.6143220816), abs=1e-10)
    assert vus_slow(scores, labels, 200, FIRST_RELEASE) == pytest.approx((0.7493254559, 0.8763382130), abs=1e-10)


@pytest.mark.parametrize(("form", "habit"), [("tsb-ad", TSB_AD), ("vldb-2022", VLDB_2022)])
def test_as_the_slow_way_on_the_published_series(form: Form, habit: Habit) -> None:
    scores, labels = published()
    assert vus(scores, labels, 40, form=form) == pytest.approx(vus_slow(scores, labels, 40, habit), abs=1e-12)


def test_by_hand() -> None:
    # A buffer row is worth sqrt(1 - 1/2). Alarm at row 1: TP 0.7071 of 1 + 0.7071 / 2, no other alarm. Alarm
    # everywhere: TP 2.4142 of 1 + 1.4142 / 2, cut at 1, and 5 alarms.
    scores, labels = np.array([0.0, 1.0, 0.0, 0.0, 0.0]), np.array([False, False, True, False, False])
    soft = math.sqrt(0.5)
    recall, low, high = soft / (1 + soft / 2), (1 - soft) / (4 - soft / 2), (4 - 2 * soft) / (4 - soft)
    areas = range_auc(scores, labels, 2)
    assert areas.pr == pytest.approx(recall * soft + (1 - recall) * (1 + 2 * soft) / 5)
    assert areas.roc == pytest.approx(low * recall / 2 + (high - low) * (recall + 1) / 2 + (1 - high))


def test_a_score_that_equals_the_labels_is_perfect_in_the_present_form_only() -> None:
    labels = published()[1]
    assert vus(labels.astype(float), labels, 30).pr == pytest.approx(1.0)
    assert vus(labels.astype(float), labels, 30, form="vldb-2022").pr < 0.95


def test_an_alarm_a_few_rows_late_is_forgiven_and_one_far_away_is_not() -> None:
    labels = np.arange(300) // 10 == 15
    late, lost = np.roll(labels, 8).astype(float), np.roll(labels, 100).astype(float)
    assert vus(late, labels, 40).pr > 0.5 > 0.1 > average_precision(late, labels)
    assert vus(lost, labels, 40).pr < 0.1


@pytest.mark.parametrize("window", [0, 1])
def test_without_a_buffer_and_with_one_event_it_is_the_point_wise_area(window: int) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(120) // 20 == 3
    scores = np.round(rng.normal(labels, 1.0), 1)
    areas = range_auc(scores, labels, window)
    assert areas.pr == pytest.approx(average_precision(scores, labels))
    assert areas.roc == pytest.approx(auroc(scores, labels))


def test_an_event_without_an_alarm_costs_recall() -> None:
    labels = np.array([True, False, False, True, False, False])
    both, one = np.array([0.9, 0, 0, 0.8, 0, 0]), np.array([0.9, 0, 0, 0.0, 0, 0])
    assert range_auc(both, labels, 0).pr == 1.0
    # At 0.9 half of the rows and half of the events: recall 1/4, precision 1; below that everything.
    assert range_auc(one, labels, 0).pr == pytest.approx(0.25 + 0.75 * 2 / 6)


@pytest.mark.parametrize(
    ("rows", "events", "lift", "exact", "sampled"),
    [
        (2_000, 5, 1.0, (0.2655, 0.8637), (0.2433, 0.8636)),
        (5_000, 10, 2.0, (0.6007, 0.9581), (0.5883, 0.9581)),
        (5_000, 10, 4.0, (0.9867, 0.9993), (0.9820, 0.9993)),
        (20_000, 10, 4.0, (0.9399, 0.9989), (0.9063, 0.9988)),
    ],
)
def test_250_sampled_thresholds_come_close(
    rows: int, events: int, lift: float, exact: tuple[float, float], sampled: tuple[float, float]
) -> None:
    """The table of docs/metrics.md: what the authors' sampling of thresholds does, window 20."""
    labels = np.zeros(rows, bool)
    for i in range(events):
        first = int((i + 0.5) * rows / events)
        labels[first : first + 20] = True
    scores = np.random.default_rng(0).normal(size=rows) + lift * labels
    assert range_auc(scores, labels, 20) == pytest.approx(exact, abs=1e-4)
    assert range_auc_slow(scores, labels, 20, Habit(samples=250)) == pytest.approx(sampled, abs=1e-4)


def test_buffers_end_where_a_recording_begins() -> None:
    scores, labels = np.array([0.0, 0, 0, 1, 0, 0]), np.array([False, False, True, False, False, False])
    assert range_auc(scores, labels, 4, starts=(0, 3)).pr < range_auc(scores, labels, 4).pr
    apart = range_auc(scores, labels, 4, starts=(0, 3))
    assert apart == pytest.approx(range_auc_slow(scores, labels, 4, TSB_AD, (0, 3)))


def test_rows_without_a_score_keep_their_place() -> None:
    scores = np.array([0.1, np.nan, 0.9, 0.2, np.nan, 0.95, 0.1])
    labels = np.array([False, False, True, False, False, False, False])
    found = range_auc(scores, labels, 6)
    dense = range_auc(scores[~np.isnan(scores)], labels[~np.isnan(scores)], 6)
    assert found.pr < dense.pr  # row 5 is three rows away and worth less than at two


def test_an_event_without_a_score_is_left_out() -> None:
    scores, labels = np.array([np.nan, 0.1, 0.2, 0.9]), np.array([True, False, False, True])
    assert range_auc(scores, labels, 0) == range_auc(scores[1:], labels[1:], 0) == (1.0, 1.0)


def test_edge_cases() -> None:
    one = np.array([0.5])
    assert all(math.isnan(area) for area in vus(one, np.array([False])))
    assert vus(one, np.array([True])).pr == 1.0
    assert math.isnan(vus(one, np.array([True])).roc)
    assert all(math.isnan(area) for area in vus(np.zeros(0), np.zeros(0, bool)))
    assert all(math.isnan(area) for area in vus(np.full(3, np.nan), np.ones(3, bool)))
    everything = vus(np.arange(4.0), np.ones(4, bool), 10)
    assert everything.pr == 1.0
    assert math.isnan(everything.roc)


def test_a_constant_score_has_the_precision_of_alarming_all() -> None:
    labels = np.arange(10) == 4
    assert range_auc(np.zeros(10), labels, 0) == pytest.approx((0.1, 0.5))


def test_infinite_scores_rank_and_tie() -> None:
    scores, labels = np.array([-np.inf, np.inf, 0.5, np.inf]), np.array([False, True, False, True])
    assert range_auc(scores, labels, 0) == pytest.approx((1.0, 1.0))


def test_float32_scores_are_as_good() -> None:
    scores, labels = published()
    assert vus(scores.astype(np.float32), labels, 10) == pytest.approx(vus(scores, labels, 10))


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        range_auc(np.zeros(3), np.zeros(3, bool), -1)
    with pytest.raises(ValueError, match="window"):
        mean_area(np.zeros(3), np.zeros(3, bool), (), (0,), "tsb-ad")
    with pytest.raises(ValueError, match="equal length"):
        vus(np.zeros(3), np.zeros(4, bool))


def test_few_windows_stand_for_all() -> None:
    scores, labels = published()
    assert coarse_windows(3) == [0, 1, 2, 3]
    few = mean_area(scores, labels, coarse_windows(100), (0,), "tsb-ad")
    assert few.pr == pytest.approx(vus(scores, labels, 100).pr, abs=0.02)


def test_a_random_score_is_not_rewarded_on_msl(data_root: Path) -> None:
    labels, starts = read_msl_labels(data_root)
    assert random_vus_pr(labels, seed=0, starts=starts) == pytest.approx(0.125, abs=0.01)
    assert labels.mean() == pytest.approx(0.105, abs=0.001)
