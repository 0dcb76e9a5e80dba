"""Isolation forest (Liu et al. 2008, doi 10.1109/ICDM.2008.17), scikit-learn's."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import IsolationForest

from shared.series import FloatArray
from simulations.baselines.base import Float64Array, register
from simulations.baselines.windowed import Score, Windowed, flat


def learn(windows_NWD: FloatArray, seed: int) -> Score:
    """A hundred trees of 256 windows each; the score is 2^(-depth / usual depth), equation 2."""
    forest = IsolationForest(n_estimators=100, random_state=seed).fit(flat(windows_NWD))

    def score(windows: FloatArray) -> Float64Array:
        return -np.asarray(forest.score_samples(flat(windows)), np.float64)

    return score


register(Windowed("isolation-forest", learn))
register(Windowed("isolation-forest-windows", learn, window=5))
