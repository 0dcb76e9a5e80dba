"""What a coordinator needs of the world: a channel to plants, a journal for rounds, somebody who watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.phases import Step
from server.rounds import RoundRecord, RunState
from shared.wire.envelope import Packet

LEFT = "absent: it disconnected during the round"
"""The failure of a node that went away before it answered."""


@dataclass(frozen=True)
class Arrival:
    """A reply as the channel hands it over.

    Attributes:
        node: who sent it.
        packet: its content, or None when there is none.
        failure: why there is none.
        beside: whether it answers what was sent beside the round.
    """

    node: int
    packet: Packet | None
    failure: str = ""
    beside: bool = False


class Channel(Protocol):
    """What carries packets to plants and back."""

    def nodes(self) -> Sequence[int]:
        """Nodes that are connected now."""

    def name(self, node: int) -> str | None:
        """Which plant a node is by its registered key; None where nodes have none and are what they call themselves."""

    def send(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        """Send one packet to several nodes; replies to an earlier send are dropped from now on."""

    def send_beside(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        """Send a packet of which nothing is dropped: replies may come rounds later, marked as `beside`."""

    def receive(self, wait_s: float) -> Sequence[Arrival]:
        """Replies that came since the last call; waits up to `wait_s` when there are none."""


class Journal(Protocol):
    """Where finished rounds are kept."""

    def commit(self, record: RoundRecord, state: RunState) -> None:
        """Keep a finished round and the state after it, in one transaction."""


class Observer(Protocol):
    """Who watches a run, such as a progress bar."""

    def round_started(self, number: int, step: Step, plants: int) -> None:
        """A round begins."""

    def round_waits(self, number: int, plants: Sequence[str], waited_s: float, left_s: float) -> None:
        """A round has waited for some plants so long, and does so for a while yet at most; said ever more seldom."""

    def reply_received(self, plant: str) -> None:
        """A plant's reply was judged."""

    def round_finished(self, record: RoundRecord) -> None:
        """A round is in the journal."""


class Silent:
    """An observer that does nothing."""

    def round_started(self, number: int, step: Step, plants: int) -> None: ...

    def round_waits(self, number: int, plants: Sequence[str], waited_s: float, left_s: float) -> None: ...

    def reply_received(self, plant: str) -> None: ...

    def round_finished(self, record: RoundRecord) -> None: ...
