import math
from itertools import pairwise

import numpy as np
import pytest

from shared.metrics.affiliation import affiliation, individual
from shared.metrics.events import spans
from tests.support.affiliation_reference import individual_slow

MINUTE = 60
EVENTS = [(0, 10), (50, 70), (170, 175)]
ALARMS = [(5, 6), (7, 10), (11, 12), (40, 60), (115, 130), (135, 140), (165, 170)]


def rows(text: str) -> np.ndarray:
    return np.array([c == "#" for c in text], dtype=bool)


@pytest.mark.parametrize("unit", [1, MINUTE])
def test_the_papers_example(unit: int) -> None:
    # Huet et al. 2022, in minutes; ahstat/affiliation-metrics-py, tests/test_metrics.py, test_paper: the second event
    # has precision 0.672222222 and recall 0.944444444.
    events, alarms = ([(a * unit, b * unit) for a, b in spans] for spans in (EVENTS, ALARMS))
    found = individual(alarms, events, [(0, 180 * unit)])
    assert found.precision_E[1] == pytest.approx(0.672222222)
    assert found.recall_E[1] == pytest.approx(0.944444444)
    slow = individual_slow(alarms, events, [(0, 180 * unit)])
    np.testing.assert_allclose(np.array(found), slow, atol=1e-3)


def test_the_same_in_rows() -> None:
    # The same file, Test_single_ground_truth_event_misc, whose rows count from 1.
    labels, alarms = np.zeros(90, bool), np.zeros(90, bool)
    labels[20:40] = alarms[10:30] = alarms[85:] = True
    assert affiliation(alarms, labels) == pytest.approx((0.672222222, 0.944444444))


def test_by_hand() -> None:
    # Zone 0 to 10, event 4 to 6, alarm 3 to 4: at distance d a share of (8 - 2 d) / 10 lies farther from the event.
    # From the event's time y, 1 - 2 (y - 4) / 10 lie farther than the alarm.
    found = affiliation(rows("...#......"), rows("....##...."))
    assert found == pytest.approx((0.8 - 0.1, 1 - 0.2))


def test_coherence_of_the_authors_tests() -> None:
    # Test_pr_from_events.test_check_coherence.
    found = individual([(1, 3), (6, 18), (25, 26)], [(1, 8), (16, 17), (25, 28), (29, 31)], [(1, 40)])
    assert found.precision_E[2] == 1.0
    assert math.isnan(found.precision_E[3])
    assert found.recall_E[3] == 0.0
    assert found.recall_E[1] == 1.0


@pytest.mark.parametrize("seed", range(8))
def test_as_numerical_integration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, alarms, starts = rng.random(40) < 0.3, rng.random(40) < 0.3, (0, 15)
    ranges = [(a, b) for a, b in ((0, 15), (15, 40)) if labels[a:b].any()]
    found = individual(spans(alarms, starts), spans(labels, starts), ranges)
    slow = individual_slow(list(spans(alarms, starts)), list(spans(labels, starts)), ranges)
    np.testing.assert_allclose(np.array(found), slow, atol=2e-3)


def test_perfect_alarms_are_perfect() -> None:
    labels = rows(".##...#..###")
    assert affiliation(labels, labels) == pytest.approx((1.0, 1.0))


def test_nearer_is_better() -> None:
    labels = rows("..........##..........")
    found = [affiliation(np.roll(labels, shift), labels) for shift in (0, 2, 5, 8)]
    assert all(a.precision > b.precision and a.recall > b.recall for a, b in pairwise(found))


def test_undefined() -> None:
    assert all(math.isnan(figure) for figure in affiliation(rows("#.."), rows("...")))
    assert all(math.isnan(figure) for figure in affiliation(rows(""), rows("")))
    silent = affiliation(rows("..."), rows(".#."))
    assert math.isnan(silent.precision)
    assert silent.recall == 0.0
    assert affiliation(rows("#"), rows("#")) == (1.0, 1.0)
    # In the second row, d after the alarm, (d + min(d, 1 - d)) / 2 of the time is nearer: 0.375 on the mean.
    assert affiliation(rows("#."), rows("##")) == pytest.approx((1.0, (1 + 0.625) / 2))


def test_alarms_in_a_recording_without_an_event_belong_to_none() -> None:
    labels, alarms = rows(".##.|....".replace("|", "")), rows(".##.|###.".replace("|", ""))
    assert affiliation(alarms, labels, (0, 4)) == pytest.approx((1.0, 1.0))
    assert affiliation(alarms, labels).precision < 1.0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal length"):
        affiliation(rows("#"), rows("##"))
