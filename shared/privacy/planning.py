"""From a budget to noise, before anything is spent: what a run will release, and the multipliers that fit.

    training: T exchanges at sampling q, each one gradient sum, one count and one loss
    statistic: S exchanges over all records (centre, radius, seeds, refinements, refreshes)
    ranges: at most one

The statistic gets the multiplier at which its S releases alone would take `STATISTIC_SHARE` of the budget; training
gets what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import PrivacyConfig
from shared.privacy.accounting import Event


@dataclass(frozen=True)
class Releases:
    """How many exchanges of each kind a run has, public and known beforehand.

    Attributes:
        training: training rounds, skipped ones included in what they may be repeated.
        statistic: cluster exchanges.
        ranges: 0 or 1.
    """

    training: int
    statistic: int
    ranges: int = 0


@dataclass(frozen=True)
class Spending:
    """A plan: what is released with which noise, and what that costs.

    Attributes:
        privacy: the settings with the noise filled in; what plants get.
        events: what a ledger will hold at the end.
        epsilon: of these events.
    """

    privacy: PrivacyConfig
    events: tuple[Event, ...]
    epsilon: float


def spend(privacy: PrivacyConfig, releases: Releases) -> Spending:
    """Noise for the budget of `privacy`.

    Raises:
        BudgetTooSmall: no noise up to 1,000 keeps within it.
    """
    raise NotImplementedError


def training_event(privacy: PrivacyConfig) -> Event:
    """One training exchange."""
    raise NotImplementedError


def statistic_event(privacy: PrivacyConfig) -> Event:
    """One cluster exchange."""
    raise NotImplementedError


def least_epsilon(records: int) -> float | None:
    """The epsilon that a plant with so many records could honestly offer under the recipe; None: none up to 8.

    At least 5,000: 1; at least 1,500: 3; at least 500: 8 (measured: docs/privacy.md).
    """
    raise NotImplementedError


def public_size(records: int) -> int:
    """The size a plant declares: the power of two at or below, so that volume leaks no finer than that.

    Example:
        >>> public_size(6000), public_size(1)
        (4096, 1)
    """
    return 1 << (max(1, records).bit_length() - 1)
