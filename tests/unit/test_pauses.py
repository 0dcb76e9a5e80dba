"""Flower's long first pause for a piece of a message that is on its way is shortened at the plant."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal
from flwr.supernode.runtime import run_clientapp as tasks

from client.run.executor import look_again_soon
from client.run.node import quicken


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is put in place is taken back."""
    monkeypatch.setattr(tasks, "pull_and_inflate_object_from_tree", tasks.pull_and_inflate_object_from_tree)
    monkeypatch.setattr(start_client_internal, "pull_objects", start_client_internal.pull_objects)
    monkeypatch.setattr(start_client_internal, "time", start_client_internal.time)


@pytest.fixture
def message(monkeypatch: pytest.MonkeyPatch) -> Message:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    return Message(RecordDict({"texts": ConfigRecord({"word": "hello"})}), dst_node_id=1, message_type="train")


def late(contents: dict[str, bytes], times: int) -> Callable[[str], bytes]:
    """A store that each object reaches after it was asked for a few times."""
    asked = dict.fromkeys(contents, 0)

    def pull(name: str) -> bytes:
        asked[name] += 1
        if asked[name] <= times:
            raise ObjectUnavailableError(name)
        return contents[name]

    return pull


def test_the_executor_asks_again_at_once_for_what_the_supernode_is_still_receiving(message: Message) -> None:
    look_again_soon()
    contents = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
    begin = time.monotonic()
    found = tasks.pull_and_inflate_object_from_tree(
        get_object_tree(message), late(contents, 2), lambda name: None, return_type=Message
    )
    assert time.monotonic() - begin < 2  # Flower's own: 3 s
    assert found.content["texts"]["word"] == "hello"


def test_the_supernode_asks_sooner_for_two_seconds_after_it_answered_and_idles_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quicken()
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    loop = start_client_internal.time
    loop.sleep(3)
    assert slept == [1.0], "nothing came yet"
    for _ in range(2):
        slept.clear()
        start_client_internal.pull_objects([], lambda name: b"")
        loop.sleep(0.5)
        for _ in range(10):
            loop.sleep(3)
        assert slept == [0.1, *[0.25] * 8, 1.0, 1.0]


def test_the_supernode_asks_again_at_once_for_what_the_server_is_still_sending() -> None:
    quicken()
    begin = time.monotonic()
    assert start_client_internal.pull_objects(["a", "b"], late({"a": b"1", "b": b"2"}, 2)) == {"a": b"1", "b": b"2"}
    assert time.monotonic() - begin < 2  # Flower's own: 3 s
