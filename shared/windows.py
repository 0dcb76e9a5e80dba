"""Sliding windows over a series, as views: nothing of shape N x W x D is ever materialised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shared.series import FloatArray

IntArray = NDArray[np.int64]


def window_starts(rows: int, window: int, stride: int, recordings: Sequence[int] = (0,)) -> IntArray:
    """First row of every window that lies inside one recording.

    Args:
        rows: length of the series, T.
        window: window length W, in samples.
        stride: step between windows, in samples.
        recordings: row indices at which recordings begin (ascending, the first is 0).

    Returns:
        int64 (N,), ascending.

    Example:
        >>> window_starts(7, 3, 2).tolist()
        [0, 2, 4]
        >>> window_starts(7, 3, 1, recordings=(0, 4)).tolist()
        [0, 1, 4]
    """
    ends = [*recordings[1:], rows]
    pieces = [np.arange(a, b - window + 1, stride, dtype=np.int64) for a, b in zip(recordings, ends, strict=True)]
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)


def window_view(series_TD: FloatArray, window: int) -> FloatArray:
    """All windows of a series as a read-only view, float32 (T - W + 1, W, D). Index it with `window_starts`."""
    return sliding_window_view(series_TD, window, axis=0).transpose(0, 2, 1)


def segment_of(starts_N: IntArray, unit: int, recordings: Sequence[int] = (0,)) -> IntArray:
    """Which disjoint segment of `unit` samples each window starts in.

    Segments are counted from the beginning of each recording and numbered 0..S-1 without gaps. A segment is the record
    of differential privacy (docs/privacy.md): each window belongs to exactly one.

    Returns:
        int64 (N,).

    Example:
        >>> segment_of(window_starts(8, 2, 1), unit=3).tolist()
        [0, 0, 0, 1, 1, 1, 2]
    """
    bounds = np.asarray(recordings, dtype=np.int64)
    recording_N = np.searchsorted(bounds, starts_N, side="right") - 1
    block_N = (starts_N - bounds[recording_N]) // unit
    _, ids_N = np.unique(np.stack([recording_N, block_N], axis=1), axis=0, return_inverse=True)
    return ids_N.reshape(-1).astype(np.int64)
