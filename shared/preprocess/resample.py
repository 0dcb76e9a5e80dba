"""`every` consecutive rows of a recording become one. Blocks begin with the recording; an incomplete last one
is dropped.

A missing reading takes no part; a column without any reading in a block is missing in the joined row.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.preprocess.blocks import row_blocks
from shared.series import BoolArray, FloatArray

Join = Literal["median", "mean", "last"]


def join_rows(
    values_TD: FloatArray, starts: tuple[int, ...], every: int, how: Join
) -> tuple[FloatArray, tuple[int, ...]]:
    """Join rows, recording by recording.

    Args:
        values_TD: float32 (T, D); may hold NaN and infinities.
        starts: rows at which recordings begin.
        every: rows in a block, n.
        how: what a block becomes.

    Returns:
        float32 (about T / n, D), the input itself for `every` = 1, and the starts of the recordings in it.

    Example:
        >>> join_rows(np.float32([[1], [5], [np.nan], [2], [9]]), (0,), 2, "mean")[0].tolist()
        [[3.0], [2.0]]
    """
    if every == 1:
        return values_TD, starts
    pieces = [_joined(values_TD[a:b], every, how) for a, b in _spans(starts, len(values_TD))]
    return np.concatenate(pieces), joined_starts(starts, len(values_TD), every)


def join_labels(labels_T: BoolArray, starts: tuple[int, ...], every: int) -> BoolArray:
    """Labels of joined rows: True where any row of the block is labelled; bool, as long as `join_rows` gives.

    Example:
        >>> join_labels(np.array([0, 1, 0, 0, 1], bool), (0,), 2).tolist()
        [True, False]
    """
    if every == 1:
        return labels_T
    pieces = [
        labels_T[a : b - (b - a) % every].reshape(-1, every).any(axis=1) for a, b in _spans(starts, len(labels_T))
    ]
    return np.concatenate(pieces)


def joined_starts(starts: tuple[int, ...], rows: int, every: int) -> tuple[int, ...]:
    """Where recordings begin after joining. Those shorter than one block are gone.

    Example:
        >>> joined_starts((0, 10, 13), 23, 5)
        (0, 2)
    """
    if every == 1:
        return starts
    found, total = [], 0
    for a, b in _spans(starts, rows):
        if b - a >= every:
            found.append(total)
            total += (b - a) // every
    return tuple(found) or (0,)


def join_blocks(values_BND: FloatArray, how: Join) -> FloatArray:
    """Each block to one row: float32 (B, n, D) -> float32 (B, D). The same bits for one block as for many."""
    if how == "last":
        return _last(values_BND)
    known_BND = np.isfinite(values_BND)
    count_BD = known_BND.sum(axis=1)
    joined_BD = _mean(values_BND, known_BND, count_BD) if how == "mean" else _median(values_BND, known_BND, count_BD)
    return np.where(count_BD > 0, joined_BD, np.nan).astype(np.float32)


def _spans(starts: tuple[int, ...], rows: int) -> list[tuple[int, int]]:
    return list(zip(starts, [*starts[1:], rows], strict=True))


def _joined(values_TD: FloatArray, every: int, how: Join) -> FloatArray:
    count, width = len(values_TD) // every, values_TD.shape[1]
    blocks_BND = values_TD[: count * every].reshape(count, every, width)
    joined_BD = np.empty((count, width), np.float32)
    for some in row_blocks(count, every * width):
        joined_BD[some] = join_blocks(blocks_BND[some], how)
    return joined_BD


def _last(values_BND: FloatArray) -> FloatArray:
    joined_BD = np.full(values_BND.shape[::2], np.nan, np.float32)
    for step in range(values_BND.shape[1]):
        np.copyto(joined_BD, values_BND[:, step], where=np.isfinite(values_BND[:, step]))
    return joined_BD


def _mean(values_BND: FloatArray, known_BND: BoolArray, count_BD: NDArray[Any]) -> NDArray[np.float64]:
    """Summed row by row: NumPy's own sum takes another order for another shape."""
    total_BD = np.zeros(values_BND.shape[::2])
    for step in range(values_BND.shape[1]):
        np.add(total_BD, values_BND[:, step], out=total_BD, where=known_BND[:, step])
    mean_BD: NDArray[np.float64] = total_BD / np.maximum(count_BD, 1)
    return mean_BD


def _median(values_BND: FloatArray, known_BND: BoolArray, count_BD: NDArray[Any]) -> NDArray[np.float64]:
    ordered_BND = np.sort(np.where(known_BND, values_BND, np.float32(np.nan)), axis=1)  # NaN comes last
    middle = [np.maximum(count_BD - 1, 0) // 2, count_BD // 2]
    low_BD, high_BD = (np.take_along_axis(ordered_BND, at[:, None], axis=1)[:, 0] for at in middle)
    median_BD: NDArray[np.float64] = (low_BD.astype(np.float64) + high_BD) * 0.5
    return median_BD
