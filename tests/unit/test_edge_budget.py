"""The alarm budget of an edge.toml sets both live thresholds; what the plant's normal data cannot carry is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from client.edge import assembly, keeper
from client.edge.assembly import Assembly, assemble
from client.edge.budget import at_rate, budgeted, least_budget
from client.edge.examine import examine_apart, examined
from client.edge.guard import halved
from client.edge.keeper import Keeper
from client.edge.promise import in_force, refuse_unsupported, unsupported
from client.edge.settings import Settings, parse_settings
from shared.bundle.edge import EdgeBundle
from shared.distribution import Distribution
from shared.errors import InvalidConfig, RateNotSupported
from shared.local_guard import from_bytes, to_bytes
from shared.thresholds.budget import Bursts, episodes, rate_from_scores
from tests.support.edge import Made, samples, trained

DAY = 86_400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trained(tmp_path_factory.mktemp("budget") / "bundles")


def with_data(bundle: EdgeBundle) -> EdgeBundle:
    """The same with as much normal data as a budget wants: 100,000 independent scores of each model."""
    assert bundle.guard is not None
    scores = np.random.default_rng(0).normal(size=100_000)
    normal, bursts, guard = Distribution.of_scores(scores), Bursts.of_scores(scores, 5), from_bytes(bundle.guard)
    figures = structs.replace(bundle.calibration, distribution=normal, effective_size=50_000.0, bursts=bursts)
    own = structs.replace(guard.threshold, calibration_size=100_000, effective_size=50_000.0)
    return replace(
        bundle,
        calibration=figures,
        guard=to_bytes(replace(guard, threshold=own, calibration=normal, bursts=bursts)),
    )


def plant(budget: float | None, tmp_path: Path, more: str = "") -> Settings:
    told = "" if budget is None else f"[alarms]\nbudget_a_day = {budget}\n"
    return parse_settings((told + more).encode(), tmp_path / "edge.toml")


def live_thresholds(whole: Assembly, made: Made) -> tuple[float, float]:
    """What the newest score of a running scorer was held against, by both models."""
    records = [one for sample in samples(made.site.train_TD[-60:]) for one in whole.engine.feed(sample)]
    told = [one.as_json() for one in records if one.as_json()["type"] == "score"]
    return told[-1]["threshold"], told[-1]["guard_threshold"]


@pytest.mark.parametrize("state", [False, True])
def test_the_budget_of_an_edge_toml_sets_what_live_scores_are_held_against(
    made: Made, tmp_path: Path, state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Period 60 s: 1,440 windows a day, so that 20 alarms a day are about 1 % of them."""
    for module in (assembly, keeper):
        monkeypatch.setattr(module, "budgeted", lambda bundle, budget: budgeted(with_data(bundle), budget))
    found = {}
    for budget in (None, 2.0, 20.0):
        whole = assemble(made.folder, plant(budget, tmp_path), tmp_path / f"state-{budget}" if state else None)
        found[budget] = live_thresholds(whole, made)
        assert budget is None or "UNCALIBRATED" not in whole.start()[0].text
        whole.close()
    normal = with_data(made.read()).calibration
    assert normal.bursts is not None
    for budget in (2.0, 20.0):
        alpha = normal.bursts.rate_for(budget / 2, DAY / 60)
        rank = int(np.ceil(100_001 * (1 - alpha)))
        assert found[budget] == pytest.approx((sorted(np.random.default_rng(0).normal(size=100_000))[rank - 1],) * 2)
    assert found[2.0] > found[20.0]
    assert found[None] not in (found[2.0], found[20.0])


def test_each_model_has_half_of_the_budget_and_one_alone_has_all_of_it(made: Made) -> None:
    bundle = with_data(made.read())
    both, alone = budgeted(bundle, 10.0), budgeted(replace(bundle, guard=None), 10.0)
    assert both.guard is not None
    half = in_force(both).false_alarm_rate
    assert half == from_bytes(both.guard).threshold.false_alarm_rate == in_force(both).false_alarm_rate
    assert half is not None
    assert in_force(alone).false_alarm_rate == pytest.approx(2 * half, rel=0.05)
    assert in_force(both).value > in_force(alone).value
    assert halved(both) is both.calibration.beside_guard
    assert both.setup.false_alarm_rate == 2 * half


def test_a_budget_gives_so_many_false_alarms_on_normal_scores_that_it_was_not_set_on() -> None:
    """Smooth scores, one a second; ten days to calibrate, ten others. Alarms end after 300 s without one."""

    def smooth(seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=10 * DAY + 59)
        return np.convolve(noise, np.ones(60) / 60, mode="valid")

    normal, fresh = smooth(1), smooth(2)
    for budget in (2.0, 10.0):
        alpha = Bursts.of_scores(normal, 300).rate_for(budget, DAY)
        assert alpha == rate_from_scores(normal, budget, DAY, 300)
        limit = Distribution.of_scores(normal).quantile(1 - alpha)
        assert budget / 2 < len(episodes(fresh > limit, 300)) / 10 < 2 * budget


@pytest.mark.parametrize("state", [False, True])
def test_a_budget_that_the_data_cannot_carry_is_refused_with_the_reason(
    made: Made, tmp_path: Path, state: bool
) -> None:
    with pytest.raises(RateNotSupported, match=r"the alarm budget of 1 a day means") as caught:
        assemble(made.folder, plant(1.0, tmp_path), tmp_path / "state" if state else None)
    assert caught.value.code == "CP-207"
    assert "Hold out about" in caught.value.cure


def test_it_says_which_budget_the_data_do_carry(made: Made) -> None:
    bundle = with_data(made.read())
    least = least_budget(bundle)
    assert least is not None
    refuse_unsupported(budgeted(bundle, least), least)
    with pytest.raises(RateNotSupported) as caught:
        refuse_unsupported(budgeted(bundle, 0.5 * least), 0.5 * least)
    assert f"set [alarms] budget_a_day to {least:g} or more" in caught.value.cure


def test_a_plant_may_take_the_best_that_there_is(made: Made, tmp_path: Path) -> None:
    whole = assemble(made.folder, plant(1.0, tmp_path, '[model]\nuncalibrated = "warn"\n'))
    told = whole.start()[0].text
    assert told.count("UNCALIBRATED") == 2
    assert "the alarm budget of 1 a day" in told
    highest = made.read().calibration.distribution.scores[-1]
    assert live_thresholds(whole, made)[0] == pytest.approx(highest)
    whole.close()


def test_without_a_budget_the_thresholds_are_the_bundles_own(made: Made, tmp_path: Path) -> None:
    bundle = made.read()
    assert budgeted(bundle, None) is bundle
    whole = assemble(made.folder, plant(None, tmp_path))
    assert live_thresholds(whole, made)[0] == halved(bundle).value
    whole.close()


def test_a_new_model_is_held_to_the_budget_too(made: Made, tmp_path: Path) -> None:
    """A bundle that is tried beside the current one, one that comes back, and the examining process: all have it."""
    own = Keeper(made.folder, tmp_path / "state", Settings().swap, made.key, budget=400.0)
    again = own._own(own.bundle.digest)
    assert in_force(again) == in_force(own.bundle) == in_force(budgeted(made.read(), 400.0))
    own.close()
    apart = examine_apart(again.folder, again.folder, budget=400.0)
    here, plain = examined(again, again), examined(made.read(), made.read())
    assert apart.new.threshold == here.new.threshold != plain.new.threshold
    assert apart.new.alpha == plain.new.alpha  # what was rehearsed is held against the rate it was rehearsed for


def test_a_model_without_the_data_for_the_budget_does_not_follow_one_that_has_it(made: Made) -> None:
    poor, rich = (budgeted(one, 20.0) for one in (made.read(), with_data(made.read())))
    both = examined(replace(rich, probe=poor.probe), poor)
    assert (both.now.carried, both.new.carried) == (True, False)


def test_a_bundle_of_an_older_version_is_held_to_the_lowest_rate(made: Made) -> None:
    """Nobody counted how long its alarms are, so each is taken to be one window."""
    bundle = with_data(made.read())
    old = replace(bundle, guard=None, calibration=structs.replace(bundle.calibration, bursts=None))
    assert budgeted(old, 2.0).threshold.false_alarm_rate == 2.0 / 1440
    assert least_budget(old) is None
    assert "leave budget_a_day out" in unsupported(budgeted(made_poor(old), 2.0), 2.0)[0].cure


def made_poor(bundle: EdgeBundle) -> EdgeBundle:
    return replace(bundle, calibration=structs.replace(bundle.calibration, effective_size=10.0))


def test_thresholds_of_modes_move_along(made: Made) -> None:
    own = structs.replace(made.read().threshold, value=2.0, by_mode=(2.0, 3.5))
    moved = at_rate(own, Distribution.of_scores(np.arange(1000.0)), 500.0, 0.01)
    assert (moved.value, moved.by_mode) == (990.0, (990.0, 991.5))
    assert (moved.status, moved.false_alarm_rate, moved.calibration_size) == ("ok", 0.01, 1000)
    assert at_rate(own, Distribution.of_scores(np.arange(1000.0)), 50.0, 0.01).status == "weak"


@pytest.mark.parametrize("budget", ["0", "-1", "1e-300", "1e300", "nan", "inf", '"two"'])
def test_a_budget_that_means_nothing_is_refused(budget: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="budget_a_day"):
        parse_settings(f"[alarms]\nbudget_a_day = {budget}\n".encode(), tmp_path / "edge.toml")


@pytest.mark.parametrize("budget", [1e-6, 1e6])
def test_a_budget_beyond_all_measure_breaks_nothing(made: Made, budget: float) -> None:
    found = budgeted(made.read(), budget)
    assert 0 < found.setup.false_alarm_rate <= 0.5
    unsupported(found, budget)
