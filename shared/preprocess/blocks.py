"""Walks over large arrays in pieces, so that no step makes a float64 copy of a whole data set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shared.series import FloatArray

CELLS = 1 << 18  # of a piece: 2 MB of float64, which stays in a processor's cache
_TOGETHER = 16  # float32 columns in one cache line


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of consecutive rows, about `CELLS` cells each.

    Example:
        >>> list(row_blocks(3, CELLS // 2))
        [slice(0, 2, None), slice(2, 3, None)]
    """
    height = max(1, CELLS // max(1, width))
    return (slice(first, min(first + height, rows)) for first in range(0, rows, height))


def columns(values_TD: FloatArray) -> Iterator[NDArray[np.float64]]:
    """Every column in turn, float64 (T,), a copy of its own."""
    for first in range(0, values_TD.shape[1], _TOGETHER):
        for column_T in np.ascontiguousarray(values_TD[:, first : first + _TOGETHER].T):
            yield column_T.astype(np.float64)
