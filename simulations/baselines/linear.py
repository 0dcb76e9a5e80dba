"""Distance from a plane and from a Gaussian: PCA reconstruction (Jackson and Mudholkar 1979), Mahalanobis distance."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from shared.series import FloatArray
from simulations.baselines.base import Float64Array, register
from simulations.baselines.windowed import Score, Windowed, flat

_KEPT = 0.95  # share of the variance that the plane holds


def learn_plane(windows_NWD: FloatArray, seed: int) -> Score:
    """Squared distance from the plane that holds 95 % of the training variance. Draws nothing."""
    plane = PCA(n_components=_KEPT, svd_solver="full").fit(flat(windows_NWD))

    def score(windows: FloatArray) -> Float64Array:
        vectors_NF = flat(windows)
        rebuilt_NF = plane.inverse_transform(plane.transform(vectors_NF))
        return np.asarray(((vectors_NF - rebuilt_NF) ** 2).sum(axis=1), np.float64)

    return score


def learn_gaussian(windows_NWD: FloatArray, seed: int) -> Score:
    """Squared Mahalanobis distance under the covariance of Ledoit and Wolf (2004). Draws nothing."""
    gaussian = LedoitWolf().fit(flat(windows_NWD))

    def score(windows: FloatArray) -> Float64Array:
        return np.asarray(gaussian.mahalanobis(flat(windows)), np.float64)

    return score


register(Windowed("pca", learn_plane))
register(Windowed("pca-windows", learn_plane, window=5))
register(Windowed("mahalanobis", learn_gaussian))
register(Windowed("mahalanobis-windows", learn_gaussian, window=5))
