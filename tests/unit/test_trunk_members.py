"""Who may be in a federation that shares a trunk: any tags, one network, and nobody whose sensors change on the way."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.membership import change, misfit
from server.rounds import Member, RunState
from server.store.codec import STATE
from server.store.export import model_card
from shared.errors import NoCompatiblePlants
from shared.model import TensorSpec
from shared.schema import SensorSchema
from shared.wire.envelope import Packet
from shared.wire.gate import Description
from tests.support import differ
from tests.support.plants import Loopback, Memory, federate

TRUNK = (TensorSpec("w", (2,), 0.5),)
OWN = SensorSchema(tags=("a",), period_s=1)


def test_plants_with_other_tags_found_a_federation() -> None:
    state, journal, _ = federate(differ.sites(), differ.config())
    assert journal.records[0].accepted == ("north", "south", "west")
    assert state.schema is None
    assert len({member.schema for member in state.members}) == 3
    assert model_card(state, differ.config(), "joint", "0" * 64)["schema"] is None


def test_they_are_refused_where_they_are_to_share_everything() -> None:
    with pytest.raises(NoCompatiblePlants):
        federate(differ.sites(), differ.config({"share": "all"}))


def test_a_plant_with_another_network_is_refused() -> None:
    def tampered(plant: str, reply: Packet) -> Packet:
        if plant != "west" or "manifest" not in reply.texts:
            return reply
        specs = json.loads(reply.texts["manifest"])
        specs[0][1][0] += 1
        return replace(reply, texts={**reply.texts, "manifest": json.dumps(specs)})

    journal = federate(differ.sites(), differ.config(), tampered)[1]
    (report,) = journal.records[0].rejected
    assert report.plant == "west"
    assert "another network" in str(report.reason)


def test_a_plant_whose_sensors_change_during_the_run_is_left_out() -> None:
    run, journal = differ.config(rounds={"joint": 3}), Memory()
    sites = differ.sites()
    agents = [PlantAgent(site) for site in sites]
    changed = PlantAgent(differ.site("west", tags=("Pressure", "Temperature", "Current", "Voltage")))

    class Swapped(Loopback):
        def send(self, packet: Packet, *arguments: object) -> None:
            if packet.numbers["round"] == 3:
                self.agents = [*agents[:2], changed]
            super().send(packet, *arguments)  # type: ignore[arg-type]

    Coordinator(run, Swapped(agents), journal).run(RunState("r", run.digest))
    told = [report.reason for record in journal.records for report in record.rejected]
    assert any("schema" in str(reason) for reason in told)
    assert journal.records[-1].accepted == ("north", "south")


def test_misfit_asks_for_the_trunk_alone() -> None:
    said = Description(OWN, TRUNK, 10, 2)
    assert misfit("p", said, None, TRUNK) is None
    assert "another network" in str(misfit("p", said, None, (TensorSpec("w", (3,), 0.5),)))
    state = RunState("r", "d", manifest=TRUNK)
    member = Member("p", 10, 2, 1.0, OWN.fingerprint)
    assert change(said, member, state) is None
    assert "its sensors were changed" in str(change(said, replace(member, schema="0" * 16), state))


def test_members_of_an_older_state_have_the_federations_sensors() -> None:
    stored = {"plant": "a", "examples": 3, "segments": 1, "weight": 1.0}
    assert STATE.decode(Member, stored, "a state") == Member("a", 3, 1, 1.0)
