"""Distance to the nearest normal windows: kNN (Ramaswamy et al. 2000), local outlier factor (Breunig et al. 2000)."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from shared.series import FloatArray
from simulations.baselines.base import Float64Array, register
from simulations.baselines.windowed import Score, Windowed, flat

_NEAREST = 5
_AROUND = 20  # Breunig et al., section 6.2: 10 to 20


def learn_distance(windows_NWD: FloatArray, seed: int) -> Score:
    """Distance to the fifth nearest training window. Draws nothing."""
    count = min(_NEAREST, len(windows_NWD))
    near = NearestNeighbors(n_neighbors=count).fit(flat(windows_NWD))

    def score(windows: FloatArray) -> Float64Array:
        return np.asarray(near.kneighbors(flat(windows))[0][:, -1], np.float64)

    return score


def learn_density(windows_NWD: FloatArray, seed: int) -> Score:
    """How much sparser a window's surroundings are than those of its 20 nearest training windows. Draws nothing."""
    count = min(_AROUND, len(windows_NWD) - 1)
    near = LocalOutlierFactor(n_neighbors=count, novelty=True).fit(_apart(flat(windows_NWD)))

    def score(windows: FloatArray) -> Float64Array:
        return -np.asarray(near.score_samples(flat(windows)), np.float64)

    return score


def _apart(vectors_NF: Float64Array) -> Float64Array:
    """Without repeated ones, which are infinitely dense; all of them where few differ."""
    different_MF = np.unique(vectors_NF, axis=0)
    return different_MF if len(different_MF) > _AROUND else vectors_NF


register(Windowed("knn", learn_distance))
register(Windowed("knn-windows", learn_distance, window=5, most=10_000))
register(Windowed("lof", learn_density, most=10_000))
