"""The privacy ledger of one plant: append-only, hash-chained, written and fsynced before a release leaves.

One JSON object a line; `previous` is the SHA-256 of the line before. A release is charged once under its request: the
same request on the same data under the same key gives the same bytes (`Randomness.keyed`), so sending them again
tells nothing new. A torn last line was never answered and counts as spent all the same: over-counting is safe,
under-counting is not. A missing ledger beside a key that has been used is an error, not a fresh start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from shared.privacy.accounting import Event

Purpose = Literal["weights", "centroids", "ranges", "moments"]


@dataclass(frozen=True)
class Release:
    """One line.

    Attributes:
        run, round, purpose: what it was for.
        request: SHA-256 over all that the answer follows from: request, data, key.
        event: what it costs.
        delta, unit: of the claim it was made under; unit in words, such as `segment of 60 samples (60 s)`.
        time: ISO 8601, UTC.
    """

    run: str
    round: int
    purpose: Purpose
    request: str
    event: Event
    delta: float
    unit: str
    time: str


@dataclass(frozen=True)
class Balance:
    """What a plant has spent, over all runs of its ledger.

    Attributes:
        plant, epsilon, delta, unit: the claim; delta the largest that was promised.
        releases: lines.
        by_purpose: epsilon of each purpose alone.
    """

    plant: str
    epsilon: float
    delta: float
    unit: str
    releases: int
    by_purpose: dict[str, float]


class PrivacyLedger:
    """Opens, or makes, `folder/ledger.jsonl` and `folder/key` of one plant; one process at a time (`shared.alone`).

    Args:
        folder: `HOME/privacy/PLANT`.
        now: the clock.

    Raises:
        LedgerBroken: the chain does not hold, the file is missing while the key was used, or is not writable.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime] | None = None) -> None:
        raise NotImplementedError

    @property
    def secret(self) -> bytes:
        """The plant's key, 32 bytes that never leave; all noise follows from it."""
        raise NotImplementedError

    def charge(self, release: Release, budget: float) -> None:
        """Write a release down before it is made; nothing happens when this request was charged already.

        Raises:
            BudgetSpent: it would take the ledger beyond `budget` at its delta; says what is left.
            LedgerBroken: it cannot be written.
        """
        raise NotImplementedError

    def balance(self) -> Balance:
        """What was spent so far."""
        raise NotImplementedError


def read_balance(folder: Path) -> Balance:
    """`balance` of a ledger that another process may be writing: reads only.

    Raises:
        LedgerBroken: the chain does not hold.
    """
    raise NotImplementedError
