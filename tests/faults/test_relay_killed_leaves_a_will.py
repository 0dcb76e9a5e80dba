"""A process of the relay is killed at each moment of an answer: the SuperNode has an error or the answer, at once.

Against Flower's own node state; `test_plant_and_server_processes_killed` kills processes of a whole federation.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.task_pb2 import Task  # type: ignore[attr-defined,unused-ignore]
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState
from flwr.supernode.servicer.runtime import runtime_handlers as flower

from client.run.will import Will, carry_out, hand_over, parcel

RUN, NODE = 7, 11
SENT = np.arange(300_000, dtype=np.float32)


class Killed(Exception):
    """The process ends here."""


@dataclass
class SuperNode:
    """A SuperNode's state, and the calls of its interface that an answer needs.

    Attributes:
        calls: how many of them the process lives for.
    """

    calls: int = 1000
    state: InMemoryNodeState = field(default_factory=lambda: InMemoryNodeState(InMemoryObjectStore(verify=True)))
    finished: list[str] = field(default_factory=list)

    def ask(self) -> Message:
        """A message comes from the server; what the process sees of it."""
        content = RecordDict({"a": ArrayRecord({"x": Array(SENT)})})
        with pytest.MonkeyPatch.context() as server:
            for name, value in (("_task_id", 1), ("_run_id", RUN), ("_node_id", 1)):
                server.setattr(TaskIdentity, name, value)
            message = Message(content, dst_node_id=NODE, message_type="train")
        message.metadata.__dict__["_message_id"] = message.object_id
        self.state.object_store.preregister(RUN, get_object_tree(message))
        for name, found in get_all_nested_objects(message).items():
            self.state.object_store.put(name, found.deflate())
        self.state.store_message(message)
        return message

    def _live(self) -> Task:
        if self.calls == 0:
            raise Killed
        self.calls -= 1
        return Task(run_id=RUN, task_id=1)

    def PullMessages(self, request: Any) -> Any:  # noqa: N802 - as Flower calls it
        return flower.pull_messages(request, self.state, self._live())

    def PushMessages(self, request: Any) -> Any:  # noqa: N802 - as Flower calls it
        return flower.push_messages(request, self.state, self._live())

    def PushObject(self, request: Any) -> Any:  # noqa: N802 - as Flower calls it
        return flower.push_object(request, self.state, self._live())

    def PushTaskOutput(self, request: Any) -> None:  # noqa: N802 - as Flower calls it
        self._live()
        self.finished.append(request.sub_status)

    def answer(self) -> Message | None:
        """What the SuperNode would send now, inflated; it would wait for ever for an object that is not there."""
        found = self.state.get_messages_legacy(is_reply=True)
        if not found:
            return None
        store, name = self.state.object_store, found[0].metadata.message_id
        parts = {tree.object_id: store.get(tree.object_id) for tree in iterate_object_tree(store.get_object_tree(name))}
        assert all(parts.values()), "an object is missing"
        whole = inflate_object_from_contents(name, parts)  # type: ignore[arg-type]
        assert isinstance(whole, Message)
        assert whole.metadata.reply_to_message_id
        return whole


@pytest.fixture
def will() -> Iterator[Will]:
    will = Will()
    yield will
    will.close()


def killed(doing: Callable[[], object]) -> None:
    """Do something in another process, which is then killed."""
    if (child := os.fork()) == 0:
        try:
            doing()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_killed_while_it_computes(will: Will) -> None:
    node = SuperNode()
    node.ask()
    asked = node.PullMessages(None).messages_list[0]
    killed(lambda: None)
    assert not will.settled
    carry_out(node, asked, will)  # type: ignore[arg-type]
    told = node.answer()
    assert told is not None
    assert (told.error.code, told.metadata.src_node_id) == (ErrorCode.CLIENT_APP_CRASHED, NODE)
    assert node.finished == ["failed"]


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 4])
def test_killed_while_it_hands_its_answer_over(will: Will, calls: int) -> None:
    """The answer is in the will, whole: it counts, and the SuperNode waits for nothing."""
    node = SuperNode()
    asked = node.ask()
    pulled = node.PullMessages(None).messages_list[0]
    reply = Message(RecordDict({"a": ArrayRecord({"x": Array(SENT * 2)})}), reply_to=asked)
    parts = will.leave(reply)
    node.calls = calls
    with pytest.raises(Killed):
        hand_over(node, parts)  # type: ignore[arg-type]
    node.calls = 1000
    carry_out(node, pulled, will)  # type: ignore[arg-type]
    told = node.answer()
    assert told is not None
    np.testing.assert_array_equal(told.content.array_records["a"]["x"].numpy(), SENT * 2)
    assert node.answer() is None, "one answer"


def test_an_answer_that_was_not_written_whole_does_not_count(will: Will) -> None:
    os.pwrite(will._answer, b"\xff" * 1000, 0)  # killed in the middle of it
    assert will.read() == []


def test_what_was_answered_is_settled_in_the_executor_too(will: Will) -> None:
    killed(will.settle)
    assert will.settled
    assert will.read() == []


def test_what_a_forked_process_left_is_read_whole(will: Will) -> None:
    asked = SuperNode().ask()
    reply = Message(RecordDict({"a": ArrayRecord({"x": Array(SENT)})}), reply_to=asked)
    killed(lambda: will.leave(reply))
    assert will.read() == parcel(reply)
