"""`ShapeModel.distances` of one row at a time: the same numbers, in a fraction of the time.

Products in 32 bits leave, of each tag's prototypes, those that may be the nearest: their error is at most
`n u (|x|^2 + |c|^2)`, u = 2^-24 (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1). What is
left, mostly one, is measured in 64 bits by differences, as in batch. Lean: an edge box imports this.
Shapes: D tags, A analogue and X of all kinds that have courses, K prototypes, L lengths w, W the longest, R = sum w
(the rows of all lengths, one length below the other).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.evidence.shape import ShapeModel
from shared.lag.sums import Values
from shared.scoring import Float64Array
from shared.series import BoolArray, FloatArray

_UNIT = 2.0**-24
_ROUNDINGS = 16  # beside those of the products: of squares, of sums over pieces and of limits
_MOST_NEAR = 1024  # prototypes that are measured one by one: 0.5 MB

Indices = NDArray[np.intp]


class CourseTable:
    """What is worked out once for a shape model; nothing in it changes.

    Args:
        shape: the model.
        dim: tags of a row, D.
    """

    def __init__(self, shape: ShapeModel, dim: int) -> None:
        self.turned_AWK: FloatArray = shape.prototypes_AKW.transpose(0, 2, 1)
        self.level_S, self.columns_X = shape.level_S, np.concatenate([shape.columns_A, shape.still_S]).astype(np.intp)
        tags, width, count = self.turned_AWK.shape
        lengths_L1 = np.array(shape.lengths, np.float64)[:, None]
        counted_LW = np.arange(width, 0, -1) <= lengths_L1
        begins = (0, *shape.lengths)
        self.pieces = [slice(width - w, width - before) for before, w in zip(begins, shape.lengths, strict=False)]
        self.piece_AwK = [self.turned_AWK[:, piece] for piece in self.pieces]
        self.mean_LW: Float64Array = counted_LW / lengths_L1
        self._square(counted_LW, 2 * _UNIT * (lengths_L1 + _ROUNDINGS))
        row_R = np.concatenate([np.arange(width - w, width) for w in shape.lengths])
        self.length_R: Indices = np.repeat(np.arange(len(shape.lengths)), shape.lengths)
        self.mean_LR: Float64Array = (self.length_R == np.arange(len(lengths_L1))[:, None]) / lengths_L1
        self.cell_AW: Indices = np.arange(width) * dim + shape.columns_A[:, None]
        self.cell_RX: Indices = row_R[:, None] * dim + self.columns_X
        self.course_RA: Indices = (np.arange(tags) * width + row_R[:, None]) * count
        self.first_LA: Indices = np.arange(len(lengths_L1) * tags).reshape(len(lengths_L1), tags) * count

    def _square(self, counted_LW: BoolArray, unsure_L1: Float64Array) -> None:
        """|c|^2 over each length, and what the products may be wrong by: of 4 |x|^2, and of c."""
        square_LAK = np.zeros((len(counted_LW), len(self.turned_AWK), self.turned_AWK.shape[2]))
        for course_WK, found_LK in zip(self.turned_AWK, square_LAK.transpose(1, 0, 2), strict=True):
            found_LK[:] = counted_LW @ np.square(course_WK, dtype=np.float64)
        self.square_LAK: FloatArray = square_LAK.astype(np.float32)
        self.unsure_LW: FloatArray = (counted_LW * unsure_L1 / 4).astype(np.float32)
        self.unsure_LA: FloatArray = (unsure_L1 * square_LAK.max(axis=2)).astype(np.float32)


class Courses:
    """Measures one row after the other. It holds scratch memory and no state.

    Args:
        table: of the model.
    """

    def __init__(self, table: CourseTable) -> None:
        self._table = table
        count, tags, most = table.square_LAK.shape
        rows, shaped = table.cell_RX.shape
        self._twice_AW = np.empty((tags, table.cell_AW.shape[1]), np.float32)
        self._sum_LAK = np.empty((count, tags, most), np.float32)
        self._twice_A1w = [self._twice_AW[:, None, piece] for piece in table.pieces]
        self._sum_A1K = [sum_AK[:, None] for sum_AK in self._sum_LAK]
        self._course_AW = np.empty(table.cell_AW.shape)
        self._read_RX, self._off_RX = np.empty((rows, shaped)), np.empty((rows, shaped))
        self._at_RA = np.empty((rows, tags), np.intp)
        self._seen_RA = np.empty((rows, tags), np.float32)

    def squares(self, newest_WD: Values) -> Float64Array | None:
        """The squares of `ShapeModel.distances`, float64 (L, X); None where so many prototypes are equally near that
        they had better be measured as in batch.

        Args:
            newest_WD: the newest W rows, side by side in memory, finite and small enough to be squared in 32 bits.
        """
        cells = newest_WD.reshape(-1)
        nearest_LA = self._compare(cells)
        near = self._also_near(nearest_LA)
        if near is None:
            return None
        table = self._table
        tags = nearest_LA.shape[1]
        cells.take(table.cell_RX, out=self._read_RX, mode="clip")
        nearest_LA.take(table.length_R, axis=0, out=self._at_RA, mode="clip")
        np.add(self._at_RA, table.course_RA, out=self._at_RA)
        table.turned_AWK.reshape(-1).take(self._at_RA, out=self._seen_RA, mode="clip")
        off_RX = self._off_RX
        np.subtract(self._read_RX[:, :tags], self._seen_RA, out=off_RX[:, :tags])
        if len(table.level_S):
            np.subtract(self._read_RX[:, tags:], table.level_S, out=off_RX[:, tags:])
        np.multiply(off_RX, off_RX, out=off_RX)
        square_LX: Float64Array = np.dot(table.mean_LR, off_RX)
        if len(near):
            self._measure(near, square_LX)
        return square_LX

    def _compare(self, cells: Values) -> Indices:
        """Which prototype seems the nearest; leaves `|c|^2 - 2 c'x` of all of them in `_sum_LAK`."""
        table, sum_LAK = self._table, self._sum_LAK
        cells.take(table.cell_AW, out=self._course_AW, mode="clip")
        np.multiply(self._course_AW, -2.0, out=self._twice_AW, casting="same_kind")
        shorter_A1K: FloatArray | None = None
        for twice_A1w, piece_AwK, sum_A1K in zip(self._twice_A1w, table.piece_AwK, self._sum_A1K, strict=True):
            np.matmul(twice_A1w, piece_AwK, out=sum_A1K)
            if shorter_A1K is not None:
                np.add(sum_A1K, shorter_A1K, out=sum_A1K)
            shorter_A1K = sum_A1K
        np.add(sum_LAK, table.square_LAK, out=sum_LAK)
        nearest_LA: Indices = sum_LAK.argmin(axis=2)
        return nearest_LA

    def _also_near(self, nearest_LA: Indices) -> Indices | None:
        """Places in `_sum_LAK` of other prototypes that may be the nearest; None: too many."""
        table, sums, first_LA = self._table, self._sum_LAK.reshape(-1), self._table.first_LA + nearest_LA
        square_AW = np.square(self._twice_AW)
        limit_LA = sums.take(first_LA) + np.dot(table.unsure_LW, square_AW.T) + table.unsure_LA
        near_LAK = self._sum_LAK <= limit_LA[:, :, None]
        count = int(np.count_nonzero(near_LAK)) - nearest_LA.size
        if count == 0:
            return _NONE
        if not 0 < count <= _MOST_NEAR:
            return None
        near_LAK.reshape(-1)[first_LA] = False
        return np.flatnonzero(near_LAK)

    def _measure(self, near_n: Indices, square_LX: Float64Array) -> None:
        """Measure single prototypes; `square_LX` falls to what is nearer."""
        table = self._table
        tags, _, most = table.turned_AWK.shape
        place_n, k_n = np.divmod(near_n, most)
        length_n, tag_n = np.divmod(place_n, tags)
        off_nW = self._course_AW[tag_n] - table.turned_AWK[tag_n, :, k_n]
        mean_n = (off_nW * off_nW * table.mean_LW[length_n]).sum(axis=1)
        np.minimum.at(square_LX, (length_n, tag_n), mean_n)


_NONE: Indices = np.empty(0, np.intp)
