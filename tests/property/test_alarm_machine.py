"""The alarm machine under any sequence of events: what must hold whatever happens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client.edge.alarm_values import (
    Ack,
    AlarmRules,
    AlarmState,
    Broken,
    Event,
    Judged,
    Ordered,
    Shelve,
    Stalled,
    Told,
    Unshelve,
)
from client.edge.alarms import WAITING, step
from client.edge.records import Part, Scored

TAGS = ("A", "B", "C", "ALL")
times = st.one_of(st.floats(0, 3000), st.sampled_from([-1e9, 0.0, 1e9, 4e9]))
scores = st.one_of(st.floats(-5, 5), st.sampled_from([float("inf"), 0.0, 2.0]))
rules = st.builds(
    lambda hits, extra, clear, rearm, group: AlarmRules(
        hits=hits, among=hits + extra, clear_s=clear, rearm_s=rearm, group_s=group
    ),
    st.integers(1, 3), st.integers(0, 3), st.sampled_from([0.0, 3.0]), st.sampled_from([0.0, 20.0]),
    st.sampled_from([0.0, 50.0]),
)  # fmt: skip


@st.composite
def judged(draw: st.DrawFn) -> Judged:
    score, guard = draw(scores), draw(st.one_of(st.none(), st.floats(0, 3)))
    part = Part(draw(st.sampled_from(TAGS[:3])), 1.0, 1, float("nan"), 1.0)
    mode = draw(st.one_of(st.none(), st.integers(0, 2)))
    made = Scored(draw(times), 0, score, 1.0, 0.1, 1.0, mode, (part,), "0" * 12, guard, None if guard is None else 1.0)
    free = made.raised_by if draw(st.booleans()) else ()
    below = score <= 0.9 and (guard is None or guard <= 0.9)
    return Judged(made, made.raised_by, free, below, draw(st.sampled_from(["fault", "shelved"])), draw(st.floats(0, 5)))  # type: ignore[arg-type]


orders = st.one_of(
    st.builds(Ack, st.sampled_from(["a-1", "i-1"]), st.just("ann")),
    st.builds(Shelve, st.sampled_from(TAGS), st.just("ann"), st.just("why"), st.one_of(st.none(), st.floats(0, 99))),
    st.builds(Unshelve, st.sampled_from(TAGS), st.just("ann")),
)
events = st.one_of(
    judged(),
    judged(),
    judged(),
    st.builds(Broken, times),
    st.builds(Stalled, times, st.booleans()),
    st.builds(Ordered, times, orders),
)


@given(st.lists(events, max_size=60), rules)
def test_whatever_happens_the_state_can_be_kept_and_is_bounded(
    given_events: list[Event], given_rules: AlarmRules
) -> None:
    state = AlarmState()
    for event in given_events:
        state, records = step(state, event, given_rules)
        assert AlarmState.parse(state.json) == state
        assert len(state.waiting) <= WAITING
        assert state.bits < 1 << given_rules.among
        for record in records:
            assert "nan" not in str(record.as_json()).lower().split("'")[::2]


@given(st.lists(events, max_size=60), rules)
def test_an_alarm_is_raised_once_and_cleared_at_most_once_between_returns(
    given_events: list[Event], given_rules: AlarmRules
) -> None:
    state, standing = AlarmState(), ""
    for event in given_events:
        state, records = step(state, event, given_rules)
        for told in (record for record in records if isinstance(record, Told)):
            if told.what in ("raised", "returned"):
                assert isinstance(event, Judged)
                assert event.by
                standing = told.alarm.id
            elif told.what == "cleared":
                assert isinstance(event, Judged)
                assert event.below
                assert told.alarm.id == standing
                standing = ""


@given(st.lists(events, max_size=60), rules, st.integers(0, 60))
def test_a_restart_in_the_middle_changes_nothing(given_events: list[Event], given_rules: AlarmRules, at: int) -> None:
    def through(cut: int | None) -> tuple[AlarmState, list[object]]:
        state, told = AlarmState(), []
        for number, event in enumerate(given_events):
            state = AlarmState.parse(state.json) if number == cut else state
            state, records = step(state, event, given_rules)
            told += [record.as_json() for record in records]
        return state, told

    assert through(at) == through(None)
