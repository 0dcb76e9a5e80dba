"""What a network could not rebuild of the newest row, whitened by the covariance of the operating mode.

    s(t) = (r - m_k)' C_k^-1 (r - m_k) / D,   C_k = (n_k S_k + n_0 S) / (n_k + n_0)

k is the cluster of the window. A mode with few normal rows leans on the covariance S of all; both are shrunk towards
their diagonal (`shared.local_guard.lagged.oracle_share`). Lean: an edge box imports this.
Shapes: N windows, D tags, K modes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.lag.sums import Values
from shared.local_guard.lagged import drawn, oracle_share, units
from shared.scoring import Float64Array
from shared.windows import IntArray

BORROWED = 5.0  # times D: rows of the covariance of all modes that each mode's own is mixed with, n_0
_LEAST = 1e-6  # of a tag's variance in prepared units: below it a network's rounding would be blown up


@dataclass(frozen=True, eq=False)
class ResidualModel:
    """Mean and precision of residuals by mode; the last entry is that of all modes together.

    Attributes:
        mean_KD: float64 (K + 1, D).
        precision_KDD: float64 (K + 1, D, D).
    """

    mean_KD: Float64Array
    precision_KDD: Float64Array

    def score(self, residual_ND: Values, modes_N: IntArray) -> Float64Array:
        """Whitened square over D, float64 (N,), about 1 on the rows that it learnt from.

        Args:
            residual_ND: rebuilt less read, prepared.
            modes_N: cluster of each window; below 0: none.
        """
        offset_ND, precision_NDD = self._of(residual_ND, modes_N)
        gradient_ND = np.einsum("nde,ne->nd", precision_NDD, offset_ND)
        form_N: Float64Array = np.einsum("nd,nd->n", offset_ND, gradient_ND) / residual_ND.shape[1]
        return form_N

    def parts(self, residual_ND: Values, modes_N: IntArray) -> Float64Array:
        """Each tag's part of the score, (N, D), not negative: what its own conditional residual explains.

        `(C^-1 r)_d^2 / (C^-1)_dd` is how far the form falls when tag d reads what the others imply (Alcala and Qin
        2009, "Reconstruction-based contribution for process monitoring", Automatica 45).
        """
        offset_ND, precision_NDD = self._of(residual_ND, modes_N)
        gradient_ND = np.einsum("nde,ne->nd", precision_NDD, offset_ND)
        fall_ND: Float64Array = np.square(gradient_ND) / np.diagonal(precision_NDD, axis1=1, axis2=2)
        return fall_ND

    def _of(self, residual_ND: Values, modes_N: IntArray) -> tuple[Float64Array, Float64Array]:
        last = len(self.mean_KD) - 1
        known_N = np.where((modes_N >= 0) & (modes_N < last), modes_N, last)
        return residual_ND - self.mean_KD[known_N], self.precision_KDD[known_N]


def fit_residual(residual_ND: Values, modes_N: IntArray, modes: int) -> ResidualModel:
    """Fit to residuals of normal rows.

    Args:
        residual_ND: (N, D), N >= 2.
        modes_N: cluster of each; below 0: none.
        modes: how many clusters there are, K.
    """
    pooled_DD, mean_D = _covariance(residual_ND), residual_ND.mean(axis=0)
    own = [residual_ND[modes_N == k] for k in range(modes)]
    found = [(_mixed_mean(rows_ND, mean_D), _mixed(rows_ND, pooled_DD)) for rows_ND in own]
    found.append((mean_D, pooled_DD))
    rows = [*(len(rows_ND) + BORROWED * len(mean_D) for rows_ND in own), float(len(residual_ND))]
    precision_KDD = np.stack([_precision(c_DD, n) for (_, c_DD), n in zip(found, rows, strict=True)])
    return ResidualModel(np.stack([mean for mean, _ in found]), precision_KDD)


def _covariance(residual_ND: Values) -> Float64Array:
    centred_ND = residual_ND - residual_ND.mean(axis=0)
    found_DD: Float64Array = centred_ND.T @ centred_ND / len(residual_ND)
    return found_DD


def _mixed(rows_ND: Values, pooled_DD: Float64Array) -> Float64Array:
    borrowed, count = BORROWED * len(pooled_DD), len(rows_ND)
    if count < 2:
        return pooled_DD
    mixed_DD: Float64Array = (count * _covariance(rows_ND) + borrowed * pooled_DD) / (count + borrowed)
    return mixed_DD


def _mixed_mean(rows_ND: Values, mean_D: Float64Array) -> Float64Array:
    borrowed = BORROWED * len(mean_D)
    found_D: Float64Array = (rows_ND.sum(axis=0) + borrowed * mean_D) / (len(rows_ND) + borrowed)
    return found_D


def _precision(covariance_DD: Float64Array, rows: float) -> Float64Array:
    raised_DD = covariance_DD + _LEAST * np.eye(len(covariance_DD))
    units_D = units(raised_DD)
    alike_DD = raised_DD / np.outer(units_D, units_D)
    found_DD: Float64Array = np.linalg.inv(drawn(alike_DD, oracle_share(alike_DD, rows))) / np.outer(units_D, units_D)
    return (found_DD + found_DD.T) / 2
