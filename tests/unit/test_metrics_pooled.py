import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from shared.metrics.pooled import Scored, pooled
from shared.metrics.summary import evaluate


def scored(seed: int, rows: int = 200, threshold: float = 1.5, period_s: float = 60.0) -> Scored:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 50 >= 40
    scores = rng.normal(size=rows) + 2.0 * labels
    scores[:10] = np.nan
    return Scored(scores, labels, threshold, period_s, (0, 100))


def test_one_site_pools_to_itself() -> None:
    site = scored(0)
    alone = evaluate(site.scores_T, site.labels_T, site.threshold, site.period_s, site.starts)
    found = pooled([site])
    assert found is not None
    assert asdict(found) == pytest.approx(asdict(alone), nan_ok=True)


def test_what_depends_on_alarms_adds_up() -> None:
    one, two = scored(0), scored(1, threshold=2.0)
    found = pooled([one, two])
    alone = [evaluate(s.scores_T, s.labels_T, s.threshold, s.period_s, s.starts) for s in (one, two)]
    assert found is not None
    assert found.events == sum(e.events for e in alone) == 8
    assert found.rows == sum(e.rows for e in alone)
    assert found.event_recall == pytest.approx(np.mean([e.event_recall for e in alone]))
    assert found.false_alarms_per_day == pytest.approx(np.mean([e.false_alarms_per_day for e in alone]))
    assert found.early_detection == pytest.approx(np.mean([e.early_detection for e in alone]))


def test_a_shift_of_one_sites_scores_and_threshold_changes_nothing() -> None:
    one, two = scored(0), scored(1)
    moved = replace(two, scores_T=two.scores_T + 100.0, threshold=two.threshold + 100.0)
    first, second = pooled([one, two]), pooled([one, moved])
    assert first is not None
    assert second is not None
    assert asdict(second) == pytest.approx(asdict(first), nan_ok=True)


def test_recordings_of_different_sites_do_not_run_into_each_other() -> None:
    one = Scored(np.array([0.0, 1.0]), np.array([False, True]), 0.5, 1.0)
    two = Scored(np.array([1.0, 0.0]), np.array([True, False]), 0.5, 1.0)
    found = pooled([one, two])
    assert found is not None
    assert found.events == 2


def test_sampling_periods_may_differ() -> None:
    slow = Scored(np.array([0.0, 0, 1, 1]), np.array([False, True, True, False]), 0.5, 3600.0)
    fast = Scored(np.array([0.0, 0, 0, 1, 0]), np.array([False, True, True, True, False]), 0.5, 1.0)
    found = pooled([slow, fast])
    assert found is not None
    assert found.delay_s == pytest.approx((3600 + 2) / 2)
    assert found.false_alarms_per_day == 0.0
    wrong = pooled([replace(slow, labels_T=np.zeros(4, bool)), fast])
    assert wrong is not None
    assert wrong.false_alarms_per_day == pytest.approx(1 / ((4 * 3600 + 2) / 86_400))


def test_a_threshold_may_differ_from_row_to_row() -> None:
    site = scored(0)
    found, same = pooled([replace(site, threshold=np.full(200, 1.5))]), pooled([site])
    assert found is not None
    assert same is not None
    assert asdict(found) == pytest.approx(asdict(same), nan_ok=True)
    high = pooled([replace(site, threshold=np.where(site.labels_T, 1.5, 99.0))])
    assert high is not None
    assert (high.false_alarm_share, high.event_recall) == (0.0, found.event_recall)


def test_the_excess_is_positive_where_alarmed() -> None:
    site = Scored(np.array([np.nan, 0.5, 0.6, np.inf]), np.zeros(4, bool), 0.5, 1.0)
    np.testing.assert_array_equal(site.excess() > 0, [False, False, True, True])
    assert math.isnan(site.excess()[0])
    never = replace(site, threshold=math.inf)
    np.testing.assert_array_equal(never.excess() > 0, [False] * 4)
    assert np.isnan(never.excess()).sum() == 1


def test_without_sites_or_events() -> None:
    assert pooled([]) is None
    calm = Scored(np.array([0.1, np.nan]), np.zeros(2, bool), 0.5, 1.0)
    found = pooled([calm, calm])
    assert found is not None
    assert math.isnan(found.auprc)
    assert math.isnan(found.delay_s)
    assert found.false_alarms_per_day == 0.0
    silent = pooled([replace(calm, scores_T=np.full(2, np.nan))])
    assert silent is not None
    assert math.isnan(silent.false_alarms_per_day)
