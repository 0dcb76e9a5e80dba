"""How long a round waits, and for whom: until all have answered, the deadline, or the grace period after the quorum.

A node that went away is not waited for: after the quorum as soon as it was missed twice in a row, before it after a
minute, which is how long Flower takes to miss one that was killed. What it sends all the same is taken while the round
lasts. Time is monotonic; no plant's clock and no clock on a wall has a say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from server.channel import Arrival, Channel
from shared.config import RoundConfig

LOOK_S = 5.0
"""Between two looks at who is connected."""
PATIENCE_S = 60.0
"""How long a node may be away before the quorum is reached."""


@dataclass
class Vigil:
    """The wait of one round.

    Args:
        channel, clock, rounds: as the coordinator has them.
        pending: nodes that have not answered yet; grows smaller.
        enough: whether the quorum is reached.

    Attributes:
        gone: nodes that are away, and since when.
        surplus: nodes that sent more than they were asked for.
    """

    channel: Channel
    clock: Callable[[], float]
    rounds: RoundConfig
    pending: set[int]
    enough: Callable[[], bool]
    gone: dict[int, float] = field(default_factory=dict)
    surplus: set[int] = field(default_factory=set)
    _quorate: float | None = None

    def arrivals(self) -> Iterator[Arrival]:
        """Replies, one for each node that was asked, and all those beside the round."""
        begin = self.clock()
        look = begin + LOOK_S
        while self.pending:
            now = self.clock()
            if self._quorate is None and self.enough():
                self._quorate = now
            if now >= look:
                self._look(now, self.channel.nodes())
                look = now + LOOK_S
            end = self._end(begin)
            if now >= end or self._in_vain(now):
                return
            for arrival in self.channel.receive(min(1.0, end - now)):
                if arrival.beside or arrival.node in self.pending:
                    if not arrival.beside:
                        self.pending.discard(arrival.node)
                    yield arrival
                else:
                    self.surplus.add(arrival.node)

    def _end(self, begin: float) -> float:
        deadline, grace = begin + self.rounds.deadline_s, self.rounds.grace_s
        return deadline if self._quorate is None or grace is None else min(deadline, self._quorate + grace)

    def _look(self, now: float, connected: Collection[int]) -> None:
        self.gone = {node: self.gone.get(node, now) for node in self.pending if node not in connected}

    def _in_vain(self, now: float) -> bool:
        patience = PATIENCE_S if self._quorate is None else LOOK_S
        return all(node in self.gone and now - self.gone[node] >= patience for node in self.pending)
