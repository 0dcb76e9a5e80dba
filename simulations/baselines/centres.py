"""Distance from the modes of normal operation: k-means centres (Lloyd 1982), and a mixture of Gaussians."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from shared.series import FloatArray
from simulations.baselines.base import Float64Array, register
from simulations.baselines.windowed import Score, Windowed, flat

_CENTRES = 8  # as many as hac-uml has
_GAUSSIANS = 4
_RIDGE = 1e-3  # of a tag's variance; constant tags would have none


def learn_centres(windows_NWD: FloatArray, seed: int) -> Score:
    """Distance to the nearest of eight centres."""
    centres = KMeans(min(_CENTRES, len(windows_NWD)), n_init=5, random_state=seed)
    with _unconverged():
        centres.fit(flat(windows_NWD))

    def score(windows: FloatArray) -> Float64Array:
        return np.asarray(centres.transform(flat(windows)).min(axis=1), np.float64)

    return score


def learn_mixture(windows_NWD: FloatArray, seed: int) -> Score:
    """Minus the log density under four Gaussians with covariances of their own."""
    count = min(_GAUSSIANS, len(windows_NWD))
    mixture = GaussianMixture(count, reg_covar=_RIDGE, max_iter=200, random_state=seed)
    with _unconverged():
        mixture.fit(flat(windows_NWD))

    def score(windows: FloatArray) -> Float64Array:
        return -np.asarray(mixture.score_samples(flat(windows)), np.float64)

    return score


class _unconverged(warnings.catch_warnings):  # noqa: N801 (used as a verb)
    """Best so far is good enough, and fewer different windows than centres are, too."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", ConvergenceWarning)


register(Windowed("k-means", learn_centres))
register(Windowed("gaussian-mixture", learn_mixture))
