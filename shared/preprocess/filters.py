"""Columns that tell a network nothing, or nothing new. They are muted (0 from then on), never removed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.preprocess.blocks import columns
from shared.series import BoolArray, FloatArray

_SAMPLE = 20_000  # rows that correlations are computed from: +-0.014 at r = 0, far less near 1


def constant_columns(values_TD: FloatArray) -> BoolArray:
    """True where a column never changes, bool (D,)."""
    return np.asarray(values_TD.max(axis=0) == values_TD.min(axis=0))


def muted_columns(trained_TD: FloatArray, min_variance: float | None, max_correlation: float | None) -> tuple[int, ...]:
    """Columns to mute.

    Args:
        trained_TD: float32 (T, D), training rows as the network would see them.
        min_variance: columns are muted whose variance, in units of their squared range, is no more; constant ones too.
        max_correlation: of columns with |r| above it the first stays. Each column is compared with those that stay.
            r is that of at most 20,000 rows, drawn evenly by chance with a fixed seed.

    Returns:
        column numbers, ascending. None as a limit: that filter is off.

    Example:
        >>> rows = np.float32([[0, 0, 7], [1, -2, 7], [5, -10, 7]])
        >>> muted_columns(rows, None, 0.95), muted_columns(rows, 0.0, None)
        ((1,), (2,))
    """
    muted_D = np.zeros(trained_TD.shape[1], np.bool_)
    if min_variance is not None:
        muted_D |= np.asarray([_variance(column_T) <= min_variance for column_T in columns(trained_TD)])
    if max_correlation is not None:
        _mute_repeats(muted_D, _correlations(trained_TD), max_correlation)
    return tuple(np.flatnonzero(muted_D).tolist())


def _variance(values_T: NDArray[np.float64]) -> float:
    reach = np.ptp(values_T)
    return float(np.var(values_T / reach)) if reach > 0 else 0.0


def _correlations(values_TD: FloatArray) -> NDArray[np.float64]:
    """|r| of every two columns, (D, D); 0 with a constant one."""
    rows = len(values_TD)
    if rows > _SAMPLE:
        values_TD = values_TD[np.sort(np.random.default_rng(0).choice(rows, _SAMPLE, replace=False))]
    centred_TD = values_TD - values_TD.mean(axis=0, dtype=np.float64)
    length_D = np.sqrt(np.square(centred_TD).sum(axis=0))
    unit_TD = centred_TD / np.where(length_D > 0, length_D, 1.0)
    return np.asarray(np.abs(unit_TD.T @ unit_TD))


def _mute_repeats(muted_D: BoolArray, related_DD: NDArray[np.float64], limit: float) -> None:
    for d in range(1, len(muted_D)):
        if not muted_D[d]:
            muted_D[d] = bool((related_DD[d, :d][~muted_D[:d]] > limit).any())
