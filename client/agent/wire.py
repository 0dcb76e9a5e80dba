"""The relay's end of the agent's socket. Imports neither torch nor anything that reads a plant's data.

One unary gRPC method, `/crossplant.Agent/Handle`, takes and gives a frame (`shared.wire.frame`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc  # type: ignore[import-untyped]

from shared.errors import AgentUnreachable, CrossplantError, NotAllowed
from shared.wire.envelope import PROTOCOL, Packet
from shared.wire.frame import decode_frame, encode_frame

SERVICE = "crossplant.Agent"
METHOD = f"/{SERVICE}/Handle"
SIZE = "size"
UNEXPECTED = "CP-000 Unexpected"
LONGEST_PATH = 107
"""Bytes of a Unix socket's path, which the kernel limits."""

# One channel a call: no subchannel is shared with, and no broken one is kept for, another plant of this process.
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


def address(socket: Path) -> str:
    """The socket as gRPC names it."""
    return f"unix:{socket}"


@contextmanager
def channel(socket: Path) -> Iterator[grpc.Channel]:
    """A channel to the agent, closed in the end."""
    opened = grpc.insecure_channel(address(socket), options=_OPTIONS)
    try:
        yield opened
    finally:
        opened.close()


def ask(socket: Path, packet: Packet, timeout_s: float) -> Packet:
    """Hand a request to the agent and wait for its answer.

    Args:
        socket: where the agent listens.
        packet: the request, unread.
        timeout_s: when the answer is of no use any more; the agent gives the task up then.

    Raises:
        AgentUnreachable: there is no agent, it is not ready, or it did not answer in time.
        NotAllowed: the request is larger than the agent receives at all.
        BadPayload: what answered is no agent.
    """
    try:
        with channel(socket) as opened:
            return decode_frame(opened.unary_unary(METHOD)(encode_frame(packet), timeout=timeout_s))
    except grpc.RpcError as error:
        raise _named(error, socket) from error


def _named(error: grpc.RpcError, socket: Path) -> CrossplantError:
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return NotAllowed("the request is larger than the agent receives.", word=SIZE)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return AgentUnreachable(f"the agent at {socket} did not answer in time.", "Raise the round's deadline.")
    return AgentUnreachable(f"no agent answers at {socket} ({code.name}).")


def refused_text(error: BaseException) -> str:
    """All that a server hears of an error: a fixed code and a fixed word, never a text of its own.

    Example:
        >>> refused_text(NotAllowed("north trains at night only.", word="hours"))
        'CP-603 hours'
    """
    if isinstance(error, NotAllowed):
        return f"{error.code} {error.word}"
    if isinstance(error, CrossplantError):
        return f"{error.code} {type(error).__name__}"
    return UNEXPECTED


def refusal(request: Packet, plant: str, text: str) -> Packet:
    """A reply that refuses: it echoes what identifies the request and says why in a fixed text."""
    head = {name: request.texts[name] for name in ("run", "kind", "model") if name in request.texts}
    numbers = {"round": request.numbers.get("round", 0), "protocol": PROTOCOL}
    return Packet({}, numbers, {**head, "plant": plant, "refused": text})


def ready(socket: Path, timeout_s: float = 2.0) -> bool:
    """Whether the agent has read its data and answers: what its health service says."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

    try:
        with channel(socket) as opened:
            question = health_pb2.HealthCheckRequest(service=SERVICE)
            answer = health_pb2_grpc.HealthStub(opened).Check(question, timeout=timeout_s)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
