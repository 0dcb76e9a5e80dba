"""How rare each tag's value is, tag by tag: ECOD (Li et al. 2022, arXiv 2201.00382), HBOS (Goldstein and Dengel 2012).

ECOD is own code: PyOD's `ECOD` and `COPOD` rank the rows to be scored among each other too, so that a row's score
depends on later rows. Here tail probabilities are of the training rows and the row itself. COPOD's are the same then.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from shared.errors import MissingExtra
from shared.series import FloatArray
from simulations.baselines.base import Float64Array, register
from simulations.baselines.windowed import Score, Windowed, flat

_BINS = 10


def learn_tails(windows_NWD: FloatArray, seed: int) -> Score:
    """max(O_left, O_right, O_auto), each a sum over tags of -log tail probabilities (Li et al., algorithm 1).

    O_auto takes each tag's longer tail: the left one where the training values' skewness is negative.
    """
    vectors_NF = flat(windows_NWD)
    left = partial(_surprise, np.sort(vectors_NF, axis=0))
    right = partial(_surprise, np.sort(-vectors_NF, axis=0))
    longer_left_F = ((vectors_NF - vectors_NF.mean(axis=0)) ** 3).mean(axis=0) < 0

    def score(windows: FloatArray) -> Float64Array:
        rows_NF = flat(windows)
        left_NF, right_NF = left(rows_NF), right(-rows_NF)
        auto_NF = np.where(longer_left_F, left_NF, right_NF)
        return np.asarray(np.max([part.sum(axis=1) for part in (left_NF, right_NF, auto_NF)], axis=0), np.float64)

    return score


def _surprise(sorted_MF: Float64Array, rows_NF: Float64Array) -> Float64Array:
    """-log of the share of training values, and the value itself, that are at most the value."""
    count_NF = np.empty(rows_NF.shape)
    for f in range(rows_NF.shape[1]):
        count_NF[:, f] = np.searchsorted(sorted_MF[:, f], rows_NF[:, f], side="right")
    return np.asarray(-np.log((count_NF + 1.0) / (len(sorted_MF) + 1.0)))


def learn_histograms(windows_NWD: FloatArray, seed: int) -> Score:
    """Sum over tags of -log histogram densities, PyOD's. Draws nothing.

    Raises:
        MissingExtra: PyOD is not installed.
    """
    try:
        from pyod.models.hbos import HBOS
    except ImportError as error:
        raise MissingExtra(f"hbos needs {error.name}.", "Install it: pip install 'crossplant[baselines]'.") from error
    histograms = HBOS(n_bins=_BINS).fit(flat(windows_NWD))

    def score(windows: FloatArray) -> Float64Array:
        return np.asarray(histograms.decision_function(flat(windows)), np.float64)

    return score


register(Windowed("ecod", learn_tails))
register(Windowed("hbos", learn_histograms))
