import math

import numpy as np
import pytest

from shared.metrics.bootstrap import (
    average_precision_interval,
    blocks,
    draws,
    event_recall_interval,
    interval,
    mean_interval,
    vus_pr_interval,
)
from shared.metrics.pointwise import average_precision
from shared.metrics.vus import vus


def series(seed: int = 0, rows: int = 2000, lift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 100 >= 85
    return np.round(rng.normal(size=rows) + lift * labels, 1), labels


def rows(text: str) -> np.ndarray:
    return np.array([c == "#" for c in text], dtype=bool)


def test_blocks_are_cut_halfway_and_at_recordings() -> None:
    cut = blocks(rows(".##...#." + "...." + "#..#"), (0, 8, 12))
    assert cut.ends == (4, 8, 12, 14, 16)
    assert cut.eventful_B.tolist() == [True, True, False, True, True]


def test_neighbouring_recordings_and_no_rows() -> None:
    assert blocks(rows("####"), (0, 2)).ends == (2, 4)
    assert blocks(rows(""), (0,)).eventful_B.tolist() == [False]


def test_every_draw_has_as_many_events_and_quiet_recordings() -> None:
    cut = blocks(rows("#..#..#." + "...." + "...."), (0, 8, 12))
    times_RB = draws(cut, 50, seed=1)
    assert (times_RB[:, cut.eventful_B].sum(axis=1) == 3).all()
    assert (times_RB[:, ~cut.eventful_B].sum(axis=1) == 2).all()
    assert len(np.unique(times_RB, axis=0)) > 5


def test_weighing_rows_is_repeating_them() -> None:
    scores, labels = series()
    scores[500:520] = np.nan

    def metric(scores_T: np.ndarray, labels_T: np.ndarray, starts: object) -> float:
        kept = ~np.isnan(scores_T)
        return average_precision(scores_T[kept], labels_T[kept])

    starts = (0, 300, 390)
    slow = interval(metric, scores, labels, starts, resamples=30, seed=5)
    assert average_precision_interval(scores, labels, starts, resamples=30, seed=5) == pytest.approx(slow)


def test_the_interval_holds_the_figure_and_repeats_under_its_seed() -> None:
    scores, labels = series()
    low, high = average_precision_interval(scores, labels)
    assert low < average_precision(scores, labels) < high
    assert (low, high) == average_precision_interval(scores, labels)
    assert (low, high) != average_precision_interval(scores, labels, seed=1)
    low, high = vus_pr_interval(scores, labels, 20, resamples=40)
    assert low < vus(scores, labels, 20).pr < high


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = average_precision(*series(99, rows=200_000))
    found = [average_precision_interval(*series(seed)) for seed in range(60)]
    assert sum(low <= truth <= high for low, high in found) >= 50  # 20 events each: a little less than 95 %


def test_more_events_narrow_it_and_a_level_widens_it() -> None:
    few, many = (average_precision_interval(*series(rows=rows)) for rows in (1000, 20_000))
    assert many.high - many.low < 0.5 * (few.high - few.low)
    scores, labels = series()
    sure = average_precision_interval(scores, labels, level=0.99)
    unsure = average_precision_interval(scores, labels, level=0.5)
    assert sure.low < unsure.low < unsure.high < sure.high


def test_event_recall_by_hand() -> None:
    labels, alarms = np.tile(rows(".#"), 100), np.tile(rows(".#.."), 50)
    low, high = event_recall_interval(alarms, labels, resamples=2000)
    # 100 events, half of them found: 0.5 -+ 1.96 sqrt(0.25 / 100).
    assert (low, high) == pytest.approx((0.402, 0.598), abs=0.015)


@pytest.mark.parametrize("events", [0, 1, 4])
def test_too_few_events_give_none(events: int) -> None:
    labels = np.zeros(100, bool)
    labels[np.arange(events) * 20] = True
    scores = np.arange(100.0)
    assert all(math.isnan(end) for end in average_precision_interval(scores, labels))
    assert all(math.isnan(end) for end in event_recall_interval(scores > 50, labels))
    assert all(math.isnan(end) for end in vus_pr_interval(scores, labels, 10))
    assert all(math.isnan(end) for end in mean_interval(np.ones(events)))


def test_an_event_without_a_score_is_no_event() -> None:
    labels = np.arange(60) % 12 == 5
    scores = np.arange(60.0)
    assert not math.isnan(average_precision_interval(scores, labels).low)
    scores[labels & (np.arange(60) < 12)] = np.nan
    assert math.isnan(average_precision_interval(scores, labels).low)


def test_infinite_scores_are_ranked() -> None:
    scores, labels = series()
    scores[labels] = np.inf
    assert average_precision_interval(scores, labels) == (1.0, 1.0)


def test_mean_over_sites() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 100)
    low, high = mean_interval(values, resamples=2000)
    half = 1.96 * values.std() / 10
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.003)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal length"):
        average_precision_interval(np.zeros(3), np.zeros(4, bool))
