"""The Gaussian that moments describe, shrunk by a rule that needs no other numbers: the pooled rows' own choice.

Ledoit and Wolf's rule needs fourth moments, which summed second moments do not hold. The oracle approximating rule
(`shared.local_guard.lagged.oracle_share`) needs the covariance and the number of rows alone. Other rules that were
tried, and found worse: docs/lag.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shared.errors import NoiseDrowns, TooFewRows
from shared.lag.sums import Moments
from shared.local_guard.lagged import drawn, oracle_share, units
from shared.scoring import Float64Array

QUIET = 1e-6
"""Variance that is added to every direction before likelihoods are compared, in units of each tag's spread: that of a
thousandth of it. Without it a repeated tag, whose null direction stays null, would decide alone."""


ROUNDING = 1e-12
"""Variance of a column, beside its mean's square, that is rounding: a millionth of a tag's spread."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of lagged rows, oldest row first (as windows are), as summed: nothing is shrunk.

    Attributes:
        rows: lagged rows that it rests on.
        mean_P: float64 (P,).
        covariance_PP: float64 (P, P), with divisor `rows`.
        dim: tags, D.
    """

    rows: float
    mean_P: Float64Array
    covariance_PP: Float64Array
    dim: int

    @property
    def mean_LD(self) -> Float64Array:  # noqa: N802 (a shape suffix)
        """The mean as a window, (L, D)."""
        return self.mean_P.reshape(-1, self.dim)

    @property
    def share(self) -> float:
        """How far to draw the covariance towards the identity, in units of each column's spread; in (0, 1]."""
        units_P = units(self.covariance_PP)
        return oracle_share(self.covariance_PP / np.outer(units_P, units_P), self.rows)


def gaussian(moments: Moments) -> Gaussian:
    """Mean and covariance of moments.

    Noise can leave no covariance at all: eigenvalues below the spectral radius of the noise, `sd sqrt(2 P) / n`
    (Wigner 1955: a symmetric matrix whose entries beside the diagonal have sd / sqrt(2)), say nothing and are raised to
    it.

    Raises:
        TooFewRows: fewer than two rows.
        NoiseDrowns: noise has left as few.
    """
    if moments.rows < 2 and moments.noise_sd:
        cure = "Sum the moments of more plants, or of fewer tags and lags."
        raise NoiseDrowns("the noise of the summed moments leaves no row of them.", cure)
    if moments.rows < 2:
        raise TooFewRows(f"a lag model is asked for from {max(0.0, moments.rows):.0f} rows; it needs 2.")
    whole_PP = _oldest_first(moments.matrix_PP, moments.dim) / moments.rows
    mean_P = whole_PP[0, 1:]
    covariance_PP = _without_rounding(whole_PP[1:, 1:] - np.outer(mean_P, mean_P), mean_P)
    if moments.noise_sd:
        floor = moments.noise_sd * math.sqrt(2 * len(mean_P)) / moments.rows
        covariance_PP = _raised(covariance_PP, floor)
    return Gaussian(moments.rows, mean_P, covariance_PP, moments.dim)


def loss(model: Gaussian, held: Gaussian) -> float:
    """`-2 ln L` a held-out row less a constant: `ln |C| + tr(C^-1 H)`, C shrunk, H about the model's mean."""
    units_P = units(model.covariance_PP)
    outer_PP, quiet_PP = np.outer(units_P, units_P), QUIET * np.eye(len(units_P))
    drawn_PP = drawn(model.covariance_PP / outer_PP, model.share) + quiet_PP
    moved_P = held.mean_P - model.mean_P
    held_PP = (held.covariance_PP + np.outer(moved_P, moved_P)) / outer_PP + quiet_PP
    logs = float(np.linalg.slogdet(drawn_PP)[1]) + 2 * float(np.sum(np.log(units_P)))
    return logs + float(np.trace(np.linalg.solve(drawn_PP, held_PP)))


def _without_rounding(covariance_PP: Float64Array, mean_P: Float64Array) -> Float64Array:
    """The covariance with none of a column that stands still but for rounding: of prepared rows, which are float32, and
    of the difference of two squares. Taken for a spread, it would blow up whatever comes later.
    """
    moves_P = np.diagonal(covariance_PP) > ROUNDING * (1 + mean_P**2)
    kept_PP: Float64Array = covariance_PP * np.outer(moves_P, moves_P)
    return kept_PP


def _oldest_first(matrix_PP: Float64Array, dim: int) -> Float64Array:
    """M with its blocks of D columns turned round; the constant stays first."""
    columns_LD = np.arange(1, len(matrix_PP)).reshape(-1, dim)[::-1]
    order = np.concatenate([[0], columns_LD.ravel()])
    turned_PP: Float64Array = matrix_PP[np.ix_(order, order)]
    return turned_PP


def _raised(matrix_PP: Float64Array, floor: float) -> Float64Array:
    """The matrix with no eigenvalue below a floor."""
    values_P, vectors_PP = np.linalg.eigh(matrix_PP)
    raised_PP: Float64Array = (vectors_PP * np.maximum(values_P, floor)) @ vectors_PP.T
    even_PP: Float64Array = (raised_PP + raised_PP.T) / 2
    return even_PP
