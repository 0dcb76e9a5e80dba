import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from shared.metrics.adjusted import random_control
from shared.metrics.affiliation import affiliation
from shared.metrics.bootstrap import average_precision_interval, event_recall_interval
from shared.metrics.early import early_detection
from shared.metrics.pa_percent_k import best_percent_adjusted_area, percent_adjusted_area_at, random_area
from shared.metrics.pointwise import average_precision
from shared.metrics.ranges import range_based
from shared.metrics.summary import Evaluation, evaluate, macro
from shared.metrics.vus import random_vus_pr, vus

NAN = math.nan
SCORES = np.array([NAN, NAN, 0.1, 0.7, 0.2, 0.1, 0.9, 0.3, 0.1, 0.2])
LABELS = np.array([True, False, False, False, False, True, True, True, False, True])


def found() -> Evaluation:
    return evaluate(SCORES, LABELS, threshold=0.5, period_s=60.0)


def test_by_hand() -> None:
    """One row alarms 180 s before an event does: that is one alarm, and a true one; its row is a false one."""
    e = found()
    assert (e.rows, e.events, e.anomaly_share) == (8, 3, 0.5)
    assert e.auprc == average_precision(SCORES[2:], LABELS[2:])
    assert e.f1_at_threshold == pytest.approx(2 * 1 / (2 + 4))
    assert e.f1_all_ones == pytest.approx(2 / 3)
    assert e.event_recall == pytest.approx(1 / 3)  # the event before the first full window counts as missed
    assert e.delay_s == 60.0
    assert e.false_alarms_per_day == 0.0
    assert evaluate(SCORES, LABELS, 0.5, period_s=120.0).false_alarms_per_day == pytest.approx(1 / (4 * 120 / 86_400))
    assert e.false_alarm_share == 0.25
    assert e.point_adjusted_f1 == pytest.approx(2 * 3 / (3 + 1 + 4))
    assert e.point_adjusted_f1_best >= e.point_adjusted_f1
    assert e.point_adjusted_f1_random == random_control(LABELS, seed=0, scored_T=~np.isnan(SCORES))
    assert (e.range_precision, e.range_recall) == pytest.approx((0.5, (0.2 + 0.8 / 3) / 3))
    assert e.early_detection == pytest.approx((1 - 1 / 3) / 3)


def test_a_threshold_a_row_is_the_same_as_one_for_all_where_they_agree() -> None:
    assert asdict(evaluate(SCORES, LABELS, np.full(len(SCORES), 0.5), 60.0)) == pytest.approx(
        asdict(found()), nan_ok=True
    )
    raised_T = np.where(np.arange(len(SCORES)) == 3, 0.8, 0.5)  # the false alarm is below its own
    e = evaluate(SCORES, LABELS, raised_T, 60.0)
    assert (e.false_alarm_share, e.auprc, e.event_recall) == (0.0, found().auprc, found().event_recall)
    assert e.f1_at_threshold == pytest.approx(2 * 1 / (1 + 4))
    assert e.point_adjusted_f1 == pytest.approx(2 * 3 / (3 + 0 + 4))


def test_every_figure_is_that_of_its_own_module() -> None:
    rng = np.random.default_rng(0)
    labels, starts = np.arange(600) % 60 >= 48, (0, 300)
    scores = rng.normal(size=600) + labels
    scores[:7] = np.nan
    alarms = scores > 1.0
    e = evaluate(scores, labels, 1.0, 60.0, starts, seed=3, max_window=20, resamples=50)
    assert (e.vus_pr, e.vus_roc) == vus(scores, labels, 20, starts)
    scored = ~np.isnan(scores)
    assert e.vus_pr_random == random_vus_pr(labels, 3, 20, starts=starts, scored_T=scored)
    assert (e.auprc_low, e.auprc_high) == average_precision_interval(scores, labels, starts, 50, 3)
    assert (e.event_recall_low, e.event_recall_high) == event_recall_interval(alarms, labels, starts, 50, 3)
    assert (e.range_precision, e.range_recall, e.range_f1) == range_based(alarms, labels, starts)
    assert (e.affiliation_precision, e.affiliation_recall) == affiliation(alarms, labels, starts)
    assert e.early_detection == early_detection(alarms, labels, starts)
    assert e.percent_adjusted_area == percent_adjusted_area_at(scores, labels, 1.0, starts)
    assert e.percent_adjusted_area_best == best_percent_adjusted_area(scores, labels, starts)
    assert e.percent_adjusted_area_random == random_area(labels, 3, starts=starts, scored_T=scored)


def test_the_names_are_frozen() -> None:
    assert list(found().to_dict()) == [
        "auprc",
        "auprc_low",
        "auprc_high",
        "auroc",
        "vus_pr",
        "vus_pr_random",
        "vus_roc",
        "f1_at_threshold",
        "f1_best",
        "f1_all_ones",
        "range_precision",
        "range_recall",
        "range_f1",
        "affiliation_precision",
        "affiliation_recall",
        "event_recall",
        "event_recall_low",
        "event_recall_high",
        "delay_s",
        "early_detection",
        "false_alarms_per_day",
        "false_alarm_share",
        "point_adjusted_f1",
        "point_adjusted_f1_best",
        "point_adjusted_f1_random",
        "percent_adjusted_area",
        "percent_adjusted_area_best",
        "percent_adjusted_area_random",
        "events",
        "anomaly_share",
        "rows",
    ]


def test_undefined_figures_are_none_in_json() -> None:
    e = evaluate(np.array([0.1, 0.2]), np.array([False, False]), threshold=1.0, period_s=1.0)
    values = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    assert values["auprc"] is values["delay_s"] is values["point_adjusted_f1_random"] is None
    assert (values["false_alarms_per_day"], values["events"], values["rows"]) == (0.0, 0, 2)


def test_a_series_without_any_score() -> None:
    e = evaluate(np.full(3, NAN), np.array([False, True, False]), threshold=1.0, period_s=1.0)
    assert (e.rows, e.events, e.event_recall) == (0, 1, 0.0)
    assert math.isnan(e.auprc)
    assert math.isnan(e.false_alarms_per_day)
    assert math.isnan(e.anomaly_share)


@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_a_row(rows: int, label: bool) -> None:
    e = evaluate(np.full(rows, 0.7), np.full(rows, label), threshold=0.5, period_s=1.0)
    assert (e.rows, e.events) == (rows, rows * label)
    assert math.isnan(e.auroc)
    assert math.isnan(e.vus_roc)
    if rows and label:
        assert e.auprc == e.vus_pr == e.event_recall == e.range_f1 == e.affiliation_recall == e.early_detection == 1.0
    else:
        assert math.isnan(e.auprc)
        assert math.isnan(e.vus_pr)


def test_alarming_everything_is_not_flattered() -> None:
    e = evaluate(np.ones(6), np.array([False, True, False, False, True, False]), threshold=0.0, period_s=1.0)
    assert (e.event_recall, e.false_alarms_per_day) == (1.0, 0.0)
    assert e.false_alarm_share == 1.0


def test_recordings_break_events() -> None:
    labels = np.array([False, True, True, False])
    assert evaluate(np.zeros(4), labels, 0.5, 1.0).events == 1
    assert evaluate(np.zeros(4), labels, 0.5, 1.0, starts=(0, 2)).events == 2


def test_macro_ignores_what_is_undefined() -> None:
    one = replace(found(), auprc=0.2, delay_s=NAN, auroc=NAN)
    two = replace(found(), auprc=0.6, delay_s=30.0, auroc=NAN)
    mean = macro([one, two])
    assert mean["auprc"] == pytest.approx(0.4)
    assert mean["delay_s"] == 30.0
    assert math.isnan(mean["auroc"])
    assert list(mean) == list(one.to_dict())


def test_the_interval_of_a_mean_is_not_the_mean_of_intervals() -> None:
    sites = [replace(found(), auprc=value, auprc_low=0.0, auprc_high=1.0) for value in (0.4, 0.45, 0.5, 0.55, 0.6)]
    mean = macro(sites)
    assert 0.4 < mean["auprc_low"] < mean["auprc"] < mean["auprc_high"] < 0.6
    assert (mean["auprc_low"], mean["auprc_high"]) == (macro(sites)["auprc_low"], macro(sites)["auprc_high"])
    assert (macro(sites[:1])["auprc_low"], macro(sites[:1])["auprc_high"]) == (0.0, 1.0)
    assert math.isnan(macro(sites[:2])["auprc_low"])


def test_macro_of_nothing() -> None:
    assert all(math.isnan(value) for value in macro([]).values())


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal length"):
        evaluate(np.zeros(3), np.zeros(4, bool), 0.5, 1.0)
