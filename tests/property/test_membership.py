"""Whoever comes, goes, is slow or is killed: the same rounds give the same models, in any order of nodes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config import RunConfig
from tests.support import plants
from tests.support.puppets import Chronicle, Puppet, Stage, play

ROUNDS = 6
absences = st.lists(st.sets(st.integers(1, ROUNDS), max_size=4), min_size=3, max_size=5)
delays = st.lists(st.sampled_from([0.0, 0.5, 3.0, 40.0]), min_size=5, max_size=5)


def config() -> RunConfig:
    rounds = {"pretrain": ROUNDS, "joint": 0, "deadline_s": 30.0, "quorum": 0.1, "max_skips": 99, "grace_s": 10.0}
    short = {"clustering": {"seed_steps": 1, "refine_steps": 1}}
    return plants.settings(rounds=rounds, recipe=short)


def cast(away: list[set[int]], slow: list[float], order: list[int]) -> Stage:
    puppets = [
        Puppet(f"p{i}", examples=50 + 30 * i, step=0.01 / (i + 3), away=frozenset(rounds - {1} if i < 2 else rounds))
        for i, rounds in enumerate(away)
    ]
    for puppet, delay in zip(puppets, slow, strict=False):
        puppet.delay_s = delay
    return Stage([puppets[i] for i in order if i < len(puppets)], keyed=True)


def story(journal: Chronicle) -> list[object]:
    return [
        (r.model, r.metrics, r.status, r.reason, r.joined, [(p.plant, p.accepted, p.reason) for p in r.plants])
        for r in journal.records
    ]


@settings(max_examples=10)
@given(absences, delays, st.permutations(range(5)))
def test_the_order_of_nodes_changes_not_one_bit(away: list[set[int]], slow: list[float], order: list[int]) -> None:
    slow = [min(delay, 3.0) if i < 2 else delay for i, delay in enumerate(slow)]
    first = play(cast(away, slow, list(range(5))), config())
    assert story(play(cast(away, slow, order), config())) == story(first)


@settings(max_examples=10)
@given(absences, st.integers(2, ROUNDS + 1))
def test_a_kill_at_any_round_changes_not_one_bit(away: list[set[int]], killed: int) -> None:
    quick, order = [0.0] * 5, list(range(5))
    undisturbed = play(cast(away, quick, order), config())
    before = play(cast(away, quick, order), config(), until=killed)
    after = play(cast(away, quick, order), config(), before.states[-1])
    assert story(before) + story(after) == story(undisturbed)
    assert [m.plant for m in after.states[-1].members] == [m.plant for m in undisturbed.states[-1].members]


@settings(max_examples=10)
@given(absences)
def test_whoever_joined_is_a_member_from_then_on_and_once(away: list[set[int]]) -> None:
    journal = play(cast(away, [0.0] * 5, list(range(5))), config())
    joined = [name for record in journal.records for name in record.joined]
    assert len(joined) == len(set(joined))
    members = {m.plant for m in journal.states[0].members}
    for record, state in zip(journal.records[1:], journal.states[1:], strict=True):
        members |= set(record.joined)
        assert {m.plant for m in state.members} == members
        assert set(record.accepted) <= members - set(record.joined)
        assert [m.plant for m in state.members] == sorted(members)
