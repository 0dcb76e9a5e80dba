import math

import numpy as np
import pytest

from shared.metrics.events import detection_delays_s, event_recall, false_alarms_per_day, spans


def rows(text: str) -> np.ndarray:
    return np.array([c == "#" for c in text], dtype=bool)


@pytest.mark.parametrize(
    ("text", "starts", "expected"),
    [
        ("", (0,), ()),
        ("...", (0,), ()),
        ("###", (0,), ((0, 3),)),
        ("#.##", (0,), ((0, 1), (2, 4))),
        (".##.", (0,), ((1, 3),)),
        ("####", (0, 2), ((0, 2), (2, 4))),
        ("####", (0, 1, 2, 3), ((0, 1), (1, 2), (2, 3), (3, 4))),
        ("##.#", (0, 2), ((0, 2), (3, 4))),
        ("#", (0,), ((0, 1),)),
    ],
)
def test_spans(text: str, starts: tuple[int, ...], expected: tuple[tuple[int, int], ...]) -> None:
    assert spans(rows(text), starts) == expected


def test_spans_do_not_change_their_input() -> None:
    labels = rows("####")
    spans(labels, (0, 2))
    assert labels.all()


def test_recall_and_delay_by_hand() -> None:
    labels = rows(".###..##..#")
    alarms = rows("...#..##.#.")
    assert event_recall(alarms, labels) == pytest.approx(2 / 3)
    np.testing.assert_array_equal(detection_delays_s(alarms, labels, 10.0), [20.0, 0.0, np.nan])


def test_a_recording_boundary_makes_two_events() -> None:
    assert event_recall(rows("#..."), rows("####"), starts=(0, 2)) == 0.5


def test_undefined_without_events() -> None:
    assert math.isnan(event_recall(rows("#."), rows("..")))
    assert detection_delays_s(rows("#."), rows(".."), 1.0).shape == (0,)


def test_false_alarms_are_episodes_that_touch_no_event() -> None:
    labels = rows("....###...")
    alarms = rows("##.##...#.")  # one false, one that reaches into the event, one false
    assert false_alarms_per_day(alarms, labels, period_s=3600.0) == pytest.approx(2 / (7 / 24))


def test_an_episode_that_ends_where_an_event_begins_does_not_touch_it() -> None:
    assert false_alarms_per_day(rows("..##.."), rows("....##"), period_s=21600.0) == 1.0


def test_a_recording_boundary_makes_two_episodes() -> None:
    assert false_alarms_per_day(rows("####"), rows("...."), 21600.0, starts=(0, 2)) == 2.0


@pytest.mark.parametrize(("rearm_s", "alarms"), [(0.0, 4), (100.0, 4), (200.0, 3), (300.0, 2), (400.0, 1)])
def test_what_comes_back_before_the_alarm_is_armed_again_is_the_same_alarm(rearm_s: float, alarms: int) -> None:
    found = rows("#.#..#...#")  # 100, 200 and 300 s in between, and a row more from one to the next
    quiet = np.zeros(10, bool)
    day = float(found.size) * 100 / 86_400
    assert false_alarms_per_day(found, quiet, 100.0, rearm_s=rearm_s) == pytest.approx(alarms / day)


def test_the_same_alarm_is_what_comes_back_within_300_seconds_if_nothing_is_said() -> None:
    found, quiet = rows("#..#...#.."), np.zeros(10, bool)  # 300 s, then 400 s from one to the next
    assert false_alarms_per_day(found, quiet, 100.0) == pytest.approx(2 / (1000 / 86_400))


def test_an_alarm_does_not_come_back_in_another_recording() -> None:
    found, quiet = rows("...##..."), np.zeros(8, bool)
    assert false_alarms_per_day(found, quiet, 1.0) == pytest.approx(1 / (8 / 86_400))
    assert false_alarms_per_day(found, quiet, 1.0, starts=(0, 4)) == pytest.approx(2 / (8 / 86_400))
    apart = rows("..#..#..")
    assert false_alarms_per_day(apart, quiet, 1.0) == pytest.approx(1 / (8 / 86_400))
    assert false_alarms_per_day(apart, quiet, 1.0, starts=(0, 4)) == pytest.approx(2 / (8 / 86_400))


def test_an_alarm_that_comes_back_after_an_event_is_the_one_that_noticed_it() -> None:
    found, labels = rows(".#...#....#"), rows(".##........")
    normal_days = 9 * 100 / 86_400
    assert false_alarms_per_day(found, labels, 100.0) == pytest.approx(2 / normal_days)  # 400 s, then 500 s later
    assert false_alarms_per_day(found, labels, 100.0, rearm_s=400.0) == pytest.approx(1 / normal_days)


def test_time_without_a_score_is_not_watched() -> None:
    alarms, labels = rows("..#."), rows("....")
    assert false_alarms_per_day(alarms, labels, 43200.0, scored_T=rows("..##")) == 1.0


def test_undefined_without_normal_time() -> None:
    assert math.isnan(false_alarms_per_day(rows("##"), rows("##"), 1.0))
