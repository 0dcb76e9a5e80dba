"""Stretches of time that `by_mode` hands out whole, and what each of them looks like."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared.metrics.events import spans
from shared.series import BoolArray, FloatArray
from simulations.partition.pieces import Span

Double = NDArray[np.float64]

_SAMPLE = 50_000
_FARTHEST = 10.0
"""Standardised values are bounded: one wild reading must not be a mode of its own."""


def cut_segments(rows: int, starts: Sequence[int], length: int, labels_T: BoolArray | None = None) -> list[Span]:
    """Cut every recording into equal stretches of at least `length` rows, never inside a labelled event.

    A recording shorter than that is one stretch. A cut that would fall into an event moves to its end.

    Args:
        rows: T.
        starts: rows at which recordings begin.
        length: rows.
        labels_T: bool (T,) or None.

    Example:
        >>> cut_segments(10, (0, 7), 3)
        [(0, 3), (3, 7), (7, 10)]
        >>> cut_segments(10, (0, 7), 3, np.arange(10) // 2 == 1)
        [(0, 4), (4, 7), (7, 10)]
    """
    found: list[Span] = []
    for first, end in zip(starts, [*starts[1:], rows], strict=True):
        parts = max(1, (end - first) // length)
        cuts = {first + (end - first) * at // parts for at in range(1, parts)}
        if labels_T is not None:
            cuts = {_after_event(at, labels_T, first, end) for at in cuts}
        bounds = [first, *sorted(cuts - {first, end}), end]
        found += [(a, b) for a, b in pairwise(bounds) if a < b]
    return found


def _after_event(at: int, labels_T: BoolArray, first: int, end: int) -> int:
    if not (labels_T[at - 1] and labels_T[at]):
        return at
    return at + next(b for a, b in spans(labels_T[at:end]) if a == 0)


def describe(values_TD: FloatArray, segments: Sequence[Span], center_D: Double, spread_D: Double) -> Double:
    """Mean and standard deviation of each standardised tag in each segment, float64 (N, 2 D); 0 where unknown."""
    rows = [_moments(_standard(values_TD[a:b], center_D, spread_D)) for a, b in segments]
    return np.array([np.concatenate(pair) for pair in rows]).reshape(len(segments), 2 * len(center_D))


def scale_of(values_TD: FloatArray) -> tuple[Double, Double]:
    """Mean and standard deviation of each tag, (D,), over evenly spread rows; 1 instead of a deviation of 0."""
    rows = np.linspace(0, len(values_TD) - 1, min(len(values_TD), _SAMPLE)).astype(np.int64)
    center_D, spread_D = _moments(values_TD[rows].astype(np.float64))
    return center_D, np.where(spread_D > 0, spread_D, 1.0)


def _standard(values_TD: FloatArray, center_D: Double, spread_D: Double) -> Double:
    scaled_TD = (values_TD.astype(np.float64) - center_D) / spread_D
    clipped_TD: Double = np.clip(scaled_TD, -_FARTHEST, _FARTHEST)
    return np.where(np.isfinite(values_TD), clipped_TD, np.nan)


def _moments(values_TD: Double) -> tuple[Double, Double]:
    known_TD = np.isfinite(values_TD)
    count_D = np.maximum(known_TD.sum(axis=0), 1)
    center_D = np.where(known_TD, values_TD, 0.0).sum(axis=0) / count_D
    apart_TD = np.where(known_TD, values_TD - center_D, 0.0)
    return center_D, np.sqrt((apart_TD**2).sum(axis=0) / count_D)
