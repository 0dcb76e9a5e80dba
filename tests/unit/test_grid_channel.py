"""The channel over a Flower grid: who is there, what goes beside a round, and what Flower's errors mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from server.app import GONE, GridChannel
from shared.wire.envelope import Packet
from shared.wire.records import ARRAYS, NUMBERS, TEXTS

ROSTER = frozenset({"north", "south"})


@pytest.fixture(autouse=True)
def _in_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@dataclass
class Info:
    node_id: int
    name: str


@dataclass
class Grid:
    """Keeps messages until a test answers them. `lost` nodes get none."""

    infos: list[Info] = field(default_factory=list)
    lost: frozenset[int] = frozenset()
    sent: list[Message] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)
    looked_for: set[str] = field(default_factory=set)

    def get_nodes(self) -> list[Info]:
        return self.infos

    def push_messages(self, messages: list[Message]) -> list[str | None]:
        assert messages, "Flower's servers take no empty list"
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{len(self.sent)}"
            self.sent.append(message)
        return [None if m.metadata.dst_node_id in self.lost else m.metadata.message_id for m in messages]

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        self.looked_for = set(ids)
        assert self.looked_for, "nobody was asked"
        found = [r for r in self.replies if r.metadata.reply_to_message_id in self.looked_for]
        self.replies = [r for r in self.replies if r not in found]
        return found

    def answer(self, number: int, plant: str = "north") -> None:
        texts = ConfigRecord({"plant": plant})
        told = RecordDict({ARRAYS: ArrayRecord({}), NUMBERS: MetricRecord({"round": 1}), TEXTS: texts})
        self.replies.append(Message(told, reply_to=self.sent[number]))


def packet(kind: str = "cluster") -> Packet:
    return Packet({}, {"round": 1}, {"kind": kind})


def channel(grid: Grid, roster: frozenset[str] | None = ROSTER) -> GridChannel:
    return GridChannel(grid, roster, longest_pause_s=0.001)  # type: ignore[arg-type]


def test_only_plants_of_the_roster_are_there_and_each_is_called_by_its_key() -> None:
    grid = Grid([Info(5, "north"), Info(6, "stranger")])
    there = channel(grid)
    assert there.nodes() == [5]
    assert (there.name(5), there.name(6)) == ("north", None)
    grid.infos = [Info(7, "south")]
    assert there.nodes() == [7]
    assert there.name(5) == "north"  # it went away; what it sent before is still its own


class Clock:
    """Time passes while somebody sleeps; at given seconds plants connect."""

    def __init__(self, grid: Grid, arrivals: dict[float, str]) -> None:
        self._grid, self._arrivals, self.now = grid, arrivals, 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at in [at for at in self._arrivals if at <= self.now]:
            self._grid.infos.append(Info(len(self._grid.infos), self._arrivals.pop(at)))


FOUR = frozenset({"north", "south", "east", "west"})


@pytest.mark.parametrize(
    ("members", "arrivals", "waits_s"),
    [
        (frozenset(), {1.0: "north", 2.0: "south"}, 60.0),  # a run that starts: who is not there does not found it
        (FOUR, {1.0: "north", 2.0: "south"}, 60.0),  # a quorum of three never comes
        (FOUR, {1.0: "north", 2.0: "south", 20.0: "east"}, 25.0),  # it resumes with three of four
        (FOUR, {1.0: "north", 2.0: "south", 20.0: "east", 22.0: "west"}, 22.0),
        (frozenset({"north", "south", "east"}), {1.0: "north", 2.0: "west"}, 60.0),  # no member is no help
        (FOUR, {1.0: "north", 2.0: "south", 58.0: "east"}, 60.0),  # the grace ends with the time
    ],
)
def test_a_run_that_resumes_waits_for_a_quorum_of_its_members_and_a_grace_period(
    monkeypatch: pytest.MonkeyPatch, members: frozenset[str], arrivals: dict[float, str], waits_s: float
) -> None:
    grid = Grid()
    clock = Clock(grid, dict(arrivals))
    monkeypatch.setattr("server.app.time", clock)
    channel(grid, FOUR).gather(60.0, members, 3, 5.0)
    assert clock.now == pytest.approx(waits_s, abs=0.51)


def test_answers_beside_a_round_outlive_it() -> None:
    grid = Grid()
    there = channel(grid, None)
    there.send(packet(), [1], 60, "run/1")
    there.send_beside(packet("describe"), [2], 60, "run/1")
    there.send(packet(), [1], 60, "run/2")
    grid.answer(0)
    grid.answer(1)
    grid.answer(2)
    found = {(a.node, a.beside) for a in there.receive(0.0)}
    assert found == {(2, True), (1, False)}
    assert grid.looked_for == {"m1", "m2"}  # nobody looks for the answer to the first round any more
    assert there.receive(0.0) == []


def test_beside_and_in_the_round_one_node_can_be_asked_at_once() -> None:
    grid = Grid()
    there = channel(grid, None)
    there.send_beside(packet("describe"), [1], 60, "run/1")
    there.send(packet(), [1], 60, "run/1")
    grid.answer(1)
    assert [a.beside for a in there.receive(0.0)] == [False]
    grid.answer(0)
    assert [a.beside for a in there.receive(0.0)] == [True]


def test_nobody_to_send_to_sends_nothing_and_asks_for_nothing() -> None:
    grid = Grid()
    there = channel(grid, None)
    there.send(packet(), [], 60, "run/1")
    assert grid.sent == []
    assert there.receive(0.01) == []


def test_what_could_not_be_sent_is_told_and_keeps_what_it_was_beside() -> None:
    there = channel(Grid(lost=frozenset({2, 3})), None)
    there.send_beside(packet("describe"), [2], 60, "run/1")
    there.send(packet(), [1, 3], 60, "run/1")
    assert [(a.node, a.failure, a.beside) for a in there.receive(0.0)] == [(2, GONE, True), (3, GONE, False)]


def test_messages_have_a_time_to_live_and_a_group() -> None:
    grid = Grid()
    channel(grid, None).send_beside(packet("describe"), [2], 45.0, "run/7")
    (message,) = grid.sent
    assert (message.metadata.ttl, message.metadata.group_id) == (45.0, "run/7")
    assert message.metadata.message_type == "query.describe"


@pytest.mark.parametrize("beside", [True, False])
def test_under_another_name_than_its_keys_it_is_refused(beside: bool) -> None:
    grid = Grid([Info(5, "north")])
    there = channel(grid)
    there.nodes()
    (there.send_beside if beside else there.send)(packet(), [5], 60, "run/1")
    grid.answer(0, plant="south")
    (arrival,) = there.receive(0.0)
    assert (arrival.packet, arrival.beside) == (None, beside)
    assert arrival.failure == "name: the plant registered as 'north' answers as 'south'"


def test_an_error_belongs_to_the_node_that_was_asked() -> None:
    """Flower's error replies come from the SuperLink: what they answer tells whose they are."""
    grid = Grid()
    there = channel(grid, None)
    there.send(packet(), [1, 2], 60, "run/1")
    grid.replies = [Message(Error(5, ""), reply_to=grid.sent[1])]
    (arrival,) = there.receive(0.0)
    assert (arrival.node, arrival.failure) == (2, "absent: it disconnected during the round")
