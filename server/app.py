"""The server's Flower adapter. `server.app:app` is the ServerApp of the manifest.

It finds the run in the store, then hands a channel over Flower's grid to the coordinator, which knows no Flower. On a
network, plants are who their registered key says they are, and only those on the run's roster are asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp

from server.coordinator import Arrival, Coordinator, Observer, Silent
from server.rounds import RunState
from server.store.store import RoundStore
from shared.errors import BadPayload, InvalidConfig
from shared.wire.envelope import Packet
from shared.wire.frame import encode_frame
from shared.wire.inventory import Kind
from shared.wire.records import ARRAYS, FRAME, NUMBERS, TEXTS, packet_from_records

app = ServerApp()

# Whoever starts the app in this process may watch it; there is no such channel into another process.
observer: ContextVar[Observer | None] = ContextVar("observer", default=None)

UNREADABLE = "a message that cannot be read."
GONE = "absent: it disconnected before it could be asked"

_FIRST_PAUSE_S = 0.001
_GATHER_S = 120.0  # how long a run that starts or resumes waits for the plants of its roster
_GATHER_PAUSE_S = 0.5


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Conduct the run named by the run configuration (`store`, `run`) or the environment, to its end."""
    location, name = _setting(context, "store"), _setting(context, "run")
    _say_who_carries(context)
    with RoundStore.open(location) as store, store.lock():
        config = store.config(name)
        state = store.latest_state(name) or RunState(name, config.digest)
        channel = GridChannel(grid, _roster(context))
        channel.gather(min(_GATHER_S, config.rounds.deadline_s))
        coordinator = Coordinator(config, channel, store, observer.get() or Silent())
        coordinator.run(state)
        store.finish_run(name, "finished")


def _setting(context: Context, name: str) -> str:
    # Flower's Python simulation entry point leaves the run configuration empty (docs/decisions/0003).
    value = context.run_config.get(name) or os.environ.get(f"CROSSPLANT_{name.upper()}")
    if not value:
        raise InvalidConfig(f"the server app was started without {name!r}.", "Start it with `crossplant simulate`.")
    return str(value)


def _roster(context: Context) -> frozenset[str] | None:
    """Names of the plants that the run goes to; None in a simulation, where it goes to all."""
    listed = str(context.run_config.get("roster") or "")
    return frozenset(listed.split(",")) if listed else None


def _say_who_carries(context: Context) -> None:
    """Leave this process's id where `server.run.runs` looks for it."""
    if path := os.environ.get("CROSSPLANT_CARRIER"):
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{context.run_id} {os.getpid()}")


class GridChannel:
    """`server.coordinator.Channel` over a Flower grid.

    Args:
        grid: Flower's.
        roster: names of the plants that may be asked, as they were registered; None asks every node.
        longest_pause_s: between two looks for replies.
    """

    def __init__(self, grid: Grid, roster: frozenset[str] | None = None, longest_pause_s: float = 0.25) -> None:
        self._grid = grid
        self._roster = roster
        self._longest_pause_s = longest_pause_s
        self._wait: Callable[[float], None] = getattr(grid, "wait", time.sleep)
        self._records = _records if hasattr(grid, "wait") else _frame  # in one process, nothing is gained by a copy
        self._node_of: dict[str, int] = {}
        self._undelivered: list[Arrival] = []
        self._name_of: Mapping[int, str] = {}

    def nodes(self) -> Sequence[int]:
        if self._roster is None:
            return sorted(self._grid.get_node_ids())
        named = {info.node_id: info.name for info in self._grid.get_nodes()}
        self._name_of = {node: name for node, name in named.items() if name in self._roster}
        return sorted(self._name_of)

    def gather(self, longest_s: float) -> None:
        """Wait until every plant of the roster is connected, or the time is over."""
        ends = time.monotonic() + longest_s
        while self._roster is not None and len(self.nodes()) < len(self._roster) and time.monotonic() < ends:
            time.sleep(_GATHER_PAUSE_S)

    def send(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        content = self._records(packet)
        kind = packet.texts["kind"]
        message_type = "train" if kind == Kind.TRAIN else f"query.{kind}"
        messages = [
            Message(content, dst_node_id=node, message_type=message_type, ttl=ttl_s, group_id=group) for node in nodes
        ]
        ids = self._grid.push_messages(messages)
        pairs = list(zip(ids, nodes, strict=True)) if ids else [(None, node) for node in nodes]
        self._node_of = {i: node for i, node in pairs if i}
        self._undelivered = [Arrival(node, None, GONE) for i, node in pairs if not i]

    def receive(self, wait_s: float) -> Sequence[Arrival]:
        """Poll the grid, ever more slowly (Flower's offer no way to wait), until something came or the time is over."""
        if self._undelivered:
            gone, self._undelivered = self._undelivered, []
            return gone
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
            return self._named(Arrival(node, packet_from_records(reply.content)))
        except BadPayload as error:
            return Arrival(node, None, error.cause)
        except Exception:  # one plant's message, whatever is in it, must not end the run of all the others
            return Arrival(node, None, UNREADABLE)

    def _named(self, arrival: Arrival) -> Arrival:
        """A plant is who its key says it is, whatever it calls itself."""
        known = self._name_of.get(arrival.node)
        claimed = None if arrival.packet is None else arrival.packet.texts.get("plant")
        if known is None or known == claimed:
            return arrival
        return Arrival(arrival.node, None, f"name: the plant registered as {known!r} answers under another name")


def _records(packet: Packet) -> RecordDict:
    arrays = {name: Array(raw.dtype, raw.shape, "numpy.ndarray", raw.data) for name, raw in packet.arrays.items()}
    return RecordDict(
        {
            ARRAYS: ArrayRecord(arrays),
            NUMBERS: MetricRecord(dict(packet.numbers)),
            TEXTS: ConfigRecord(dict(packet.texts)),
        }
    )


def _frame(packet: Packet) -> RecordDict:
    data = encode_frame(packet)
    return RecordDict({FRAME: ArrayRecord({FRAME: Array("uint8", (len(data),), "numpy.ndarray", data)})})
