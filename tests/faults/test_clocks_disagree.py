"""Clocks at plants and at the server that are wrong, jump or run backwards: no round trusts any of them.

Deadlines are monotonic; requests and replies carry no time. What does look at a clock on the wall: Flower's signed
requests (5 s ahead, 300 s behind), the validity of certificates and of signatures over runs, and at the plant its own
hours and days, by its own clock.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.app.message import message as flower_message
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE, ErrorCode
from flwr.supercore.task_identity import TaskIdentity

import server.coordinator as coordinator
from client.agent.ledger import Ledger
from client.agent.policy import Budget
from server.app import GridChannel
from shared.errors import NotAllowed
from shared.preflight.network import AHEAD_S, BEHIND_S
from shared.wire.envelope import Packet
from shared.wire.inventory import REPLY, REQUEST
from shared.wire.messages import Request
from tests.support.plants import settings
from tests.support.puppets import Puppet, Stage, play

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def config() -> object:
    return settings(rounds={"pretrain": 3, "joint": 1, "deadline_s": 60.0})


def test_no_message_carries_a_time_of_day() -> None:
    names = {field.name for field in (*REQUEST, *REPLY)} | {field.name for field in dataclasses.fields(Request)}
    assert not {name for name in names if any(word in name for word in ("time", "date", "clock", "_at", "now"))}


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400), timedelta(seconds=-7)])
def test_the_servers_clock_jumps_between_rounds(jump: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record bears the time for people; numbers, order, deadlines and models do not depend on it."""

    class Jumping(datetime):
        calls = 0

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            cls.calls += 1
            return NOW + jump * cls.calls

    puppets = [Puppet("north", delay_s=2.0), Puppet("south", step=0.03)]
    right = play(Stage(puppets), config())
    monkeypatch.setattr(coordinator, "datetime", Jumping)
    wrong = play(Stage(puppets), config())
    assert Jumping.calls >= len(wrong.records)
    assert [(r.number, r.model, r.seconds, r.status) for r in wrong.records] == [
        (r.number, r.model, r.seconds, r.status) for r in right.records
    ]


def _at(monkeypatch: pytest.MonkeyPatch, when: datetime) -> None:
    monkeypatch.setattr(flower_message, "now", lambda: when)


@pytest.mark.parametrize("skew_s", [-TIMESTAMP_TOLERANCE, -30, 0, SYSTEM_TIME_TOLERANCE])
def test_a_plants_clock_does_not_move_the_end_of_its_reply(skew_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower dates a reply by the plant's clock, and gives it what is left of the request's time by the same clock."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    _at(monkeypatch, NOW)
    request = Message(RecordDict(), dst_node_id=7, message_type="train", ttl=60.0, group_id="run/1")
    request.metadata.__dict__["_message_id"] = "m"
    _at(monkeypatch, NOW + timedelta(seconds=20 + skew_s))
    reply = Message(RecordDict(), reply_to=request)
    ends = request.metadata.created_at + request.metadata.ttl
    assert reply.metadata.created_at + reply.metadata.ttl == pytest.approx(ends)


def test_preflight_warns_of_what_flower_refuses() -> None:
    assert (AHEAD_S, BEHIND_S) == (SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE)


class Grid:
    """Answers every message with one error of Flower's, as after a jump of the server's clock."""

    def __init__(self, code: int) -> None:
        self._code, self._waiting = code, list[Message]()

    def push_messages(self, messages: list[Message]) -> list[str]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{message.metadata.dst_node_id}"
        self._waiting = [Message(Error(self._code, ""), reply_to=message) for message in messages]
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, ids: list[str]) -> list[Message]:
        return self._waiting


@pytest.mark.parametrize(
    ("code", "telling"),
    [
        (ErrorCode.MESSAGE_UNAVAILABLE, "late: the request or the reply outlived its time (Flower error 3)"),
        (ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "late: the request or the reply outlived its time (Flower error 4)"),
        (ErrorCode.NODE_UNAVAILABLE, "absent: it disconnected during the round"),
        (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "the plant's process failed (Flower error 2)"),
    ],
)
def test_messages_that_outlive_a_jump_are_late_and_not_the_plants_fault(
    code: int, telling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    channel = GridChannel(Grid(code))  # type: ignore[arg-type]
    channel.send(Packet({}, {"round": 2}, {"kind": "cluster"}), [7], 60.0, "run/2")
    (arrival,) = channel.receive(0.0)
    assert (arrival.node, arrival.packet, arrival.failure) == (7, None, telling)


def test_a_plants_clock_that_runs_backwards_gives_no_budget_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.json", Budget(rounds_a_day=2))
    today, tomorrow = NOW, NOW + timedelta(days=1)
    for number, when in enumerate((today, tomorrow, today)):
        ledger.charge("run", f"{number}", when)
    with pytest.raises(NotAllowed, match="2 rounds were computed on 2026-03-01"):
        ledger.charge("run", "more", today)
    ledger.charge("run", "again", tomorrow)
    with pytest.raises(NotAllowed, match="2026-03-02"):
        Ledger(tmp_path / "ledger.json", Budget(rounds_a_day=2)).charge("run", "more", tomorrow)
