"""Noise and sampling: the only random numbers that a claim rests on, and how far one record can move a release.

All randomness comes from a ChaCha20 stream under a key that the plant keeps (`Randomness.keyed`), so the same request
on the same data gives the same bytes however often it is sent, and nobody without the key can predict them.
Float Gaussians: a draw is the sum of four, divided by two, which widens what can be hit (Holohan and Braghin,
arXiv 2107.10138, as Opacus's secure mode does); attacks on floating point are not excluded by proof.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from shared.clustering import Statistic

Double = NDArray[np.float64]

SUMS, COUNTS, SPREAD = 0.65, 0.20, 0.15
"""Shares of a statistic's precision."""

_PAIRS = 2  # of Gaussians in one draw
_AT_ONCE = 8_192  # draws made together: what they need stays in the processor's cache


class Randomness:
    """A stream of random numbers from ChaCha20 (RFC 8439) under one key; reading it twice gives other numbers.

    Args:
        key: 32 bytes.

    Example:
        >>> noise = Randomness.keyed(bytes(32), "doctest")
        >>> noise.normal(2, sd=1.0).shape, (noise.normal(3, 1.0) != noise.normal(3, 1.0)).all().item()
        ((2,), True)
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError(f"a key has 32 bytes, not {len(key)}")
        # A key belongs to one purpose and is read from the start, so the nonce may be a constant.
        self._stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    @staticmethod
    def keyed(secret: bytes, *parts: bytes | str) -> Randomness:
        """The stream that belongs to a purpose: HMAC-SHA256 of the secret over the parts, each with its length."""
        found = hmac.new(secret, digestmod=hashlib.sha256)
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            found.update(len(data).to_bytes(8, "little") + data)
        return Randomness(found.digest())

    def normal(self, size: int | tuple[int, ...], sd: float) -> Double:
        """Independent Gaussians N(0, sd^2), float64; zeros for sd = 0.

        Raises:
            ValueError: sd is negative, infinite or no number.
        """
        if not 0 <= sd < math.inf:  # false for NaN, which would pass for noise
            raise ValueError(f"a standard deviation of {sd}")
        count = size if isinstance(size, int) else math.prod(size)
        if sd == 0:
            return np.zeros(size)
        values = np.empty(count)
        for first in range(0, count, _AT_ONCE):
            part = values[first : first + _AT_ONCE]
            part[:] = self._draws(len(part))
        values *= sd
        return values.reshape(size)

    def chosen(self, count: int, share: float) -> NDArray[np.int64]:
        """Poisson sampling: indices of `range(count)`, each in with probability `share`, independently."""
        return np.flatnonzero(self._uniform(count) < share).astype(np.int64)

    def _uniform(self, count: int) -> Double:
        """Uniforms in [0, 1) on the grid of 2^-53, all that float64 can tell apart near 1."""
        words = np.frombuffer(self._stream.update(bytes(8 * count)), "<u8")
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def _draws(self, count: int) -> Double:
        """(G1 + G2 + G3 + G4) / 2 of standard Gaussians, standard Gaussian again, of two pairs (Box and Muller 1958):
        r cos(v) + r sin(v) = sqrt(2) r cos(v - pi/4), and a uniform angle needs no shift.
        """
        u_PC, v_PC = self._uniform(2 * _PAIRS * count).reshape(2, _PAIRS, count)
        radius_PC = np.sqrt(-2.0 * np.log(1.0 - u_PC))  # 1 - u lies in (0, 1]
        total_C: Double = (radius_PC * np.cos((2.0 * np.pi) * v_PC)).sum(axis=0)
        return total_C * math.sqrt(2.0) / 2.0


@dataclass(frozen=True)
class StatisticNoise:
    """Standard deviations for a cluster statistic, split 65 / 20 / 15 % of the precision.

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
        """For one release at this multiplier: sensitivities are radius, 1 and radius^2 (add or remove one segment).

        Example:
            >>> noise = StatisticNoise.of(multiplier=2.0, radius=3.0)
            >>> round((noise.sums / 3) ** -2 + noise.counts**-2 + (noise.spread / 9) ** -2, 9)  # 2^-2
            0.25
        """
        return StatisticNoise(
            sums=multiplier / math.sqrt(SUMS) * radius,
            counts=multiplier / math.sqrt(COUNTS),
            spread=multiplier / math.sqrt(SPREAD) * radius * radius,
        )


def noised_statistic(exact: Statistic, multiplier: float, radius: float, noise: Randomness) -> Statistic:
    """The statistic with Gaussian noise on all three parts; counts may come out negative.

    Raises:
        ValueError: the radius is infinite, so that one segment could move the sums by anything.
    """
    sd = StatisticNoise.of(multiplier, radius)
    return Statistic(
        sums_KZ=exact.sums_KZ + noise.normal(exact.sums_KZ.shape, sd.sums),
        counts_K=exact.counts_K + noise.normal(exact.counts_K.shape, sd.counts),
        spread=exact.spread + float(noise.normal(1, sd.spread)[0]),
    )


def noised_sum(vectors: Iterable[Double], size: int, multiplier: float, radius: float, noise: Randomness) -> Double:
    """sum_i clip_radius(v_i) + N(0, (multiplier * radius)^2 I), one vector a record; float64 (size,).

    Adding or removing one record moves the sum by at most `radius`; a vector that is not finite counts as none.
    """
    total_Q = np.zeros(size)
    for vector_Q in vectors:
        norm = float(np.linalg.norm(vector_Q))
        if norm < math.inf:  # false for NaN
            total_Q += vector_Q * min(1.0, radius / max(norm, 1e-300))
    total_Q += noise.normal(size, multiplier * radius)
    return total_Q
