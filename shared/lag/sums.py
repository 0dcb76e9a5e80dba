"""Summed second moments of rows laid side by side with the rows before them: all that a linear lag model needs.

    M = sum_t (1, v_t)(1, v_t)',   v_t = [x_t, x_{t-1}, ..., x_{t-p}]

Sums add up over sites, so a model that is a function of M alone is, federated, the model of all rows pooled: one
exchange, in any order. Rows must be prepared (shared/preprocess: centred, in units of their spread): sums about 0 lose
digits where a tag's level is far larger than its spread. Shapes: T rows, D tags, p lags, P = (p + 1) D,
Q = (P + 1)(P + 2) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadPayload, SchemaMismatch
from shared.lag.packing import moment_matrix, moment_vector
from shared.scoring import Float64Array

Values = NDArray[np.floating[Any]]

_CELLS = 2**20  # of lagged rows that are laid out in memory at once: 8 MB
_SLACK = 1e-9  # relative: what rounding may do to a sum


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments that add up. Equal, to rounding, for any split of the same lagged rows.

    Attributes:
        vector_Q: float64 (Q,), read-only: M without its lower half, newest row first, as `moment_vector` lays it out
            (what stands beside the diagonal counts sqrt(2)). This is what crosses the wire.
        dim: tags, D.
        lags: rows before the newest, p.
        noise_sd: standard deviation of the Gaussian noise in each number of `vector_Q`; 0: exact.

    Example:
        >>> both = moments(np.array([[1.0], [2.0], [3.0], [5.0]]), lags=1)
        >>> parts = moments(np.array([[1.0], [2.0], [3.0]]), lags=1) + moments(np.array([[3.0], [5.0]]), lags=1)
        >>> both.rows, both.matrix_PP.round(9).tolist() == parts.matrix_PP.round(9).tolist()
        (3.0, True)
    """

    vector_Q: Float64Array
    dim: int
    lags: int
    noise_sd: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no number: a sum would carry it to every plant.

        Raises:
            BadPayload: another shape than dim and lags demand, or a number that is not finite.
        """
        if self.dim < 1 or self.lags < 0 or self.vector_Q.shape != (vector_size(self.dim, self.lags),):
            cause = f"moments of shape {self.vector_Q.shape} came for {self.dim} tags and {self.lags} lags."
            raise BadPayload(cause)
        if not np.isfinite(self.vector_Q).all() or not 0 <= self.noise_sd < math.inf:
            raise BadPayload("moments hold a number that is not finite.")
        vector_Q = np.array(self.vector_Q, np.float64)
        vector_Q.setflags(write=False)
        object.__setattr__(self, "vector_Q", vector_Q)

    @classmethod
    def none(cls, dim: int, lags: int) -> Self:
        """Of no rows: what a sum begins with."""
        return cls(np.zeros(vector_size(dim, lags)), dim, lags)

    @property
    def rows(self) -> float:
        """Lagged rows that were summed; with noise any number."""
        return float(self.vector_Q[0])

    @property
    def matrix_PP(self) -> Float64Array:  # noqa: N802 (a shape suffix)
        """M, float64 (P + 1, P + 1), newest row first."""
        return moment_matrix(self.vector_Q)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of rows; independent noise adds up in squares."""
        self._check_alike(other)
        noise_sd = math.hypot(self.noise_sd, other.noise_sd)
        return Moments(self.vector_Q + other.vector_Q, self.dim, self.lags, noise_sd)

    def __sub__(self, other: Moments) -> Moments:
        """What is left of a sum without one of its parts, noise and all: a plant knows what it sent."""
        self._check_alike(other)
        left = math.sqrt(max(self.noise_sd**2 - other.noise_sd**2, 0.0))
        return Moments(self.vector_Q - other.vector_Q, self.dim, self.lags, left)

    def __mul__(self, factor: float) -> Moments:
        """Each row counted `factor` times."""
        return Moments(self.vector_Q * factor, self.dim, self.lags, self.noise_sd * abs(factor))

    def _check_alike(self, other: Moments) -> None:
        if (self.dim, self.lags) != (other.dim, other.lags):
            cause = f"moments of {other.dim} tags and {other.lags} lags meet those of {self.dim} and {self.lags}."
            raise SchemaMismatch(cause, "Sum the moments of plants with the same tags and one number of lags.")

    def narrowed(self, lags: int) -> Moments:
        """The same rows with fewer lags: the leading block of M."""
        if not 0 <= lags <= self.lags:
            raise SchemaMismatch(f"moments of {self.lags} lags hold none of {lags}.", "Ask for fewer lags.")
        size = 1 + (lags + 1) * self.dim
        upper = np.triu_indices(1 + (self.lags + 1) * self.dim)
        return Moments(self.vector_Q[(upper[0] < size) & (upper[1] < size)], self.dim, lags, self.noise_sd)


def vector_size(dim: int, lags: int) -> int:
    """Numbers on the wire, Q.

    Example:
        >>> vector_size(dim=123, lags=5) * 8  # bytes
        2187440
    """
    columns = (lags + 1) * dim
    return (columns + 1) * (columns + 2) // 2


def parse(values: NDArray[Any], dim: int, lags: int, most: float, rows: float = 1e9) -> Moments:
    """Exact moments as a plant sent them; every number is held against what prepared rows can give.

    Args:
        values: as `Moments.vector_Q`.
        dim, lags: what the federation agreed on.
        most: largest size that a prepared value may have (`Scaler.guard`).
        rows: most rows that a plant may claim.

    Raises:
        BadPayload: another shape or type, not finite, more rows than allowed, or no sums of squares of such values.
    """
    if values.dtype != np.float64:
        raise BadPayload(f"moments came as {values.dtype}, not float64.")
    found = Moments(values, dim, lags)
    matrix_PP = found.matrix_PP
    diagonal_P = np.diagonal(matrix_PP)
    if not 0 <= found.rows <= rows:
        raise BadPayload(f"moments of {found.rows} rows came; 0 to {rows:.0f} may.")
    if diagonal_P.min() < 0 or diagonal_P[1:].max() > found.rows * most**2 * (1 + _SLACK):
        raise BadPayload(f"moments came that values within {most} cannot give.")
    if np.any(np.abs(matrix_PP) > np.sqrt(np.outer(diagonal_P, diagonal_P)) * (1 + _SLACK) + _SLACK):
        raise BadPayload("moments came that break Cauchy and Schwarz's inequality.")
    return found


def moments(rows_TD: Values, starts: Sequence[int] = (0,), lags: int = 5) -> Moments:
    """Sum the second moments of lagged rows, a block at a time.

    Args:
        rows_TD: (T, D), prepared. A lagged row that holds a value which is not finite is left out.
        starts: rows at which recordings begin; no lagged row straddles two.
        lags: rows before the newest, p.

    Raises:
        SchemaMismatch: rows_TD is no table.
    """
    if rows_TD.ndim != 2:
        raise SchemaMismatch(f"rows of shape {rows_TD.shape} came; a table of rows and tags is due.")
    total_Q = np.zeros(vector_size(rows_TD.shape[1], lags))
    for block_NP in lagged_blocks(rows_TD, starts, lags):
        total_Q += moment_vector(block_NP) * len(block_NP)
    return Moments(total_Q, rows_TD.shape[1], lags)


def lagged_blocks(rows_TD: Values, starts: Sequence[int], lags: int) -> Iterator[Float64Array]:
    """Finite lagged rows, newest row first, float64 (n, P) a block; short recordings share one."""
    height = max(1, _CELLS // ((lags + 1) * rows_TD.shape[1]))
    waiting: list[Float64Array] = []
    waits = 0
    for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
        for first in range(begin + lags, end, height):
            piece_NP = lagged(rows_TD[first - lags : min(first + height, end)], lags)
            waiting, waits = [*waiting, piece_NP], waits + len(piece_NP)
            if waits >= height:
                yield np.concatenate(waiting)
                waiting, waits = [], 0
    if waits:
        yield np.concatenate(waiting)


def lagged(rows_TD: Values, lags: int) -> Float64Array:
    """Finite lagged rows of one recording, newest row first: float64 (at most T - p, P).

    Example:
        >>> lagged(np.array([[1.0], [2.0], [3.0]]), 1).tolist()
        [[2.0, 1.0], [3.0, 2.0]]
    """
    count = max(0, len(rows_TD) - lags)
    sides = [rows_TD[lags - k : lags - k + count] for k in range(lags + 1)]
    laid_NP = np.concatenate(sides, axis=1).astype(np.float64)
    whole_NP: Float64Array = laid_NP[np.isfinite(laid_NP).all(axis=1)]
    return whole_NP
