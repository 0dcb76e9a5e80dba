"""A plant is away for some rounds and comes back: nobody waits for it meanwhile, and it is asked again at once."""

from __future__ import annotations

import pytest

from shared.config import RunConfig
from shared.errors import RunFailed
from tests.support.plants import settings
from tests.support.puppets import Act, Puppet, Stage, play

NAMES = ("north", "south", "west")


def config(**rounds: object) -> RunConfig:
    return settings(rounds={"pretrain": 6, "joint": 1, "deadline_s": 1000.0, **rounds})


def cast(away: range = range(3, 6)) -> Stage:
    return Stage([Puppet("north", step=0.01), Puppet("south", step=0.02), Puppet("west", step=0.03, away=away)])


def told(journal: object, number: int, plant: str = "west") -> str | None:
    record = journal.records[number - 1]  # type: ignore[attr-defined]
    return next(p for p in record.plants if p.plant == plant).reason


def test_it_is_named_as_absent_and_asked_again_when_it_is_there() -> None:
    stage = cast()
    journal = play(stage, config())
    counted = [r.accepted == NAMES for r in journal.records[:8]]
    assert counted == [True, True, False, False, False, True, True, True]
    assert {told(journal, number) for number in (3, 4, 5)} == {"absent: not connected"}
    assert stage.now == 0.0  # nobody waited


def test_one_that_returned_and_left_again_is_absent_and_nothing_else() -> None:
    """What is said of a plant in one round is not said of it in a later one."""
    stage = cast(range(3, 99))
    stage.puppets.append(Puppet("west", step=0.03, away={*range(1, 5), 7, 8}))
    journal = play(stage, config())
    assert told(journal, 5).startswith("returned")
    assert journal.records[5].accepted == NAMES
    assert {told(journal, 7), told(journal, 8)} == {"absent: not connected"}


def test_the_run_goes_on_as_if_it_had_been_silent() -> None:
    silent: Act = lambda asked, reply: None if asked.numbers["round"] in range(3, 6) else reply  # noqa: E731
    other = Stage([*cast().puppets[:2], Puppet("west", step=0.03, act=silent)])
    assert [r.model for r in play(cast(), config()).records] == [r.model for r in play(other, config()).records]


def test_one_that_comes_back_as_another_node_takes_its_place_again() -> None:
    """Without registered keys a restarted node has another number."""
    stage = cast(range(3, 99))
    stage.puppets.append(Puppet("west", step=0.03, away=range(1, 5)))
    journal = play(stage, config())
    assert told(journal, 5) == "returned: takes part from round 6 on"
    assert journal.records[5].accepted == NAMES
    assert stage.sent[5][1] == (0, 1, 3)
    assert journal.records[4].joined == ()


def keyed() -> Stage:
    stage = cast()
    stage.keyed = True
    return stage


@pytest.mark.parametrize("killed", [3, 4, 5, 6, 7])
def test_a_kill_while_it_is_away_changes_nothing(killed: int) -> None:
    """Known by its key, it is asked at once when it comes back, also by a process that never saw it before."""
    undisturbed = play(keyed(), config())
    before = play(keyed(), config(), until=killed)
    after = play(keyed(), config(), before.states[-1])
    assert [r.model for r in [*before.records, *after.records]] == [r.model for r in undisturbed.records]
    assert [r.accepted for r in after.records] == [r.accepted for r in undisturbed.records[killed - 1 :]]


def test_without_keys_a_new_process_hears_first_who_it_is() -> None:
    before = play(cast(), config(), until=4)
    after = play(cast(), config(), before.states[-1])
    assert told(after, 3) == "returned: takes part from round 7 on"  # in round 6, the third of that process
    assert after.records[3].accepted == NAMES


# ---- it leaves while it is waited for --------------------------------------------------------------------------------


def leaving(at: float, quick: int = 2) -> Stage:
    """West takes 900 s for everything from round 2 on, and disconnects at some time."""

    def slow(puppet: Puppet) -> Act:
        def act(asked, reply):  # type: ignore[no-untyped-def]
            puppet.delay_s = 900.0 if asked.numbers["round"] > 1 else 0.0
            return reply

        return act

    puppets = [Puppet("north", step=0.01), Puppet("south", step=0.02), Puppet("west", step=0.03)]
    for puppet in puppets[quick:]:
        puppet.act = slow(puppet)
    return Stage(puppets, leaves=dict.fromkeys(range(quick, 3), at))


def test_after_the_quorum_it_is_given_up_within_seconds() -> None:
    journal = play(leaving(at=12.0), config(grace_s=500.0))
    assert journal.records[1].accepted == ("north", "south")
    assert 15.0 <= journal.records[1].seconds <= 25.0  # and not the 500 s of the grace period
    assert told(journal, 2) == "absent: it disconnected during the round"
    assert told(journal, 3) == "absent: not connected"


def test_without_a_grace_period_too() -> None:
    assert play(leaving(at=12.0), config()).records[1].seconds <= 25.0  # and not the deadline of 1000 s


def test_before_the_quorum_it_has_a_minute_to_come_back() -> None:
    stage = leaving(at=12.0, quick=1)
    with pytest.raises(RunFailed):
        play(stage, config(max_skips=1))
    assert 70.0 <= stage.now <= 85.0


def test_one_that_is_slow_but_there_is_waited_for() -> None:
    journal = play(leaving(at=10**9), config())
    assert journal.records[1].accepted == NAMES
    assert journal.records[1].seconds == 900.0


def test_a_blink_is_no_leaving() -> None:
    """Away at one look and there at the next: the node is waited for on."""

    class Blinking(Stage):
        def _connected(self, node: int) -> bool:
            return super()._connected(node) and not (node == 2 and 9.0 < self.now < 11.0)

    stage = leaving(at=10**9)
    journal = play(Blinking(stage.puppets), config())
    assert journal.records[1].accepted == NAMES


# ---- too few are there -----------------------------------------------------------------------------------------------


def test_a_round_waits_for_as_many_as_the_quorum_needs() -> None:
    """Three skips in a row fail a run: without members it must not use them up in a second."""
    stage = Stage([Puppet(name, step=0.01) for name in NAMES])

    class Night(Stage):
        def _connected(self, node: int) -> bool:
            return node == 0 or self.rounds_done < 2 or self.now >= 90.0

    journal = play(Night(stage.puppets), config())
    assert {r.status.value for r in journal.records} == {"committed"}
    assert journal.records[2].timings["muster"] == pytest.approx(90.0, abs=2.0)
    assert journal.records[2].accepted == NAMES


def test_it_does_not_wait_for_ever() -> None:
    stage = cast()
    for puppet in stage.puppets[1:]:
        puppet.away = range(3, 99)
    with pytest.raises(RunFailed, match="1 of 3 plants counted, the quorum is 2; skipped 3 times in a row"):
        play(stage, config())
    assert stage.now == pytest.approx(3 * 120.0, abs=5.0)
