"""From a budget to noise, before anything is spent: what a run will release, and the multipliers that fit.

    training: T exchanges at sampling q, each one gradient sum, one count and one loss
    statistic: S exchanges over all records (centre, radius, seeds, refinements, refreshes)
    ranges: at most one

The statistic gets the multiplier at which its S releases alone would take `STATISTIC_SHARE` of the budget, the ranges
theirs alike; training gets what is left, which is more than the difference: precisions add, not epsilons.
Under central privacy every plant is in every round, and weights and statistic are all that is released.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.config import NoiseConfig, PrivacyConfig
from shared.errors import PrivacyUnmet
from shared.privacy.accounting import Event, epsilon, multiplier_for, together

STATISTIC_SHARE = 0.4
"""Of epsilon, for all cluster exchanges alone. 23 of them cost 150 training exchanges 7 to 10 % more noise at epsilon 8
to 1: `spend` with and without them."""

RANGES_SHARE = 0.2
"""Of epsilon, for the histograms of the operating ranges, where a plant asks for them."""

BELOW_SHARE, LOSS_SHARE = 0.01, 0.02
"""Of a training exchange's precision, for the count and for the loss; the gradient has the rest."""

MOST_DELTA = 1e-5

_LEAST = ((5_000, 1.0), (1_500, 3.0), (500, 8.0))


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

    Example:
        >>> plan = spend(PrivacyConfig(mode="local", epsilon=3.0, sampling=1.0), Releases(training=50, statistic=19))
        >>> plan.epsilon <= 3.0, round(plan.privacy.noise.statistic, 1)
        (True, 13.8)

    Raises:
        BudgetTooSmall: no noise up to 1,000 keeps within it.
        PrivacyUnmet: a claim without an epsilon.
    """
    if not privacy.on:
        return Spending(privacy, (), 0.0)
    budget, delta = privacy.epsilon, privacy.delta
    if budget is None:
        raise PrivacyUnmet("a claim of differential privacy needs its epsilon.", "Give --epsilon.")
    ranges = _share(RANGES_SHARE * budget, delta, releases.ranges)
    statistic = _share(STATISTIC_SHARE * budget, delta, releases.statistic)
    others = (Event(ranges, 1.0, releases.ranges), Event(statistic, 1.0, releases.statistic))
    training = 0.0
    if releases.training:
        training = _upwards(multiplier_for(budget, delta, sampling_of(privacy), releases.training, others))
    noise = _split(training, privacy).model_copy(update={"statistic": statistic, "ranges": ranges})
    filled = privacy.model_copy(update={"noise": noise})
    events = planned_events(filled, releases)
    return Spending(filled, events, epsilon(events, delta))


def _share(target: float, delta: float, count: int) -> float:
    return _upwards(multiplier_for(target, delta, 1.0, count)) if count else 0.0


def _upwards(multiplier: float, digits: int = 4) -> float:
    """To so many digits, never less noise."""
    unit = 10.0 ** (math.floor(math.log10(multiplier)) - digits + 1)
    return float(f"{math.ceil(multiplier / unit) * unit:.{digits}g}")


def _split(multiplier: float, privacy: PrivacyConfig) -> NoiseConfig:
    """The parts of a training exchange, whose precisions add up to that of `multiplier`."""
    if privacy.mode == "central":
        return NoiseConfig(weights=multiplier)
    below = BELOW_SHARE if privacy.clip_quantile is not None else 0.0
    return NoiseConfig(
        weights=multiplier / math.sqrt(1 - below - LOSS_SHARE),
        below=multiplier / math.sqrt(below) if below else 0.0,
        loss=multiplier / math.sqrt(LOSS_SHARE),
    )


def sampling_of(privacy: PrivacyConfig) -> float:
    """The chance of a record to be in a training exchange: under central privacy the record is a plant, and all are."""
    return 1.0 if privacy.mode == "central" else privacy.sampling


def planned_events(privacy: PrivacyConfig, releases: Releases) -> tuple[Event, ...]:
    """What a ledger will hold after these releases; kinds that do not occur are left out."""
    kinds = (
        (training_event(privacy), releases.training),
        (statistic_event(privacy), releases.statistic),
        (ranges_event(privacy), releases.ranges),
    )
    return tuple(Event(one.multiplier, one.sampling, count) for one, count in kinds if count)


def training_event(privacy: PrivacyConfig) -> Event:
    """One training exchange."""
    noise = privacy.noise
    return Event(together(noise.weights, noise.below, noise.loss), sampling_of(privacy), 1)


def statistic_event(privacy: PrivacyConfig) -> Event:
    """One cluster exchange."""
    return Event(privacy.noise.statistic, 1.0, 1)


def ranges_event(privacy: PrivacyConfig) -> Event:
    """The histograms that operating ranges are read from."""
    return Event(privacy.noise.ranges, 1.0, 1)


def least_epsilon(records: int) -> float | None:
    """The epsilon that a plant with so many records could honestly offer under the recipe; None: none up to 8.

    At least 5,000: 1; at least 1,500: 3; at least 500: 8. A rule of thumb from a study with simulated plants and small
    networks that is not in this repository; docs/privacy.md says what was measured here.

    Example:
        >>> least_epsilon(6000), least_epsilon(1500), least_epsilon(499)
        (1.0, 3.0, None)
    """
    return next((offered for least, offered in _LEAST if records >= least), None)


def most_delta(records: int) -> float:
    """The largest delta that means something for so many records: a tenth of one of them, at most 1e-5.

    Delta is the chance that everything of some record shows; at 1 / N a release of one record in the clear meets it.

    Example:
        >>> most_delta(500), most_delta(50_000)
        (1e-05, 2e-06)
    """
    return min(MOST_DELTA, 1 / (10 * max(1, records)))


def check_delta(privacy: PrivacyConfig, records: int) -> None:
    """Refuse a delta that says little about so many records.

    Raises:
        PrivacyUnmet: it is above `most_delta`.
    """
    most = most_delta(records)
    if privacy.on and privacy.delta > most * (1 + 1e-9):
        raise PrivacyUnmet(
            f"delta {privacy.delta:g} is more than {most:g}, a tenth of one in {records:,} records (at most 1e-05).",
            f"Ask for --delta {most:g}.",
        )


def public_size(records: int) -> int:
    """The size a plant declares: the power of two at or below, so that volume leaks no finer than that.

    Example:
        >>> public_size(6000), public_size(1)
        (4096, 1)
    """
    return 1 << (max(1, records).bit_length() - 1)
