import json
import math
from dataclasses import replace

import numpy as np
import pytest

from shared.metrics.adjusted import random_control
from shared.metrics.pointwise import average_precision
from shared.metrics.summary import Evaluation, evaluate, macro

NAN = math.nan
SCORES = np.array([NAN, NAN, 0.1, 0.7, 0.2, 0.1, 0.9, 0.3, 0.1, 0.2])
LABELS = np.array([True, False, False, False, False, True, True, True, False, True])


def found() -> Evaluation:
    return evaluate(SCORES, LABELS, threshold=0.5, period_s=60.0)


def test_by_hand() -> None:
    e = found()
    assert (e.rows, e.events, e.anomaly_share) == (8, 3, 0.5)
    assert e.auprc == average_precision(SCORES[2:], LABELS[2:])
    assert e.f1_at_threshold == pytest.approx(2 * 1 / (2 + 4))
    assert e.f1_all_ones == pytest.approx(2 / 3)
    assert e.event_recall == pytest.approx(1 / 3)  # the event before the first full window counts as missed
    assert e.delay_s == 60.0
    assert e.false_alarms_per_day == pytest.approx(1 / (4 * 60 / 86_400))
    assert e.false_alarm_share == 0.25
    assert e.point_adjusted_f1 == pytest.approx(2 * 3 / (3 + 1 + 4))
    assert e.point_adjusted_f1_best >= e.point_adjusted_f1
    assert e.point_adjusted_f1_random == random_control(LABELS, seed=0, scored_T=~np.isnan(SCORES))


def test_the_names_are_frozen() -> None:
    assert list(found().to_dict()) == [
        "auprc",
        "auroc",
        "f1_at_threshold",
        "f1_best",
        "f1_all_ones",
        "event_recall",
        "delay_s",
        "false_alarms_per_day",
        "false_alarm_share",
        "point_adjusted_f1",
        "point_adjusted_f1_best",
        "point_adjusted_f1_random",
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


def test_macro_of_nothing() -> None:
    assert all(math.isnan(value) for value in macro([]).values())


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal length"):
        evaluate(np.zeros(3), np.zeros(4, bool), 0.5, 1.0)
