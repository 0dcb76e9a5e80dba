"""Fault: a plant's Flower message is put together of other records than it should be, or cannot be read at all."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from server.app import UNREADABLE, GridChannel
from server.coordinator import Arrival
from shared.wire.envelope import Packet
from shared.wire.inventory import Kind

GOOD = {
    "arrays": ArrayRecord({"a": Array(np.zeros(3, np.float32))}),
    "numbers": MetricRecord({"round": 1}),
    "texts": ConfigRecord({"kind": "train"}),
}


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages for a process that knows its task only."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class Grid:
    """Two nodes, whose replies are given."""

    def __init__(self, *contents: RecordDict) -> None:
        self._contents = contents
        self._replies: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for number, (message, content) in enumerate(zip(messages, self._contents, strict=True)):
            message.metadata.__dict__["_message_id"] = f"m{number}"
            self._replies.append(Message(content, reply_to=message))
            names.append(f"m{number}")
        return names

    def pull_messages(self, names: Iterable[str]) -> list[Message]:
        return self._replies


def exchange(*contents: RecordDict) -> list[Arrival]:
    channel = GridChannel(Grid(*contents))
    request = Packet({}, {"round": 1}, {"kind": Kind.TRAIN.value})
    channel.send(request, list(range(1, len(contents) + 1)), 60.0, "run/1")
    return list(channel.receive(0.0))


@pytest.mark.parametrize(
    ("spoilt", "telling"),
    [
        ({"arrays": MetricRecord({"x": 1.0})}, "array 'x' is serialised as 'None', expected numpy.ndarray."),
        ({"arrays": ConfigRecord({"x": b"1"})}, "array 'x' is serialised as 'None', expected numpy.ndarray."),
        ({"numbers": ConfigRecord({"round": "1"})}, "a number that is a list."),
        ({"numbers": ArrayRecord({"a": Array(np.zeros(3))})}, "a number that is a list."),
        ({"texts": MetricRecord({"kind": 1})}, "a text that is something else."),
        ({"more": MetricRecord({"x": 1.0})}, "records "),
    ],
)
def test_only_the_plant_that_sent_them_fails(spoilt: dict[str, object], telling: str) -> None:
    first, second = exchange(RecordDict({**GOOD, **spoilt}), RecordDict(GOOD))
    assert (first.node, first.packet) == (1, None)
    assert first.failure.startswith(telling)
    assert second.node == 2
    assert second.packet is not None


def test_whatever_reading_raises_is_a_failure_of_that_plant(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(content: object) -> Packet:
        raise ZeroDivisionError("private")

    monkeypatch.setattr("server.app.packet_from_records", explode)
    assert exchange(RecordDict(GOOD)) == [Arrival(1, None, UNREADABLE)]
