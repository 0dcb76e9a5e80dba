"""The plants' vote on the global model: its loss on each plant's held-out normal data beside that of the anchor.

The anchor is the best model accepted so far, not the previous one: a model that gets worse by a little every round (a
boiling frog) is still compared with what the federation once had. Nobody is asked anew: the reply to TRAIN carries the
loss of the model that was sent along. A vote finds regressions, bugs and attacks on availability; it does not see an
attack that leaves normal data as it was (docs/decisions/0007).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

REGRESSES = 0.10  # relative; more is a vote against
_TINY = 1e-12


@dataclass(frozen=True)
class Ballot:
    """The votes of one round.

    Attributes:
        changes: relative change of the held-out loss by plant, within [-1, 1], of the plants that have both losses.
    """

    changes: Mapping[str, float]

    @property
    def against(self) -> tuple[str, ...]:
        """Plants whose loss regressed, the worst first."""
        worse = [plant for plant, change in self.changes.items() if change > REGRESSES]
        return tuple(sorted(worse, key=lambda plant: (-self.changes[plant], plant)))

    @property
    def needed(self) -> int:
        """How many must not regress: two thirds, so all but one of three."""
        return math.ceil(2 * len(self.changes) / 3)

    @property
    def accepted(self) -> bool:
        """Whether the model stays. Without voters it does."""
        return len(self.changes) - len(self.against) >= self.needed

    @property
    def better(self) -> bool:
        """Whether it is no worse than the anchor at the median plant, which one liar does not move far."""
        return not self.changes or float(np.median(list(self.changes.values()))) <= 0.0


def ballot(anchor: Mapping[str, float], now: Mapping[str, float]) -> Ballot:
    """Compare two models by the held-out losses that plants measured under them.

    Example:
        >>> votes = ballot({"a": 1.0, "b": 2.0, "c": 1.0}, {"a": 0.5, "b": 2.1, "c": 9.0})
        >>> dict(votes.changes), votes.against, votes.accepted
        ({'a': -0.5, 'b': 0.05, 'c': 1.0}, ('c',), True)
    """
    both = sorted(anchor.keys() & now.keys())
    return Ballot({plant: _change(anchor[plant], now[plant]) for plant in both})


def _change(before: float, after: float) -> float:
    return round(max(-1.0, min(1.0, (after - before) / max(before, _TINY))), 9)


def in_words(votes: Ballot, most: int = 5) -> str:
    """Why a model was refused, for the round's reason."""
    worse = ", ".join(f"{plant} {votes.changes[plant]:+.0%}" for plant in votes.against[:most])
    kept = len(votes.changes) - len(votes.against)
    return f"vote: {kept} of {len(votes.changes)} plants do not regress, {votes.needed} are needed ({worse})"
