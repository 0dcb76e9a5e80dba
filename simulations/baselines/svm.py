"""One-class support vector machine with a Gaussian kernel (Schoelkopf et al. 2001, doi 10.1162/089976601750264965).

The exact machine takes the square of the rows in time; this is scikit-learn's own way around it: 300 random features
that approximate the kernel (Williams and Seeger 2001), and a linear machine by stochastic gradients.
"""

from __future__ import annotations

import numpy as np
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.pipeline import make_pipeline

from shared.series import FloatArray
from simulations.baselines.base import Float64Array, register
from simulations.baselines.windowed import Score, Windowed, flat

_OUTSIDE = 0.01  # nu: share of the training windows that may lie outside
_FEATURES = 300


def learn(windows_NWD: FloatArray, seed: int) -> Score:
    """Distance below the plane; the kernel's width is scikit-learn's `scale`, 1 / (F var)."""
    vectors_NF = flat(windows_NWD)
    width = 1.0 / (vectors_NF.shape[1] * max(vectors_NF.var(), 1e-12))
    count = min(_FEATURES, len(vectors_NF))
    kernel = Nystroem(gamma=width, n_components=count, random_state=seed)
    machine = make_pipeline(kernel, SGDOneClassSVM(nu=_OUTSIDE, random_state=seed, max_iter=10_000)).fit(vectors_NF)

    def score(windows: FloatArray) -> Float64Array:
        return -np.asarray(machine.decision_function(flat(windows)), np.float64)

    return score


register(Windowed("one-class-svm", learn))
