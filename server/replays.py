"""Updates that are not a plant's own: bit for bit what was accepted in an earlier round, or from another plant now.

A reply's head names plant, run, round and model, so a whole reply that is sent again is refused by its head. What is
left is a copy under a new head. Training never gives the same bits from another model, so an update that equals one of
an earlier round is refused; an update that equals the model sent along carries nothing, and is left alone. Two equal
updates in one round are told, not refused: which of them is the copy cannot be seen, and refusing the later would let a
thief keep the owner out. See docs/decisions/0010-who-takes-part-in-a-round.md.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from shared.model import Weights
from shared.wire.envelope import Packet

REMEMBERED = 20_000
"""Updates whose digests are kept: 8 MB with their owners, 20 plants a round (tracemalloc)."""

_STATISTIC = ("cluster_sums", "cluster_counts")


def digest(packet: Packet) -> bytes:
    """Over the arrays of an update, names and all; the cluster statistic is left out."""
    whole = hashlib.sha256()
    for name in sorted(packet.arrays.keys() - set(_STATISTIC)):
        raw = packet.arrays[name]
        whole.update(f"{name}\0{len(raw.data)}\0".encode())
        whole.update(raw.data)
    return whole.digest()


def sent(weights: Weights) -> str:
    """Which weights plants are asked to train, hex; empty for none. Once a round is enough: it reads them all."""
    whole = hashlib.sha256()
    for name, value in sorted(weights.items()):
        whole.update(name.encode())
        whole.update(value.tobytes())
    return whole.hexdigest() if weights else ""


@dataclass
class Replays:
    """Digests of the updates that this process accepted, the newest of them; a restart forgets them."""

    _known: OrderedDict[bytes, tuple[str, int, str]] = field(default_factory=OrderedDict)
    _twins: dict[bytes, list[str]] = field(default_factory=dict)

    def judge(self, number: int, asked: str, plant: str, packet: Packet) -> str | None:
        """Why an update is a copy of an earlier one; None when it is not, and then it is remembered.

        Who is sent the same weights again may answer the same again: a step is tried anew after a skipped round, and a
        run that stops early goes back to its best model.

        Args:
            number: the round.
            asked: which weights the round sent, as `sent` tells.
            plant, packet: whose update, and the reply that it is in.
        """
        key = digest(packet)
        owner, earlier, before = self._known.get(key, (plant, number, asked))
        if before != asked:
            whose = "this plant" if owner == plant else f"plant {owner!r}"
            return f"replay: bit for bit the update that {whose} sent in round {earlier}."
        self._known.setdefault(key, (owner, earlier, asked))
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        self._twins.setdefault(key, []).append(plant)
        return None

    def twins(self) -> tuple[str, ...]:
        """Who sent equal updates since the last call, in words; starts afresh."""
        groups = sorted(sorted(plants) for plants in self._twins.values() if len(plants) > 1)
        self._twins = {}
        return tuple(f"copies: {', '.join(plants[:5])} sent the same update bit for bit" for plants in groups[:3])
