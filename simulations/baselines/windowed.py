"""What all baselines here have in common: rows become windows, and a window's score is that of its newest row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import NothingToLearn, TooFewRows
from shared.series import FloatArray
from shared.windows import IntArray, window_starts, window_view
from simulations.baselines.base import Float64Array

Score = Callable[[FloatArray], Float64Array]
"""Windows (N, W, D) to their scores (N,)."""

Learn = Callable[[FloatArray, int], Score]
"""Training windows (N, W, D) and a seed to what scores windows."""

_CHUNK = 2048


@dataclass(frozen=True)
class Windowed:
    """A baseline that is learnt from windows laid out one by one.

    Attributes:
        name: its name.
        learn: what learns.
        window: rows W in a window; 1: rows by themselves.
        most: training windows; of more, so many are drawn without replacement. What costs more than that is worth.
    """

    name: str
    learn: Learn
    window: int = 1
    most: int = 20_000

    def fit(self, train_TD: FloatArray, starts: tuple[int, ...], seed: int) -> FittedWindows:
        """See `simulations.baselines.base.Baseline`."""
        first_N = whole_windows(train_TD, starts, self.window)
        if len(first_N) < 2:
            cause = f"{self.name}: {len(train_TD)} training rows hold {len(first_N)} whole windows of {self.window}."
            raise TooFewRows(cause)
        windows_NWD = window_view(train_TD, self.window)[_drawn(first_N, self.most, seed)]
        if not (windows_NWD != windows_NWD[0]).any():
            raise NothingToLearn(f"{self.name}: all {len(first_N)} training windows are the same.")
        return FittedWindows(self.learn(np.ascontiguousarray(windows_NWD), seed), self.window)


@dataclass(frozen=True)
class FittedWindows:
    """What was learnt, and how long its windows are."""

    score: Score
    window: int

    def scores(self, rows_TD: FloatArray, starts: tuple[int, ...]) -> Float64Array:
        """See `simulations.baselines.base.Fitted`."""
        scores_T = np.full(len(rows_TD), np.nan)
        first_N = whole_windows(rows_TD, starts, self.window)
        for begin in range(0, len(first_N), _CHUNK):
            first_B = first_N[begin : begin + _CHUNK]
            windows_BWD = np.ascontiguousarray(window_view(rows_TD, self.window)[first_B])
            scores_T[first_B + self.window - 1] = self.score(windows_BWD)
        return scores_T


def whole_windows(rows_TD: FloatArray, starts: tuple[int, ...], window: int) -> IntArray:
    """First rows of the windows that lie in one recording and hold finite values only.

    Example:
        >>> whole_windows(np.float32([[0], [1], [np.nan], [3], [4], [5]]), (0, 4), 2).tolist()
        [0, 4]
    """
    if len(rows_TD) < window:
        return np.empty(0, np.int64)
    bad_T = np.concatenate([[0], np.cumsum(~np.isfinite(rows_TD).all(axis=1))])
    first_N = window_starts(len(rows_TD), window, 1, starts)
    whole_N: IntArray = first_N[bad_T[first_N + window] == bad_T[first_N]]
    return whole_N


def flat(windows_NWD: FloatArray) -> NDArray[np.float64]:
    """Windows as vectors, float64 (N, W D)."""
    return windows_NWD.reshape(len(windows_NWD), -1).astype(np.float64)


def _drawn(first_N: IntArray, most: int, seed: int) -> IntArray:
    if len(first_N) <= most:
        return first_N
    drawn_N: IntArray = np.sort(np.random.default_rng(seed).choice(first_N, most, replace=False))
    return drawn_N
