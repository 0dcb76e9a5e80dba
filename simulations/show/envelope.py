"""From many rows to few pixels without losing a spike: each pixel spans the smallest and the largest reading in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.metrics.events import spans
from shared.series import BoolArray, FloatArray, SiteData
from simulations.show.choose import Stretch

WIDTH, HEIGHT = 900, 500
"""Units of a drawing; the page stretches it."""

_LEAST_SHARE = 0.15  # of the width, for the shorter of two parts


@dataclass(frozen=True)
class Axis:
    """How drawn rows become pixels.

    Attributes:
        stretches: what is drawn, from left to right.
        pixels: first pixel of each stretch, and `WIDTH` at the end.
    """

    stretches: tuple[Stretch, ...]
    pixels: tuple[int, ...]

    def edges(self, at: int, most: int) -> NDArray[np.int64]:
        """Row edges of a stretch's buckets, int (B + 1,), rising from 0 to its number of rows."""
        wide = self.pixels[at + 1] - self.pixels[at]
        count = max(1, min(self.stretches[at].rows, wide * most // WIDTH))
        return np.unique(np.linspace(0, self.stretches[at].rows, count + 1).astype(np.int64))

    def x(self, at: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Pixels of rows of a stretch."""
        left, right = self.pixels[at], self.pixels[at + 1]
        return left + np.round(rows * ((right - left) / self.stretches[at].rows)).astype(np.int64)


def axis(drawn: tuple[Stretch, ...]) -> Axis:
    """Share the width among the stretches by their rows, none below a least share."""
    weights = np.array([stretch.rows for stretch in drawn], dtype=np.float64)
    shares = np.maximum(weights / weights.sum(), _LEAST_SHARE)
    ends = np.round(np.cumsum(shares / shares.sum()) * WIDTH).astype(int).tolist()
    return Axis(drawn, (0, *ends))


@dataclass(frozen=True)
class Curve:
    """One tag, drawn.

    Attributes:
        path: the `d` of an SVG path; digits, letters and signs only.
        low, high: smallest and largest finite reading; NaN when there is none.
        missing: rows without one.
    """

    path: str
    low: float
    high: float
    missing: int

    @property
    def empty(self) -> bool:
        """No reading at all."""
        return bool(np.isnan(self.low))

    @property
    def constant(self) -> bool:
        """One value in all rows."""
        return self.low == self.high


def curve(site: SiteData, column: int, along: Axis, most: int) -> Curve:
    """Draw a column; `most` is the number of buckets over the whole width."""
    lows, highs, pixels, missing = [], [], [], 0
    for at, stretch in enumerate(along.stretches):
        values_T = _finite(site, stretch, column)
        missing += int(np.isnan(values_T).sum())
        edges_B = along.edges(at, most)
        lows.append(np.fmin.reduceat(values_T, edges_B[:-1]))
        highs.append(np.fmax.reduceat(values_T, edges_B[:-1]))
        pixels.append(along.x(at, edges_B[:-1]))
    low, high = float(np.fmin.reduce(np.concatenate(lows))), float(np.fmax.reduce(np.concatenate(highs)))
    if np.isnan(low):
        return Curve("", low, high, missing)
    pieces = zip(pixels, lows, highs, strict=True)
    path = "" if low == high else "".join(_path(x_B, low_B, high_B, low, high) for x_B, low_B, high_B in pieces)
    return Curve(path, low, high, missing)


def _finite(site: SiteData, stretch: Stretch, column: int) -> FloatArray:
    values_TD = site.train_TD if stretch.part == "train" else site.test_TD
    values_T = np.array(values_TD[stretch.first : stretch.end, column], dtype=np.float32)
    values_T[~np.isfinite(values_T)] = np.nan
    return values_T


def _path(x_B: NDArray[np.int64], low_B: FloatArray, high_B: FloatArray, low: float, high: float) -> str:
    """A line from pixel to pixel that covers each one's range; it is broken where readings are missing."""
    scale = HEIGHT / (high - low) if np.isfinite(high - low) else 0.0
    known_B = ~np.isnan(low_B)
    tops = HEIGHT - np.round((np.where(known_B, high_B, low).astype(np.float64) - low) * scale).astype(np.int64)
    feet = HEIGHT - np.round((np.where(known_B, low_B, low).astype(np.float64) - low) * scale).astype(np.int64)
    steps, pen_up = [], True
    for x, top, foot, known in zip(x_B.tolist(), tops.tolist(), feet.tolist(), known_B.tolist(), strict=True):
        if known:
            steps.append(f"{'M' if pen_up else 'L'}{x} {foot}" + (f"V{top}" if top != foot else "h1" if pen_up else ""))
        pen_up = not known
    return "".join(steps)


def shades(site: SiteData, along: Axis) -> tuple[tuple[int, int], ...]:
    """Pixels `[left, right)` in which a row is labelled anomalous, each at least one wide."""
    found: list[tuple[int, int]] = []
    for at, stretch in enumerate(along.stretches):
        if stretch.part == "test" and site.labels_T is not None:
            edges_B = along.edges(at, WIDTH)
            marked_B: BoolArray = np.logical_or.reduceat(site.labels_T[stretch.first : stretch.end], edges_B[:-1])
            found += [
                (int(along.x(at, edges_B[a : a + 1])[0]), int(along.x(at, edges_B[b : b + 1])[0]))
                for a, b in spans(marked_B)
            ]
    return tuple((left, max(right, left + 1)) for left, right in found)


def borders(site: SiteData, along: Axis) -> tuple[int, ...]:
    """Pixels at which recordings begin within a part, each once."""
    found: list[int] = []
    for at, stretch in enumerate(along.stretches):
        starts: Sequence[int] = site.train_starts if stretch.part == "train" else site.test_starts
        inside = np.array([s - stretch.first for s in starts if stretch.first < s < stretch.end], dtype=np.int64)
        found += along.x(at, inside).tolist()
    return tuple(sorted(set(found)))
