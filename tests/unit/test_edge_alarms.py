"""The alarm machine: raised by k of m, cleared below the threshold, grouped, counted, shelved, acknowledged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from client.edge.alarm_values import (
    Ack,
    AlarmRules,
    AlarmState,
    Broken,
    Judged,
    Ordered,
    Shelve,
    Stalled,
    Told,
    Unshelve,
)
from client.edge.alarms import WAITING, step
from client.edge.records import Notice, Record
from tests.support.edge import scored

QUICK = AlarmRules(hits=2, among=3, clear_s=2.0, rearm_s=5.0, group_s=60.0)
START = 1_700_000_000.0


def judged(
    second: float, score: float, *, tags: Sequence[str] = ("LIT101",), cause: str = "", mode: int | None = 0
) -> Judged:
    """A score against a threshold of 1 and a clear level of 0.9; `cause`: all of it is a masked tag's."""
    by = ("federated",) if score > 1 else ()
    made = scored(int(second), score, tags=tags, time=START + second, mode=mode)
    return Judged(made, by, () if cause else by, score <= 0.9, cause or "fault", 1.0)  # type: ignore[arg-type]


def run(
    scores: Iterable[float], state: AlarmState | None = None, first: int = 0, rules: AlarmRules = QUICK, **more: object
) -> tuple[AlarmState, list[Record]]:
    state, records = state or AlarmState(), []
    for second, score in enumerate(scores, first):
        state, new = step(state, judged(second, score, **more), rules)  # type: ignore[arg-type]
        records += new
    return state, records


def told(records: Iterable[Record]) -> list[str]:
    return [r.what for r in records if isinstance(r, Told)]


def kinds(records: Iterable[Record]) -> list[str]:
    return [r.kind for r in records if isinstance(r, Notice)]


def test_one_score_above_the_threshold_is_pending_and_no_alarm() -> None:
    state, records = run([0, 2])
    assert (state.standing, records) == ("pending", [])
    assert run([0, 0, 0], state, 2)[0].standing == "normal"


def test_an_alarm_is_raised_by_k_of_m() -> None:
    state, records = run([0, 2, 0, 2])
    assert (state.standing, told(records)) == ("active", ["raised"])
    assert run([2, 0, 0, 2, 0, 0, 2])[1] == []
    assert state.current is not None
    assert (state.current.began, state.current.raised) == (START + 1, START + 3)


def test_an_alarm_waits_for_its_least_duration() -> None:
    rules = AlarmRules(hits=1, among=3, least_s=4.0)
    assert run([2, 2, 2, 2], rules=rules)[1] == []
    assert told(run([2, 2, 2, 2, 2], rules=rules)[1]) == ["raised"]


def test_an_alarm_clears_only_below_the_clear_level_and_for_long_enough() -> None:
    state, _ = run([2, 2])
    assert run([0.95] * 50, state, 2)[0].standing == "active"
    assert run([0.5, 0.5, 0.95] * 20, state, 2)[0].standing == "active"
    after, records = run([0.5] * 3, state, 2)
    assert (after.standing, told(records)) == ("cleared", ["cleared"])
    assert after.waiting[0].cleared == START + 4


def test_an_acknowledged_alarm_that_clears_is_over() -> None:
    state, records = run([2, 2])
    state, seen = step(state, Ordered(START + 2, Ack(records[0].alarm.id, "ann", "on my way")), QUICK)  # type: ignore[attr-defined]
    assert state.standing == "acknowledged"
    record = seen[0].as_json()
    assert (record["state"], record["by"], record["note"], record["acknowledged"]) == (
        "acknowledged", "ann", "on my way", START + 2,
    )  # fmt: skip
    state, records = run([0] * 3, state, 3)
    assert (state.standing, state.waiting, told(records)) == ("normal", (), ["cleared"])


def test_a_cleared_alarm_waits_until_somebody_has_seen_it() -> None:
    state, records = run([2, 2, 0, 0, 0])
    assert state.standing == "cleared"
    state, seen = step(state, Ordered(START + 9, Ack(records[0].alarm.incident, "ann")), QUICK)  # type: ignore[attr-defined]
    assert (state.standing, told(seen), seen[0].as_json()["state"]) == ("normal", ["acknowledged"], "cleared")


def test_who_acknowledges_what_is_not_there_is_told() -> None:
    state, records = step(AlarmState(), Ordered(START, Ack("a-1", "ann")), QUICK)
    assert (state, kinds(records)) == (AlarmState(), ["rejected"])


def test_what_comes_back_within_the_re_arm_time_is_the_same_alarm() -> None:
    state, first = run([2, 2, 0, 0, 0])
    back, records = run([2, 2], state, 5)
    assert told(records) == ["returned"]
    assert back.current is not None
    assert (back.current.id, back.current.returns, back.waiting) == (first[0].alarm.id, 1, ())  # type: ignore[attr-defined]
    later, records = run([2, 2], state, 30)
    assert later.current is not None
    assert later.current.id != first[0].alarm.id  # type: ignore[attr-defined]


def test_a_returned_alarm_is_unacknowledged_again() -> None:
    state, _ = run([2, 2])
    state, _ = step(state, Ordered(START, Ack(state.listed[0].id, "ann")), QUICK)
    state, _ = run([0, 0, 0, 2, 2], state, 2)
    assert (state.standing, state.listed[0].acked_by) == ("active", "")


def test_alarms_of_one_tag_or_mode_are_one_incident_and_others_are_not() -> None:
    def second(**more: object) -> tuple[str, str]:
        state, records = run([2, 2, 0, 0, 0])
        _, later = run([2, 2], state, 20, **more)
        return records[0].alarm.incident, later[0].alarm.incident  # type: ignore[attr-defined]

    assert len(set(second(tags=("LIT101",), mode=4))) == 1
    assert len(set(second(tags=("P101",), mode=0))) == 1
    assert len(set(second(tags=("P101",), mode=4))) == 2
    assert len(set(second(tags=("P101",), mode=None))) == 2


def test_a_thousand_alarms_of_one_tag_are_ten_messages() -> None:
    rules = AlarmRules(hits=1, among=1, clear_s=0.0, rearm_s=0.0, group_s=60.0, flood_count=1000)
    state, records = run([2, 0] * 1000, rules=rules)
    raised = [r for r in records if isinstance(r, Told) and r.what == "raised"]
    assert [r.incident.count for r in raised] == [2**n for n in range(10)]
    assert (state.incident.count, state.untold) == (1000, 990)  # type: ignore[union-attr]
    assert len(records) < 25


def test_a_flood_of_unlike_alarms_is_one_incident() -> None:
    rules = AlarmRules(hits=1, among=1, clear_s=0.0, rearm_s=0.0, group_s=60.0)
    state, records = AlarmState(), []
    for number in range(400):
        for second, score in ((2 * number, 2.0), (2 * number + 1, 0.0)):
            state, new = step(state, judged(second, score, tags=(f"T{number}",), mode=number), rules)
            records += new
    assert state.tally.flood
    assert state.incident is not None
    assert state.incident.flood
    assert len([r for r in records if isinstance(r, Told) and r.what == "raised"]) < 25
    assert kinds(records) == ["budget"]


def test_a_day_beyond_the_budget_is_told_once() -> None:
    rules = AlarmRules(hits=1, among=1, clear_s=0.0, rearm_s=0.0, group_s=0.0, budget_a_day=1.0)
    records = []
    state = AlarmState()
    for number in range(8):
        for second, score in ((4000 * number, 2.0), (4000 * number + 1, 0.0)):
            state, new = step(state, judged(second, score), rules)
            records += new
    assert kinds(records) == ["budget"]
    assert records[-1].as_json()["day"] == 8
    assert records[-1].as_json()["budget"] == 1.0


def test_a_faulty_tags_alarm_is_a_fault_and_does_not_count_against_the_budget() -> None:
    state, records = run([2, 2], cause="fault")
    assert (records[0].as_json()["type"], state.tally.times) == ("fault", ())


def test_a_fault_that_grows_beyond_the_faulty_tag_becomes_an_alarm() -> None:
    state, _ = run([2, 2], cause="fault")
    state, records = run([2, 2, 2], state, 2)
    assert [r.as_json()["type"] for r in records] == ["alarm"]


def test_a_shelf_holds_back_an_alarm_and_counts_it() -> None:
    state, records = step(AlarmState(), Ordered(START, Shelve("LIT101", "ann", "cleaning", for_s=100.0)), QUICK)
    assert kinds(records) == ["shelved"]
    state, records = run([2, 2, 2], state, cause="shelved")
    assert (records, state.standing, state.shelves[0].held) == ([], "normal", 1)


def test_what_a_shelf_held_back_is_raised_when_the_shelf_ends() -> None:
    state, _ = step(AlarmState(), Ordered(START, Shelve("LIT101", "ann", "cleaning", for_s=10.0)), QUICK)
    state, _ = run([2] * 5, state, cause="shelved")
    state, records = run([2] * 5, state, 10)
    assert kinds(records) == ["unshelved"]
    assert told(records) == ["raised"]


@pytest.mark.parametrize("clock", [200.0, -7200.0])
def test_a_shelf_ends_in_time_and_when_the_clock_goes_back(clock: float) -> None:
    state, _ = step(AlarmState(), Ordered(START, Shelve("ALL", "ann", "start-up", until=START + 100)), QUICK)
    state, records = step(state, judged(clock, 0.0), QUICK)
    assert (state.shelves, kinds(records)) == ((), ["unshelved"])


@pytest.mark.parametrize(
    "order",
    [
        Shelve("LIT101", "ann", "for ever", for_s=1e9),
        Shelve("LIT101", "ann", "past", until=START - 1),
        Shelve("LIT101", "ann", "no time", for_s=float("nan")),
        Shelve("ALL", "ann", "out of service"),
        Unshelve("LIT101", "ann"),
    ],
)
def test_an_order_that_makes_no_sense_changes_nothing_and_is_told(order: Shelve | Unshelve) -> None:
    state, records = step(AlarmState(), Ordered(START, order), QUICK)
    assert (state, kinds(records)) == (AlarmState(), ["rejected"])


def test_an_alarm_that_stands_when_its_tag_is_shelved_goes_on_standing() -> None:
    state, _ = run([2, 2])
    state, _ = step(state, Ordered(START + 2, Shelve("LIT101", "ann", "known", for_s=100.0)), QUICK)
    state, records = run([2] * 5, state, 3, cause="shelved")
    assert (state.standing, records) == ("active", [])


def test_a_stalled_source_neither_raises_nor_clears_and_says_so() -> None:
    state, _ = run([2, 2])
    state, records = step(state, Stalled(START + 2), QUICK)
    assert (state.standing, state.known, kinds(records)) == ("active", False, ["alarms"])
    assert step(state, Stalled(START + 3), QUICK) == (state, ())
    state, records = step(state, Stalled(START + 9000, over=True), QUICK)
    assert (state.standing, kinds(records)) == ("active", ["alarms"])


def test_a_gap_voids_what_was_pending() -> None:
    state, _ = run([0, 2])
    state, _ = step(state, Broken(START + 2), QUICK)
    assert (state.standing, run([2], state, 3)[1]) == ("normal", [])


def test_a_gap_keeps_what_stands() -> None:
    state, _ = run([2, 2])
    state, records = step(state, Broken(START + 2), QUICK)
    assert (state.standing, records) == ("active", ())


def test_an_infinite_score_can_be_kept_and_is_written_as_inf() -> None:
    state, records = run([float("inf")] * 2)
    assert records[0].as_json()["score"] == "inf"
    assert AlarmState.parse(state.json) == state


def test_unacknowledged_alarms_are_bounded_and_counted() -> None:
    rules = AlarmRules(hits=1, among=1, clear_s=0.0, rearm_s=0.0, group_s=0.0, flood_count=1000)
    state, _ = run([score for _ in range(WAITING + 7) for score in (2, 0)], rules=rules)
    assert (len(state.waiting), state.forgotten) == (WAITING, 7)


def test_an_alarm_carries_what_a_person_asks_for() -> None:
    _, records = run([2, 2], tags=("LIT101", "P101"))
    record = records[0].as_json()
    first = {"tag": "LIT101", "share": 0.5, "direction": 1, "reading": 2.0, "expected": 1.0}
    wanted = {
        "type": "alarm", "state": "active", "score": 2, "threshold": 1.0, "p": 0.001, "mode": 0,
        "models": ["federated"], "bundle": "0" * 12, "window": f"windows/{record['id']}.json",
    }  # fmt: skip
    assert {key: record[key] for key in wanted} == wanted
    assert record["sensors"][0] == first


def test_rules_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="hits must be at most"):
        AlarmRules(hits=5, among=3)
