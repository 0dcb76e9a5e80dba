"""The courses that each tag has taken before: how far the newest rows of a tag are from the nearest of them.

    d_w(t) = min over prototypes c of || x_{t-w+1..t} - c_{W-w+1..W} || / sqrt(w)

A tag's prototypes are windows of W of its own normal rows, picked so that no window is far from all of them (k-centre,
Gonzalez 1985, "Clustering to minimize the maximum intercluster distance", Theor. Comput. Sci. 38). It is the AB-join of
a matrix profile (Yeh et al. 2016, "Matrix Profile I", ICDM) against a thinned reference, without its normalisation,
which would hide a changed level. Tags that never moved have one prototype, the level they stood at. Lean: an edge box
imports this. Shapes: N windows, H >= W rows of history, D tags, A analogue and S still ones, K prototypes, L lengths w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.lag.sums import Values
from shared.scoring import Float64Array
from shared.series import FloatArray
from shared.windows import window_view

MOST_WINDOWS = 10_000  # of a tag, that prototypes are picked from
_BLOCK = 2**18  # distances that are laid out in memory at once: 2 MB


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Prototypes of every tag that is not coded.

    Attributes:
        columns_A: int64 (A,), analogue tags.
        prototypes_AKW: float32 (A, K, W), oldest row first, read-only; a tag with fewer repeats its first.
        still_S: int64 (S,), tags that never moved.
        level_S: float64 (S,), where they stood.
        lengths: w, ascending; the last is W.

    Example:
        >>> saw_T1 = np.tile(np.arange(8.0), 6)[:, None]
        >>> model = fit_shape(saw_T1, (0,), np.array([True]), np.array([False]), lengths=(4,), count=16)
        >>> model.distances(np.array([[[0.0], [1.0], [2.0], [3.0]], [[0.0], [1.0], [2.0], [1.0]]])).ravel().tolist()
        [0.0, 1.0]
    """

    columns_A: np.ndarray
    prototypes_AKW: FloatArray
    still_S: np.ndarray
    level_S: Float64Array
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        """Lay the prototypes out with the courses of a tag side by side, once: sums run over rows."""
        turned_AWK = np.ascontiguousarray(self.prototypes_AKW.transpose(0, 2, 1))
        turned_AWK.setflags(write=False)
        object.__setattr__(self, "prototypes_AKW", turned_AWK.transpose(0, 2, 1))

    @property
    def rows(self) -> int:
        """Rows that are looked at, W."""
        return self.lengths[-1]

    def distances(self, windows_NHD: Values) -> Float64Array:
        """Distance of every tag's newest rows from the nearest course, root mean square, float64 (N, L, A + S).

        Args:
            windows_NHD: (N, H, D), prepared, finite, H >= W.
        """
        newest_NWD = windows_NHD[:, -self.rows :]
        course_ANW = np.ascontiguousarray(newest_NWD[:, :, self.columns_A].transpose(2, 0, 1), dtype=np.float64)
        off_NSW = np.square(newest_NWD[:, :, self.still_S] - self.level_S).transpose(0, 2, 1)
        square_NLX = np.empty((len(newest_NWD), len(self.lengths), len(self.columns_A) + len(self.still_S)))
        together = max(1, _BLOCK // max(1, len(newest_NWD) * self.prototypes_AKW.shape[1]))
        for first in range(0, len(course_ANW), together):
            some = slice(first, first + together)
            square_NLX[:, :, : len(course_ANW)][:, :, some] = self._nearest(course_ANW[some], some)
        for index, w in enumerate(self.lengths):
            square_NLX[:, index, len(course_ANW) :] = off_NSW[:, :, -w:].mean(axis=2)
        return np.sqrt(square_NLX)

    def _nearest(self, course_aNW: Float64Array, some: slice) -> Float64Array:
        """Mean square distance to the nearest prototype of some tags, float64 (N, L, a).

        Which one is the nearest follows from products of matrices; how near it is from differences, which do not
        cancel: so a row scores alike, by itself and among others.
        """
        courses_aKW = np.ascontiguousarray(self.prototypes_AKW[some])
        least_aNK = np.zeros((*course_aNW.shape[:2], courses_aKW.shape[1]))
        tags_a1, found, before = np.arange(len(courses_aKW))[:, None], [], 0
        one_aN1 = np.ones((*course_aNW.shape[:2], 1))
        for w in self.lengths:
            rows = slice(self.rows - w, self.rows - before)  # those that this length adds to the one before
            least_aNK += np.concatenate([course_aNW[:, :, rows], one_aN1], axis=2) @ _turned(courses_aKW[:, :, rows])
            nearest_aNw = courses_aKW[tags_a1, least_aNK.argmin(axis=2), -w:]
            found.append(np.square(course_aNW[:, :, -w:] - nearest_aNw).mean(axis=2))
            before = w
        return np.stack(found).transpose(2, 0, 1)


def _turned(piece_aKw: FloatArray) -> Float64Array:
    """-2 c above |c|^2, float64 (a, w + 1, K)."""
    exact_aKw = piece_aKw.astype(np.float64)
    square_aK1 = np.square(exact_aKw).sum(axis=2, keepdims=True)
    both_aKv = np.concatenate([-2.0 * exact_aKw, square_aK1], axis=2)
    return np.ascontiguousarray(both_aKv.transpose(0, 2, 1))


def fit_shape(
    rows_TD: Values,
    starts: Sequence[int],
    analogue_D: np.ndarray,
    still_D: np.ndarray,
    lengths: Sequence[int],
    count: int,
) -> ShapeModel:
    """Pick prototypes of every analogue tag.

    Args:
        rows_TD: (T, D), prepared, finite.
        starts: rows at which recordings begin.
        analogue_D, still_D: which tags (`shared.evidence.kinds`).
        lengths: w, ascending; a recording shorter than the last is filled up with its first row.
        count: prototypes of a tag at most, K.
    """
    windows_MWD = _courses(rows_TD, starts, lengths[-1])
    columns_A, still_S = np.flatnonzero(analogue_D), np.flatnonzero(still_D)
    picked = [_spread_out(np.ascontiguousarray(windows_MWD[:, :, column]), count) for column in columns_A]
    most = max((len(found) for found in picked), default=1)
    padded = [np.concatenate([found, np.repeat(found[:1], most - len(found), axis=0)]) for found in picked]
    prototypes_AKW = np.stack(padded) if padded else np.zeros((0, most, lengths[-1]), np.float32)
    level_S = np.asarray(rows_TD[0, still_S], np.float64)
    return ShapeModel(columns_A, np.ascontiguousarray(prototypes_AKW, np.float32), still_S, level_S, tuple(lengths))


def _courses(rows_TD: Values, starts: Sequence[int], width: int) -> FloatArray:
    """Windows of all recordings, evenly thinned, float32 (M, W, D)."""
    step = max(1, len(rows_TD) // MOST_WINDOWS)
    parts = []
    for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
        piece_TD = np.asarray(rows_TD[begin:end], np.float32)
        missing = max(0, width - len(piece_TD))
        filled_TD = np.concatenate([np.repeat(piece_TD[:1], missing, axis=0), piece_TD])
        parts.append(window_view(filled_TD, width)[::step])
    return np.concatenate(parts)


def _spread_out(windows_MW: FloatArray, count: int) -> FloatArray:
    """Farthest-point picking: each next prototype is the window farthest from those before."""
    squares_M = np.square(windows_MW).sum(axis=1)
    chosen, least_M, newest = [], np.full(len(windows_MW), np.inf, np.float32), 0
    for _ in range(count):
        chosen.append(newest)
        least_M = np.minimum(least_M, squares_M + squares_M[newest] - 2 * (windows_MW @ windows_MW[newest]))
        newest = int(least_M.argmax())
        if least_M[newest] <= 1e-6 * max(1.0, float(squares_M[newest])):  # Rounding: the rest repeats what there is.
            break
    return windows_MW[chosen]
