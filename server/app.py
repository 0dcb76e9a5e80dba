"""The server's Flower adapter. `server.app:app` is the ServerApp of the manifest.

It finds the run in the store, then hands a channel over Flower's grid to the coordinator, which knows no Flower. On a
network, plants are who their registered key says they are, and only those on the run's roster are asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid.http_grid import HttpGrid

from server.channel import LEFT, Arrival, Observer, Silent
from server.coordinator import Coordinator, unaccounted
from server.inbox import Inbox
from server.notice import WAITS, Noticed
from server.rounds import RunState
from server.run.runs import NOTES, Submission
from server.store.registry import RunOrders
from server.store.rows import RunStatus
from server.store.store import RoundStore
from server.transition import quorum
from shared.config import RunConfig
from shared.errors import BadPayload, InvalidConfig, StoreError
from shared.wire.envelope import Packet
from shared.wire.frame import encode_frame
from shared.wire.inventory import Kind
from shared.wire.messages import shown
from shared.wire.records import ARRAYS, FRAME, NUMBERS, TEXTS, packet_from_records

app = ServerApp()

# Whoever starts the app in this process may watch it; there is no such channel into another process.
observer: ContextVar[Observer | None] = ContextVar("observer", default=None)

UNREADABLE = "a message that cannot be read."
GONE = "absent: it disconnected before it could be asked"

_FIRST_PAUSE_S = 0.001
_GATHER_S = 120.0  # how long a run that starts waits for the plants of its roster, one that resumes for a quorum
_GATHER_GRACE_S = 60.0  # then, at most the grace period, for the others of a run that resumes: a coordinator that
# was away for a moment should go on with the plants it had
_GATHER_PAUSE_S = 0.5


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Conduct the run named by the run configuration (`store`, `run`) or the environment, to its end."""
    location, name = _setting(context, "store"), _setting(context, "run")
    _say_who_carries(context)
    with RoundStore.open(location) as store, store.lock():
        config = store.config(name)
        state = store.latest_state(name) or RunState(name, config.digest)
        channel = GridChannel(grid, _roster(name))
        members = frozenset(member.plant for member in state.members)
        grace_s = min(_GATHER_GRACE_S, config.rounds.grace_s or _GATHER_GRACE_S)
        needed = quorum(len(members), config.rounds.quorum)
        channel.gather(min(_GATHER_S, config.rounds.deadline_s), members, needed, grace_s)
        watcher = observer.get() or _watcher(name)
        signature, charge = _signature(store, name), _charge(store, name, config)
        coordinator = Coordinator(config, channel, store, watcher, signature=signature, charge=charge)
        coordinator.start, coordinator.orders = store.start_weights(config), RunOrders(store, name)
        stood = _stood(name)
        if stood is None:
            coordinator.run(state)
        else:
            coordinator.carry_out_orders(state)
        store.finish_run(name, stood or RunStatus.FINISHED)


def _signature(store: RoundStore, run: str) -> Callable[[], str]:
    """The operator's signature over a run as it stands when it is asked for: a run may be signed anew meanwhile."""
    known = store.signature(run)

    def ask() -> str:
        nonlocal known
        with suppress(StoreError):  # a database that is locked just now must not end a round
            known = store.signature(run)
        return known

    return ask


def _charge(store: RoundStore, run: str, config: RunConfig) -> Callable[[int, str, float], None]:
    """The ledger of central differential privacy, where the run is under it."""
    if config.recipe.privacy.mode != "central":
        return unaccounted
    from server.central import PLANTS, ledgered  # Imports cryptography and the accountants.

    return ledgered(store.folder / "privacy" / PLANTS, run, config.recipe.privacy)


def _setting(context: Context, name: str) -> str:
    # Flower's Python simulation entry point leaves the run configuration empty (docs/decisions/0003).
    value = context.run_config.get(name) or os.environ.get(f"CROSSPLANT_{name.upper()}")
    if not value:
        raise InvalidConfig(f"the server app was started without {name!r}.", "Start it with `crossplant simulate`.")
    return str(value)


def _roster(run: str) -> frozenset[str] | None:
    """Names of the plants that a run goes to; None in a simulation, where it goes to all.

    They stand in the coordinator's note of the run, not in its settings: those Flower hands to every plant.
    """
    notes = os.environ.get(NOTES)
    return frozenset(Submission.read(Path(notes) / f"{run}.json").roster) if notes else None


def _stood(run: str) -> RunStatus | None:
    """How a run stood that is taken up for an operator's order alone; None: it is to go on to the end of its plan."""
    notes = os.environ.get(NOTES)
    return Submission.read(Path(notes) / f"{run}.json").stood if notes else None


def _say_who_carries(context: Context) -> None:
    """Leave this process's id where `server.run.runs` looks for it."""
    if path := os.environ.get("CROSSPLANT_CARRIER"):
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{context.run_id} {os.getpid()}")


def _watcher(run: str) -> Observer:
    """Who watches a run on a network: the file that `server.run.serve` reads."""
    path = os.environ.get(WAITS)
    return Noticed(Path(path), run) if path else Silent()


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
        self._drop: Callable[[list[str]], None] = getattr(grid, "drop", lambda ids: None)
        self._records = _records if hasattr(grid, "wait") else _frame  # in one process, nothing is gained by a copy
        self._inbox = Inbox(grid) if isinstance(grid, HttpGrid) else None
        self._asked: dict[str, Arrival] = {}  # by message: an arrival without content, of the node it was sent to
        self._undelivered: list[Arrival] = []
        self._name_of: dict[int, str] = {}

    def nodes(self) -> Sequence[int]:
        if self._roster is None:
            return sorted(self._grid.get_node_ids())
        named = {info.node_id: info.name for info in self._grid.get_nodes()}
        here = {node: name for node, name in named.items() if name in self._roster}
        self._name_of |= here  # whoever went away may have answered before
        return sorted(here)

    def name(self, node: int) -> str | None:
        return self._name_of.get(node)

    def gather(
        self, longest_s: float, members: frozenset[str] = frozenset(), needed: int = 0, grace_s: float = 0.0
    ) -> None:
        """Wait until every plant of the roster is connected, or the time is over.

        Args:
            longest_s: the time.
            members: plants of a run that resumes: once enough of them are there, the others get a grace period.
            needed: how many are enough.
            grace_s: that period.
        """
        ends = time.monotonic() + longest_s
        while self._roster is not None and len(here := self.nodes()) < len(self._roster) and time.monotonic() < ends:
            if members and len({self.name(node) for node in here} & members) >= needed:
                ends, members = min(ends, time.monotonic() + grace_s), frozenset()
            time.sleep(_GATHER_PAUSE_S)

    def send(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        self._drop([i for i, to in self._asked.items() if not to.beside])
        self._asked = {i: to for i, to in self._asked.items() if to.beside}
        self._undelivered = [arrival for arrival in self._undelivered if arrival.beside]
        self._push(packet, [Arrival(node, None) for node in nodes], ttl_s, group)

    def send_beside(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        self._push(packet, [Arrival(node, None, beside=True) for node in nodes], ttl_s, group)

    def _push(self, packet: Packet, to: Sequence[Arrival], ttl_s: float, group: str) -> None:
        if not to:  # Flower's servers take no empty list
            return
        content = self._records(packet)
        if self._inbox is not None:
            self._inbox.expect(packet.payload_bytes)
        kind = packet.texts["kind"]
        message_type = "train" if kind == Kind.TRAIN else f"query.{kind}"
        messages = [
            Message(content, dst_node_id=one.node, message_type=message_type, ttl=ttl_s, group_id=group) for one in to
        ]
        ids: list[str | None] = [*self._grid.push_messages(messages)] or [None] * len(to)
        self._asked |= {i: one for i, one in zip(ids, to, strict=True) if i}
        self._undelivered += [replace(one, failure=GONE) for i, one in zip(ids, to, strict=True) if not i]

    def receive(self, wait_s: float) -> Sequence[Arrival]:
        """Poll the grid, ever more slowly (Flower's offer no way to wait), until something came or the time is over."""
        if self._undelivered:
            gone, self._undelivered = self._undelivered, []
            return gone
        ends, pause = time.monotonic() + wait_s, _FIRST_PAUSE_S
        while True:
            replies = (
                list((self._inbox.pull if self._inbox else self._grid.pull_messages)(list(self._asked)))
                if self._asked
                else []
            )
            if replies or time.monotonic() >= ends:
                return [arrival for arrival in map(self._arrival, replies) if arrival is not None]
            self._wait(min(pause, max(0.0, ends - time.monotonic())))
            pause = min(2 * pause, self._longest_pause_s)

    def _arrival(self, reply: Message) -> Arrival | None:
        # The source of an error reply is the SuperLink, not the plant: what it answers tells who.
        asked = self._asked.pop(reply.metadata.reply_to_message_id, None)
        if asked is None:
            return None
        if reply.has_error():
            return replace(asked, failure=_failure(reply.error.code))
        try:
            return self._named(replace(asked, packet=packet_from_records(reply.content)))
        except BadPayload as error:
            return replace(asked, failure=error.cause)
        except Exception:  # one plant's message, whatever is in it, must not end the run of all the others
            return replace(asked, failure=UNREADABLE)

    def _named(self, arrival: Arrival) -> Arrival:
        """A plant is who its key says it is, whatever it calls itself."""
        known = self._name_of.get(arrival.node)
        claimed = None if arrival.packet is None else arrival.packet.texts.get("plant")
        if known is None or known == claimed:
            return arrival
        told = f"name: the plant registered as {known!r} answers as {shown(claimed)}"
        return replace(arrival, packet=None, failure=told)


def _failure(code: int) -> str:
    """What an error reply of Flower's means."""
    if code == ErrorCode.NODE_UNAVAILABLE:
        return LEFT
    if code in (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE):
        return f"late: the request or the reply outlived its time (Flower error {code})"
    if code == ErrorCode.UNKNOWN:
        return UNREADABLE
    return f"the plant's process failed (Flower error {code})"


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
