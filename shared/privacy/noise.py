"""Noise that a reply under local differential privacy must bear, as the coordinator knows it: what the gate allows for,
and what it insists on.

An honest plant's noisy gradient has a norm of at least its noise's. One that lies below it forgot its noise, or used
less than it was told to; its operator should hear that (docs/privacy.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.config import PrivacyConfig

SIGMAS = 6.0
"""How far from what it could be without noise a noised number may lie: one honest number in 500 million is refused."""


@dataclass(frozen=True)
class NoiseDue:
    """Standard deviations in one plant's reply.

    Attributes:
        gradient: of each coordinate of the gradient.
        sums, counts, spread: of the cluster statistic.
    """

    gradient: float
    sums: float
    counts: float
    spread: float


def noise_due(privacy: PrivacyConfig, clip: float, size: int, radius: float) -> NoiseDue:
    """What a plant that declared `size` records has to add: z C / (q N') to each coordinate of its gradient.

    Args:
        privacy: with the noise filled in.
        clip: C of the request.
        size: N', what the plant declared.
        radius: rho of the request's statistic.
    """
    from shared.privacy.mechanisms import StatisticNoise  # Imports cryptography.

    statistic = StatisticNoise.of(privacy.noise.statistic, radius)
    gradient = privacy.noise.weights * clip / (privacy.sampling * size)
    return NoiseDue(gradient, statistic.sums, statistic.counts, statistic.spread)


def least_norm(sd: float, values: int) -> float:
    """What the norm of so many noised values undercuts once in millions of honest releases.

    sd sqrt(d (1 - 5 sqrt(2 / d))): five standard deviations of a chi-square below its mean; 0 where there are too few
    values to say.

    Example:
        >>> round(least_norm(1.0, 20_000) ** 2 / 20_000, 3), least_norm(1.0, 40)
        (0.95, 0.0)
    """
    return sd * math.sqrt(max(0.0, values * (1.0 - 5.0 * math.sqrt(2.0 / max(values, 1)))))
