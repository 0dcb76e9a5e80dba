"""A vector autoregression with a whitened residual. Lean: an edge box imports this; fitting is `shared.lag.learn`.

    x_t = a + sum_k B_k x_{t-k} + e_t,   score = e' C^-1 e / D,   C the covariance of e

Luetkepohl 2005, "New Introduction to Multiple Time Series Analysis", equation 2.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.local_guard.lagged import LagModel, Values
from shared.scoring import Float64Array
from shared.series import BoolArray


@dataclass(frozen=True, eq=False)
class VarModel:
    """A fitted ridge VAR(p).

    Attributes:
        mean_LD: float64 (p + 1, D), oldest row first.
        weights_ZD: float64 (p D, D): from the offsets of the p rows before, oldest first, to the newest row's.
        whitened: scores residuals as windows of one row.

    Example:
        >>> halved = VarModel(np.zeros((2, 1)), np.array([[0.5]]), LagModel(np.zeros((1, 1)), np.eye(1)))
        >>> halved.score(np.array([[[4.0], [2.0]], [[4.0], [5.0]]])).tolist()  # as predicted; 3 beside it
        [0.0, 9.0]
    """

    mean_LD: Float64Array
    weights_ZD: Float64Array
    whitened: LagModel

    @property
    def rows(self) -> int:
        """Rows that are looked at together, p + 1."""
        return len(self.mean_LD)

    def residuals(self, windows_NWD: Values) -> Float64Array:
        """How far the newest row of each window lies from its prediction, float64 (N, 1, D); NaN where a value among
        the newest p + 1 rows is not finite.
        """
        offset_NLD = windows_NWD[:, -self.rows :].astype(np.float64) - self.mean_LD
        known_N: BoolArray = np.all(np.isfinite(offset_NLD), axis=(1, 2))
        safe_NLD = np.where(known_N[:, None, None], offset_NLD, 0.0)
        said_ND = safe_NLD[:, :-1].reshape(len(safe_NLD), -1) @ self.weights_ZD
        return np.where(known_N[:, None], safe_NLD[:, -1] - said_ND, np.nan)[:, None, :]

    def score(self, windows_NWD: Values) -> Float64Array:
        """Whitened squared residual over D, float64 (N,); +inf where a value is not finite. See `LagModel.score`."""
        return self.whitened.score(self.residuals(windows_NWD))
