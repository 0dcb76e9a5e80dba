"""Rows to scores: both lag models on a log scale in robust units of normal data.

    s_t = mean over the newest m rows of ((ln T2 - median) / spread + (ln e'C^-1 e - median) / spread) / 2

The judge of a plant (`shared.evidence`) takes the models and `trailing`; the whole score is what studies compare it to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import SchemaMismatch
from shared.lag.var import VarModel
from shared.local_guard.lagged import LagModel, Values
from shared.scoring import Float64Array, RobustScale
from shared.windows import window_view

_BLOCK = 512  # windows that are laid out in memory at once
_TINY = 1e-8  # added before the logarithm; far below any score of a moving plant


@dataclass(frozen=True, eq=False)
class LagScorer:
    """A plant's lag models with the scale of their scores, as a value.

    Attributes:
        mahalanobis: T2 of the newest rows laid side by side.
        var: whitened residual of the newest row.
        t2, residual: robust scales of the logarithms of both on held-out normal rows.
        trail: rows of the trailing mean, m.
    """

    mahalanobis: LagModel
    var: VarModel
    t2: RobustScale
    residual: RobustScale
    trail: int = 1

    @property
    def rows(self) -> int:
        """Rows that one score looks at, L; a smoothed one looks at L + m - 1."""
        return max(self.mahalanobis.lags, self.var.rows)

    @property
    def dim(self) -> int:
        """Number of tags, D."""
        return self.mahalanobis.dim

    def score_rows(self, rows_TD: Values, starts: Sequence[int] = (0,)) -> Float64Array:
        """Score prepared rows, each together with those before it.

        Args:
            rows_TD: (T, D), prepared.
            starts: rows at which recordings begin; nothing is looked at across them.

        Returns:
            float64 (T,): 0 on average on normal data; NaN before the L-th row of a recording; +inf where a value in
            sight is not a finite number.

        Raises:
            SchemaMismatch: another number of tags.
        """
        if rows_TD.ndim != 2 or rows_TD.shape[1] != self.dim:
            raise SchemaMismatch(f"rows of shape {rows_TD.shape} came, the lag model was fitted on {self.dim} tags.")
        scores_T = np.full(len(rows_TD), np.nan)
        for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
            if end - begin >= self.rows:
                plain_N = np.concatenate([self.evidence(block) for block in self.blocks(rows_TD[begin:end])])
                scores_T[begin + self.rows - 1 : end] = trailing(plain_N, self.trail)
        return scores_T

    def blocks(self, rows_TD: Values) -> Iterator[Values]:
        """Windows of one recording, (n, L, D) a block."""
        windows_NLD = window_view(rows_TD, self.rows)
        for first in range(0, len(windows_NLD), _BLOCK):
            yield windows_NLD[first : first + _BLOCK]

    def evidence(self, windows_NWD: Values) -> Float64Array:
        """Scores before the trailing mean, of windows of at least L rows: float64 (N,)."""
        t2_N, residual_N = self.logs(windows_NWD)
        both_N: Float64Array = (self.t2.apply(t2_N) + self.residual.apply(residual_N)) / 2
        return both_N

    def logs(self, windows_NWD: Values) -> Float64Array:
        """Logarithms of T2 and of the whitened residual, float64 (2, N)."""
        return np.log([self.mahalanobis.score(windows_NWD) + _TINY, self.var.score(windows_NWD) + _TINY])


def trailing(values_N: Float64Array, rows: int) -> Float64Array:
    """Mean of each value and those before it, `rows` at most, added oldest first: float64 (N,).

    Example:
        >>> trailing(np.array([4.0, 2.0, 6.0]), 2).tolist()
        [4.0, 3.0, 4.0]
    """
    padded = np.concatenate([np.zeros(rows - 1), values_N])
    total_N = np.zeros(len(values_N))
    for k in range(rows):
        total_N += padded[k : k + len(values_N)]
    mean_N: Float64Array = total_N / np.minimum(np.arange(1, len(values_N) + 1), rows)
    return mean_N
