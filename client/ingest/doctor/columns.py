"""Figures of every column of a site, read in blocks of columns: a recording is never copied as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.series import BoolArray, FloatArray, SiteData

BLOCK_CELLS = 8_000_000  # float32: 32 MB at a time
SAMPLED_ROWS = 50_000  # for quantiles, which a regular sample gives well enough
WILD = 20.0
"""A reading is outlying when it is further from the median than this many spreads (99 % - 1 % quantile) of training."""

_LEAST_SPREAD = 1e-6  # of the median's size: below, a column counts as one that never changes


@dataclass(frozen=True)
class Column:
    """One column of a site.

    Attributes:
        missing: training and test cells without a finite number.
        low, high: of the finite training readings; NaN when there is none.
        test_low, test_high: the same of the test rows.
        wild: outlying training readings, and outlying test readings beyond all of training.
        wild_labelled: those of the outlying test readings that are labelled anomalous.
        peak: the reading furthest from the training median, NaN when nothing is outlying.
        digest: of the training and the test cells; equal columns have equal ones.
    """

    missing: tuple[int, int]
    low: float
    high: float
    test_low: float
    test_high: float
    wild: tuple[int, int]
    wild_labelled: int
    peak: float
    digest: tuple[bytes, bytes]

    @property
    def empty(self) -> bool:
        """No training reading at all."""
        return bool(np.isnan(self.low))

    @property
    def constant(self) -> bool:
        """One value throughout training."""
        return self.low == self.high

    @property
    def moves_in_test(self) -> bool:
        """A test reading differs from the one value of training."""
        return self.constant and (self.test_low < self.low or self.test_high > self.high)


def columns(site: SiteData) -> tuple[Column, ...]:
    """Figures of each column, in order."""
    width = max(1, BLOCK_CELLS // max(1, len(site.train_TD) + len(site.test_TD)))
    pairs = zip(blocks(site.train_TD, width), blocks(site.test_TD, width), strict=True)
    return tuple(
        _column(train_T, test_T, site.labels_T)
        for train_BT, test_BT in pairs
        for train_T, test_T in zip(train_BT, test_BT, strict=True)
    )


def blocks(values_TD: FloatArray, width: int | None = None) -> Iterator[FloatArray]:
    """A series as contiguous blocks of whole columns, float32 (B, T).

    Args:
        values_TD: float32 (T, D).
        width: columns a block. None: as many as `BLOCK_CELLS` allows, at least one.

    Example:
        >>> [block.tolist() for block in blocks(np.array([[1, 2], [3, 4]], np.float32))]
        [[[1.0, 3.0], [2.0, 4.0]]]
    """
    step = width or max(1, BLOCK_CELLS // max(1, len(values_TD)))
    for first in range(0, values_TD.shape[1], step):
        yield np.ascontiguousarray(values_TD[:, first : first + step].T)


def _column(train_T: FloatArray, test_T: FloatArray, labels_T: BoolArray | None) -> Column:
    fine_T, fine_S = np.isfinite(train_T), np.isfinite(test_T)
    low, high = _range(train_T, fine_T)
    centre, reach = _fence(train_T[fine_T] if not fine_T.all() else train_T)
    wild_T = _beyond(train_T, fine_T, centre, reach)
    # A rare mode that training has seen, such as a back-wash, is nothing to wonder about in the test rows.
    wild_S = _beyond(test_T, fine_S, centre, reach) & ((test_T > high) | (test_T < low))
    far = np.concatenate([train_T[wild_T], test_T[wild_S]])
    test_low, test_high = _range(test_T, fine_S)
    return Column(
        missing=(int(train_T.size - fine_T.sum()), int(test_T.size - fine_S.sum())),
        low=low,
        high=high,
        test_low=test_low,
        test_high=test_high,
        wild=(int(wild_T.sum()), int(wild_S.sum())),
        wild_labelled=0 if labels_T is None else int((wild_S & labels_T).sum()),
        peak=float(far[np.abs(far - centre).argmax()]) if far.size else float("nan"),
        digest=(_digest(train_T), _digest(test_T)),
    )


def _range(values_T: FloatArray, fine_T: BoolArray) -> tuple[float, float]:
    if not fine_T.any():
        return float("nan"), float("nan")
    low = values_T.min(where=fine_T, initial=np.inf)
    return float(low), float(values_T.max(where=fine_T, initial=-np.inf))


def _fence(finite_T: FloatArray) -> tuple[float, float]:
    """Median of training and how far from it a reading may be; NaN and infinity when training says nothing."""
    if not finite_T.size:
        return float("nan"), float("inf")
    sample = finite_T[:: max(1, finite_T.size // SAMPLED_ROWS)].astype(np.float64)
    low, centre, high = (float(value) for value in np.quantile(sample, (0.01, 0.5, 0.99)))
    spread = high - low
    if spread > _LEAST_SPREAD * abs(centre):
        return centre, WILD * spread
    # A column that hardly ever changes: its size is all there is to compare with. One at 0 has none.
    return centre, WILD * abs(centre) if centre else float("inf")


def _beyond(values_T: FloatArray, fine_T: BoolArray, centre: float, reach: float) -> NDArray[np.bool_]:
    if not np.isfinite(reach) or not values_T.size:
        return np.zeros(values_T.shape, dtype=np.bool_)
    beyond_T: NDArray[np.bool_] = ((values_T > centre + reach) | (values_T < centre - reach)) & fine_T
    return beyond_T


def _digest(values_T: FloatArray) -> bytes:
    return hashlib.blake2b(values_T.data, digest_size=16).digest()
