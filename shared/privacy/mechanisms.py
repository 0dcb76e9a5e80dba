"""Noise and sampling: the only random numbers that a claim rests on, and how far one record can move a release.

All randomness comes from a ChaCha20 stream under a key that the plant keeps (`Randomness.keyed`), so the same request
on the same data gives the same bytes however often it is sent, and nobody without the key can predict them.
Float Gaussians: a draw is the sum of four, divided by two, which widens what can be hit (Holohan and Braghin,
arXiv 2107.10138, as Opacus's secure mode does); attacks on floating point are not excluded by proof.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.clustering import Statistic

Double = NDArray[np.float64]


class Randomness:
    """A stream of random numbers from ChaCha20 (RFC 8439) under one key; reading it twice gives other numbers.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        raise NotImplementedError

    @staticmethod
    def keyed(secret: bytes, *parts: bytes | str) -> Randomness:
        """The stream that belongs to a purpose: HMAC-SHA256 of the secret over the parts, each with its length."""
        raise NotImplementedError

    def normal(self, size: int | tuple[int, ...], sd: float) -> Double:
        """Independent Gaussians N(0, sd^2), float64; zeros for sd = 0."""
        raise NotImplementedError

    def chosen(self, count: int, share: float) -> NDArray[np.int64]:
        """Poisson sampling: indices of `range(count)`, each in with probability `share`, independently."""
        raise NotImplementedError


@dataclass(frozen=True)
class StatisticNoise:
    """Standard deviations for a cluster statistic, split 65 / 20 / 15 % of the precision (notes/privacy.md, 1.4).

    Attributes:
        sums: of each coordinate of each sum.
        counts: of each count, in segments.
        spread: of the spread.
    """

    sums: float
    counts: float
    spread: float

    @staticmethod
    def of(multiplier: float, radius: float) -> StatisticNoise:
        """For one release at this multiplier: sensitivities are radius, 1 and radius^2 (add or remove one segment)."""
        raise NotImplementedError


def noised_statistic(exact: Statistic, multiplier: float, radius: float, noise: Randomness) -> Statistic:
    """The statistic with Gaussian noise on all three parts; counts may come out negative."""
    raise NotImplementedError
