"""The coordinator on a stage whose clock moves only while it waits: who is asked, waited for, judged, and named."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from server.coordinator import Coordinator
from server.phases import Step
from server.rounds import PlantReport, RoundRecord, RunState, Status
from shared.config import RunConfig
from shared.errors import InvalidConfig, NoCompatiblePlants, RunFailed
from shared.model import TensorSpec
from shared.schema import SensorSchema
from shared.wire.envelope import Packet
from tests.support.plants import Memory, settings
from tests.support.puppets import Act, Chronicle, Puppet, Stage, changed

NORTH, SOUTH, WEST, EAST = "north", "south", "west", "east"


def config(**rounds: object) -> RunConfig:
    """Two train rounds, then seeding; a minute for each."""
    return settings(rounds={"pretrain": 2, "joint": 0, "deadline_s": 60.0, **rounds})


def conduct(stage: Stage, settings_: RunConfig | None = None, state: RunState | None = None) -> tuple[RunState, Memory]:
    settings_ = settings_ or config()
    journal = Memory()
    start = state or RunState("run", settings_.digest)
    return Coordinator(settings_, stage, journal, clock=stage.clock).run(start), journal


def failing(stage: Stage, settings_: RunConfig, kind: type[Exception], telling: str) -> Memory:
    journal = Memory()
    with pytest.raises(kind, match=telling):
        Coordinator(settings_, stage, journal, clock=stage.clock).run(RunState("run", settings_.digest))
    return journal


def report(record: RoundRecord, plant: str) -> PlantReport:
    return next(p for p in record.plants if p.plant == plant)


def in_round(number: int, act: Act) -> Act:
    """Act in one round only."""
    return lambda asked, reply: act(asked, reply) if asked.numbers["round"] == number else reply


def silent(asked: Packet, reply: Packet) -> None:
    return None


# ---- a run without trouble -------------------------------------------------------------------------------------------


def test_a_run_without_trouble() -> None:
    stage = Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST)])
    state, journal = conduct(stage)
    assert [r.number for r in journal.records] == list(range(1, len(journal.records) + 1))
    assert {r.status for r in journal.records} == {Status.COMMITTED}
    assert all(r.accepted == (NORTH, SOUTH, WEST) for r in journal.records)
    assert state.finished == len(journal.records)
    assert journal.states[-1] == state
    assert stage.now == 0.0  # nobody was waited for


def test_the_mean_is_weighted_by_examples() -> None:
    stage = Stage([Puppet(NORTH, examples=100, step=0.0), Puppet(SOUTH, examples=300, step=0.04)])
    _, journal = conduct(stage)
    before, after = journal.states[0].model.weights, journal.states[1].model.weights
    for name, value in before.items():
        np.testing.assert_allclose(after[name] - value, 0.03, atol=1e-6)
    assert journal.records[1].metrics["train_loss"] == 0.5


def test_plants_that_answer_in_another_order_give_the_same_bits() -> None:
    def losing(loss: float) -> Act:
        """Losses of many sizes: rounding shows in which order they were added."""
        return lambda asked, reply: changed(reply, numbers={k: loss for k in reply.numbers if k == "train_loss"})

    def run(delays: tuple[float, ...]) -> list[object]:
        puppets = [
            Puppet(name, step=0.01 / (i + 3), delay_s=delay, act=losing((1e11, 1 / 3, 1e5 / 3, 1 / 7)[i]))
            for i, (name, delay) in enumerate(zip((NORTH, SOUTH, WEST, EAST), delays, strict=True))
        ]
        return [(record.model, record.metrics) for record in conduct(Stage(puppets))[1].records]

    orders = [run(delays) for delays in itertools.permutations((0.0, 1.0, 2.0, 3.0))]
    assert all(order == orders[0] for order in orders)


def test_bytes_and_seconds_are_told_plant_by_plant() -> None:
    _, journal = conduct(Stage([Puppet(NORTH, delay_s=2.0), Puppet(SOUTH, delay_s=3.5)]))
    train = journal.records[1]
    assert [report(train, name).seconds for name in (NORTH, SOUTH)] == [2.0, 3.5]
    assert report(train, NORTH).timings == {"train": 2.0, "evaluate": 1.0, "cluster": 0.0}
    assert report(train, NORTH).metrics["update_norm"] == pytest.approx(0.01 * np.sqrt(15), rel=1e-3)
    assert report(train, NORTH).bytes_down > 15 * 4
    assert report(train, NORTH).bytes_up > 15 * 4
    assert (train.seconds, train.timings["wait"]) == (3.5, 3.5)


@dataclass
class Diary:
    lines: list[str] = field(default_factory=list)

    def round_started(self, number: int, step: Step, plants: int) -> None:
        self.lines.append(f"{number} {step.label} of {plants}")

    def round_waits(self, number: int, plants: Sequence[str], waited_s: float, left_s: float) -> None:
        self.lines.append(f"{number} waits for {', '.join(plants)}: {waited_s:.0f} s, {left_s:.0f} s left")

    def reply_received(self, plant: str) -> None:
        self.lines.append(plant)

    def round_finished(self, record: RoundRecord) -> None:
        self.lines.append(record.status.value)


def heard(stage: Stage, **rounds: object) -> list[str]:
    """What an observer is told of waiting, from the first training round on."""
    diary = Diary()
    Coordinator(config(**rounds), stage, Memory(), diary, stage.clock).run(RunState("run", config(**rounds).digest))
    return [line for line in diary.lines if " waits for " in line and not line.startswith("1 ")]


def test_an_observer_hears_for_whom_a_round_waits_ever_more_seldom() -> None:
    stage = Stage([Puppet(NORTH, delay_s=5), Puppet(SOUTH, delay_s=45), Puppet(WEST, delay_s=35)])
    told = heard(stage, deadline_s=300.0)
    assert told[:2] == [
        f"2 waits for {', '.join(sorted([SOUTH, WEST]))}: 10 s, 290 s left",
        f"2 waits for {', '.join(sorted([SOUTH, WEST]))}: 20 s, 280 s left",
    ]
    assert told[2] == f"2 waits for {SOUTH}: 40 s, 260 s left"
    assert told[3].startswith("3 waits for ")


def test_a_round_of_less_than_ten_seconds_says_nothing_of_waiting() -> None:
    assert heard(Stage([Puppet(NORTH, delay_s=9), Puppet(SOUTH)])) == []


def test_an_observer_hears_which_members_a_round_waits_for_to_connect() -> None:
    stage = Stage([Puppet(NORTH), Puppet(SOUTH, away=range(3, 99)), Puppet(WEST, away=range(3, 99))])
    settings_, diary = config(), Diary()
    with pytest.raises(RunFailed):
        Coordinator(settings_, stage, Chronicle(stage), diary, stage.clock).run(RunState("run", settings_.digest))
    told = [line for line in diary.lines if line.startswith("3 waits for ")]
    assert told[:2] == ["3 waits for south, west: 10 s, 50 s left", "3 waits for south, west: 20 s, 40 s left"]


def test_an_observer_hears_it_in_order() -> None:
    stage, diary = Stage([Puppet(NORTH, delay_s=1), Puppet(SOUTH)]), Diary()
    Coordinator(config(), stage, Memory(), diary, stage.clock).run(RunState("run", config().digest))
    assert diary.lines[:8] == [
        "1 describe of 2",
        SOUTH,
        NORTH,
        "committed",
        "2 train 1/2 of 2",
        SOUTH,
        NORTH,
        "committed",
    ]


# ---- waiting ---------------------------------------------------------------------------------------------------------


def four(*delays: float, act: Act | None = None) -> Stage:
    """Four plants that are slow in round 2 only; the describe round takes no time."""

    @dataclass
    class Slow(Puppet):
        slow_s: float = 0.0

        def answer(self, request: Packet) -> Packet:
            self.delay_s = self.slow_s if request.numbers["round"] == 2 else 0.0
            return super().answer(request)

    return Stage([Slow(name, slow_s=delay) for name, delay in zip((NORTH, SOUTH, WEST, EAST), delays, strict=True)])


def test_after_the_quorum_the_grace_period_runs() -> None:
    stage = four(1, 2, 6, 30)
    _, journal = conduct(stage, config(quorum=0.5, grace_s=5.0))
    record = journal.records[1]
    assert record.status is Status.COMMITTED
    assert record.accepted == (NORTH, SOUTH, WEST)
    assert report(record, EAST).reason == "late: no reply within 7 s"
    assert record.seconds == 7.0  # quorum at 2 s, grace until 7 s


def test_the_grace_period_does_not_outlast_the_deadline() -> None:
    _, journal = conduct(four(1, 58, 61, 61), config(quorum=0.5, grace_s=30.0))
    assert journal.records[1].seconds == 60.0
    assert journal.records[1].accepted == (NORTH, SOUTH)


def test_without_a_grace_period_the_deadline_ends_the_wait() -> None:
    _, journal = conduct(four(1, 2, 59, 61))
    assert journal.records[1].accepted == (NORTH, SOUTH, WEST)
    assert report(journal.records[1], EAST).reason == "late: no reply within 60 s"
    assert journal.records[1].seconds == 60.0


def test_below_the_quorum_no_grace_period_starts() -> None:
    _, journal = conduct(four(1, 59, 61, 61), config(quorum=0.5, grace_s=1.0))
    assert journal.records[1].status is Status.COMMITTED
    assert journal.records[1].accepted == (NORTH, SOUTH)
    assert journal.records[1].seconds == 60.0


def test_a_rejected_reply_does_not_count_towards_the_quorum() -> None:
    stage = four(1, 2, 20, 61)
    stage.puppets[0].act = in_round(2, lambda asked, reply: changed(reply, numbers={"examples": 10**9}))
    _, journal = conduct(stage, config(quorum=0.5, grace_s=5.0))
    assert journal.records[1].accepted == (SOUTH, WEST)
    assert journal.records[1].seconds == 25.0


def test_when_all_have_answered_nobody_waits_on() -> None:
    _, journal = conduct(four(1, 2, 3, 4), config(grace_s=50.0))
    assert journal.records[1].seconds == 4.0


def test_a_late_reply_does_not_count_in_the_next_round() -> None:
    stage = four(1, 2, 3, 61)
    _, journal = conduct(stage)
    assert journal.records[1].accepted == (NORTH, SOUTH, WEST)
    assert journal.records[2].accepted == (EAST, NORTH, SOUTH, WEST)


def test_a_plant_that_never_answers_the_describe_round_is_told_by_its_node() -> None:
    _, journal = conduct(Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST, act=silent)]))
    first = journal.records[0]
    assert first.status is Status.COMMITTED
    assert report(first, "node 2").reason == "late: no reply within 60 s"
    assert [m.plant for m in journal.states[0].members] == [NORTH, SOUTH]
    assert journal.records[1].seconds == 0.0  # it is not asked again


# ---- who joins -------------------------------------------------------------------------------------------------------


def test_a_silent_node_does_not_hold_up_the_describe_round_for_longer_than_the_grace_period() -> None:
    puppets = [Puppet(NORTH, delay_s=1), Puppet(SOUTH, delay_s=2), Puppet(WEST, act=silent)]
    _, journal = conduct(Stage(puppets), config(grace_s=5.0))
    assert journal.records[0].seconds == 7.0
    assert report(journal.records[0], "node 2").reason == "late: no reply within 7 s"
    assert [m.plant for m in journal.states[0].members] == [NORTH, SOUTH]


def test_one_plant_alone_starts_no_grace_period() -> None:
    stage = Stage([Puppet(NORTH), Puppet(SOUTH, delay_s=50)])
    _, journal = conduct(stage, config(grace_s=5.0, quorum=0.1))
    assert [m.plant for m in journal.states[0].members] == [NORTH, SOUTH]


def test_two_plants_of_one_name() -> None:
    stage = Stage([Puppet(NORTH, delay_s=1), Puppet(SOUTH), Puppet(NORTH, examples=7, delay_s=2)])
    state, journal = conduct(stage)
    assert [(m.plant, m.examples) for m in state.members] == [(NORTH, 100), (SOUTH, 100)]
    refused = report(journal.records[0], "north (node 2)")
    assert (refused.accepted, refused.reason) == (False, "name: another plant is called 'north'")
    assert {nodes for _, nodes in stage.sent[1:]} == {(0, 1)}


def test_a_reply_that_is_rejected_does_not_take_a_name_from_its_owner() -> None:
    """Whoever answers first with rubbish and another plant's name must not keep that plant out."""
    rubbish: Act = lambda asked, reply: changed(reply, texts={"schema": "rubbish"})  # noqa: E731
    stage = Stage([Puppet(NORTH, act=rubbish), Puppet(NORTH, delay_s=1), Puppet(SOUTH, delay_s=1)])
    state, journal = conduct(stage)
    assert [m.plant for m in state.members] == [NORTH, SOUTH]
    assert report(journal.records[0], NORTH).accepted
    assert "unreadable schema" in report(journal.records[0], "north (node 0)").reason
    assert {nodes for _, nodes in stage.sent[1:]} == {(1, 2)}


def test_every_reply_of_the_describe_round_has_a_name_of_its_own() -> None:
    names = [NORTH, SOUTH, NORTH, "north (node 2)", "node 7", "north (node 4)", NORTH, ""]
    _, journal = conduct(Stage([Puppet(name) for name in names]))
    told = [p.plant for p in journal.records[0].plants]
    assert len(told) == len(set(told)) == len(names)
    assert told == sorted(told)


def test_a_schema_mismatch_names_the_missing_tag() -> None:
    small = SensorSchema(tags=("FIT101",), period_s=1)
    _, journal = conduct(Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST, schema=small)]))
    refused = report(journal.records[0], WEST)
    assert not refused.accepted
    assert "CP-203 SchemaMismatch: plant 'west'" in refused.reason
    assert "missing LIT101" in refused.reason
    assert journal.records[0].rejected == (refused,)


def test_another_network_is_refused() -> None:
    wide = (TensorSpec("head.bias", (4,), 0.5),)
    _, journal = conduct(Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST, manifest=wide)]))
    assert report(journal.records[0], WEST).reason.startswith("detector: ")


def test_a_plant_that_refuses_is_named_with_its_code() -> None:
    refuse: Act = lambda asked, reply: changed(reply, texts={"refused": "CP-204 TooFewRows"})  # noqa: E731
    _, journal = conduct(Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST, act=refuse)]))
    assert report(journal.records[0], WEST).reason == "refused by the plant: CP-204 TooFewRows"


@pytest.mark.parametrize("others", [[], [Puppet(SOUTH, schema=SensorSchema(tags=("x",), period_s=1))]])
def test_one_plant_is_no_federation(others: list[Puppet]) -> None:
    journal = failing(Stage([Puppet(NORTH), *others]), config(), NoCompatiblePlants, "a federation needs 2")
    assert [r.status for r in journal.records] == [Status.FAILED]


def test_nobody_is_no_federation() -> None:
    failing(Stage([]), config(), NoCompatiblePlants, "0 of 0 plants are compatible")


# ---- rounds that go wrong --------------------------------------------------------------------------------------------


def test_a_process_that_fails_is_named_and_the_round_commits() -> None:
    stage = Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST, act=in_round(2, lambda asked, reply: "Flower error 3"))])
    _, journal = conduct(stage)
    assert journal.records[1].status is Status.COMMITTED
    assert report(journal.records[1], WEST).reason == "failed: Flower error 3"
    assert report(journal.records[1], WEST).bytes_up == 0
    assert journal.records[2].accepted == (NORTH, SOUTH, WEST)


def test_a_skipped_round_is_tried_again_and_repeats_exactly() -> None:
    quiet = [Puppet(NORTH), Puppet(SOUTH), Puppet(WEST)]
    undisturbed, _ = conduct(Stage(quiet))
    stage = Stage([Puppet(NORTH), *(Puppet(name, act=in_round(3, silent)) for name in (SOUTH, WEST))])
    disturbed, journal = conduct(stage)
    statuses = [r.status for r in journal.records[:5]]
    assert statuses == [Status.COMMITTED, Status.COMMITTED, Status.SKIPPED, Status.COMMITTED, Status.COMMITTED]
    assert [r.label for r in journal.records[2:4]] == ["train 2/2", "train 2/2"]
    assert journal.records[2].model == journal.records[1].model
    assert "1 of 3 plants counted, the quorum is 2" in journal.records[2].reason
    assert disturbed.model.digest == undisturbed.model.digest
    assert disturbed.finished == undisturbed.finished + 1


def test_skipping_too_often_fails_the_run() -> None:
    dead: Act = lambda asked, reply: reply if asked.numbers["round"] < 2 else None  # noqa: E731
    stage = Stage([Puppet(NORTH, act=dead), Puppet(SOUTH, act=dead)])
    journal = failing(stage, config(max_skips=2), RunFailed, r"round 3 failed: 0 of 2 plants counted.*2 times in a row")
    assert [r.status for r in journal.records] == [Status.COMMITTED, Status.SKIPPED, Status.FAILED]
    assert all(p.reason.startswith("late") for p in journal.records[-1].plants)
    assert stage.now == 120.0


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [({"plant": NORTH}, {}), ({"run": "other"}, {}), ({"model": "0" * 64}, {}), ({}, {"round": 1})],
)
def test_a_reply_about_something_else_is_rejected(texts: dict[str, object], numbers: dict[str, object]) -> None:
    wrong = in_round(2, lambda asked, reply: changed(reply, texts=texts, numbers=numbers))
    _, journal = conduct(Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST, act=wrong)]))
    assert journal.records[1].accepted == (NORTH, SOUTH)
    assert report(journal.records[1], WEST).reason
    assert journal.records[1].status is Status.COMMITTED


def test_a_text_that_is_no_text_does_not_stop_the_run() -> None:
    broken = in_round(2, lambda asked, reply: changed(reply, texts={"plant": "\ud800"}))
    _, journal = conduct(Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST, act=broken)]))
    assert report(journal.records[1], WEST).reason.isprintable()


class Chatty(Stage):
    """Delivers every reply twice, and one from a node that was never asked."""

    def receive(self, wait_s: float) -> list[object]:
        due = list(super().receive(wait_s))
        return [*due, *due, *(replace(arrival, node=99) for arrival in due[:1])]


def test_a_second_reply_and_a_stranger_are_ignored() -> None:
    names = [Puppet(NORTH), Puppet(SOUTH, step=0.5)]
    assert conduct(Chatty(names))[0].model.digest == conduct(Stage(names))[0].model.digest


# ---- after a restart -------------------------------------------------------------------------------------------------


def after_round_two(*puppets: Puppet) -> tuple[RunState, RunState]:
    """The state after the first train round, and the end of an undisturbed run."""
    end, journal = conduct(Stage(list(puppets)))
    return journal.states[1], end


def test_a_restarted_run_ends_where_an_undisturbed_one_does() -> None:
    state, end = after_round_two(Puppet(NORTH), Puppet(SOUTH), Puppet(WEST))
    # Nodes have other numbers now.
    resumed, journal = conduct(Stage([Puppet(WEST), Puppet(NORTH), Puppet(SOUTH)]), state=state)
    assert resumed.model.digest == end.model.digest
    assert resumed.finished == end.finished
    assert journal.records[0].number == 3
    assert all(r.accepted == (NORTH, SOUTH, WEST) for r in journal.records)


def test_a_finished_run_asks_nobody_for_anything_more_than_the_roll_call() -> None:
    _, end = after_round_two(Puppet(NORTH), Puppet(SOUTH))
    stage = Stage([Puppet(NORTH), Puppet(SOUTH)])
    resumed, journal = conduct(stage, state=end)
    assert resumed == end
    assert journal.records == []
    assert all(packet.texts["kind"] == "describe" for packet, _ in stage.sent)


def test_a_plant_that_did_not_come_back_is_named_as_absent() -> None:
    state, _ = after_round_two(Puppet(NORTH), Puppet(SOUTH), Puppet(WEST))
    _, journal = conduct(Stage([Puppet(NORTH), Puppet(SOUTH)]), state=state)
    assert journal.records[0].status is Status.COMMITTED
    assert report(journal.records[0], WEST).reason == "absent: not connected"
    assert journal.records[0].seconds == 0.0


@pytest.mark.parametrize(
    ("back", "telling"),
    [
        (Puppet(WEST, examples=101), "changed: 101 windows, 100 when it joined the run"),
        (Puppet(WEST, segments=12), "changed: 12 segments, 11 when it joined the run"),
        (Puppet(WEST, schema=SensorSchema(tags=("FIT101", "LIT102"), period_s=1)), "schema: CP-203 SchemaMismatch:"),
        (Puppet(WEST, manifest=(TensorSpec("head.bias", (4,), 0.5),)), "detector: plant 'west' builds another network"),
        (Puppet(WEST, act=lambda asked, reply: changed(reply, texts={"refused": "CP-204"})), "refused by the plant"),
    ],
)
def test_a_plant_that_came_back_changed_is_left_out_and_told_why(back: Puppet, telling: str) -> None:
    state, _ = after_round_two(Puppet(NORTH), Puppet(SOUTH), Puppet(WEST))
    stage = Stage([Puppet(NORTH), Puppet(SOUTH), back])
    _, journal = conduct(stage, state=state)
    assert all(r.accepted == (NORTH, SOUTH) for r in journal.records)
    assert report(journal.records[0], WEST).reason.startswith(telling)
    assert {nodes for _, nodes in stage.sent[1:]} == {(0, 1)}


def test_a_newcomer_at_a_restart_takes_part_from_the_round_after_the_next() -> None:
    state, _ = after_round_two(Puppet(NORTH), Puppet(SOUTH))
    stage = Stage([Puppet(NORTH), Puppet("newcomer"), Puppet(SOUTH)])
    _, journal = conduct(stage, state=state)
    assert [nodes for _, nodes in stage.sent[1:3]] == [(0, 2), (1, 0, 2)]
    assert journal.records[0].joined == ("newcomer",)
    assert journal.records[1].accepted == ("newcomer", NORTH, SOUTH)


def test_a_silent_node_does_not_hold_up_the_roll_call_for_longer_than_the_grace_period() -> None:
    settings_ = config(grace_s=5.0)
    _, before = conduct(Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST)]), settings_)
    gone: Act = lambda asked, reply: None if asked.texts["kind"] == "describe" else reply  # noqa: E731
    stage = Stage([Puppet(NORTH), Puppet("newcomer"), Puppet(SOUTH), Puppet(WEST, act=gone)])
    _, journal = conduct(stage, settings_, before.states[1])
    assert stage.now == 5.0  # and not the deadline of 60 s
    assert journal.records[0].accepted == (NORTH, SOUTH)


def test_newcomers_do_not_count_towards_the_quorum_of_the_roll_call() -> None:
    settings_ = config(grace_s=5.0)
    _, before = conduct(Stage([Puppet(NORTH), Puppet(SOUTH), Puppet(WEST)]), settings_)
    stage = Stage([Puppet("one"), Puppet("two"), Puppet(NORTH), Puppet(SOUTH, delay_s=20), Puppet(WEST, delay_s=21)])
    _, journal = conduct(stage, settings_, before.states[1])
    assert journal.records[0].accepted == (NORTH, SOUTH, WEST)


@pytest.mark.parametrize("delays", [(0.0, 2.0), (2.0, 0.0)])
def test_of_two_nodes_with_one_name_the_lower_is_asked_and_the_other_reported(delays: tuple[float, float]) -> None:
    state, end = after_round_two(Puppet(NORTH), Puppet(SOUTH))
    stage = Stage([Puppet(SOUTH), Puppet(NORTH, delay_s=delays[0]), Puppet(NORTH, step=0.5, delay_s=delays[1])])
    resumed, journal = conduct(stage, state=state)
    assert resumed.model.digest == end.model.digest
    assert {nodes for _, nodes in stage.sent[1:]} == {(1, 0)}
    second = report(journal.records[0], "north (node 2)")
    assert (second.accepted, second.reason) == (False, "name: node 1 is called 'north' too, and is asked instead")
    assert [p.plant for p in journal.records[0].plants] == [NORTH, "north (node 2)", SOUTH]
    if delays[1] == 0:  # else the rounds, which take no time, are over before it answers again
        assert [r.number for r in journal.records if len(r.plants) == 3][:3] == [3, 4, 6]  # ever more seldom


def test_a_resumed_run_has_all_its_skips_before_it() -> None:
    """A run that failed by three skips in a row goes on although the next round is skipped too."""
    dead: Act = lambda asked, reply: reply if asked.numbers["round"] < 2 else None  # noqa: E731
    journal = failing(
        Stage([Puppet(NORTH, act=dead), Puppet(SOUTH, act=dead)]), config(), RunFailed, "3 times in a row"
    )
    assert journal.states[-1].skips == 3
    late = in_round(5, lambda asked, reply: reply if asked.texts["kind"] == "describe" else None)
    _, resumed = conduct(Stage([Puppet(NORTH, act=late), Puppet(SOUTH, act=late)]), state=journal.states[-1])
    assert [r.status for r in resumed.records[:2]] == [Status.SKIPPED, Status.COMMITTED]
    assert resumed.states[0].skips == 1


def test_a_run_does_not_go_on_under_other_settings() -> None:
    state, _ = after_round_two(Puppet(NORTH), Puppet(SOUTH))
    stage = Stage([Puppet(NORTH), Puppet(SOUTH)])
    with pytest.raises(InvalidConfig, match="settings of run 'run' were changed since it began"):
        conduct(stage, config(joint=1), state)
    assert stage.sent == []


def test_an_impostor_does_not_keep_the_plant_itself_out() -> None:
    state, end = after_round_two(Puppet(NORTH), Puppet(SOUTH))
    stage = Stage([Puppet(NORTH, examples=5), Puppet(SOUTH, delay_s=1), Puppet(NORTH, delay_s=1)])
    assert conduct(stage, state=state)[0].model.digest == end.model.digest
