"""A plant comes back with other tags or another detector: left out with both fingerprints, until it fits again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.membership import fingerprint
from server.rounds import RunState
from shared.config import RunConfig
from shared.errors import RunFailed
from shared.model import TensorSpec
from shared.schema import SensorSchema
from shared.wire.envelope import Packet
from tests.support.plants import Loopback, Memory, settings
from tests.support.puppets import MANIFEST, SCHEMA, Puppet, Stage, changed, play
from tests.support.tampering import CULPRIT, sites

OTHER = SensorSchema(tags=("FIT101", "LIT102"), period_s=1.0)  # as many tags, so the network fits
WIDE = (TensorSpec("head.bias", (3,), 0.5), TensorSpec("head.weight", (3, 5), 0.1))


def config(**rounds: object) -> RunConfig:
    return settings(rounds={"pretrain": 9, "joint": 1, "deadline_s": 60.0, **rounds})


class Changing(Puppet):
    """Another plant from one round on, until another."""

    other: Puppet
    during: range

    def answer(self, request: Packet) -> Packet:
        there = request.numbers["round"] in self.during
        return self.other.answer(request) if there else super().answer(request)


def cast(away: range, during: range, **change: object) -> Stage:
    west = Changing("west", step=0.03, away=away)
    west.other, west.during = Puppet("west", step=0.5, **change), during
    return Stage([Puppet("north", step=0.01), Puppet("south", step=0.02), west])


def reason(journal: object, number: int) -> str:
    record = journal.records[number - 1]  # type: ignore[attr-defined]
    return next(p for p in record.plants if p.plant == "west").reason or ""


def assert_both_named(told: str) -> None:
    assert OTHER.fingerprint in told
    assert SCHEMA.fingerprint in told


@pytest.mark.parametrize("away", [range(0), range(3, 5)])
def test_with_as_many_tags_of_other_names(away: range) -> None:
    """Whether its node was away or only its agent started anew: the first reply on other tags is refused."""
    journal = play(cast(away, range(3, 8), schema=OTHER), config())
    first = 3 + len(away)
    assert reason(journal, first).startswith("schema: computed on sensors with schema")
    assert_both_named(reason(journal, first))
    assert all(journal.records[i].accepted == ("north", "south") for i in range(2, 7))
    assert_both_named(reason(journal, first + 1))
    assert "unknown LIT102" in reason(journal, first + 2)  # by then it has described itself


def test_it_is_taken_back_when_it_fits_again() -> None:
    stage = cast(range(0), range(3, 6), schema=OTHER)
    journal = play(stage, config())
    counted = [r.number for r in journal.records if "west" in r.accepted]
    back = counted[counted.index(2) + 1]
    assert 6 < back <= 10
    assert reason(journal, back - 1) == f"returned: takes part from round {back} on"
    assert counted[counted.index(back) :] == list(range(back, len(journal.records) + 1))


def test_its_update_never_counted() -> None:
    """The run is the one in which it was silent for as long."""
    journal = play(cast(range(0), range(3, 99), schema=OTHER), config())
    quiet = Stage([Puppet("north", step=0.01), Puppet("south", step=0.02)])
    quiet.puppets.append(
        Puppet("west", step=0.03, act=lambda asked, reply: reply if asked.numbers["round"] < 3 else None)
    )
    assert [r.model for r in journal.records] == [r.model for r in play(quiet, config()).records]


def test_with_another_detector() -> None:
    """It refuses a model that is not its own, is asked what it is, and left out with both manifests."""

    class Refusing(Changing):
        def answer(self, request: Packet) -> Packet:
            reply = super().answer(request) if request.texts["kind"] == "describe" else Puppet.answer(self, request)
            wrong = request.numbers["round"] in self.during and request.texts["kind"] != "describe"
            return (
                changed(reply, arrays=dict.fromkeys(reply.arrays), texts={"refused": "CP-206 BadPayload"})
                if wrong
                else reply
            )

    west = Refusing("west", step=0.03)
    west.other, west.during = Puppet("west", manifest=WIDE), range(3, 99)
    journal = play(Stage([Puppet("north", step=0.01), Puppet("south", step=0.02), west]), config())
    assert reason(journal, 3) == "refused by the plant: CP-206 BadPayload"
    assert reason(journal, 5).startswith("detector: plant 'west' builds another network")
    assert fingerprint(WIDE) in reason(journal, 5)
    assert fingerprint(MANIFEST) in reason(journal, 5)


def test_at_a_restart_of_the_coordinator() -> None:
    before = play(cast(range(0), range(0)), config(), until=3)
    journal = play(cast(range(0), range(3, 5), schema=OTHER), config(), before.states[-1])
    told = next(p for p in journal.records[0].plants if p.plant == "west").reason
    assert told.startswith("schema: CP-203 SchemaMismatch: plant 'west'")
    assert_both_named(told)
    assert journal.records[-1].accepted == ("north", "south", "west")


def test_the_whole_federation_with_a_new_schema_does_not_train_on() -> None:
    """A run is over one schema: when all plants have another, its rounds have no quorum, and it fails in words."""
    stage = cast(range(0), range(3, 99), schema=OTHER)
    others = []
    for puppet in stage.puppets[:2]:
        one = Changing(puppet.name, step=puppet.step)
        one.other, one.during = replace(puppet, schema=OTHER), range(3, 99)
        others.append(one)
    stage.puppets[:2] = others
    with pytest.raises(RunFailed, match="0 of 3 plants counted"):
        play(stage, config())


@pytest.mark.parametrize(
    ("fingerprint", "telling"),
    [
        (None, "schema: the reply bears no fingerprint of its sensors: update the plant."),
        ("x" * 900, "schema: computed"),
    ],
)
def test_a_reply_that_does_not_say_on_which_sensors_is_refused(fingerprint: str | None, telling: str) -> None:
    def act(asked: Packet, reply: Packet) -> Packet:
        return changed(reply, texts={"fingerprint": fingerprint}) if asked.numbers["round"] == 3 else reply

    puppets = [Puppet("north", step=0.01), Puppet("south", step=0.02), Puppet("west", step=0.03, act=act)]
    journal = play(Stage(puppets), config())
    assert reason(journal, 3).startswith(telling)
    assert len(reason(journal, 3)) < 200
    assert journal.records[2].accepted == ("north", "south")


def test_the_real_agent_says_on_which_sensors_it_computed() -> None:
    """An agent that is started anew with a tag of another name, under the same coordinator."""
    run = settings(rounds={"pretrain": 3, "joint": 0})
    renamed = SensorSchema(tags=("FIT101", "LIT102"), period_s=1)
    data = sites()
    agents = [PlantAgent(site) for site in data]
    other = PlantAgent(replace(data[2], schema=renamed))

    class Restarting(Loopback):
        def send(self, packet, nodes, ttl_s, group):  # type: ignore[no-untyped-def]
            self.agents = agents if packet.numbers["round"] < 3 else [*agents[:2], other]
            super().send(packet, nodes, ttl_s, group)

    journal = Memory()
    channel = Restarting(agents)
    Coordinator(run, channel, journal, clock=channel.clock).run(RunState("test", run.digest))
    told = [next((p.reason for p in r.plants if p.plant == CULPRIT), None) for r in journal.records]
    assert told[1] is None
    assert told[2].startswith("schema: computed on sensors with schema")
    assert all(r.accepted == ("north", "south") for r in journal.records[2:])
    assert np.isfinite(journal.records[-1].metrics["holdout_loss"])
