from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.metrics.adjusted import best_point_adjusted_f1, point_adjusted_f1_at
from shared.metrics.affiliation import affiliation
from shared.metrics.bootstrap import average_precision_interval, blocks
from shared.metrics.early import early_detection
from shared.metrics.events import detection_delays_s, event_recall, false_alarms_per_day, spans
from shared.metrics.pa_percent_k import (
    best_percent_adjusted_area,
    best_percent_adjusted_f1,
    percent_adjusted_f1_at,
)
from shared.metrics.pointwise import auroc, average_precision, best_f1, f1_at, f1_of_all_ones
from shared.metrics.ranges import range_based, range_recall
from shared.metrics.summary import evaluate
from shared.metrics.vus import range_auc, vus
from tests.support.vus_reference import TSB_AD, VLDB_2022, range_auc_slow

quick = settings(max_examples=60, deadline=None)
Series = tuple[np.ndarray, np.ndarray, tuple[int, ...]]


@st.composite
def labelled(draw: Any, holes: bool = False) -> Series:
    """Scores in eighths (many ties, and exact in float32), labels with both classes, recording starts."""
    rows = draw(st.integers(2, 40))
    scores = draw(arrays(np.int64, rows, elements=st.integers(-16, 16))) / 8.0
    labels = draw(arrays(np.bool_, rows).filter(lambda a: a.any() and not a.all()))
    starts = (0, *sorted(draw(st.sets(st.integers(1, rows - 1), max_size=3))))
    if holes:
        scores = np.where(draw(arrays(np.bool_, rows)), np.nan, scores)
    return scores, labels, starts


@quick
@given(labelled(), st.integers(0, 2))
def test_ranking_metrics_do_not_depend_on_the_unit(series: Series, which: int) -> None:
    scores, labels, _ = series
    other = (lambda s: 3 * s - 7, np.exp, lambda s: s**3)[which](scores)
    assert average_precision(other, labels) == pytest.approx(average_precision(scores, labels))
    assert auroc(other, labels) == pytest.approx(auroc(scores, labels))
    assert best_f1(other, labels)[0] == best_f1(scores, labels)[0]
    assert best_point_adjusted_f1(other, labels)[0] == best_point_adjusted_f1(scores, labels)[0]
    assert vus(other, labels, 12) == pytest.approx(vus(scores, labels, 12))
    assert best_percent_adjusted_area(other, labels) == pytest.approx(best_percent_adjusted_area(scores, labels))
    assert average_precision_interval(other, labels) == pytest.approx(
        average_precision_interval(scores, labels), nan_ok=True
    )


@quick
@given(labelled())
def test_turning_the_score_around_turns_auroc_around(series: Series) -> None:
    scores, labels, _ = series
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels))


@quick
@given(labelled(), st.floats(-3, 3))
def test_best_is_best_and_reached(series: Series, threshold: float) -> None:
    scores, labels, starts = series
    best, at = best_f1(scores, labels)
    assert best >= f1_at(scores, labels, threshold)
    assert best == f1_at(scores, labels, at)
    assert best >= f1_of_all_ones(labels)
    adjusted, at = best_point_adjusted_f1(scores, labels, starts)
    assert adjusted >= point_adjusted_f1_at(scores, labels, threshold, starts)
    assert adjusted == point_adjusted_f1_at(scores, labels, at, starts)


@quick
@given(labelled(), st.floats(-3, 3))
def test_point_adjustment_only_flatters(series: Series, threshold: float) -> None:
    scores, labels, starts = series
    assert point_adjusted_f1_at(scores, labels, threshold, starts) >= f1_at(scores, labels, threshold)
    assert best_point_adjusted_f1(scores, labels, starts)[0] >= best_f1(scores, labels)[0]


@quick
@given(labelled(), st.integers(0, 50), st.sampled_from([("tsb-ad", TSB_AD), ("vldb-2022", VLDB_2022)]))
def test_range_areas_are_those_of_the_definition(series: Series, window: int, form: tuple[Any, Any]) -> None:
    scores, labels, starts = series
    fast = range_auc(scores, labels, window, starts, form[0])
    assert fast == pytest.approx(range_auc_slow(scores, labels, window, form[1], starts), abs=1e-12)
    assert 0 <= fast.pr <= 1 + 1e-12
    assert 0 <= fast.roc <= 1 + 1e-12


@quick
@given(labelled(), st.integers(0, 30))
def test_perfect_scores_and_alarms_are_perfect(series: Series, window: int) -> None:
    _, labels, starts = series
    assert vus(labels.astype(float), labels, window, starts).pr == pytest.approx(1)
    assert affiliation(labels, labels, starts) == pytest.approx((1, 1))
    assert range_based(labels, labels, starts) == pytest.approx((1, 1, 1))
    assert early_detection(labels, labels, starts) == 1
    assert best_percent_adjusted_area(labels.astype(float), labels, starts) == 1


@quick
@given(labelled())
def test_without_buffers_one_event_has_the_point_wise_areas(series: Series) -> None:
    scores, labels, _ = series
    first, end = spans(labels)[0]
    single = np.zeros_like(labels)
    single[first:end] = True
    expected = (average_precision(scores, single), auroc(scores, single))
    assert range_auc(scores, single, 0) == pytest.approx(expected)


@quick
@given(labelled(), arrays(np.bool_, 40), st.sampled_from(["flat", "front", "back", "middle"]), st.floats(0, 1))
def test_alarm_figures_are_shares(series: Series, drawn: np.ndarray, bias: Any, alpha: float) -> None:
    _, labels, starts = series
    alarms = drawn[: len(labels)]
    figures = [*range_based(alarms, labels, starts, alpha, bias), *affiliation(alarms, labels, starts)]
    assert all(np.isnan(figure) or 0 <= figure <= 1 + 1e-12 for figure in figures)
    assert early_detection(alarms, labels, starts) <= event_recall(alarms, labels, starts)
    reward = range_recall(alarms, labels, starts, 1.0)
    assert reward == pytest.approx(event_recall(alarms, labels, starts))


@quick
@given(labelled(), arrays(np.bool_, 40))
def test_more_alarms_never_lower_the_affiliation_recall(series: Series, drawn: np.ndarray) -> None:
    scores, labels, starts = series
    few, many = drawn[: len(labels)], drawn[: len(labels)] | (scores > 0)
    assert affiliation(many, labels, starts).recall >= affiliation(few, labels, starts).recall - 1e-12


@quick
@given(labelled(holes=True), st.floats(-3, 3), st.integers(0, 100))
def test_percent_adjustment_lies_between(series: Series, threshold: float, percent: int) -> None:
    scores, labels, starts = series
    scored = ~np.isnan(scores)
    if not labels[scored].any():
        assert np.isnan(percent_adjusted_f1_at(scores, labels, threshold, percent, starts))
        return
    found = percent_adjusted_f1_at(scores, labels, threshold, percent, starts)
    low, high = (
        f1_at(scores[scored], labels[scored], threshold),
        point_adjusted_f1_at(scores, labels, threshold, starts),
    )
    assert low <= found + 1e-12
    assert found <= high + 1e-12
    assert best_percent_adjusted_f1(scores, labels, percent, starts) >= found - 1e-12


@quick
@given(labelled(holes=True))
def test_blocks_share_out_the_rows_and_the_events(series: Series) -> None:
    scores, labels, starts = series
    cut = blocks(labels, starts)
    assert cut.eventful_B.sum() == len(spans(labels, starts))
    assert list(cut.ends) == sorted(set(cut.ends))
    assert cut.ends[-1] == len(labels)
    low, high = average_precision_interval(scores, labels, starts, resamples=20)
    assert np.isnan(low) or 0 <= low <= high <= 1


@quick
@given(labelled())
def test_spans_are_the_labels(series: Series) -> None:
    _, labels, starts = series
    again = np.zeros_like(labels)
    for a, b in spans(labels, starts):
        assert a < b
        assert not again[a:b].any()
        assert not any(a < start < b for start in starts)
        again[a:b] = True
    np.testing.assert_array_equal(again, labels)


@quick
@given(labelled(), st.floats(-3, 3))
def test_events_are_counted_once(series: Series, threshold: float) -> None:
    scores, labels, starts = series
    alarms = scores > threshold
    delays = detection_delays_s(alarms, labels, 2.0, starts)
    recall = event_recall(alarms, labels, starts)
    assert 0 <= recall <= 1
    assert recall == pytest.approx(np.mean(~np.isnan(delays)))
    lengths = np.array([(b - a) * 2.0 for a, b in spans(labels, starts)])
    assert (delays[~np.isnan(delays)] < lengths[~np.isnan(delays)]).all()
    assert false_alarms_per_day(alarms, labels, 2.0, starts) >= 0


@quick
@given(labelled(holes=True), st.floats(-3, 3))
def test_an_evaluation_holds_together_whatever_is_missing(series: Series, threshold: float) -> None:
    scores, labels, starts = series
    e = evaluate(scores, labels, threshold, 60.0, starts)
    assert e.rows == np.sum(~np.isnan(scores))
    for name, value in e.to_dict().items():
        if value is not None and name not in {"events", "rows", "delay_s", "false_alarms_per_day"}:
            assert 0 <= value <= 1, name
    if labels[~np.isnan(scores)].any():
        assert e.point_adjusted_f1 >= e.f1_at_threshold
        assert e.point_adjusted_f1_best >= max(e.point_adjusted_f1, e.f1_best)
        assert e.f1_best >= max(e.f1_at_threshold, e.f1_all_ones)
    else:
        assert np.isnan(e.f1_best)
        assert np.isnan(e.point_adjusted_f1_random)
