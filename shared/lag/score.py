"""Rows to scores: both lag models on a log scale in robust units of normal data, in batch and row by row.

    s_t = mean over the newest m rows of ((ln T2 - median) / spread + (ln e'C^-1 e - median) / spread) / 2

Windows are scored in blocks of `SLOTS`, and the t-th row of a recording always has slot `t mod SLOTS`: a stream fills
the slots of the other rows with zeros. So a matrix product has the same shape in batch and in a stream, and gives the
same bits. Lean: an edge box imports this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import SchemaMismatch
from shared.lag.var import VarModel
from shared.local_guard.lagged import Explanation, LagModel, Values
from shared.scoring import Float64Array, RobustScale
from shared.windows import window_view

SLOTS = 8
_TINY = 1e-8  # added before the logarithm; far below any score of a moving plant
_MOST = 700.0  # exp of more is infinite


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
                scores_T[begin + self.rows - 1 : end] = trailing(plain_N[: end - begin - self.rows + 1], self.trail)
        return scores_T

    def blocks(self, rows_TD: Values) -> Iterator[Float64Array]:
        """Windows of one recording, float64 (SLOTS, L, D) a block; zeros after the last one."""
        windows_NLD = window_view(rows_TD, self.rows)
        for first in range(0, len(windows_NLD), SLOTS):
            block_SLD = np.zeros((SLOTS, self.rows, self.dim))
            part_nLD = windows_NLD[first : first + SLOTS]
            block_SLD[: len(part_nLD)] = part_nLD
            yield block_SLD

    def evidence(self, windows_NWD: Values) -> Float64Array:
        """Scores before the trailing mean, of windows of at least L rows: float64 (N,)."""
        t2_N, residual_N = self.logs(windows_NWD)
        both_N: Float64Array = (self.t2.apply(t2_N) + self.residual.apply(residual_N)) / 2
        return both_N

    def logs(self, windows_NWD: Values) -> Float64Array:
        """Logarithms of T2 and of the whitened residual, float64 (2, N)."""
        return np.log([self.mahalanobis.score(windows_NWD) + _TINY, self.var.score(windows_NWD) + _TINY])

    def explain(self, windows_NWD: Values) -> Explanation:
        """Share the scores of windows among the tags.

        A score is a logarithm, and may be negative: what is shared is `exp(score)`, each tag's part being the mean of
        its shares of T2 and of the whitened residual (`LagModel.explain`), over the rows of the trailing mean.

        Args:
            windows_NWD: (N, W, D), prepared, W >= L; the trailing mean is over the newest `W - L + 1` rows at most.

        Returns:
            contributions that add up to `exp(score)`, and how much more a tag reads than the others imply.

        Raises:
            SchemaMismatch: windows that are too short, or of other tags.
        """
        count = min(self.trail, windows_NWD.shape[1] - self.rows + 1)
        if count < 1:
            raise SchemaMismatch(f"windows of {windows_NWD.shape[1]} rows came, the lag model looks at {self.rows}.")
        ends = [windows_NWD.shape[1] - k for k in reversed(range(count))]
        parts = [model.explain(windows_NWD[:, :end]) for model in (self.mahalanobis, self.var) for end in ends]
        total_N = sum((self.evidence(windows_NWD[:, :end]) for end in ends), np.zeros(len(windows_NWD)))
        share_ND = np.mean([_shares(part.contribution_ND) for part in parts], axis=0)
        height_N1 = np.exp(np.minimum(total_N / count, _MOST))[:, None]
        excess_ND = np.mean([part.excess_ND for part in parts], axis=0)
        return Explanation(share_ND * height_N1, excess_ND)

    def stream(self) -> LagStream:
        """The same, row by row, from the beginning of a recording."""
        return LagStream(self)


class LagStream:
    """A lag scorer applied row by row; bit for bit what `score_rows` gives. Its state is arrays and counters:
    `copy.deepcopy` takes a snapshot that goes on by itself.

    Attributes:
        window_LD: float64 (L, D), the newest rows, oldest first.
    """

    def __init__(self, scorer: LagScorer) -> None:
        self._scorer = scorer
        self.window_LD: Float64Array = np.zeros((scorer.rows, scorer.dim))
        self._block_SLD = np.zeros((SLOTS, *self.window_LD.shape))
        self.restart()

    def restart(self) -> None:
        """Forget everything: the next row begins a recording."""
        self._seen, self._newest = 0, np.zeros(0)

    def step(self, row_D: Values) -> float | None:
        """Take one prepared row; its score, or None while fewer than L were seen.

        Raises:
            SchemaMismatch: the row has another number of values; nothing was taken from it.
        """
        if np.shape(row_D) != (self._scorer.dim,):
            raise SchemaMismatch(f"a row of shape {np.shape(row_D)} came, the lag model has {self._scorer.dim} tags.")
        self.window_LD[:-1] = self.window_LD[1:]
        self.window_LD[-1] = row_D
        self._seen += 1
        at = self._seen - len(self.window_LD)
        return None if at < 0 else self._smoothed(self._evidence(at % SLOTS))

    def _evidence(self, slot: int) -> float:
        self._block_SLD[:] = 0.0
        self._block_SLD[slot] = self.window_LD
        return float(self._scorer.evidence(self._block_SLD)[slot])

    def _smoothed(self, evidence: float) -> float:
        self._newest = np.append(self._newest, evidence)[-self._scorer.trail :]
        return float(trailing(self._newest, self._scorer.trail)[-1])


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


def _shares(contribution_ND: Float64Array) -> Float64Array:
    """Rows that add up to 1; a row that is infinite somewhere is shared among those tags."""
    broken_ND = np.isinf(contribution_ND)
    weight_ND = np.where(broken_ND.any(axis=1, keepdims=True), broken_ND, contribution_ND).astype(np.float64)
    total_N1 = weight_ND.sum(axis=1, keepdims=True)
    even_ND = np.full_like(weight_ND, 1 / weight_ND.shape[1])
    share_ND: Float64Array = np.divide(weight_ND, total_N1, out=even_ND, where=total_N1 > 0)
    return share_ND
