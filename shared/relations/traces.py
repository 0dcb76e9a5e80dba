"""The history of a code as numbers: exponential traces, a short memory of when a valve stood where.

    h_t = [the tag has this code],   y_t = k y_{t-1} + (1 - k) h_t,   k = exp(-1 / tau)

Averaged over blocks of B rows, for time constants of 0.2, 0.6, 2 and 6 blocks. A linear map of such traces is a
discretised transfer function (Ljung 1999, "System Identification", 2nd ed., section 4.2) with its poles given
beforehand: what a pump does to a flow seconds later needs no lags. Shapes: n blocks, B rows a block, I indicators.
"""

from __future__ import annotations

import numpy as np

from shared.scoring import Float64Array

TIMES = (0.2, 0.6, 2.0, 6.0)
"""Time constants, in blocks."""


class Traces:
    """Traces of indicators over one recording, a chunk of blocks at a time.

    With y the trace before a block, the mean over the block is `a y + w h`, and the trace at its end `k^B y + v h`.
    """

    def __init__(self, block: int, indicators: int) -> None:
        k_Q = np.exp(-1.0 / (np.array(TIMES) * block))
        after_BB = np.subtract.outer(np.arange(block), np.arange(block))  # i - j: rows from j to i
        fade_QBB = np.where(after_BB >= 0, k_Q[:, None, None] ** np.maximum(after_BB, 0), 0.0)
        self._mean_QB = (1 - k_Q)[:, None] * fade_QBB.mean(axis=1)
        self._end_QB = (1 - k_Q)[:, None] * fade_QBB[:, -1]
        self._kept_Q = (k_Q[:, None] ** np.arange(1, block + 1)).mean(axis=1)
        self._fade_Q1 = (k_Q**block)[:, None]
        self._last_QI = np.zeros((len(TIMES), indicators))
        self._begun = False

    def take(self, on_nBI: Float64Array) -> Float64Array:
        """Block means of the indicators and of their traces, float64 (n, 5 I). A trace begins as its indicator does."""
        if not self._begun:
            self._last_QI[:], self._begun = on_nBI[0, 0], True
        end_nQI = np.einsum("qb,nbi->nqi", self._end_QB, on_nBI)
        before_nQI = np.empty_like(end_nQI)
        for n, end_QI in enumerate(end_nQI):
            before_nQI[n] = self._last_QI
            self._last_QI = self._fade_Q1 * self._last_QI + end_QI
        mean_nQI = self._kept_Q[:, None] * before_nQI + np.einsum("qb,nbi->nqi", self._mean_QB, on_nBI)
        return np.concatenate([on_nBI.mean(axis=1), mean_nQI.reshape(len(on_nBI), -1)], axis=1)
