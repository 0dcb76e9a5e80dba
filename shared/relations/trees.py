"""Decision trees as arrays: which leaf a row falls into (Breiman, Friedman, Olshen and Stone 1984, chapter 2).

Shapes: n rows, R trees, N nodes of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.scoring import Float64Array
from shared.windows import IntArray


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees side by side. A leaf is its own child; any other child has a higher number than its parent.

    Attributes:
        column_RN: int64, what a node looks at.
        cut_RN: float64; up to it a row goes left.
        left_RN, right_RN: int64.
    """

    column_RN: IntArray
    cut_RN: Float64Array
    left_RN: IntArray
    right_RN: IntArray

    def leaves(self, rows_nX: NDArray[np.floating]) -> IntArray:
        """Each row's leaf in each tree, int64 (n, R). Rows are rounded to float32, as the trees were grown on them."""
        trees, nodes = self.column_RN.shape
        rows_nX = np.ascontiguousarray(rows_nX, np.float32)
        first_R, row_n1 = nodes * np.arange(trees), rows_nX.shape[1] * np.arange(len(rows_nX))[:, None]
        column_M, cut_M = self.column_RN.ravel(), self.cut_RN.ravel()
        left_M, right_M = ((first_R[:, None] + child).ravel() for child in (self.left_RN, self.right_RN))
        at_nR = np.broadcast_to(first_R, (len(rows_nX), trees))
        while True:
            value_nR = rows_nX.take(row_n1 + column_M[at_nR])
            next_nR = np.where(value_nR <= cut_M[at_nR], left_M[at_nR], right_M[at_nR])
            if np.array_equal(next_nR, at_nR):
                break
            at_nR = next_nR
        leaf_nR: IntArray = at_nR - first_R
        return leaf_nR
