"""Central differential privacy, the unit being a whole plant: the coordinator clips, adds up, and adds the noise.

    mean = (sum_s clip_C(u_s) + N(0, (z C)^2 I)) / n,   n the members asked, absent ones counting as no change

DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963) without sampling: all plants take part, so nothing amplifies. With few
plants noise drowns the signal: its norm is z C sqrt(d) / n against an update of at most C (`drowned`). It holds against
those who see the models, not against the coordinator. Equal weights: one by size would break the sensitivity.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from server.aggregate import Aggregate, RunningMean
from shared.clustering import Statistic
from shared.config import PrivacyConfig
from shared.model import Weights
from shared.privacy.mechanisms import Randomness, noised_statistic
from shared.wire.gate import Accepted

WORST = 5.0
"""Ratio of noise to signal beyond which a run is refused."""

UNIT = "one plant"
PLANTS = "all-plants"
"""Name under which a coordinator keeps its ledger: every plant has the same epsilon."""

Double = NDArray[np.float64]


def drowned(multiplier: float, values: int, plants: int) -> float:
    """Norm of the noise on the mean over the longest update that counts: z sqrt(d) / n.

    Example:
        >>> round(drowned(5.5, 219_011, 10), 1), round(drowned(2.5, 136, 50), 2)
        (257.4, 0.58)
    """
    return multiplier * math.sqrt(values) / plants


def private_source() -> Randomness:
    """Noise that nobody can know beforehand: what was drawn for a round that never was committed left nowhere."""
    return Randomness.keyed(os.urandom(32), "central")


@dataclass
class CentralFold:
    """Clips updates and statistics to one plant's share, and notes what is released before it is.

    Attributes:
        base: the weights that were sent; zeros where gradients come.
        privacy: clip and multipliers.
        plants: members asked, n.
        least: replies below which the round does not count, so nothing is released.
        radius: rho of the round's statistic.
        charge: writes the release down: purpose and multiplier.
        noise: where the noise comes from.
    """

    base: Weights
    privacy: PrivacyConfig
    plants: int
    least: int
    radius: float
    charge: Callable[[str, float], None]
    noise: Randomness = field(default_factory=private_source)
    _others: RunningMean = field(default_factory=RunningMean)
    _sum: dict[str, Double] = field(default_factory=dict)
    _seen: list[float] = field(default_factory=list)

    def add(self, accepted: Accepted, weight: float) -> None:
        self._others.add(replace(accepted, weights=None, statistic=_share(accepted.statistic)), 1.0)
        if accepted.weights is None or accepted.update_norm is None:
            return
        self._seen.append(accepted.update_norm)
        factor = min(1.0, self.privacy.clip / max(accepted.update_norm, 1e-300))
        for name, base in self.base.items():
            change = factor * (accepted.weights[name].astype(np.float64) - base)
            self._sum[name] = self._sum[name] + change if name in self._sum else change

    def result(self) -> Aggregate:
        found = self._others.result()
        if found.count < self.least:
            return replace(found, statistic=None)
        if found.statistic is not None:  # without noise it costs an infinite epsilon, and no budget bears it
            self.charge("centroids", self.privacy.noise.statistic)
            said = noised_statistic(found.statistic, self.privacy.noise.statistic, self.radius, self.noise)
            found = replace(found, statistic=said, plants_K=())
        return found if not self._sum else replace(found, weights=self._mean(), norms=tuple(self._seen))

    def _mean(self) -> Weights:
        self.charge("weights", self.privacy.noise.weights)
        sd = self.privacy.noise.weights * self.privacy.clip
        noised = {name: (total + self.noise.normal(total.shape, sd)) / self.plants for name, total in self._sum.items()}
        return {name: (self.base[name] + change).astype(np.float32) for name, change in noised.items()}


def ledgered(folder: Path, run: str, privacy: PrivacyConfig) -> Callable[[int, str, float], None]:
    """What writes a coordinator's releases into the ledger in `folder` before they are made.

    Every draw of noise is a release of its own: a round that is repeated after a restart is charged once more.
    """
    from shared.privacy.accounting import Event
    from shared.privacy.ledger import PrivacyLedger, Purpose, Release

    ledger = PrivacyLedger(folder)
    budget = privacy.epsilon or 0.0

    def charge(number: int, purpose: str, multiplier: float) -> None:
        kind: Purpose = "centroids" if purpose == "centroids" else "weights"
        event, now = Event(multiplier, 1.0, 1), datetime.now(UTC).isoformat(timespec="seconds")
        ledger.charge(Release(run, number, kind, os.urandom(32).hex(), event, privacy.delta, UNIT, now), budget)

    return charge


def _share(said: Statistic | None) -> Statistic | None:
    """A plant's statistic in shares of its own segments: it moves counts by 1 and sums by rho at most."""
    if said is None:
        return None
    whole = max(float(said.counts_K.sum()), 1e-12)
    return Statistic(said.sums_KZ / whole, said.counts_K / whole, said.spread / whole)
