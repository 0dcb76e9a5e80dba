"""The newest rows of a stream, side by side in memory: a row costs one copy of a row, and now and then one of all."""

from __future__ import annotations

from typing import Self

import numpy as np

from shared.lag.sums import Values
from shared.scoring import Float64Array


class Recent:
    """The newest H rows.

    Args:
        rows: H.
        dim: values of a row, D.

    Example:
        >>> recent = Recent(2, 1)
        >>> for value in (1.0, 2.0, 3.0):
        ...     recent.put(np.array([value]))
        >>> recent.count, recent.newest(2).tolist()
        (2, [[2.0], [3.0]])
    """

    def __init__(self, rows: int, dim: int) -> None:
        self._rows = rows
        self._all_RD = np.zeros((2 * rows, dim))
        self.clear()

    def copy(self) -> Self:
        """One that goes on by itself."""
        other = type(self)(self._rows, self._all_RD.shape[1])
        other._all_RD[:], other._end, other.count = self._all_RD, self._end, self.count
        return other

    def clear(self) -> None:
        """Hold no row."""
        self._end = self.count = 0

    def begin(self, rows_TD: Values) -> None:
        """Hold the newest of some rows, T >= 1; where there are fewer than H, the first stands before them."""
        newest_TD = rows_TD[-self._rows :]
        self._all_RD[: self._rows] = newest_TD[0]
        self._all_RD[self._rows - len(newest_TD) : self._rows] = newest_TD
        self._end = self.count = self._rows

    def put(self, row_D: Values) -> None:
        """Take a row."""
        if self._end == len(self._all_RD):
            self._end = self._rows - 1
            self._all_RD[: self._end] = self._all_RD[self._rows + 1 :]
        self._all_RD[self._end] = row_D
        self._end += 1
        self.count = min(self.count + 1, self._rows)

    def newest(self, count: int) -> Float64Array:
        """A view of the newest rows, oldest first, float64 (count, D); it changes with the next `put`."""
        view_nD: Float64Array = self._all_RD[self._end - count : self._end]
        return view_nD
