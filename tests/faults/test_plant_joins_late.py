"""A plant joins while a run is under way: it describes itself beside a round, and takes part from the next on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.config import RunConfig
from shared.schema import SensorSchema
from shared.wire.envelope import Packet
from tests.support.plants import settings
from tests.support.puppets import Act, Puppet, Stage, changed, play

NAMES = ("north", "south", "west")


def config(**rounds: object) -> RunConfig:
    return settings(rounds={"pretrain": 4, "joint": 1, "deadline_s": 60.0, **rounds})


def cast(absent: range = range(1, 4), **late: object) -> Stage:
    """Three plants of which west is away at first, which leaves it to join beside round 4."""
    first = [Puppet("north", step=0.01), Puppet("south", step=0.02)]
    return Stage([*first, Puppet("west", examples=300, step=0.03, away=absent, **late)])


def test_it_is_recorded_as_joined_and_asked_from_the_next_round_on() -> None:
    stage = cast()
    journal = play(stage, config())
    assert [r.joined for r in journal.records[:5]] == [(), (), (), ("west",), ()]
    joining = next(p for p in journal.records[3].plants if p.plant == "west")
    assert (joining.accepted, joining.reason) == (False, "joined: takes part from round 5 on")
    assert journal.records[3].accepted == ("north", "south")
    assert journal.records[3].rejected == ()
    assert all(r.accepted == NAMES for r in journal.records[4:])
    assert [len(nodes) for _, nodes in stage.sent[:5]] == [2, 2, 2, 2, 3]


def test_it_gets_the_current_model() -> None:
    stage = cast()
    journal = play(stage, config())
    sent, nodes = stage.sent[4]
    assert 2 in nodes
    assert sent.texts["model"] == journal.states[3].model.digest


def test_the_round_beside_which_it_joins_waits_for_nobody() -> None:
    journal = play(cast(delay_s=7.0), config())
    assert journal.records[3].seconds == 0.0
    assert [r.joined for r in journal.records if r.joined] == []  # rounds that take no time end before it has answered


def test_a_slow_newcomer_joins_in_whatever_round_it_answers() -> None:
    stage = cast(delay_s=7.0)
    stage.puppets[0].delay_s = 3.0
    journal = play(stage, config())
    assert [r.number for r in journal.records if r.joined] == [6]  # rounds of 3 s: asked beside 4, it answers during 6


def test_members_and_their_weights_are_part_of_the_state() -> None:
    journal = play(cast(), config(weighting="examples", weight_cap=2.0))
    assert [m.plant for m in journal.states[2].members] == ["north", "south"]
    assert [(m.plant, m.weight) for m in journal.states[3].members] == [
        ("north", 100.0),
        ("south", 100.0),
        ("west", 200.0),  # twice the median plant, as the cap has it
    ]


def test_the_quorum_counts_it_from_then_on() -> None:
    journal = play(cast(), config(quorum=1.0))
    lost: Act = lambda asked, reply: None if asked.numbers["round"] == 6 else reply  # noqa: E731
    stage = cast()
    stage.puppets[2] = replace(stage.puppets[2], act=lost)
    other = play(stage, config(quorum=1.0))
    assert journal.records[5].status.value == "committed"
    assert other.records[5].status.value == "skipped"
    assert "2 of 3 plants counted, the quorum is 3" in other.records[5].reason


@pytest.mark.parametrize("killed", [4, 5, 6])
def test_a_kill_around_the_joining_changes_nothing(killed: int) -> None:
    """Before the round with the joining is kept, after it, and after the newcomer's first own round."""
    undisturbed = play(cast(), config())
    before = play(cast(), config(), until=killed)
    assert len(before.records) == killed - 1
    after = play(cast(), config(), before.states[-1])
    assert [r.model for r in [*before.records, *after.records]] == [r.model for r in undisturbed.records]
    assert [r.joined for r in [*before.records, *after.records]] == [r.joined for r in undisturbed.records]
    assert after.states[-1].members == undisturbed.states[-1].members
    assert after.states[-1].model.digest == undisturbed.states[-1].model.digest


def test_it_joins_beside_a_round_that_is_skipped_too() -> None:
    lost: Act = lambda asked, reply: None if asked.numbers["round"] == 4 else reply  # noqa: E731
    stage = cast()
    stage.puppets[:2] = [replace(puppet, act=lost) for puppet in stage.puppets[:2]]
    journal = play(stage, config())
    assert journal.records[3].status.value == "skipped"
    assert journal.records[4].accepted == NAMES


def test_its_updates_change_the_model() -> None:
    alone = play(Stage(cast().puppets[:2]), config())
    with_it = play(cast(), config())
    assert [r.model for r in alone.records[:4]] == [r.model for r in with_it.records[:4]]
    assert alone.records[4].model != with_it.records[4].model


OTHER = SensorSchema(tags=("FIT101", "PIT501"), period_s=1.0)


def test_one_that_does_not_fit_is_told_why_and_never_asked() -> None:
    stage = cast(schema=OTHER)
    journal = play(stage, config())
    told = next(p for p in journal.records[3].plants if p.plant == "west")
    assert "missing LIT101" in told.reason
    assert OTHER.fingerprint in told.reason
    assert stage.puppets[0].schema.fingerprint in told.reason
    assert {nodes for _, nodes in stage.sent} == {(0, 1)}
    assert [m.plant for m in journal.states[-1].members] == ["north", "south"]


def test_one_that_does_not_fit_is_heard_again_ever_more_seldom() -> None:
    stage = cast(range(1, 3), schema=OTHER)
    play(stage, config(pretrain=30, patience=0))
    assert [packet.numbers["round"] for packet, _ in stage.beside] == [3, 4, 6, 10, 18, 34]


def test_one_that_is_mended_joins() -> None:
    stage = cast(range(1, 3))

    def mended(asked: Packet, reply: Packet) -> Packet:
        schema = OTHER.json.decode() if asked.numbers["round"] < 6 else reply.texts.get("schema")
        return changed(reply, texts={"schema": schema})

    stage.puppets[2] = replace(stage.puppets[2], act=mended)
    journal = play(stage, config(pretrain=6))
    assert [r.number for r in journal.records if r.joined] == [6]


def test_a_name_that_is_taken_does_not_join() -> None:
    stage = Stage([Puppet("north"), Puppet("south"), Puppet("north", step=0.5, away=range(1, 4))])
    journal = play(stage, config())
    told = next(p for p in journal.records[3].plants if p.plant == "north (node 2)")
    assert told.reason == "name: node 0 is called 'north' too, and is asked instead"
    assert {nodes for _, nodes in stage.sent} == {(0, 1)}


def test_two_newcomers_of_one_name_are_one_plant() -> None:
    late = [Puppet("west", step=0.03, away=range(1, 4)), Puppet("west", step=0.5, away=range(1, 4))]
    journal = play(Stage([Puppet("north"), Puppet("south"), *late]), config())
    assert [m.plant for m in journal.states[-1].members] == list(NAMES)
    assert [p.plant for p in journal.records[3].plants] == ["north", "south", "west", "west (node 3)"]


def test_nobody_joins_beside_the_last_round() -> None:
    rounds = len(play(cast(), config()).records)
    stage = cast(range(1, rounds))
    journal = play(stage, config())
    assert journal.records[-1].joined == ()
    assert stage.beside == []


def test_a_rejected_description_joins_nothing() -> None:
    rubbish: Act = lambda asked, reply: changed(reply, texts={"schema": "{}"})  # noqa: E731
    journal = play(cast(act=rubbish), config())
    told = next(p for p in journal.records[3].plants if p.plant == "west")
    assert told.reason == "an unreadable schema or manifest."
    assert len(journal.states[-1].members) == 2


def test_the_order_of_nodes_changes_not_one_bit() -> None:
    puppets = [*cast().puppets, Puppet("east", examples=40, step=-0.07, away=range(1, 4))]
    models = []
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
        journal = play(Stage([puppets[i] for i in order]), config())
        models.append([(r.model, r.joined) for r in journal.records])
    assert models[0] == models[1] == models[2]
    assert np.array([joined for _, joined in models[0][3:4]]).tolist() == [["east", "west"]]
