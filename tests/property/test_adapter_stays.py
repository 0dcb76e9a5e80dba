"""What a plant keeps to itself never crosses the wire: not by name, not by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.config import Recipe
from shared.detectors import build
from shared.wire.envelope import Packet
from shared.wire.inventory import REPLY, Kind, unlisted
from tests.support import differ
from tests.support.plants import Loopback, Memory

WIRES = ("fp32", "int8")


def whole_run(width: int, wire: str, keep: str) -> tuple[Loopback, list[PlantAgent], Recipe]:
    run = differ.config({"adapter": width, "keep": keep, "alone_epochs": 1}, rounds={"wire": wire})
    agents = [PlantAgent(site) for site in differ.sites()]
    channel = Loopback(agents)
    Coordinator(run, channel, Memory()).run(RunState("r", run.digest))
    return channel, agents, run.recipe


def numbers(packet: Packet) -> bytes:
    return b"".join(raw.data for raw in packet.arrays.values())


def kept(agent: PlantAgent) -> dict[str, Any]:
    """The adapter that an agent holds at the end of a run."""
    assert agent._bench is not None
    agent._adapters.load(agent._bench.detector, agent._bench.start, "r", {"no": np.zeros(1, np.float32)})
    return dict(agent._bench.detector.own_weights())


@settings(max_examples=4)
@given(width=st.integers(2, 9), wire=st.sampled_from(WIRES), keep=st.sampled_from(("federated", "better")))
def test_no_message_holds_any_part_of_an_adapter(width: int, wire: str, keep: str) -> None:
    channel, agents, recipe = whole_run(width, wire, keep)
    due = {spec.name: spec.shape for spec in build(recipe.detector, width).manifest()}
    for packet in channel.received:
        assert unlisted(packet, Kind(packet.texts["kind"]), REPLY) == []
        sent = {name.removeprefix("weights/"): raw.shape for name, raw in packet.arrays.items() if "weights/" in name}
        assert sent == (due if sent else {})
    everything = b"".join(map(numbers, [*channel.received, *channel.sent]))
    for agent in agents:
        for name, value in kept(agent).items():
            assert np.abs(value).sum() > 0, f"{name} never moved"
            assert value.tobytes() not in everything, f"{name} of {agent.name} travelled"


@pytest.mark.parametrize("wire", WIRES)
def test_every_plant_answers_with_the_same_tensors_however_many_tags_it_has(wire: str) -> None:
    channel, _, _ = whole_run(5, wire, "federated")
    trained = [p for p in channel.received if p.texts["kind"] == "train"]
    assert len({tuple(sorted((name, raw.shape) for name, raw in p.arrays.items())) for p in trained}) == 1
    assert len({p.payload_bytes for p in trained}) <= 2  # texts may differ by a plant's name
