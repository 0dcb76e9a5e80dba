"""A fitted preprocessor applied sample by sample, as the edge does; the same bits as in batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.errors import SchemaMismatch
from shared.preprocess.resample import join_blocks
from shared.preprocess.rolling import Rolling, standardised, to_units, unstandardised
from shared.preprocess.scale import ScalerMap
from shared.series import BoolArray, FloatArray

if TYPE_CHECKING:
    from shared.preprocess.pipeline import Preprocessor


class Stream:
    """Rows in, prepared rows out, one at a time.

    All state is arrays and counters: `copy.deepcopy` takes a snapshot that goes on independently.

    Attributes:
        imputed_D: bool (D,), which values of the row last given out stand in for missing readings.

    Example:
        >>> from shared.preprocess import Preprocessor, Scaler
        >>> scaler = Scaler(kind="standard", shift=(10.0,), scale=(2.0,), centre=(10.0,))
        >>> stream = Preprocessor(scaler=scaler, every=2, join="mean").stream()
        >>> stream.step([12.0]), stream.step([13.0])
        (None, array([1.25], dtype=float32))
    """

    def __init__(self, fitted: Preprocessor) -> None:
        self._dim, self._join = fitted.dim, fitted.join
        self._scale = ScalerMap(fitted.scaler, clip=fitted.scaler.clip_live)
        self._roll = _RollingStream(fitted.rolling) if fitted.rolling else None
        self._silent = np.asarray(fitted.silent, np.intp)
        self._first_D = np.asarray(fitted.first, np.float32)
        self._waiting_nD = np.empty((fitted.every, fitted.dim), np.float32)
        self.restart()

    def restart(self) -> None:
        """Forget everything: the next row begins a recording."""
        self._waits = 0
        self._last_D = self._first_D
        self.imputed_D: BoolArray = np.zeros(self._dim, np.bool_)
        if self._roll:
            self._roll.restart()

    def step(self, row_D: Sequence[float] | NDArray[np.floating]) -> FloatArray | None:
        """Take one raw row.

        Args:
            row_D: D numbers; NaN or infinite where nothing was measured.

        Returns:
            float32 (D,), an array of its own, or None while rows are still being joined.

        Raises:
            SchemaMismatch: the row has another number of values; nothing was taken from it.
        """
        joined_D = self._joined(self._checked(row_D))
        return None if joined_D is None else self._prepared(joined_D)

    def raw(self, prepared_D: NDArray[np.floating]) -> NDArray[np.float64]:
        """Undo the preparation, with the units of the row last given out: what a model expects, as the plant reads it.

        Clipping and the guard cannot be undone; a muted column gives its centre.

        Args:
            prepared_D: (D,), as `step` gives.

        Returns:
            float64 (D,), in raw units.

        Example:
            >>> from shared.preprocess import Preprocessor, Scaler
            >>> scaler = Scaler(kind="standard", shift=(10.0,), scale=(2.0,), centre=(10.0,))
            >>> stream = Preprocessor(scaler=scaler).stream()
            >>> stream.raw(stream.step([13.0])).tolist()
            [13.0]
        """
        values_D = self._scale.undone(prepared_D)
        return self._roll.undone(values_D) if self._roll else values_D

    def _checked(self, row_D: Sequence[float] | NDArray[np.floating]) -> FloatArray:
        with np.errstate(over="ignore"):  # What no float32 holds is infinite, and so missing.
            row = np.asarray(row_D, np.float32)
        if row.shape != (self._dim,):
            raise SchemaMismatch(f"a row of shape {row.shape} came, the model was fitted on {self._dim} tags.")
        return row

    def _joined(self, row_D: FloatArray) -> FloatArray | None:
        if len(self._waiting_nD) == 1:
            return row_D
        self._waiting_nD[self._waits] = row_D
        self._waits += 1
        if self._waits < len(self._waiting_nD):
            return None
        self._waits = 0
        joined_D: FloatArray = join_blocks(self._waiting_nD[None], self._join)[0]
        return joined_D

    def _prepared(self, joined_D: FloatArray) -> FloatArray:
        known_D = np.isfinite(joined_D)
        self.imputed_D = ~known_D
        values_D = self._last_D = np.where(known_D, joined_D, self._last_D)
        if self._roll:
            values_D = self._roll.step(values_D)
        prepared_D: FloatArray = self._scale.block(values_D).astype(np.float32)
        prepared_D[self._silent] = 0
        return prepared_D


class _RollingStream:
    """Rolling standardisation of one row after the other: O(D) a row, and O(n D) once every n rows.

    It holds the block of up to n rows that it is in, and for the block before it the sums from each row to its end.
    """

    def __init__(self, rolling: Rolling) -> None:
        self._rows = rolling.rows
        self._shift_D, self._scale_D = np.asarray(rolling.shift), np.asarray(rolling.scale)
        self._block_nD = np.zeros((rolling.rows, len(rolling.shift)))
        self.restart()

    def restart(self) -> None:
        rows, width = self._block_nD.shape
        self._at, self._full = 0, False
        self._newest = np.zeros(width), np.zeros(width), 1
        self._sum_D, self._squares_D = np.zeros(width), np.zeros(width)
        self._tails_nD, self._tail_squares_nD = np.zeros((2, rows + 1, width))

    def step(self, values_D: FloatArray) -> FloatArray:
        units_D = to_units(values_D, self._shift_D, self._scale_D)
        self._block_nD[self._at] = units_D
        self._sum_D += units_D
        self._squares_D += units_D * units_D
        self._at += 1
        total_D = self._tails_nD[self._at] + self._sum_D
        squares_D = self._tail_squares_nD[self._at] + self._squares_D
        size = self._rows if self._full else self._at
        self._newest = total_D, squares_D, size
        z_D: FloatArray = standardised(units_D, total_D, squares_D, size).astype(np.float32)
        if self._at == self._rows:
            self._next_block()
        return z_D

    def undone(self, z_D: NDArray[np.floating]) -> NDArray[np.float64]:
        """Raw values from standardised ones, by the window that ends with the newest row."""
        raw_D: NDArray[np.float64] = unstandardised(z_D, *self._newest) * self._scale_D + self._shift_D
        return raw_D

    def _next_block(self) -> None:
        backward_nD = self._block_nD[::-1]
        np.add.accumulate(backward_nD, axis=0, out=self._tails_nD[-2::-1])
        np.add.accumulate(backward_nD * backward_nD, axis=0, out=self._tail_squares_nD[-2::-1])
        self._at, self._full = 0, True
        self._sum_D[:] = 0
        self._squares_D[:] = 0
