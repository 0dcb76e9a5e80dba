"""Replies as they come in over Flower's grid, piece by piece, with no wait for any of them.

Flower hands a reply out when it is announced, and then waits for its pieces: for three minutes when a plant was killed
while it sent them, for two hours when the SuperLink was, and meanwhile fetches nobody else's reply. Here what is not
there yet is looked for again at the next look, so that a round's deadline holds whatever a plant does. Nor does a piece
that cannot be read raise anything, and whom a reply answers is what the SuperLink checked, not what is written in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest  # type: ignore[attr-defined,unused-ignore]
from flwr.proto.runtime_pb2 import PullAppMessagesRequest  # type: ignore[attr-defined,unused-ignore]
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)

if TYPE_CHECKING:
    from flwr.superlink.grid.http_grid import HttpGrid

MOST_PIECES = 10_000
"""Of one reply; 64 MiB are 13 pieces, and a few that hold them together."""
SPARE = 32 * 2**20
"""Bytes that a reply may have beyond twice its request: what a plant says of itself, or of its clusters."""
LOOK_S = 1.0
"""How long one look fetches pieces of one reply: the others, and the round's deadline, wait meanwhile."""


@dataclass
class _Coming:
    """A reply that was announced: its id, the pieces that are not here yet and those that are."""

    name: str
    missing: list[str]
    pieces: dict[str, bytes] = field(default_factory=dict)
    size: int = 0


class _TooLarge(Exception):
    pass


class Inbox:
    """What comes in over a grid.

    Args:
        grid: Flower's, connected to a SuperLink.
        clock: monotonic seconds.
    """

    def __init__(self, grid: HttpGrid, clock: Callable[[], float] = time.monotonic) -> None:
        self._grid, self._clock = grid, clock
        self._coming: dict[str, _Coming] = {}
        self._most = SPARE

    def expect(self, sent: int) -> None:
        """A request of so many bytes went out; one plant's reply must not fill the memory of the run of all others."""
        self._most = max(self._most, 2 * sent + SPARE)

    def pull(self, asked: Collection[str]) -> list[Message]:
        """Replies that are here whole, and errors in the place of those that never will be.

        Args:
            asked: ids of the messages that somebody waits for a reply to; replies to others are dropped.
        """
        self._coming = {i: coming for i, coming in self._coming.items() if i in asked}
        if unanswered := [i for i in asked if i not in self._coming]:
            self._announced(unanswered)
        looked = [self._look(i, coming) for i, coming in list(self._coming.items())]
        return [message for message in looked if message is not None]

    def _announced(self, asked: Collection[str]) -> None:
        found = self._grid._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=asked))
        for message, tree in zip(found.messages_list, found.message_object_trees, strict=True):
            pieces = list(dict.fromkeys(part.object_id for part in iterate_object_tree(tree)))
            coming = _Coming(message.metadata.message_id, pieces[::-1])
            self._coming[message.metadata.reply_to_message_id] = coming

    def _look(self, asked: str, coming: _Coming) -> Message | None:
        try:
            if len(coming.missing) > MOST_PIECES:
                raise ObjectPullError(coming.name, "too many pieces")
            if not self._fetched(coming):
                return None
        except ObjectUnavailableError:
            return None
        except _TooLarge:
            self._confirm(coming)  # so that the SuperLink keeps it no longer
            return self._instead(asked, ErrorCode.UNKNOWN)
        except ObjectPullError:
            return self._instead(asked, ErrorCode.REPLY_MESSAGE_UNAVAILABLE)
        del self._coming[asked]
        return self._whole(asked, coming)

    def _fetched(self, coming: _Coming) -> bool:
        """Fetch pieces until all are here, or it has taken long enough for one look."""
        fetch, ends = self._fetch(), self._clock() + LOOK_S
        while coming.missing:
            if self._clock() >= ends:
                return False
            piece = fetch(coming.missing[-1])
            coming.size += len(piece)
            if coming.size > self._most:
                raise _TooLarge
            coming.pieces[coming.missing.pop()] = piece
        return True

    def _fetch(self) -> Callable[[str], bytes]:
        client, run = self._grid._runtime_client, self._grid.run.run_id
        return make_pull_object_fn_protobuf(client.PullObject, self._grid.node, run)

    def _confirm(self, coming: _Coming) -> None:
        request = ConfirmMessageReceivedRequest(
            node=self._grid.node, run_id=self._grid.run.run_id, message_object_id=coming.name
        )
        self._grid._runtime_client.ConfirmMessageReceived(request)

    def _whole(self, asked: str, coming: _Coming) -> Message:
        self._confirm(coming)
        try:
            message = cast(Message, inflate_object_from_contents(coming.name, coming.pieces))
            message.metadata.__dict__["_message_id"] = coming.name
            message.metadata.__dict__["_reply_to_message_id"] = asked
        except Exception:  # whatever a plant sent, its reply is lost and nobody else's
            return self._instead(asked, ErrorCode.UNKNOWN)
        return message

    def _instead(self, asked: str, code: int) -> Message:
        """An error in the place of a reply."""
        self._coming.pop(asked, None)
        node, run = self._grid.node.node_id, self._grid.run.run_id
        metadata = Metadata(run, "", node, node, asked, "", 0.0, 0.0, SYSTEM_MESSAGE_TYPE)
        return make_message(metadata, error=Error(code, "its reply did not arrive"))
