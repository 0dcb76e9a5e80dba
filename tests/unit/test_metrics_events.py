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


def test_time_without_a_score_is_not_watched() -> None:
    alarms, labels = rows("..#."), rows("....")
    assert false_alarms_per_day(alarms, labels, 43200.0, scored_T=rows("..##")) == 1.0


def test_undefined_without_normal_time() -> None:
    assert math.isnan(false_alarms_per_day(rows("##"), rows("##"), 1.0))
