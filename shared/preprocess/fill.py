"""Missing values (NaN or infinite) and what takes their place. Both functions write into the array they are given.

Live data knows no future: a gap takes the last value seen, however long it is. Training data is complete when it is
filled, so a long gap is bridged by a line from the value before it to the value after it. Commands and states are not:
a valve is open or shut. No value crosses from one recording into another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.series import BoolArray, FloatArray

_STATES = 8  # a column of at most so many different values shows states, between which there is nothing

Index = NDArray[np.int64]


def fill_live(values_TD: FloatArray, starts: tuple[int, ...], first_D: Sequence[float] | FloatArray) -> BoolArray:
    """Carry the last value forward, in place.

    Args:
        values_TD: float32 (T, D), written into.
        starts: rows at which recordings begin.
        first_D: what a gap at the start of a recording takes, one number a column.

    Returns:
        bool (T, D), True where a value was missing; do not write into it.

    Example:
        >>> values = np.float32([[np.nan], [2], [np.nan]])
        >>> fill_live(values, (0,), [7]).ravel().tolist(), values.ravel().tolist()
        ([True, False, True], [7.0, 2.0, 2.0])
    """
    missing_TD = _missing(values_TD)
    given_D = np.asarray(first_D, np.float32)
    for d in np.flatnonzero(missing_TD.any(axis=0)):
        gaps = _gaps(missing_TD[:, d], starts)
        values_TD[gaps.at, d] = np.where(gaps.follows, values_TD[gaps.before, d], given_D[d])
    return missing_TD


def fill_training(values_TD: FloatArray, starts: tuple[int, ...], limit: int) -> tuple[BoolArray, int]:
    """Carry the last value over gaps of at most `limit` rows, draw a line over longer ones, in place.

    A gap at the start of a recording takes the value after it; a recording without any value in a column takes the
    column's first one anywhere, else 0. A gap at the end of a recording takes the value before it.

    Args:
        values_TD: float32 (T, D), written into.
        starts: rows at which recordings begin.
        limit: longest gap that is carried over, in rows.

    Returns:
        bool (T, D), True where a value was missing (do not write into it); and how many cells were bridged.

    Example:
        >>> values = np.float32([[2, 1], [np.nan, np.nan], [np.nan, 5], [4, 6]])
        >>> int(fill_training(values, (0,), 5)[0].sum()), values.T.tolist()
        (3, [[2.0, 2.0, 2.0, 4.0], [1.0, 1.0, 5.0, 6.0]])
    """
    missing_TD, bridged = _missing(values_TD), 0
    for d in np.flatnonzero(missing_TD.any(axis=0)):
        values_T, gaps = values_TD[:, d], _gaps(missing_TD[:, d], starts)
        known_T = values_T[~missing_TD[:, d]]
        anything = known_T[0] if len(known_T) else np.float32(0)
        filled_M = np.where(gaps.leads, values_T[gaps.after], anything)
        filled_M = np.where(gaps.follows, values_T[gaps.before], filled_M)
        long_M = gaps.leads & gaps.follows & (gaps.after - gaps.before - 1 > limit)
        if long_M.any() and not _shows_states(known_T):
            filled_M[long_M] = _line(values_T, gaps, long_M)
            bridged += int(long_M.sum())
        values_T[gaps.at] = filled_M
    return missing_TD, bridged


@dataclass(frozen=True)
class _Gaps:
    """The M missing rows of a column: the known rows around each, and whether these are of the same recording.

    Where they are not, `before` and `after` point anywhere.
    """

    at: Index
    before: Index
    after: Index
    follows: BoolArray
    leads: BoolArray


def _gaps(missing_T: BoolArray, starts: tuple[int, ...]) -> _Gaps:
    rows = len(missing_T)
    at_M = np.flatnonzero(missing_T)
    known = np.concatenate([[-1], np.flatnonzero(~missing_T), [rows]])
    place_M = np.searchsorted(known, at_M)
    before_M, after_M = known[place_M - 1], known[place_M]
    bounds = np.asarray([*starts, rows], np.int64)
    recording_M = np.searchsorted(bounds, at_M, side="right") - 1
    return _Gaps(
        at=at_M,
        before=np.maximum(before_M, 0),
        after=np.minimum(after_M, rows - 1),
        follows=before_M >= bounds[recording_M],
        leads=after_M < bounds[recording_M + 1],
    )


def _line(values_T: FloatArray, gaps: _Gaps, where_M: BoolArray) -> NDArray[np.float64]:
    at, before, after = gaps.at[where_M], gaps.before[where_M], gaps.after[where_M]
    low, high = values_T[before].astype(np.float64), values_T[after].astype(np.float64)
    line: NDArray[np.float64] = low + (high - low) * ((at - before) / (after - before))
    return line


def _shows_states(known_T: FloatArray) -> bool:
    return len(np.unique(known_T)) <= _STATES


def _missing(values_TD: FloatArray) -> BoolArray:
    """True where a reading is missing; where none is, one False cell seen T x D times."""
    missing_TD: BoolArray = np.isfinite(values_TD)
    np.logical_not(missing_TD, out=missing_TD)
    return missing_TD if missing_TD.any() else np.broadcast_to(np.False_, values_TD.shape)
