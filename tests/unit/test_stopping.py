from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from server import phases, stopping
from server.aggregate import Aggregate
from server.phases import Action, Step
from server.rounds import Best, Committed, Member, OptimizerState, Phase, PlantReport, RunState
from server.transition import Conducted, settle
from shared.clustering import Statistic
from shared.config import RoundConfig, RunConfig
from shared.model import Clusters, GlobalModel, initial_weights
from tests.support.plants import settings
from tests.support.puppets import MANIFEST, SCHEMA

ROUNDS = {"pretrain": 6, "joint": 8, "patience": 3, "calibrate_every": 4, "server_optimizer": "fedavgm"}
CONFIG = settings(rounds=ROUNDS)
K, Z = 3, CONFIG.recipe.detector.latent
CLUSTERS = Clusters(
    np.zeros((K, Z), np.float32), np.full(K, 1 / K, np.float32), np.ones(K, bool), np.zeros(K, np.int64), 0.5
)
EARLY, LATE = (GlobalModel(initial_weights(MANIFEST, seed), CLUSTERS) for seed in (0, 1))
MOMENTUM = OptimizerState(3, {"head.bias": np.ones(3, np.float32)}, {})
PLAN = phases.plan(CONFIG)
LOSSES = {"a": 1.0, "b": 2.0}
BEST = Best(Phase.JOINT, 17, EARLY, MOMENTUM, LOSSES, LOSSES, stalled=2)


def index(phase: Phase, training: int) -> int:
    """Where in the plan a phase's training round is, from 0."""
    return [i for i, s in enumerate(PLAN) if s.phase is phase and s.action is Action.TRAIN][training]


def state(at: int, best: Best | None = None, model: GlobalModel = LATE) -> RunState:
    members = tuple(Member(name, 100, 11, 1.0) for name in "ab")
    return RunState("run", CONFIG.digest, 20, at, 0, model, OptimizerState(), members, SCHEMA, MANIFEST, best=best)


def told(losses: dict[str, float], statistic: Statistic | None = None) -> Conducted:
    reports = tuple(PlantReport(name, True, metrics={"holdout_loss": loss}) for name, loss in losses.items())
    weights = {name: value + np.float32(0.1) for name, value in LATE.weights.items()}
    return Conducted(Aggregate(weights, statistic, {}, len(losses)), reports, "2024-05-01", 1.0, {})


def after(
    at: int, losses: dict[str, float], best: Best | None = None, config: RunConfig = CONFIG, step: Step | None = None
) -> Committed:
    outcome = settle(state(at, best), step or PLAN[at], config, told(losses))
    assert isinstance(outcome, Committed)
    return outcome


# ---- what counts as better -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "better"), [(0.98, True), (0.9899, True), (0.99, False), (1.0, False), (1e9, False)])
def test_a_model_is_better_by_more_than_one_percent_or_not_at_all(loss: float, better: bool) -> None:
    assert stopping.improves({"a": 1.0}, {"a": loss}) is better


def test_every_plant_counts_once_and_those_that_measured_both_alone() -> None:
    best = {"a": 1.0, "b": 1.0, "away": 0.001}
    assert stopping.improves(best, {"a": 0.9, "b": 1.05, "new": 99.0})
    assert not stopping.improves(best, {"a": 0.9, "b": 1.1, "new": 0.0})
    assert not stopping.improves({"a": 1.0}, {"b": 0.1})


# ---- in the round state machine --------------------------------------------------------------------------------------


def test_the_first_measured_model_of_a_phase_is_its_best_whatever_the_phase_before_reached() -> None:
    first = after(index(Phase.JOINT, 0), {"a": 9.0, "b": 9.0}, replace(BEST, phase=Phase.PRETRAIN)).state
    assert first.best == Best(Phase.JOINT, 20, LATE, OptimizerState(), {"a": 9.0, "b": 9.0}, {"a": 9.0, "b": 9.0})
    assert first.step == index(Phase.JOINT, 0) + 1


def test_a_better_model_is_kept_as_it_was_sent_and_measured() -> None:
    outcome = after(index(Phase.JOINT, 3), {"a": 0.9, "b": 1.9}, BEST)
    assert outcome.state.best == Best(
        Phase.JOINT, 20, LATE, OptimizerState(), {"a": 0.9, "b": 1.9}, {"a": 0.9, "b": 1.9}
    )
    assert outcome.state.model.digest not in (LATE.digest, EARLY.digest)
    assert outcome.record.reason is None


def test_the_lowest_loss_is_the_best_however_little_lower_but_no_progress() -> None:
    less = {"a": 0.99, "b": 2.0}
    outcome = after(index(Phase.JOINT, 3), less, replace(BEST, stalled=1))
    assert outcome.state.best == Best(Phase.JOINT, 20, LATE, OptimizerState(), less, LOSSES, 2)
    outcome = after(index(Phase.JOINT, 3), less, BEST)
    assert (outcome.state.best.round, outcome.state.model) == (20, LATE)
    assert "of round 20, goes on" in outcome.record.reason


def test_slow_progress_adds_up() -> None:
    best = replace(BEST, losses={"a": 0.995, "b": 1.98}, round=19)
    found = after(index(Phase.JOINT, 3), {"a": 0.99, "b": 1.975}, best).state.best
    assert (found.round, found.mark, found.stalled) == (20, {"a": 0.99, "b": 1.975}, 0)


def test_before_patience_is_out_training_goes_on_from_the_newest_model() -> None:
    outcome = after(index(Phase.JOINT, 3), {"a": 1.0, "b": 2.0}, replace(BEST, stalled=1))
    assert outcome.state.best == replace(BEST, stalled=2)
    assert outcome.state.step == index(Phase.JOINT, 3) + 1
    assert outcome.state.model.digest != EARLY.digest


def test_when_patience_is_out_the_best_goes_on_and_the_rest_of_the_phase_is_left_out() -> None:
    here = index(Phase.JOINT, 3)
    outcome = after(here, {"a": 1.0, "b": 2.0}, BEST)
    stopped, record = outcome.state, outcome.record
    assert (stopped.model, stopped.optimizer, stopped.best.stalled) == (EARLY, MOMENTUM, 3)
    assert (stopped.finished, stopped.skips, record.model) == (21, 0, EARLY.digest)
    assert [f"{s.phase.value}: {s.label}" for s in PLAN[stopped.step :]] == [
        *(f"joint: refresh {i}/3" for i in (1, 2, 3)),
        "calibrate: moments",
        "calibrate: calibrate",
    ]
    assert record.reason == (
        "stopped early: 3 rounds in a row lowered the held-out loss by less than 1%; the best model, of round 17, goes "
        "on; training rounds left out: 4"
    )


def test_the_warm_up_that_stops_early_is_followed_by_seeding() -> None:
    here = index(Phase.PRETRAIN, 4)
    stopped = after(here, {"a": 1.0, "b": 2.0}, replace(BEST, phase=Phase.PRETRAIN)).state
    assert (PLAN[stopped.step].action, stopped.model) == (Action.CENTRE, EARLY)


def test_in_the_last_round_of_a_phase_there_is_nothing_to_leave_out_but_the_best_goes_on() -> None:
    outcome = after(index(Phase.PRETRAIN, 5), {"a": 1.0, "b": 2.0}, replace(BEST, phase=Phase.PRETRAIN))
    assert (outcome.state.step, outcome.state.model) == (index(Phase.PRETRAIN, 5) + 1, EARLY)
    assert outcome.record.reason.endswith("left out: 0")


def test_what_was_said_of_the_clusters_of_a_model_that_is_given_up_is_not_reported() -> None:
    sparse = settings(rounds=ROUNDS, recipe={"clustering": {"clusters": 3, "unit": 20, "refresh_every": 4}})
    step = next(s for s in phases.plan(sparse) if s.phase is Phase.JOINT and phases.wants_statistic(s, sparse))
    said = told({"a": 1.0, "b": 2.0}, Statistic(np.full((K, Z), 0.5), np.full(K, 4.0), 1.0))
    for best, reported in ((BEST, False), (replace(BEST, stalled=0), True)):
        outcome = settle(state(20, best), step, sparse, said)
        assert (outcome.record.clusters is not None) is reported


@pytest.mark.parametrize(
    "other",
    [
        {"rounds": {**ROUNDS, "patience": 0}},
        {
            "rounds": {**ROUNDS, "weighting": "uniform"},
            "recipe": {"privacy": {"mode": "central", "epsilon": 1.0}, "clustering": {"clip": "cloud"}},
        },
    ],
    ids=["off", "differential privacy"],
)
def test_where_it_is_off_or_losses_are_noise_nothing_is_watched(other: dict[str, object]) -> None:
    config = settings(**other)
    found = stopping.judge(state(9, BEST), PLAN[index(Phase.JOINT, 3)], config, told({"a": 9.0}).reports)
    assert (found.best, found.next) == (BEST, None)


def test_a_round_in_which_nobody_measured_anything_says_nothing() -> None:
    reports = (PlantReport("a", False, "late: 60 s", {"holdout_loss": 0.1}), PlantReport("b", True))
    assert stopping.judge(state(9, BEST), PLAN[index(Phase.JOINT, 3)], CONFIG, reports) == stopping.Verdict(BEST)
    refresh = next(s for s in PLAN if s.action is Action.REFRESH)
    assert after(9, {"a": 9.0, "b": 9.0}, BEST, step=refresh).state.best is BEST


def test_by_default_plants_that_trust_each_other_wait_five_rounds() -> None:
    assert RoundConfig().patience == 5
    assert RoundConfig(aggregation="robust", weighting="uniform").patience == 0
    assert RoundConfig(server_optimizer="fedadam").patience == 0
