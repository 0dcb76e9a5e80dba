"""The default rule: as few false alarms as a day has room for, no fewer than data can tell, no more than the cap."""

from __future__ import annotations

import numpy as np
import pytest

from client.training.calibrate import calibrate
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import Recipe, ThresholdConfig
from shared.detectors import build
from shared.scoring import Float64Array
from shared.thresholds import Threshold, fit
from shared.thresholds.budget import REARM_S, episodes
from shared.thresholds.daily import ROOM
from shared.thresholds.worth import least_rate

DAY = 86_400


def daily(
    scores_N: Float64Array, windows_a_day: float | None, alarms_a_day: float = 1.0, cap: float = 0.025
) -> Threshold:
    config = ThresholdConfig(rule="daily", false_alarm_rate=cap, alarms_a_day=alarms_a_day)
    return fit("daily", scores_N, config, windows_a_day=windows_a_day)


def separate(count: int, every: int) -> Float64Array:
    """Scores of which no two of the highest hundredth are neighbours: each `every`-th is high, in no order."""
    scores_N = np.random.default_rng(0).uniform(size=count)
    scores_N[::every] += 10.0
    return scores_N


def test_the_recipe_asks_for_it() -> None:
    assert (ThresholdConfig().rule, ThresholdConfig().alarms_a_day) == ("daily", 1.0)


def test_the_rate_is_that_of_as_many_alarms_as_a_day_has_room_for() -> None:
    scores_N = separate(20_000, 400)  # 50 peaks of one window
    threshold = daily(scores_N, windows_a_day=1000.0)  # 86 s apart: what comes back within 3 windows is one alarm
    assert threshold.supported_rate == pytest.approx(0.001, rel=1e-3)
    assert int(threshold.alarms(scores_N).sum()) == 19  # in 20 days; the twentieth is the threshold
    assert daily(scores_N, 1000.0, alarms_a_day=2.0).supported_rate == pytest.approx(0.002, rel=1e-3)


def test_what_comes_back_within_300_seconds_is_one_alarm() -> None:
    """Ten peaks, a window each, 60 s apart: to a day they are ten windows of one alarm, so ten times the rate fits."""
    scores_N = np.random.default_rng(1).uniform(size=28_800)
    for burst in range(0, len(scores_N), 1440):
        scores_N[burst : burst + 40 : 4] += 10.0 + 10 * burst / len(scores_N)
    near, far = daily(scores_N, DAY / 15.0), daily(scores_N, DAY / 300.0, alarms_a_day=2.0)
    a_day = DAY / 15.0
    gap = round(REARM_S * a_day / DAY)
    assert near.false_alarm_rate is not None
    assert near.false_alarm_rate * a_day == pytest.approx(10, rel=0.2)
    days = len(scores_N) / a_day
    assert len(episodes(near.alarms(scores_N), gap)) == pytest.approx(days, abs=1)
    assert far.false_alarm_rate == pytest.approx(2 / 288, rel=0.05)  # no two within 300 s: each is an alarm


def test_no_lower_rate_is_asked_than_ten_windows_can_tell() -> None:
    threshold = daily(separate(2000, 40), windows_a_day=float(DAY))
    assert threshold.supported_rate == 10 / 2001
    assert int(threshold.alarms(separate(2000, 40)).sum()) == 9


def test_what_is_promised_is_carried_and_half_of_it_too() -> None:
    threshold = daily(separate(2000, 40), windows_a_day=float(DAY), cap=0.03)
    assert threshold.false_alarm_rate == 2 * least_rate(2000, threshold.effective_size) > 10 / 2000
    assert threshold.status == "ok"
    assert threshold.supports(threshold.false_alarm_rate / 2)
    little = daily(separate(300, 40), windows_a_day=float(DAY), cap=0.03)  # twice what it carries is above the cap
    assert little.false_alarm_rate == 0.03
    assert not little.supports(0.03)


def test_a_day_that_has_much_room_is_no_reason_for_many_alarms() -> None:
    threshold = daily(separate(10_000, 20), windows_a_day=24.0)  # rows an hour: one alarm a day would be 4 % of them
    assert threshold.false_alarm_rate == ROOM == 1 / 80
    assert daily(separate(400, 20), windows_a_day=24.0).false_alarm_rate == 10 / 400  # fewer would tell nothing


@pytest.mark.parametrize(("count", "a_day"), [(10_000, 24.0), (100, 86_400.0)], ids=["rows an hour", "few windows"])
def test_no_higher_rate_is_asked_than_the_cap(count: int, a_day: float) -> None:
    scores_N = separate(count, 20)
    assert (
        daily(scores_N, a_day, cap=0.01).value
        == fit("conformal", scores_N, ThresholdConfig(false_alarm_rate=0.01)).value
    )
    assert daily(scores_N, a_day, cap=0.01).false_alarm_rate == 0.01


def test_without_knowing_the_windows_of_a_day_it_is_conformal_at_the_cap() -> None:
    scores_N, config = separate(50_000, 40), ThresholdConfig(false_alarm_rate=0.01)
    found, due = fit("daily", scores_N, config), fit("conformal", scores_N, config)
    assert (found.value, found.false_alarm_rate) == (due.value, 0.01)
    assert daily(scores_N, 86_400.0, cap=0.01).value > found.value


def test_a_plant_beside_its_guard_has_half_of_the_rate_that_was_found() -> None:
    """Half of what is promised at most, not of the cap, though a day would have room for more."""
    torch = pytest.importorskip("torch")
    recipe = Recipe.model_validate(
        {"detector": {"window": 6, "hidden": 4, "layers": 1, "latent": 3}, "threshold": {"rule": "daily"}}
    )
    values_TD = np.random.default_rng(2).normal(size=(1500, 2)).astype(np.float32)
    windows = TensorWindows(Part(values_TD, np.arange(1495)), 6, torch.device("cpu"))
    torch.manual_seed(0)
    found = calibrate(build(recipe.detector, 2), None, windows, windows, recipe, step_s=60.0)
    whole, beside = found.threshold.false_alarm_rate, found.figures.beside_guard
    assert whole is not None
    assert beside is not None
    assert whole < recipe.threshold.false_alarm_rate
    assert beside.false_alarm_rate is not None
    assert beside.false_alarm_rate <= whole / 2
    assert beside.value >= found.threshold.value
    assert found.figures.rehearsal is not None
    assert found.figures.rehearsal.asked is not None
    assert found.figures.rehearsal.asked <= whole  # the first half alone would have asked for twice of it
