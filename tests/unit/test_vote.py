from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from server import phases, vote
from server.aggregate import Aggregate
from server.phases import Action, Step
from server.rounds import Anchor, Committed, Member, OptimizerState, PlantReport, RunState, Skipped
from server.transition import Conducted, settle
from shared.clustering import Statistic
from shared.config import RunConfig
from shared.model import Clusters, GlobalModel, initial_weights
from tests.support.plants import settings
from tests.support.puppets import MANIFEST, SCHEMA

CONFIG = settings(rounds={"joint": 4, "vote_every": 1, "aggregation": "robust", "server_optimizer": "adam"})
K, Z = 3, CONFIG.recipe.detector.latent
CLUSTERS = Clusters(
    np.zeros((K, Z), np.float32), np.full(K, 1 / K, np.float32), np.ones(K, bool), np.zeros(K, np.int64), 0.5
)
OLD, NEW = (GlobalModel(initial_weights(MANIFEST, seed), CLUSTERS) for seed in (0, 1))
MOMENTS = OptimizerState(3, {"head.bias": np.ones(3, np.float32)}, {"head.bias": np.ones(3, np.float32)})
PLANTS = ("a", "b", "c")


# ---- the ballot ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("voters", "needed"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (9, 6)])
def test_two_thirds_must_not_regress(voters: int, needed: int) -> None:
    for against in range(voters + 1):
        now = {f"p{i}": 2.0 if i < against else 1.0 for i in range(voters)}
        votes = vote.ballot(dict.fromkeys(now, 1.0), now)
        assert (votes.needed, len(votes.against)) == (needed, against)
        assert votes.accepted == (voters - against >= needed)


def test_no_single_plant_of_three_or_more_can_stop_a_model() -> None:
    for voters in range(3, 12):
        now = {f"p{i}": 1e12 if i == 0 else 1.0 for i in range(voters)}
        assert vote.ballot(dict.fromkeys(now, 1.0), now).accepted


@pytest.mark.parametrize(("after", "against"), [(1.09, False), (1.10, False), (1.11, True), (0.0, False), (1e12, True)])
def test_ten_percent_more_loss_is_a_vote_against(after: float, against: bool) -> None:
    assert bool(vote.ballot({"a": 1.0}, {"a": after}).against) == against


def test_changes_are_bounded_and_only_plants_with_both_losses_vote() -> None:
    votes = vote.ballot({"a": 1.0, "b": 1.0, "gone": 1.0, "zero": 0.0}, {"a": 1e9, "b": 0.25, "new": 5.0, "zero": 1.0})
    assert dict(votes.changes) == {"a": 1.0, "b": -0.75, "zero": 1.0}


def test_the_worst_are_named_first() -> None:
    votes = vote.ballot({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.2, "b": 1.5, "c": 1.0})
    assert vote.in_words(votes) == "vote: 1 of 3 plants do not regress, 2 are needed (b +50%, a +20%)"


# ---- in the round state machine --------------------------------------------------------------------------------------


def at(action: Action = Action.TRAIN, index: int = 0, config: RunConfig = CONFIG) -> Step:
    last = phases.Phase.CALIBRATE if action is Action.CALIBRATE else phases.Phase.JOINT
    return [s for s in phases.plan(config) if s.action is action and s.phase is last][index]


def state(anchor: Anchor | None, model: GlobalModel = NEW) -> RunState:
    members = tuple(Member(name, 100, 11, 1.0) for name in PLANTS)
    return RunState(
        "run", CONFIG.digest, 20, 20, 0, model, MOMENTS, members, SCHEMA, MANIFEST, norms=(1.0,), anchor=anchor
    )


def told(losses: dict[str, float]) -> Conducted:
    reports = tuple(PlantReport(n, True, metrics={"holdout_loss": v, "update_norm": 1.0}) for n, v in losses.items())
    weights = {name: value + np.float32(0.1) for name, value in NEW.weights.items()}
    aggregate = Aggregate(weights, None, {}, len(losses), norms=(1.0,) * len(losses), bound=1.0)
    return Conducted(aggregate, reports, "2024-05-01", 1.0, {})


ANCHOR = Anchor(9, OLD, OptimizerState(), dict.fromkeys(PLANTS, 1.0))


def test_the_first_vote_makes_an_anchor_of_what_was_sent() -> None:
    outcome = settle(state(None), at(), CONFIG, told({"a": 1.0, "b": 2.0, "c": 3.0}))
    assert isinstance(outcome, Committed)
    assert outcome.state.anchor == Anchor(20, NEW, MOMENTS, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert outcome.state.model.digest != NEW.digest


def test_a_better_model_becomes_the_anchor() -> None:
    outcome = settle(state(ANCHOR), at(), CONFIG, told({"a": 0.9, "b": 1.05, "c": 0.8}))
    assert isinstance(outcome, Committed)
    assert (outcome.state.anchor.round, outcome.state.anchor.model) == (20, NEW)
    assert dict(outcome.state.anchor.losses) == {"a": 0.9, "b": 1.05, "c": 0.8}


def test_a_model_that_is_accepted_but_worse_does_not_move_the_anchor() -> None:
    """A frog that is boiled by 5 % a vote is compared with the cold water."""
    outcome = settle(state(ANCHOR), at(), CONFIG, told({"a": 1.05, "b": 1.05, "c": 0.5}))
    assert isinstance(outcome, Committed)
    assert outcome.state.anchor is ANCHOR
    again = settle(replace(outcome.state, model=NEW), at(), CONFIG, told({"a": 1.12, "b": 1.12, "c": 1.12}))
    assert isinstance(again, Skipped)


def test_a_model_that_is_voted_down_gives_way_to_the_anchor() -> None:
    outcome = settle(state(ANCHOR), at(), CONFIG, told({"a": 1.5, "b": 1.2, "c": 0.9}))
    assert isinstance(outcome, Skipped)
    after, record = outcome.state, outcome.record
    assert (after.model, after.optimizer, after.anchor) == (OLD, OptimizerState(), ANCHOR)
    assert (after.step, after.finished, after.skips, after.norms) == (20, 21, 1, (1.0,))
    assert record.model == OLD.digest
    assert record.reason == (
        "vote: 1 of 3 plants do not regress, 2 are needed (a +50%, b +20%); back to the model of round 9"
    )


def test_the_anchor_is_not_voted_on_again() -> None:
    """So the step that is tried again goes ahead, whatever plants say now: no run is held up for ever."""
    outcome = settle(state(ANCHOR, OLD), at(), CONFIG, told(dict.fromkeys(PLANTS, 50.0)))
    assert isinstance(outcome, Committed)
    assert dict(outcome.state.anchor.losses) == dict.fromkeys(PLANTS, 50.0)
    assert outcome.state.anchor.round == 9


def test_a_plant_that_was_away_keeps_its_last_loss_in_the_anchor() -> None:
    outcome = settle(state(ANCHOR), at(), CONFIG, told({"a": 0.5, "b": 0.5}))
    assert dict(outcome.state.anchor.losses) == {"a": 0.5, "b": 0.5, "c": 1.0}


def test_the_last_model_is_voted_on_by_its_calibration() -> None:
    calibrated = replace(told(dict.fromkeys(PLANTS, 1.5)), aggregate=Aggregate(None, None, {}, 3))
    outcome = settle(state(ANCHOR), at(Action.CALIBRATE), CONFIG, calibrated)
    assert isinstance(outcome, Skipped)
    again = settle(outcome.state, at(Action.CALIBRATE), CONFIG, calibrated)
    assert isinstance(again, Committed)
    assert again.state.model.digest == OLD.digest


def test_too_few_replies_hold_no_vote() -> None:
    outcome = settle(state(ANCHOR), at(), CONFIG, told({"a": 9.0}))
    assert outcome.record.reason == "1 of 3 plants counted, the quorum is 2"
    assert outcome.state.model is NEW


@pytest.mark.parametrize(("every", "due"), [(0, []), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (4, [0, 4])])
def test_when_votes_are_held(every: int, due: list[int]) -> None:
    config = settings(rounds={"pretrain": 2, "joint": 5, "vote_every": every})
    held = [s for s in phases.plan(config) if phases.votes(s, config)]
    assert [s.index for s in held if s.action is Action.TRAIN] == due
    assert [s.action for s in held[len(due) :]] == ([Action.CALIBRATE] if every else [])
    assert all(s.phase is not phases.Phase.PRETRAIN for s in held)


# ---- what a round says of itself -------------------------------------------------------------------------------------


def test_a_clipped_update_is_told_with_its_factor() -> None:
    conducted = told(dict.fromkeys(PLANTS, 1.0))
    loud = replace(conducted.reports[0], metrics={"holdout_loss": 1.0, "update_norm": 8.0})
    conducted = replace(conducted, reports=(loud, *conducted.reports[1:]))
    record = settle(state(None), at(), CONFIG, conducted).record
    assert [p.metrics.get("clipped") for p in record.plants] == [0.125, None, None]


def test_a_cluster_of_one_plant_is_flagged() -> None:
    total = Statistic(np.zeros((K, Z)), np.full(K, 10.0), 1.0)
    conducted = replace(told(dict.fromkeys(PLANTS, 1.0)), aggregate=Aggregate(None, total, {}, 3, plants_K=(3, 1, 1)))
    record = settle(state(None), at_refresh(), CONFIG, conducted).record
    assert record.clusters.plants == (3, 1, 1)
    assert record.reason == "clusters 1, 2 populated by one plant only: no low score there is worth trusting"
    plain = settings(rounds={"joint": 4})
    assert settle(state(None), at_refresh(), plain, conducted).record.reason is None


def at_refresh() -> Step:
    return next(s for s in phases.plan(CONFIG) if s.action is Action.REFRESH)


def test_what_the_aggregation_has_to_say_is_the_rounds_note() -> None:
    conducted = told(dict.fromkeys(PLANTS, 1.0))
    conducted = replace(conducted, aggregate=replace(conducted.aggregate, notes=("aggregation: plain mean",)))
    outcome = settle(state(None), at(), CONFIG, conducted)
    assert (outcome.record.status.value, outcome.record.reason) == ("committed", "aggregation: plain mean")
