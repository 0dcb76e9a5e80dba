"""Members of an ensemble: who trains which, how a request says so, and how the server keeps them apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.agent.service import PlantAgent
from server.aggregate import Fold
from server.coordinator import Coordinator
from server.members import fold_with_members, places_of, size_of
from server.robust import fold_for
from server.rounds import Member, RunState
from shared.config import RoundConfig
from shared.ensemble import member_of, place_in, places, trained_by
from shared.model import GlobalModel, Weights
from shared.wire.gate import Accepted
from simulations.generate import generate
from tests.support.plants import Loopback, Memory, settings

NAMES = ("out.weight", "members.0.a", "members.0.b", "members.1.a", "members.2.a")


@given(count=st.integers(1, 20), members=st.integers(1, 20))
def test_every_member_has_a_plant_and_every_plant_a_member(count: int, members: int) -> None:
    turns = [trained_by(place, count, members) for place in range(count)]
    assert all(turns)
    assert {member for turn in turns for member in turn} == set(range(members))
    if count == members:
        assert turns == [(place,) for place in range(count)]
    if count <= members:
        assert sum(map(len, turns)) == members


def test_places_follow_the_sorted_names_and_tell_none() -> None:
    told = places("run", ["west", "east", "north"])
    found = [place_in(told, "run", plant) for plant in ("east", "north", "west", "south")]
    assert found == [(0, 3), (1, 3), (2, 3), None]
    assert place_in(told, "another run", "east") is None
    assert not any(plant in told for plant in ("east", "north", "west"))


def model(**values: float) -> Weights:
    return {name: np.full(2, values.get(name.replace(".", "_"), 0.0), np.float32) for name in NAMES}


def state(*plants: str) -> RunState:
    return RunState("r", "d", model=GlobalModel(model()), members=tuple(Member(p, 9, 2, 1.0) for p in plants))


def reply(plant: str, **values: float) -> Accepted:
    return Accepted(plant, examples=9, weights=model(**values), update_norm=1.0)


def folded(fold: Fold, *replies: tuple[Accepted, float]) -> dict[str, float]:
    for accepted, weight in replies:
        fold.add(accepted, weight)
    return {name: float(value[0]) for name, value in (fold.result().weights or {}).items()}


def test_a_member_is_its_own_plants_and_the_rest_everybody_s() -> None:
    fold = fold_with_members(state("a", "b", "c"), RoundConfig())
    found = folded(
        fold,
        (reply("a", out_weight=1, members_0_a=5, members_0_b=6, members_1_a=50), 1.0),
        (reply("b", out_weight=4, members_1_a=7, members_0_a=70), 2.0),
        (reply("c", out_weight=1, members_2_a=8), 3.0),
    )
    assert found == {"out.weight": 2.0, "members.0.a": 5, "members.0.b": 6, "members.1.a": 7, "members.2.a": 8}


def test_plants_a_turn_apart_share_a_member_by_their_weights() -> None:
    fold = fold_with_members(state("a", "b", "c", "d"), RoundConfig())
    found = folded(fold, (reply("a", members_0_a=1), 1.0), (reply("b"), 1.0), (reply("d", members_0_a=5), 3.0))
    assert found["members.0.a"] == 4.0


def test_a_member_whose_plant_is_silent_stays() -> None:
    begun = state("a", "b", "c")
    sent = replace(begun, model=GlobalModel(model(members_1_a=3.5)))
    found = folded(fold_with_members(sent, RoundConfig()), (reply("a", members_0_a=1), 1.0))
    assert (found["members.0.a"], found["members.1.a"]) == (1.0, 3.5)
    gradients = RoundConfig(server_optimizer="adam")
    assert folded(fold_with_members(sent, gradients), (reply("a", members_0_a=1), 1.0))["members.1.a"] == 0.0


@pytest.mark.parametrize("rule", ["robust", "median", "trimmed-mean"])
def test_a_robust_rule_holds_for_everybody_s_tensors_and_does_not_wipe_members_out(rule: str) -> None:
    rounds = RoundConfig.model_validate({"aggregation": rule})
    fold = fold_with_members(state("a", "b", "c"), rounds)
    replies = [
        (reply("a", out_weight=0.1, members_0_a=5), 1.0),
        (reply("b", out_weight=0.2, members_1_a=6), 1.0),
        (reply("c", out_weight=99, members_2_a=7), 1.0),
    ]
    found = folded(fold, *replies)
    assert found["out.weight"] == pytest.approx(0.2)
    assert [found[f"members.{e}.a"] for e in range(3)] == [5, 6, 7]
    assert any("nobody outvotes" in note for note in fold.result().notes)


def test_without_members_nothing_is_different() -> None:
    plain = RunState("r", "d", model=GlobalModel({"out.weight": np.zeros(2, np.float32)}))
    assert type(fold_with_members(plain, RoundConfig())) is type(fold_for(plain, RoundConfig()))
    assert places_of(plain) == places_of(RunState("r", "d")) == ""
    assert size_of(plain.model.weights if plain.model else {}) == 0


@pytest.mark.parametrize("rounds", [{}, {"aggregation": "robust"}, {"wire": "int8"}, {"server_optimizer": "adam"}])
def test_in_a_federation_every_plant_s_gan_survives_the_round_untouched(rounds: dict[str, object]) -> None:
    """With as many members as plants: what a plant sent of its member is what the next model has, bit for bit."""
    detector = {"name": "ewad", "members": 3, "window": 4, "hidden": 4, "latent": 2}
    run = settings(recipe={"detector": detector}, rounds={"pretrain": 1, "joint": 2, **rounds})
    channel, journal = Loopback([PlantAgent(site) for site in generate(3, 300, 3)]), Memory()
    done = Coordinator(run, channel, journal).run(RunState("r", run.digest))
    assert done.model is not None
    if "wire" in rounds or "server_optimizer" in rounds:  # changes and gradients travel, not weights
        firsts = {name: value for name, value in done.model.weights.items() if name.endswith("encoder.0.weight")}
        assert len({value.tobytes() for value in firsts.values()}) == 3
        return
    last = [p for p in channel.received if p.texts["kind"] == "train"][-3:]
    for place, packet in enumerate(sorted(last, key=lambda p: p.texts["plant"])):
        sent = {name.removeprefix("weights/"): raw for name, raw in packet.arrays.items()}
        own = [name for name in sent if member_of(name) == place]
        assert len(own) == len(done.model.weights) / 3
        for name in own:
            assert bytes(sent[name].data).endswith(np.asarray(done.model.weights[name], "<f4").tobytes()), name
