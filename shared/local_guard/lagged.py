"""Hotelling's T2 on rows laid side by side with the rows before them: the mathematics of the guard.

Dynamic PCA without a cut between kept and dropped components (Ku, Storer and Georgakis 1995, "Disturbance detection and
isolation by dynamic principal component analysis", Chemom. Intell. Lab. Syst. 30): the squared prediction error is the
part of T2 that lies in the components of small variance. The covariance is shrunk, so that constant tags and repeated
ones need no care. Shapes: N windows, W rows, D tags, L lags, P = L D.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import SchemaMismatch
from shared.scoring import Float64Array
from shared.series import BoolArray

Values = NDArray[np.floating[Any]]

_CHUNK = 2048  # windows that are laid out in memory at once
LEAST_SPREAD = 1e-12  # of a prepared column; below it there are rounding errors


@dataclass(frozen=True)
class Explanation:
    """Which tags a score comes from.

    Attributes:
        contribution_ND: float64 (N, D), not negative; a row adds up to the window's score.
        excess_ND: float64 (N, D), in prepared units (standard deviations): how much more a tag reads, on average over
            the lags, than the other tags imply. Positive: too high. 0 in a window that is not finite.
    """

    contribution_ND: Float64Array
    excess_ND: Float64Array

    @property
    def direction_ND(self) -> NDArray[np.int8]:  # noqa: N802 (a shape suffix)
        """1 where a tag reads too high, -1 where too low, int8 (N, D)."""
        return np.sign(self.excess_ND).astype(np.int8)


@dataclass(frozen=True, eq=False)
class LagModel:
    """Mean and precision of L rows laid side by side, oldest first.

    Attributes:
        mean_LD: float64 (L, D).
        precision_PP: float64 (P, P), inverse of the shrunk covariance; symmetric, positive definite.

    Example:
        >>> model = LagModel(np.zeros((1, 2)), np.array([[2.0, -1.0], [-1.0, 2.0]]))
        >>> model.score(np.array([[[1.0, 1.0]], [[1.0, -1.0]]])).tolist()  # together as usual; against each other
        [1.0, 3.0]
    """

    mean_LD: Float64Array
    precision_PP: Float64Array

    @property
    def lags(self) -> int:
        """Rows looked at together, L."""
        return len(self.mean_LD)

    @property
    def dim(self) -> int:
        """Number of tags, D."""
        return int(self.mean_LD.shape[1])

    def score(self, windows_NWD: Values) -> Float64Array:
        """Score windows by their newest L rows.

        Args:
            windows_NWD: (N, W, D), W >= L, prepared.

        Returns:
            float64 (N,): T2 / P, at most about 1 on average over the rows it learnt from (1 without shrinkage); +inf
            where a value is not a finite number, for such a window is not known to be normal.

        Raises:
            SchemaMismatch: another number of tags, or windows shorter than the lags.
        """
        parts = [_form(offset_nP, self.precision_PP)[0] for offset_nP in self._offsets(windows_NWD)]
        return np.concatenate([np.empty(0), *parts])

    def explain(self, windows_NWD: Values) -> Explanation:
        """Share the scores of windows among the tags.

        By reconstruction (Alcala and Qin 2009, "Reconstruction-based contribution for process monitoring", Automatica
        45(7)): how far T2 falls when a tag's lags take the values that the other tags imply. Those falls do not add up
        to T2, so the score is shared in their ratio. A window that is not finite is shared among the tags that are not.
        Args and errors as in `score`.
        """
        parts = [self._explained(offset_nP) for offset_nP in self._offsets(windows_NWD)]
        none = np.empty((0, self.dim))
        return Explanation(
            contribution_ND=np.concatenate([none, *(part.contribution_ND for part in parts)]),
            excess_ND=np.concatenate([none, *(part.excess_ND for part in parts)]),
        )

    def _offsets(self, windows_NWD: Values) -> Iterator[Float64Array]:
        """The newest L rows of each window laid side by side, less their mean: float64 (n, P), a chunk at a time."""
        shape = windows_NWD.shape
        if len(shape) != 3 or shape[1] < self.lags or shape[2] != self.dim:
            raise SchemaMismatch(f"windows of shape {shape} came, the guard looks at {self.lags} rows of {self.dim}.")
        for first in range(0, len(windows_NWD), _CHUNK):
            newest = windows_NWD[first : first + _CHUNK, -self.lags :]
            yield (newest.astype(np.float64) - self.mean_LD).reshape(len(newest), -1)

    def _explained(self, offset_nP: Float64Array) -> Explanation:
        score_n, gradient_nP = _form(offset_nP, self.precision_PP)
        gradient_nLD = gradient_nP.reshape(-1, self.lags, self.dim)
        excess_nLD = np.einsum("dlm,nmd->nld", self.own_DLL, gradient_nLD)
        fall_nD = np.maximum(np.einsum("nld,nld->nd", gradient_nLD, excess_nLD), 0.0)
        broken_nD: BoolArray = np.any(~np.isfinite(offset_nP).reshape(gradient_nLD.shape), axis=1)
        return Explanation(_shares(score_n, fall_nD, broken_nD), excess_nLD.mean(axis=1))

    @cached_property
    def own_DLL(self) -> Float64Array:  # noqa: N802 (a shape suffix)
        """Inverse of each tag's own block of the precision: from the gradient to the offset from what others imply."""
        whole_LDLD = self.precision_PP.reshape(self.lags, self.dim, self.lags, self.dim)
        own_DLL: Float64Array = np.linalg.inv(np.einsum("ldmd->dlm", whole_LDLD))
        return own_DLL


def _form(offset_nP: Float64Array, precision_PP: Float64Array) -> tuple[Float64Array, Float64Array]:
    """`x' M x / P`, +inf where x is not finite, and `M x`, 0 there."""
    known_n: BoolArray = np.all(np.isfinite(offset_nP), axis=1)
    safe_nP = np.where(known_n[:, None], offset_nP, 0.0)
    gradient_nP = safe_nP @ precision_PP
    score_n = np.maximum(np.einsum("np,np->n", safe_nP, gradient_nP), 0.0) / len(precision_PP)
    return np.where(known_n, score_n, np.inf), gradient_nP


def _shares(score_n: Float64Array, fall_nD: Float64Array, broken_nD: BoolArray) -> Float64Array:
    """Scores shared in the ratio of the falls; a window that is not finite is infinite in the tags that are not."""
    total_n1 = fall_nD.sum(axis=1, keepdims=True)
    ratio_nD = np.divide(fall_nD, total_n1, out=np.full_like(fall_nD, 1 / fall_nD.shape[1]), where=total_n1 > 0)
    finite_n1 = np.where(np.isfinite(score_n), score_n, 0.0)[:, None]
    return np.where(broken_nD, np.inf, ratio_nD * finite_n1)


def learn(chunks: Iterable[Values]) -> LagModel:
    """Mean and precision of windows of L rows, read once, a chunk at a time.

    Args:
        chunks: (n, L, D) each, finite; at least one window in the first and two in all.
    """
    count, sum_P, square_PP, origin_LD = 0, np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0))
    for chunk in chunks:
        if not count:  # Sums about a point inside the data: nothing cancels, whatever the units.
            origin_LD = chunk[0].astype(np.float64)
            sum_P, square_PP = np.zeros(origin_LD.size), np.zeros((origin_LD.size, origin_LD.size))
        offset_nP = (chunk.astype(np.float64) - origin_LD).reshape(len(chunk), -1)
        count += len(chunk)
        sum_P += offset_nP.sum(axis=0)
        square_PP += offset_nP.T @ offset_nP
    mean_P = sum_P / count
    precision_PP = precision(square_PP / count - np.outer(mean_P, mean_P), count)
    mean_LD = origin_LD + mean_P.reshape(origin_LD.shape)
    for array in (mean_LD, precision_PP):
        array.setflags(write=False)
    return LagModel(mean_LD, precision_PP)


def precision(covariance_PP: Float64Array, count: float, share: float | None = None) -> Float64Array:
    """Inverse of the covariance, shrunk in units of each column's own spread; a column without any keeps its unit.

    Args:
        covariance_PP: of `count` rows, with divisor `count`; not all 0.
        count: rows that it rests on.
        share: how far it is drawn, in (0, 1]; None: by the oracle approximating rule.

    Returns:
        float64 (P, P), symmetric, positive definite.
    """
    units_P = units(covariance_PP)
    unitless_PP = covariance_PP / np.outer(units_P, units_P)
    inverse_PP = np.linalg.inv(drawn(unitless_PP, oracle_share(unitless_PP, count) if share is None else share))
    precision_PP: Float64Array = (inverse_PP + inverse_PP.T) / 2 / np.outer(units_P, units_P)
    return precision_PP


def units(covariance_PP: Float64Array) -> Float64Array:
    """Each column's spread, float64 (P,); 1 for a column without any."""
    spread_P = np.sqrt(np.maximum(np.diagonal(covariance_PP), 0.0))
    return np.where(spread_P > LEAST_SPREAD, spread_P, 1.0)


def shrunk(covariance_PP: Float64Array, count: float) -> Float64Array:
    """A covariance drawn towards `m I`, m its mean variance, by the oracle approximating rule (`oracle_share`).

    Args:
        covariance_PP: of `count` rows, with divisor `count`; not all 0.
        count: rows that it rests on.

    Returns:
        float64 (P, P), positive definite.

    Example:
        >>> shrunk(np.array([[1.0, 1.0], [1.0, 1.0]]), 99).round(3).tolist()
        [[1.0, 0.98], [0.98, 1.0]]
    """
    return drawn(covariance_PP, oracle_share(covariance_PP, count))


def drawn(covariance_PP: Float64Array, share: float) -> Float64Array:
    """`(1 - r) S + r m I`, m the mean variance."""
    size = len(covariance_PP)
    towards = share * float(np.trace(covariance_PP)) / size
    drawn_PP: Float64Array = (1 - share) * covariance_PP + towards * np.eye(size)
    return drawn_PP


def oracle_share(covariance_PP: Float64Array, count: float) -> float:
    """How far to draw a covariance of `count` rows towards `m I`, in [0, 1].

    Chen, Wiesel, Eldar and Hero 2010, "Shrinkage algorithms for MMSE covariance estimation", IEEE Trans. Signal
    Processing 58(10), equation 23:
    `r = min(1, ((1 - 2/P) tr(S^2) + tr(S)^2) / ((n + 1 - 2/P) (tr(S^2) - tr(S)^2 / P)))`.
    """
    size = len(covariance_PP)
    trace, of_square = float(np.trace(covariance_PP)), float(np.sum(covariance_PP**2))
    unlike = (count + 1 - 2 / size) * (of_square - trace**2 / size)
    return min(1.0, ((1 - 2 / size) * of_square + trace**2) / unlike) if unlike > 0 else 1.0
