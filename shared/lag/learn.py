"""Both lag models in closed form from summed moments: whoever has the sum has the pooled solution.

One shrunk covariance C of v = [x_{t-p}, ..., x_{t-1}, x_t], in units of each column's spread, serves both:

    lagged Mahalanobis   T2 = (v - m)' C^-1 (v - m)
    ridge VAR(p)         B = (S_zz + k I)^-1 S_zy with k = r / (1 - r), the conditional mean of x_t under C
    whitened residual    e' (C_yy - C_yz C_zz^-1 C_zy)^-1 e

All is read off the inverse of C, W: its newest block W_yy is the inverse of the residual's covariance, and
B' = -W_yy^-1 W_yz (Luetkepohl 2005, "New Introduction to Multiple Time Series Analysis", appendix A.10; ridge: Hoerl
and Kennard 1970). So T2 is the whitened residual plus the T2 of the rows before.
"""

from __future__ import annotations

import numpy as np

from shared.errors import NothingToLearn
from shared.lag.gaussian import gaussian
from shared.lag.sums import Moments
from shared.lag.var import VarModel
from shared.local_guard.lagged import LEAST_SPREAD, LagModel, precision


def fit_mahalanobis(moments: Moments, share: float | None = None) -> LagModel:
    """Mean and shrunk precision of p + 1 rows laid side by side.

    Args:
        moments: of at least two rows.
        share: how far to shrink, in (0, 1]; None: by the rule (`Gaussian.share`).

    Raises:
        TooFewRows: fewer than two rows.
        NothingToLearn: no tag moves.
    """
    found = gaussian(moments)
    if not np.any(np.diagonal(found.covariance_PP) > LEAST_SPREAD**2):
        raise NothingToLearn("none of the tags moves in the rows that a lag model is to learn from.")
    model = LagModel(found.mean_LD, precision(found.covariance_PP, found.rows, share or found.share))
    for array in (model.mean_LD, model.precision_PP):
        array.setflags(write=False)
    return model


def fit_var(moments: Moments, share: float | None = None) -> VarModel:
    """A ridge VAR of the moments' order p. Args and errors as in `fit_mahalanobis`.

    Example:
        >>> from shared.lag.sums import moments
        >>> x_T, noise_T = np.zeros(2000), np.random.default_rng(0).normal(size=2000)
        >>> for t in range(1, 2000):
        ...     x_T[t] = 0.8 * x_T[t - 1] + noise_T[t]
        >>> fit_var(moments(x_T[:, None], lags=1)).weights_ZD.round(1).tolist()
        [[0.8]]
    """
    return conditional(fit_mahalanobis(moments, share))


def conditional(joint: LagModel) -> VarModel:
    """The newest row given those before it, under a model of them all."""
    ahead = (joint.lags - 1) * joint.dim
    whitening_DD = np.ascontiguousarray(joint.precision_PP[ahead:, ahead:])
    weights_ZD = np.ascontiguousarray(-np.linalg.solve(whitening_DD, joint.precision_PP[ahead:, :ahead]).T)
    residual = LagModel(np.zeros((1, joint.dim)), whitening_DD)
    for array in (whitening_DD, weights_ZD, residual.mean_LD):
        array.setflags(write=False)
    return VarModel(joint.mean_LD, weights_ZD, residual)
