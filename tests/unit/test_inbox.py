"""A reply comes in piece by piece: a plant that is killed while it sends, or sends nonsense, holds nobody up."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ObjectTree, PullObjectResponse  # type: ignore[attr-defined,unused-ignore]
from flwr.proto.node_pb2 import Node  # type: ignore[attr-defined,unused-ignore]
from flwr.proto.runtime_pb2 import PullAppMessagesResponse  # type: ignore[attr-defined,unused-ignore]
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from server import inbox as inboxes
from server.inbox import Inbox


class SuperLink:
    """Announces replies, and has those of their pieces that were sent."""

    def __init__(self) -> None:
        self.announced: dict[str, tuple[Any, Any]] = {}
        self.pieces: dict[str, bytes] = {}
        self.unknown: set[str] = set()
        self.confirmed: list[str] = []
        self.asked: list[list[str]] = []

    def PullMessages(self, request: Any) -> Any:  # noqa: N802 - Flower's
        self.asked.append(list(request.message_ids))
        found = [self.announced.pop(i) for i in request.message_ids if i in self.announced]  # handed out once
        return PullAppMessagesResponse(messages_list=[m for m, _ in found], message_object_trees=[t for _, t in found])

    def PullObject(self, request: Any) -> Any:  # noqa: N802 - Flower's
        there, content = request.object_id not in self.unknown, self.pieces.get(request.object_id, b"")
        return PullObjectResponse(object_found=there, object_available=bool(content), object_content=content)

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802 - Flower's
        self.confirmed.append(request.message_object_id)

    def announce(self, request: Message, word: str = "hello") -> dict[str, bytes]:
        """A plant says that its reply is coming; returns its pieces."""
        reply = Message(RecordDict({"texts": ConfigRecord({"word": word})}), reply_to=request)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        self.announced[request.metadata.message_id] = (message_to_proto(reply), get_object_tree(reply))
        return {name: part.deflate() for name, part in get_all_nested_objects(reply).items()}


@pytest.fixture
def superlink() -> SuperLink:
    return SuperLink()


@pytest.fixture
def inbox(superlink: SuperLink) -> Inbox:
    grid = SimpleNamespace(_runtime_client=superlink, run=SimpleNamespace(run_id=1), node=Node(node_id=1))
    return Inbox(cast(HttpGrid, grid))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Two requests, to two plants."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    messages = [Message(RecordDict(), dst_node_id=node, message_type="train", ttl=60.0) for node in (1, 2)]
    for message in messages:
        message.metadata.__dict__["_message_id"] = message.object_id
    return messages


def ids(messages: Sequence[Message]) -> list[str]:
    return [message.metadata.message_id for message in messages]


def test_one_that_sends_half_a_reply_holds_nobody_up(inbox: Inbox, superlink: SuperLink, sent: list[Message]) -> None:
    half = superlink.announce(sent[0])
    superlink.pieces |= dict(list(half.items())[:1])
    superlink.pieces |= superlink.announce(sent[1])
    found = inbox.pull(ids(sent))
    assert [message.metadata.reply_to_message_id for message in found] == ids(sent[1:])
    assert found[0].content["texts"]["word"] == "hello"
    assert inbox.pull(ids(sent[:1])) == []
    superlink.pieces |= half
    assert [message.metadata.reply_to_message_id for message in inbox.pull(ids(sent[:1]))] == ids(sent[:1])
    assert len(superlink.confirmed) == 2


def test_what_is_coming_is_not_asked_for_again_and_is_dropped_with_its_round(
    inbox: Inbox, superlink: SuperLink, sent: list[Message]
) -> None:
    superlink.announce(sent[0])
    inbox.pull(ids(sent[:1]))
    inbox.pull(ids(sent))
    assert superlink.asked == [ids(sent[:1]), ids(sent[1:])]
    inbox.pull([])
    assert inbox._coming == {}


@pytest.mark.parametrize(("fault", "code"), [("lost", 4), ("nonsense", 0), ("another", 0), ("too many pieces", 4)])
def test_a_reply_that_never_will_be_is_an_error_of_that_plant(
    fault: str, code: int, inbox: Inbox, superlink: SuperLink, sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = superlink.announce(sent[0])
    if fault == "lost":
        superlink.unknown |= set(pieces)
    elif fault == "nonsense":
        superlink.pieces |= dict.fromkeys(pieces, b"\xff nonsense")
    elif fault == "another":
        superlink.pieces |= {name: next(iter(pieces.values())) for name in pieces}
    else:
        monkeypatch.setattr(inboxes, "MOST_PIECES", 1)
    found = inbox.pull(ids(sent))
    assert [(m.metadata.reply_to_message_id, m.error.code) for m in found] == [(ids(sent)[0], code)]
    assert {ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.UNKNOWN} >= {code}
    assert inbox.pull(ids(sent)) == []


def test_a_reply_that_would_fill_the_memory_is_given_up_and_the_others_counted(
    inbox: Inbox, superlink: SuperLink, sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "SPARE", 2_000)
    inbox._most = 2_000
    superlink.pieces |= superlink.announce(sent[0], "x" * 10_000) | superlink.announce(sent[1])
    failed, whole = inbox.pull(ids(sent))
    assert (failed.metadata.reply_to_message_id, failed.error.code) == (ids(sent)[0], ErrorCode.UNKNOWN)
    assert whole.content["texts"]["word"] == "hello"
    assert len(superlink.confirmed) == 2  # the SuperLink need not keep it
    inbox.expect(4_500)
    superlink.pieces |= superlink.announce(sent[0], "x" * 10_000)
    assert inbox.pull(ids(sent[:1]))[0].content["texts"]["word"] == "x" * 10_000


def test_many_pieces_of_one_reply_hold_nobody_up(
    superlink: SuperLink, sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a request: a look at one reply ends after a second, and the next goes on where it ended."""
    clock = iter(range(1000))
    grid = SimpleNamespace(_runtime_client=superlink, run=SimpleNamespace(run_id=1), node=Node(node_id=1))
    inbox = Inbox(cast(HttpGrid, grid), clock=lambda: next(clock) * 0.6)
    superlink.pieces |= superlink.announce(sent[0])
    looks = [inbox.pull(ids(sent[:1])) for _ in range(len(superlink.pieces) + 1)]
    assert [bool(look) for look in looks[:2]] == [False, False]
    assert sum(map(len, looks)) == 1


def test_whom_a_reply_answers_is_what_the_superlink_checked(
    inbox: Inbox, superlink: SuperLink, sent: list[Message]
) -> None:
    """A plant may write another's request into the reply itself."""
    superlink.pieces |= superlink.announce(sent[1])
    announced, tree = superlink.announced.pop(ids(sent)[1])
    announced.metadata.reply_to_message_id = ids(sent)[0]
    superlink.announced[ids(sent)[0]] = (announced, cast(ObjectTree, tree))
    assert [message.metadata.reply_to_message_id for message in inbox.pull(ids(sent))] == ids(sent[:1])
