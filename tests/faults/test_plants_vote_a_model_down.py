"""Fault: the global model gets worse at most plants (a bug, an attack, a bad setting); their vote takes it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.agent.service import PlantAgent
from server.rounds import RoundRecord, RunState
from shared.config import RunConfig
from shared.wire.envelope import Packet, decode_array, encode_array
from tests.support import plants
from tests.support.plants import Loopback, Memory, conduct, killed_after_every_round
from tests.support.puppets import changed
from tests.support.tampering import sites

RUINED = "train 2/4"


def config() -> RunConfig:
    rounds = {"pretrain": 3, "joint": 4, "vote_every": 1, "aggregation": "mean", "deadline_s": 1.0, "max_skips": 3}
    return plants.settings(rounds=rounds, recipe={"training": {"learning_rate": 0.01}})


def ruin(step: int) -> object:
    """In one training round all plants send weights that are far off, but within every bound."""

    def tamper(plant: str, reply: Packet) -> Packet:
        if reply.texts["kind"] != "train" or steps.pop(0) != step:
            return reply
        noise = np.random.default_rng(0)
        arrays = {
            name: encode_array(
                (decode_array(raw, raw.shape) + noise.normal(size=raw.shape)).astype(np.float32)  # type: ignore[operator]
            )
            for name, raw in reply.arrays.items()
            if name.startswith("weights/")
        }
        return changed(reply, arrays=arrays)

    steps = [step for round_ in range(99) for step in [round_] * 3]
    return tamper


def losses(records: list[RoundRecord]) -> list[float]:
    return [r.metrics["holdout_loss"] for r in records if "holdout_loss" in r.metrics]


@pytest.fixture(scope="module")
def voted() -> tuple[RunState, Memory]:
    journal = Memory()
    channel = Loopback([PlantAgent(site) for site in sites()], ruin(4))  # type: ignore[arg-type]
    return conduct(channel, journal, config()), journal


def test_the_round_after_is_skipped_and_the_model_is_the_one_before(voted: tuple[RunState, Memory]) -> None:
    _, journal = voted
    at, skipped = next((i, r) for i, r in enumerate(journal.records) if r.status.value == "skipped")
    ruined = next(i for i, r in enumerate(journal.records) if r.label == RUINED)
    anchor = journal.states[at - 1].anchor
    assert anchor is not None
    assert skipped.reason is not None
    assert skipped.reason.startswith("vote: 0 of 3 plants do not regress, 2 are needed")
    assert skipped.reason.endswith(f"back to the model of round {anchor.round}")
    assert skipped.label == "train 3/4"
    assert anchor.round == ruined  # the number of the round before, which counts from 1
    assert skipped.model == journal.records[ruined - 1].model == anchor.model.digest
    assert len([r for r in journal.records if r.status.value == "skipped"]) == 1


def test_the_run_ends_better_than_without_a_vote(voted: tuple[RunState, Memory]) -> None:
    free = config().model_copy(update={"rounds": config().rounds.model_copy(update={"vote_every": 0})})
    journal = Memory()
    conduct(Loopback([PlantAgent(site) for site in sites()], ruin(4)), journal, free)  # type: ignore[arg-type]
    assert all(r.status.value == "committed" for r in journal.records)
    assert losses(voted[1].records)[-1] < 0.8 * losses(journal.records)[-1]


def test_a_clean_run_is_never_voted_down_and_the_same_with_votes_as_without() -> None:
    ended = []
    for every in (0, 1, 2):
        settings = config().model_copy(update={"rounds": config().rounds.model_copy(update={"vote_every": every})})
        journal = Memory()
        conduct(Loopback([PlantAgent(site) for site in sites()]), journal, settings)
        ended.append([(r.status.value, r.model) for r in journal.records])
    assert ended[0] == ended[1] == ended[2]


@pytest.mark.parametrize("aggregation", ["mean", "robust"])
def test_a_run_killed_after_any_round_goes_on_bit_for_bit(tmp_path: Path, aggregation: str) -> None:
    """Norms, anchor and its moments come back from the store."""
    settings = plants.settings(
        rounds={
            **config().rounds.model_dump(),
            "pretrain": 2,
            "joint": 3,
            "aggregation": aggregation,
            "weighting": "uniform",
            "server_optimizer": "adam",
            "server_learning_rate": 0.05,
        }
    )
    agents = [PlantAgent(site) for site in sites()]
    whole = Memory()
    conduct(Loopback(agents), whole, settings)
    assert whole.states[-1].anchor is not None
    assert bool(whole.states[-1].norms) == (aggregation == "robust")
    records, state = killed_after_every_round(agents, settings, tmp_path, len(whole.records))
    assert [r.model for r in records] == [r.model for r in whole.records]
    last = whole.states[-1]
    assert last.anchor is not None
    assert state.anchor is not None
    assert (state.norms, state.anchor.losses, state.anchor.round) == (last.norms, last.anchor.losses, last.anchor.round)
    assert state.anchor.model.digest == last.anchor.model.digest
    assert state.anchor.optimizer.step == last.anchor.optimizer.step
