"""Training rows put right before a network sees them: gaps filled from rows alike, and rows like no other left out.

Both look at all training rows at once, so they are for training alone: live rows take the last value seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.series import BoolArray, FloatArray

NEIGHBOURS = 5
_DONORS = 4_096  # rows that gaps are filled from; of more, so many at equal distances
_CHUNK = 256

Double = NDArray[np.float64]


def filled_from_alike(values_TD: FloatArray, neighbours: int = NEIGHBOURS) -> FloatArray:
    """KNN imputation: a missing value takes the mean of the column in the rows nearest to its own (Troyanskaya et al.
    2001, doi 10.1093/bioinformatics/17.6.520).

    Distances are in units of each column's spread, over the columns that both rows have, scaled up to all of them.

    Args:
        values_TD: (T, D), left as it is; NaN and infinite values are missing.
        neighbours: rows that have a value in the column; all of these where there are fewer.

    Returns:
        float32 (T, D); missing still where no other row has a value, or none shares a column with the row.

    Example:
        >>> rows = np.float32([[0, 0], [0.1, 1], [9, 30], [9.1, np.nan]])
        >>> filled_from_alike(rows, neighbours=1)[3].tolist()
        [9.100000381469727, 30.0]
    """
    filled_TD = np.array(values_TD, np.float32)
    filled_TD[~np.isfinite(filled_TD)] = np.nan
    gaps_R = np.flatnonzero(np.isnan(filled_TD).any(axis=1))
    donors_MD = filled_TD[:: 1 + (len(filled_TD) - 1) // _DONORS].copy()
    unit_TD, unit_MD = _in_units(filled_TD[gaps_R], donors_MD), _in_units(donors_MD, donors_MD)
    for first in range(0, len(gaps_R), _CHUNK):
        rows_R = gaps_R[first : first + _CHUNK]
        apart_RM = _distances(unit_TD[first : first + _CHUNK], unit_MD)
        for row, apart_M in zip(rows_R, apart_RM, strict=True):
            _fill(filled_TD[row], donors_MD, apart_M, neighbours)
    return filled_TD


def _in_units(values_TD: FloatArray, of_MD: FloatArray) -> Double:
    """Relative to each column's mean and spread in `of_MD`; columns without any or of one value count nothing."""
    known_MD = np.isfinite(of_MD)
    count_D = np.maximum(known_MD.sum(axis=0), 1)
    exact_MD = np.where(known_MD, of_MD, 0.0).astype(np.float64)
    mean_D = exact_MD.sum(axis=0) / count_D
    spread_D = np.sqrt((np.where(known_MD, exact_MD - mean_D, 0.0) ** 2).sum(axis=0) / count_D)
    return np.asarray((values_TD - mean_D) / np.where(spread_D > 0, spread_D, np.inf), np.float64)


def _distances(rows_RD: Double, donors_MD: Double) -> Double:
    """Mean square over the columns that both have, (R, M); infinite where they share none."""
    have_RD, have_MD = np.isfinite(rows_RD), np.isfinite(donors_MD)
    rows, donors = np.where(have_RD, rows_RD, 0.0), np.where(have_MD, donors_MD, 0.0)
    shared_RM = have_RD.astype(np.float64) @ have_MD.T.astype(np.float64)
    square_RM = rows**2 @ have_MD.T + have_RD @ (donors**2).T - 2.0 * rows @ donors.T
    return np.where(shared_RM > 0, np.maximum(square_RM, 0.0) / np.maximum(shared_RM, 1.0), np.inf)


def _fill(row_D: FloatArray, donors_MD: FloatArray, apart_M: Double, neighbours: int) -> None:
    """Fill one row in place."""
    nearest_M = np.argsort(apart_M, kind="stable")
    nearest_M = nearest_M[np.isfinite(apart_M[nearest_M])]
    for column in np.flatnonzero(np.isnan(row_D)):
        found_M = donors_MD[nearest_M, column]
        found_K = found_M[np.isfinite(found_M)][:neighbours]
        if len(found_K):
            row_D[column] = found_K.mean(dtype=np.float64)


def unusual_rows(values_TD: FloatArray, limit: float) -> BoolArray:
    """The z-score filter: rows further out than `limit` standard deviations above the usual distance from the middle.

    z_t = (d_t - mean d) / sd d,  d_t the root mean square of row t in units of each column's spread. By row and not by
    reading: of 590 tags some are always beyond three deviations.

    Args:
        values_TD: (T, D), in any units; missing values count nothing.
        limit: of z.

    Returns:
        bool (T,).

    Example:
        >>> unusual_rows(np.float32([[1], [-1], [1], [-1], [1], [-1], [1], [-1], [1], [9]]), 2.0).nonzero()[0].tolist()
        [9]
    """
    unit_TD = np.nan_to_num(_in_units(values_TD, values_TD), posinf=0.0, neginf=0.0)
    distance_T = np.sqrt(np.square(unit_TD).mean(axis=1))
    spread = distance_T.std()
    found_T: BoolArray = (distance_T - distance_T.mean() > limit * spread) & (spread > 0)
    return found_T
