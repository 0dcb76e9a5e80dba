"""How long a round waits, and for whom: until all have answered, the deadline, or the grace period after the quorum.

A node that went away is not waited for: after the quorum as soon as it was missed twice in a row, before it after a
minute, which is how long Flower takes to miss one that was killed. What it sends all the same is taken while the round
lasts. Time is monotonic; no plant's clock and no clock on a wall has a say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from server.channel import Arrival, Channel
from shared.config import RoundConfig

LOOK_S = 5.0
"""Between two looks at who is connected."""
PATIENCE_S = 60.0
"""How long a node may be away before the quorum is reached."""
TELL_S = 10.0
"""How long a round waits before people are told for whom; then they are told again after twice the time, and so on."""


@dataclass
class Notice:
    """Tells people that something waits, ever more seldom.

    Args:
        clock: monotonic seconds.
        tell: gets the seconds waited and those left.
    """

    clock: Callable[[], float]
    tell: Callable[[float, float], None]

    def __post_init__(self) -> None:
        self._begin = self.clock()
        self._due_s = TELL_S

    def look(self, end: float) -> None:
        """Tell when it is time; `end` is when the wait ends at the latest, on the clock."""
        now = self.clock()
        if self._due_s <= now - self._begin and now < end:
            self._due_s = 2 * (now - self._begin)
            self.tell(now - self._begin, end - now)


@dataclass
class Vigil:
    """The wait of one round.

    Args:
        channel, clock, rounds: as the coordinator has them.
        pending: nodes that have not answered yet; grows smaller.
        enough: whether the quorum is reached.
        tell: hears from time to time which nodes are waited for, for how many seconds now and how many more.

    Attributes:
        gone: nodes that are away, and since when.
        surplus: nodes that sent more than they were asked for.
    """

    channel: Channel
    clock: Callable[[], float]
    rounds: RoundConfig
    pending: set[int]
    enough: Callable[[], bool]
    tell: Callable[[Collection[int], float, float], None] = lambda pending, waited_s, left_s: None
    gone: dict[int, float] = field(default_factory=dict)
    surplus: set[int] = field(default_factory=set)
    _quorate: float | None = None

    def arrivals(self) -> Iterator[Arrival]:
        """Replies, one for each node that was asked, and all those beside the round."""
        begin = self.clock()
        look = begin + LOOK_S
        notice = Notice(self.clock, lambda waited_s, left_s: self.tell(self.pending, waited_s, left_s))
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
            notice.look(end)
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


def surplus(nodes: Iterable[int], plants: Mapping[int, str], most: int = 5) -> tuple[str, ...]:
    """What to say of replies that nobody had asked for."""
    named = sorted((plants.get(node, ""), node) for node in nodes)
    return tuple(
        f"duplicate: {plant} sent more than one reply, the first counts"
        if plant
        else f"stray: node {node} was not asked"
        for plant, node in named[:most]
    )
