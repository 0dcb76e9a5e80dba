"""Relations beside a judge: one more channel of a row's final score, with most of the weight.

    s = (1 - w) judge + w (r - median) / spread,   w = 0.9

r: the largest score of relations within the joined row; median and spread are those of unseen normal rows, so r counts
in robust standard deviations, as the judge does. While a recording settles r counts as ordinary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.relations.model import Relations
from shared.scoring import Float64Array
from shared.series import FloatArray

WEIGHT = 0.9
_SHOWN = 0.5  # of the largest ratio: tags below it have no share


class Heard(NamedTuple):
    """What relations say of a joined row: the largest score, NaN for none, and the ratio of each tag then, (D,)."""

    score: float
    part_D: Float64Array


class Beside:
    """Relations live: raw rows in, one answer a joined row. `copy.deepcopy` takes a snapshot."""

    def __init__(self, relations: Relations) -> None:
        self._stream = relations.stream()
        self.restart()

    def restart(self) -> None:
        """The next row begins a recording."""
        self._stream.restart()
        self._newest = self._most = Heard(np.nan, self._stream.part_D)

    def take(self, row_D: NDArray[np.floating]) -> None:
        """Take a raw row.

        Raises:
            SchemaMismatch: another number of values; nothing was taken.
        """
        score = self._stream.step(row_D)
        if score is not None:
            self._newest = Heard(score, self._stream.part_D)
        if not self._most.score >= self._newest.score:
            self._most = self._newest

    def close(self) -> Heard:
        """What the rows since the last joined row said; the next one begins."""
        found, self._most = self._most, Heard(np.nan, self._most.part_D)
        return found


def beside(
    relations: Relations | None, score_M: Float64Array, rows_TD: FloatArray, starts: Sequence[int], every: int
) -> Float64Array:
    """A judge's scores of joined rows with relations beside them; as they are without any.

    Args:
        relations: of the plant.
        score_M: one a joined row.
        rows_TD: (T, D), the raw rows that were joined.
        starts: raw rows at which recordings begin.
        every: raw rows of a joined one.
    """
    if relations is None:
        return score_M
    told_T = relations.scores(np.asarray(rows_TD, np.float32), starts)
    return mixed(relations, score_M, joined(told_T, starts, every))


def joined(score_T: Float64Array, starts: Sequence[int], every: int) -> Float64Array:
    """The largest score within each joined row, NaN for none; as long as `shared.preprocess.join_rows` gives.

    Example:
        >>> joined(np.array([np.nan, 1.0, 3.0, 2.0, 9.0]), (0,), 2).tolist()
        [1.0, 3.0]
    """
    ends = [*starts[1:], len(score_T)]
    pieces = [
        score_T[a : b - (b - a) % every].reshape(-1, every) for a, b in zip(starts, ends, strict=True) if b - a >= every
    ]
    return np.concatenate([np.empty(0), *(np.fmax.reduce(piece_ME, axis=1) for piece_ME in pieces)])


def mixed(relations: Relations, score_M: Float64Array, told_M: Float64Array) -> Float64Array:
    """Both channels as one score; NaN where the judge has none."""
    z_M = np.where(np.isnan(told_M), 0.0, (told_M - relations.median) / relations.spread)
    found_M: Float64Array = (1 - WEIGHT) * score_M + WEIGHT * z_M
    return found_M


def weighed(relations: Relations, heard: Heard, score: float, part_D: NDArray[np.floating]) -> Heard:
    """The score of one joined row, and each tag's part: the judge's, and what relations say above ordinary, shared
    among the tags whose ratio is at least half of the largest.
    """
    z = 0.0 if np.isnan(heard.score) else (heard.score - relations.median) / relations.spread
    told_D = np.where(heard.part_D >= _SHOWN * heard.part_D.max(), heard.part_D, 0.0)
    share_D = told_D / told_D.sum() if told_D.sum() > 0 else np.full(len(told_D), 1 / len(told_D))
    return Heard((1 - WEIGHT) * score + WEIGHT * z, (1 - WEIGHT) * part_D + WEIGHT * max(z, 0.0) * share_D)
