"""What becomes of a task whose process is killed: its will, which the executor carries out.

Flower notices a killed ClientApp when its heartbeats fail, after a minute; until then the SuperNode asks for nothing
more. One that is killed while it hands its answer over leaves an answer that is never whole, for which the SuperNode
waits for ever (flwr 1.41, `_push_messages`). The executor reaps the process, so it knows at once: it hands over the
answer that lies in the will, or else an error.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from flwr.app import Message
from flwr.app.error import Error
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage  # type: ignore[attr-defined,unused-ignore]
from flwr.proto.message_pb2 import PushObjectRequest  # type: ignore[attr-defined,unused-ignore]
from flwr.proto.node_pb2 import Node  # type: ignore[attr-defined,unused-ignore]
from flwr.proto.runtime_pb2 import (  # type: ignore[attr-defined,unused-ignore]
    PushAppMessagesRequest,
    PushTaskOutputRequest,
)
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.runtime import RuntimeHttpClient

_WHY = "the relay's process was killed"
KILLED = Error(ErrorCode.CLIENT_APP_CRASHED, _WHY)
_LENGTH = struct.Struct("<Q")
_WHOLE, _SETTLED = b"w", b"s"


class Will:
    """Memory that a forked process shares with the executor, and that outlives it. Nothing of it is on a disk."""

    def __init__(self) -> None:
        self._answer, self._notes, self._noted = os.memfd_create("answer"), os.memfd_create("notes"), 0

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._answer)
        os.close(self._notes)

    def leave(self, answer: Message) -> list[bytes]:
        """From now on the executor hands this answer over; its parcel."""
        parts, place = parcel(answer), 0
        for part in parts:
            for data in (_LENGTH.pack(len(part)), part):
                place += _write(self._answer, data, place)
        self._note(_WHOLE)  # one byte, last
        return parts

    def settle(self) -> None:
        """There is nothing left to do."""
        self._note(_SETTLED)

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to do."""
        return self._newest() == _SETTLED

    def read(self) -> list[bytes]:
        """The answer's parcel; empty when it was not left whole."""
        return list(_parts(self._answer)) if self._newest() == _WHOLE else []

    def _note(self, what: bytes) -> None:
        self._noted += _write(self._notes, what, self._noted)

    def _newest(self) -> bytes:
        return os.pread(self._notes, 16, 0)[-1:]


def parcel(answer: Message) -> list[bytes]:
    """An answer as the requests that hand it over: itself, then its objects."""
    about = answer.metadata
    about.__dict__["_message_id"] = answer.object_id
    with no_object_id_recompute():
        head = PushAppMessagesRequest(
            messages_list=[message_to_proto(remove_content_from_message(answer))],
            message_object_trees=[get_object_tree(answer)],
        )
        node, objects = Node(node_id=about.src_node_id), get_all_nested_objects(answer)
        parts = [
            PushObjectRequest(node=node, run_id=about.run_id, object_id=name, object_content=found.deflate())
            for name, found in objects.items()
        ]
    return [head.SerializeToString(), *(part.SerializeToString() for part in parts)]


def hand_over(client: RuntimeHttpClient, parts: list[bytes]) -> None:
    """Send a parcel's requests; what the SuperNode has of it already is not sent again.

    Raises:
        httpx.HTTPError: the SuperNode does not take it.
    """
    reply = client.PushMessages(PushAppMessagesRequest.FromString(parts[0]))
    wanted = set(reply.objects_to_push)
    for part in parts[1:]:
        request = PushObjectRequest.FromString(part)
        if request.object_id in wanted:
            request.session_id = reply.session_id
            client.PushObject(request)


def carry_out(client: RuntimeHttpClient, asked: ProtoMessage, will: Will) -> None:
    """Answer for a process that was killed, and end its task.

    Args:
        client: to the SuperNode, with the task's token.
        asked: what it had to answer.
        will: what it left.

    Raises:
        httpx.HTTPError: the SuperNode does not take it.
    """
    hand_over(client, will.read() or parcel(Message(KILLED, reply_to=message_from_proto(asked))))
    client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=_WHY))


def _write(handle: int, data: bytes, place: int) -> int:
    view, whole = memoryview(data), len(data)
    while view:
        done = os.pwrite(handle, view, place)
        view, place = view[done:], place + done
    return whole


def _parts(handle: int) -> Iterator[bytes]:
    place, size = 0, os.fstat(handle).st_size
    while place < size:
        (length,) = _LENGTH.unpack(os.pread(handle, _LENGTH.size, place))
        place += _LENGTH.size
        yield os.pread(handle, length, place)
        place += length
