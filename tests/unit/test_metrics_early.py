import math

import numpy as np
import pytest

from shared.metrics.early import early_detection, found_within, found_within_s
from shared.metrics.events import event_recall


def rows(text: str) -> np.ndarray:
    return np.array([c == "#" for c in text], dtype=bool)


LABELS = rows(".####..##..##########.")
ALARMS = rows(".#.........  ....#....".replace(" ", "."))  # at once, missed, in the seventh row of ten


def test_by_hand() -> None:
    assert early_detection(ALARMS, LABELS) == pytest.approx((1 + 0 + (1 - 6 / 10)) / 3)
    assert found_within(ALARMS, LABELS, 0.5) == pytest.approx(1 / 3)
    assert found_within(ALARMS, LABELS, 0.61) == pytest.approx(2 / 3)
    assert found_within_s(ALARMS, LABELS, 60.0, 10.0) == pytest.approx(2 / 3)
    assert found_within_s(ALARMS, LABELS, 59.0, 10.0) == pytest.approx(1 / 3)


def test_never_above_the_event_recall() -> None:
    assert early_detection(ALARMS, LABELS) < event_recall(ALARMS, LABELS) == found_within(ALARMS, LABELS, 1.0)


def test_a_boundary_makes_two_events() -> None:
    assert early_detection(rows("#..."), rows("####"), (0, 2)) == 0.5
    assert early_detection(rows("#..."), rows("####")) == 1.0


def test_alarming_everything_is_early_and_silence_is_not() -> None:
    assert early_detection(np.ones_like(LABELS), LABELS) == 1.0
    assert (
        early_detection(np.zeros_like(LABELS), LABELS) == found_within_s(np.zeros_like(LABELS), LABELS, 9.0, 1.0) == 0
    )


def test_undefined_without_events() -> None:
    none = np.zeros(3, bool)
    assert all(math.isnan(f) for f in (early_detection(none, none), found_within(none, none, 0.5)))
    assert math.isnan(found_within_s(none, none, 1.0, 1.0))
