"""The server's Flower adapter: the only file of `server/` that imports Flower.

`server.app:app` is the ServerApp of the manifest. It finds the run in the store, then hands a channel over Flower's
grid to the
coordinator, which knows no Flower.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp

from server.coordinator import Arrival, Coordinator, Observer, Silent
from server.rounds import RunState
from server.store.store import RoundStore
from shared.errors import BadPayload, InvalidConfig
from shared.wire.envelope import Packet
from shared.wire.inventory import Kind
from shared.wire.records import ARRAYS, NUMBERS, TEXTS, packet_from_records

app = ServerApp()

# Whoever starts the app in this process may watch it; there is no such channel into another process.
observer: ContextVar[Observer | None] = ContextVar("observer", default=None)

UNREADABLE = "a message that cannot be read."

_FIRST_PAUSE_S = 0.001


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Conduct the run named by the run configuration (`store`, `run`) or the environment, to its end."""
    location, name = _setting(context, "store"), _setting(context, "run")
    with RoundStore.open(location) as store, store.lock():
        config = store.config(name)
        state = store.latest_state(name) or RunState(name, config.digest)
        coordinator = Coordinator(config, GridChannel(grid), store, observer.get() or Silent())
        coordinator.run(state)
        store.finish_run(name, "finished")


def _setting(context: Context, name: str) -> str:
    # Flower's Python simulation entry point leaves the run configuration empty (docs/decisions/0003).
    value = context.run_config.get(name) or os.environ.get(f"CROSSPLANT_{name.upper()}")
    if not value:
        raise InvalidConfig(f"the server app was started without {name!r}.", "Start it with `crossplant simulate`.")
    return str(value)


class GridChannel:
    """`server.coordinator.Channel` over a Flower grid."""

    def __init__(self, grid: Grid, longest_pause_s: float = 0.25) -> None:
        self._grid = grid
        self._longest_pause_s = longest_pause_s
        self._wait: Callable[[float], None] = getattr(grid, "wait", time.sleep)
        self._node_of: dict[str, int] = {}

    def nodes(self) -> Sequence[int]:
        return sorted(self._grid.get_node_ids())

    def send(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        content = _records(packet)
        kind = packet.texts["kind"]
        message_type = "train" if kind == Kind.TRAIN else f"query.{kind}"
        messages = [
            Message(content, dst_node_id=node, message_type=message_type, ttl=ttl_s, group_id=group) for node in nodes
        ]
        ids = self._grid.push_messages(messages)
        self._node_of = {i: node for i, node in zip(ids, nodes, strict=True) if i is not None}

    def receive(self, wait_s: float) -> Sequence[Arrival]:
        """Poll the grid, ever more slowly (Flower's offer no way to wait), until something came or the time is over."""
        ends, pause = time.monotonic() + wait_s, _FIRST_PAUSE_S
        while True:
            replies = list(self._grid.pull_messages(list(self._node_of)))
            if replies or time.monotonic() >= ends:
                return [arrival for arrival in map(self._arrival, replies) if arrival is not None]
            self._wait(min(pause, max(0.0, ends - time.monotonic())))
            pause = min(2 * pause, self._longest_pause_s)

    def _arrival(self, reply: Message) -> Arrival | None:
        # The source of an error reply is the SuperLink, not the plant: what it answers tells who.
        node = self._node_of.pop(reply.metadata.reply_to_message_id, None)
        if node is None:
            return None
        if reply.has_error():
            return Arrival(node, None, f"the plant's process failed (Flower error {reply.error.code})")
        try:
            return Arrival(node, packet_from_records(reply.content))
        except BadPayload as error:
            return Arrival(node, None, error.cause)
        except Exception:  # one plant's message, whatever is in it, must not end the run of all the others
            return Arrival(node, None, UNREADABLE)


def _records(packet: Packet) -> RecordDict:
    arrays = {name: Array(raw.dtype, raw.shape, "numpy.ndarray", raw.data) for name, raw in packet.arrays.items()}
    return RecordDict(
        {
            ARRAYS: ArrayRecord(arrays),
            NUMBERS: MetricRecord(dict(packet.numbers)),
            TEXTS: ConfigRecord(dict(packet.texts)),
        }
    )
