"""Where a plant's readings lie, told privately: noised quantiles of the records' medians (docs/privacy.md).

For plants that know no operating range. Three histograms of 64 bins a tag, each inside what the one before it showed:
the first over all magnitudes, the last over the tag's own range. One record adds 1 to one bin of each of D tags, so a
histogram moves by at most sqrt(D); the three together are one Gaussian release (precisions add, whatever is chosen in
between: Dong et al. 2019, arXiv 1905.02383).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from shared.privacy.mechanisms import Randomness

Double = NDArray[np.float64]

BINS = 64
SHARES = (0.2, 0.2, 0.6)
"""Of the precision, a histogram: the first ones only have to find where most of the records are."""

_SIGMAS = 4.0  # bins that hold less than so many standard deviations of their noise, and so do wider ones, are empty
_WIDTHS = (1, 2, 4, 8)  # bins taken together: readings that spread over many bins would drown in each of them
_LOW, _HIGH = 0.02, 0.98
_LEAST, _MOST = 1e-6, 1e9  # magnitudes that the first histogram tells apart


def noised_ranges(medians_RD: Double, multiplier: float, noise: Randomness) -> Double:
    """Low and high of each tag, where 96 % of the records' medians lie; float64 (D, 2).

    Args:
        medians_RD: a record's median of each tag, NaN where it has no reading.
        multiplier: of the whole release.
        noise: of this release.

    Example:
        >>> medians_RD = np.random.default_rng(0).normal(1000.0, 5.0, (8_000, 1))
        >>> low, high = noised_ranges(medians_RD, 5.0, Randomness.keyed(bytes(32), "doctest"))[0]
        >>> bool(980 < low < 995 < 1005 < high < 1020)
        True
    """
    dim = medians_RD.shape[1]
    edges_DE = np.tile(_magnitudes(), (dim, 1))
    for share in SHARES:
        sd = multiplier / math.sqrt(share) * math.sqrt(dim)
        counts_DB = np.stack([_histogram(medians_RD[:, d], edges_DE[d]) for d in range(dim)])
        noised_DB = counts_DB + noise.normal(counts_DB.shape, sd)
        noised_DB[~_held(noised_DB, sd)] = 0.0
        ranges_D2 = np.stack([_quantiles(noised_DB[d], edges_DE[d]) for d in range(dim)])
        edges_DE = np.linspace(ranges_D2[:, 0], ranges_D2[:, 1], BINS + 1, axis=1)
    return ranges_D2


def _magnitudes() -> Double:
    """Edges of the first histogram, (65,): half decades, roughly, to both sides of 0."""
    up = np.geomspace(_LEAST, _MOST, BINS // 2)
    return np.concatenate([-up[::-1], [0.0], up])


def _histogram(values_R: Double, edges_E: Double) -> Double:
    """Records a bin, (64,); what lies outside counts at the end, what is NaN nowhere."""
    known = values_R[~np.isnan(values_R)]
    index = np.clip(np.searchsorted(edges_E, known, side="right") - 1, 0, BINS - 1)
    return np.bincount(index, minlength=BINS).astype(np.float64)


def _held(noised_DB: Double, sd: float) -> NDArray[np.bool_]:
    """Bins that hold records for certain, alone or with their neighbours; bool (D, 64)."""
    held_DB = np.zeros(noised_DB.shape, np.bool_)
    for width in _WIDTHS:
        together = noised_DB.reshape(len(noised_DB), -1, width).sum(axis=2) >= _SIGMAS * sd * math.sqrt(width)
        held_DB |= np.repeat(together, width, axis=1)
    return held_DB


def _quantiles(counts_B: Double, edges_E: Double) -> Double:
    """The edges between which 96 % lie, (2,); all of it where every bin drowned in noise."""
    total = counts_B.sum()
    if total <= 0:
        return np.array([edges_E[0], edges_E[-1]])
    share_B = np.maximum.accumulate(np.cumsum(counts_B)) / total
    low, high = np.searchsorted(share_B, _LOW, side="right"), np.searchsorted(share_B, _HIGH, side="left")
    return np.array([edges_E[low], edges_E[min(int(high), BINS - 1) + 1]])
