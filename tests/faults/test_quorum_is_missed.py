"""Fault: too few plants answer usefully: the round is skipped, tried again, and after a few times the run fails."""

from __future__ import annotations

import pytest

from server.rounds import Status
from shared.errors import RunFailed
from shared.wire.envelope import Packet
from tests.support.plants import Memory, federate
from tests.support.puppets import changed
from tests.support.tampering import (
    CULPRIT,
    TRAIN_ROUND,
    Change,
    conduct,
    config,
    lost,
    run,
    sites,
    told,
    undisturbed,
)


def refuse(reply: Packet) -> Packet:
    return changed(reply, texts={"refused": "CP-602 TaskGivenUp"})


def lie(reply: Packet) -> Packet:
    return changed(reply, numbers={"examples": 10**9})


@pytest.mark.parametrize(("change", "reason"), [(lost, "late: no reply"), (refuse, "CP-602"), (lie, "examples")])
def test_a_skipped_round_leaves_no_trace_but_its_record(change: Change, reason: str) -> None:
    state, journal = run(change, TRAIN_ROUND, ("south", CULPRIT))
    end, calm = undisturbed()
    skipped = journal.records[TRAIN_ROUND - 1]
    assert (skipped.status, skipped.accepted) == (Status.SKIPPED, ("north",))
    assert skipped.reason == "1 of 3 plants counted, the quorum is 2"
    assert all(reason in told(skipped, plant).reason for plant in ("south", CULPRIT))
    assert skipped.model == journal.records[0].model
    # The same step is tried again and gives what it would have given.
    assert [r.model for r in journal.records if r.status is Status.COMMITTED] == [r.model for r in calm.records]
    assert state.model.digest == end.model.digest
    assert [r.number for r in journal.records] == list(range(1, len(calm.records) + 2))


def test_a_round_of_the_seeding_is_skipped_as_cleanly() -> None:
    state, journal = run(lost, 6, ("south", CULPRIT))
    assert journal.records[5].status is Status.SKIPPED
    assert state.model.digest == undisturbed()[0].model.digest


def test_a_quorum_of_all_skips_for_one_that_is_missing() -> None:
    _, journal = run(lost, TRAIN_ROUND, quorum=1.0)
    assert journal.records[TRAIN_ROUND - 1].reason == "2 of 3 plants counted, the quorum is 3"
    assert told(journal.records[TRAIN_ROUND - 1]).reason.startswith("late")


def test_a_plant_that_stays_away_is_left_behind_not_waited_for_ever() -> None:
    state, journal, _ = federate(
        sites(), config(), lambda plant, reply: None if plant == CULPRIT and reply.numbers["round"] > 1 else reply
    )
    assert all(r.accepted == ("north", "south") for r in journal.records[1:])
    assert state.finished == len(journal.records)


def test_when_nobody_comes_back_the_run_fails_with_names() -> None:
    journal = Memory()

    def fall_silent(plant: str, reply: Packet) -> Packet | None:
        return reply if reply.numbers["round"] <= TRAIN_ROUND else None

    settings = config(max_skips=2)
    with pytest.raises(RunFailed, match=r"round 4 failed: 0 of 3 plants counted, the quorum is 2; skipped 2 times"):
        conduct(settings, journal, fall_silent)
    assert [r.status for r in journal.records[-2:]] == [Status.SKIPPED, Status.FAILED]
    assert {p.plant for p in journal.records[-1].rejected} == {"north", "south", CULPRIT}
    assert journal.states[-1].model.digest == journal.states[TRAIN_ROUND - 1].model.digest


def test_a_failed_run_can_be_continued_where_it_stopped() -> None:
    journal = Memory()
    settings = config(max_skips=1)
    with pytest.raises(RunFailed):
        conduct(settings, journal, lambda plant, reply: reply if reply.numbers["round"] <= TRAIN_ROUND else None)
    resumed = conduct(settings, Memory(), lambda plant, reply: reply, journal.states[-1])
    assert resumed.model.digest == undisturbed()[0].model.digest
