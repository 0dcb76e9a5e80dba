"""How unlike the sites of a federation are: the distance between what their tags measured in training.

Of every tag a site's distribution is compared with that of the other sites together, each of them weighing the same,
by the 1-Wasserstein distance (the mean way that readings would have to move), in units of the tag's standard deviation
over all sites. A site's unlikeness is the mean over its tags, without those that hold one value at all sites: 0 is
alike, 1 is as far as the tag spreads anyway. It knows marginal distributions only, not how tags move together or in
time. Distances: Ramdas et al. 2017, doi 10.3390/e19020047, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.series import SiteData

Double = NDArray[np.float64]

SAMPLE = 2_000
"""Rows of a site that are looked at, one from each of as many equal stretches of its training data."""

_SAMPLE_OF_ALL, _LEAST_SAMPLE = 400_000, 50
_GRID_OF_ALL, _LEAST_GRID = 100_000, 500
_PAIRS_OF_ALL, _LEVELS, _LEAST_LEVELS, _MOST_SITES = 4e8, 64, 4, 2_000


@dataclass(frozen=True)
class Unlikeness:
    """Distances in pooled standard deviations, one entry a site.

    Attributes:
        apart: distance to the other sites together; NaN where they share no moving tag with readings.
        nearest: index of the site that is least unlike; None without one, or with too many sites to compare in pairs.
    """

    apart: tuple[float, ...]
    nearest: tuple[int | None, ...]

    @property
    def overall(self) -> float:
        """Mean over the sites; NaN where none of them shares a tag with another."""
        known = [value for value in self.apart if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan


def unlikeness(sites: Sequence[SiteData]) -> Unlikeness:
    """Compare the training data of sites.

    Args:
        sites: any number; a tag that a site does not have, or has no reading of, does not count for it.
    """
    tags = tuple(dict.fromkeys(tag for site in sites for tag in site.schema.tags))
    samples = [_sample(site, max(_LEAST_SAMPLE, min(SAMPLE, _SAMPLE_OF_ALL // len(sites)))) for site in sites]
    columns = [{tag: at for at, tag in enumerate(site.schema.tags)} for site in sites]
    total_S, tags_S = np.zeros(len(sites)), np.zeros(len(sites))
    pairs = _Pairs(len(sites), len(tags))
    for tag in tags:
        known = [at for at, column in enumerate(columns) if tag in column]
        values = {at: _known(samples[at][:, columns[at][tag]]) for at in known}
        present = [at for at in known if len(values[at])]
        if len(present) < 2:
            continue
        readings = _standardised([values[at] for at in present])
        if readings is None:
            continue
        total_S[present] += apart(readings)
        tags_S[present] += 1
        pairs.add(present, readings)
    mean_S = np.where(tags_S > 0, total_S / np.maximum(tags_S, 1), np.nan)
    return Unlikeness(tuple(mean_S.tolist()), pairs.nearest())


def _sample(site: SiteData, rows: int) -> Double:
    """One row from each of equal stretches, so that no rhythm of the plant is met at the same beat every time."""
    total = len(site.train_TD)
    if total <= rows:
        return np.asarray(site.train_TD, np.float64)
    shift_N = np.random.default_rng(0).random(rows)
    return np.asarray(site.train_TD[((np.arange(rows) + shift_N) * total / rows).astype(np.int64)], np.float64)


def _known(values_N: Double) -> Double:
    return np.sort(values_N[np.isfinite(values_N)])


def _standardised(readings: Sequence[Double]) -> list[Double] | None:
    """In units of the standard deviation over all sites, each weighing the same; None for a tag that never moves."""
    center = sum(values.mean() for values in readings) / len(readings)
    variance = sum(((values - center) ** 2).mean() for values in readings) / len(readings)
    spread = math.sqrt(variance)
    if spread <= 1e-9 * abs(center):
        return None
    return [(values - center) / spread for values in readings]


def apart(readings: Sequence[Double]) -> Double:
    """The 1-Wasserstein distance from each site's readings to those of the others together, each weighing the same.

    Args:
        readings: two or more ascending arrays, none empty.

    Returns:
        float64 (S,): the integral of the difference between two cumulative distributions, exact up to 100,000 readings
        of all sites times their number, over a grid of quantiles and even steps above it.

    Example:
        >>> apart([np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([3.0, 4.0])]).tolist()
        [1.5, 1.5, 3.0]
    """
    grid_G, exact = _grid(readings)
    below_SG = np.stack([np.searchsorted(values, grid_G, side="right") / len(values) for values in readings])
    others_SG = (below_SG.sum(axis=0) - below_SG) / (len(readings) - 1)
    between_SG = np.abs(below_SG - others_SG)
    height_SG = between_SG[:, :-1] if exact else (between_SG[:, :-1] + between_SG[:, 1:]) / 2
    moved_S: Double = height_SG @ np.diff(grid_G)
    return moved_S


def _grid(readings: Sequence[Double]) -> tuple[Double, bool]:
    points_P = np.unique(np.concatenate(readings))
    most = max(_LEAST_GRID, _GRID_OF_ALL // len(readings))
    if len(points_P) <= most:
        return points_P, True
    quantiles_G = points_P[np.linspace(0, len(points_P) - 1, most // 2).astype(np.int64)]
    return np.unique(np.concatenate([quantiles_G, np.linspace(points_P[0], points_P[-1], most // 2)])), False


class _Pairs:
    """Distances between each two sites, tag by tag, from a few quantiles of each: W1 is the mean gap between them."""

    def __init__(self, sites: int, tags: int) -> None:
        levels = min(_LEVELS, int(_PAIRS_OF_ALL / max(1, sites * sites * tags)))
        self._levels = levels if levels >= _LEAST_LEVELS and 1 < sites <= _MOST_SITES else 0
        shape = (sites, sites) if self._levels else (0, 0)
        self._total_SS, self._tags_SS = np.zeros(shape), np.zeros(shape)
        self._sites = sites

    def add(self, present: Sequence[int], readings: Sequence[Double]) -> None:
        """Count one tag in."""
        if not self._levels:
            return
        at_Q = (np.arange(self._levels) + 0.5) / self._levels
        quantiles_SQ = np.stack([values[(at_Q * len(values)).astype(np.int64)] for values in readings])
        both = np.ix_(present, present)
        for level_S in quantiles_SQ.T:
            self._total_SS[both] += np.abs(level_S[:, None] - level_S) / self._levels
        self._tags_SS[both] += 1

    def nearest(self) -> tuple[int | None, ...]:
        """The nearest other site of each."""
        if not self._levels:
            return (None,) * self._sites
        apart_SS = np.where(self._tags_SS > 0, self._total_SS / np.maximum(self._tags_SS, 1), np.inf)
        np.fill_diagonal(apart_SS, np.inf)
        return tuple(int(row.argmin()) if np.isfinite(row).any() else None for row in apart_SS)
