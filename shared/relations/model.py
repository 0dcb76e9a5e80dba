"""Relations by operating mode: what a tag does, given where the valves and pumps stand and have stood, as one score.

    r_t = Y_t - X_t W,   z_t = r_t / scale(F_t)                 relations and their usual breadth, by mode
    v   = e, m6, m18, v6 of z; match, run of raw values         what each continuous tag says
    s_t = ln max( max_{v, tag} v_t / q_v(tag, phase),  max_tag b_t )

q is the largest value that unseen normal operation showed (`fitting`), b the suspicion about each controller
(`hazards`). 0 is therefore as extreme as normal operation ever was. The largest ratio of many streams is Tippett's
(1931) way to combine evidence: one broken relation is enough. Lean: an edge box imports this; NumPy only. Shapes: T
rows, n blocks, D tags, C continuous, J switching, O = 2 C outputs, Q streams, P columns of X.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import SchemaMismatch
from shared.relations import repeats, streams
from shared.relations.blocks import Frame, Walk
from shared.relations.hazards import Beliefs, Hazards
from shared.relations.scale import ModeScale
from shared.scoring import Float64Array
from shared.series import BoolArray, FloatArray
from shared.windows import IntArray

NAMES = (*streams.NAMES, *repeats.NAMES)
LEAST = (*streams.LEAST, *repeats.LEAST)
SETTLED = 30
"""Blocks of a recording before the first score: traces and means must fill."""
_MOST_OF_E = 5.0  # an impulse at an attack's end must not outrank the attack
_QUIET = 1e-3
_CHUNK = 512  # blocks


@dataclass(frozen=True, eq=False)
class Relations:
    """A fitted model, as a value.

    Attributes:
        frame: how rows become blocks.
        weights_PO: of the relations.
        scale: of their residuals.
        tight_C: tags whose level counts.
        home_CH: values at home, NaN-padded.
        past: changes of value that are remembered.
        limits_PQC: q of each phase, stream and tag, positive.
        hazards: of the switching tags.
        cut_J: their largest unseen surprise, and a margin.
        patience: blocks.
        median, spread: of the scores of unseen normal rows, robust; spread is positive.
    """

    frame: Frame
    weights_PO: Float64Array
    scale: ModeScale
    tight_C: BoolArray
    home_CH: Float64Array
    past: int
    limits_PQC: Float64Array
    hazards: Hazards
    cut_J: Float64Array
    patience: int
    median: float = 0.0
    spread: float = 1.0

    def scores(self, rows_TD: FloatArray, starts: Sequence[int] = (0,)) -> Float64Array:
        """The score of each raw row: that of the newest finished block.

        Args:
            rows_TD: (T, D), raw; what is not a finite number takes the last reading.
            starts: rows at which recordings begin.

        Returns:
            float64 (T,), NaN in the first 30 blocks of a recording.

        Raises:
            SchemaMismatch: another number of tags.
        """
        if rows_TD.ndim != 2 or rows_TD.shape[1] != self.frame.dim:
            raise SchemaMismatch(f"rows of shape {rows_TD.shape} came, relations of {self.frame.dim} tags.")
        scores_T = np.full(len(rows_TD), np.nan)
        for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
            scores_T[begin:end] = held(self._scored(rows_TD[begin:end]), self.frame.block, end - begin)
        return scores_T

    def _scored(self, rows_TD: FloatArray) -> Float64Array:
        """The scores of one recording's blocks."""
        course = Course(self)
        found = [course.take(rows_nBD).score_n for rows_nBD in chunks(rows_TD, self.frame.block)]
        return np.concatenate([np.empty(0), *found])

    def stream(self) -> RelationStream:
        """The same, row by row, from the beginning of a recording."""
        return RelationStream(self)


class Told(NamedTuple):
    """What blocks say: their scores, NaN while the recording settles, and the ratio of each tag, (n, D)."""

    score_n: Float64Array
    part_nD: Float64Array


class Course:
    """Relations over one recording, a chunk of blocks at a time."""

    def __init__(self, relations: Relations) -> None:
        self._relations, self._done = relations, 0
        self._walk = Walk(relations.frame)
        self._trails = streams.Trails(relations.tight_C)
        self._repeats = repeats.Repeats(relations.home_CH, relations.past)
        self._beliefs = Beliefs(relations.cut_J, relations.patience)

    def take(self, rows_nBD: NDArray[np.floating]) -> Told:
        """Blocks of raw rows, at least one."""
        relations = self._relations
        blocks = self._walk.take(rows_nBD)
        z_nO = (blocks.target_nO - blocks.x_nP @ relations.weights_PO) / relations.scale(blocks.history_nF)
        unsettled_n = self._done + np.arange(len(z_nO)) < SETTLED
        z_nO[unsettled_n] = 0.0
        self._done += len(z_nO)
        values_nQC = np.concatenate([self._trails.take(z_nO), self._repeats.take(blocks.rows_nBC)], axis=1)
        belief_nJ = self._beliefs.take(blocks.stable_nJ, relations.hazards.surprises(blocks.control_nK))
        ratio_nC = ratios(values_nQC, relations.limits_PQC, blocks.phase_n)
        score_n = combined(ratio_nC, belief_nJ)
        return Told(np.where(unsettled_n, np.nan, score_n), self._parts(ratio_nC, belief_nJ))

    def _parts(self, ratio_nC: Float64Array, belief_nJ: Float64Array) -> Float64Array:
        kinds = self._relations.frame.kinds
        part_nD = np.zeros((len(ratio_nC), self._relations.frame.dim))
        part_nD[:, kinds.continuous_C] = ratio_nC
        part_nD[:, kinds.coded_S[kinds.switching_J]] = belief_nJ
        return part_nD


class RelationStream:
    """Relations applied row by row: `copy.deepcopy` takes a snapshot that goes on by itself.

    Attributes:
        part_D: ratio of each tag in the newest block, float64 (D,): above 1 is more than normal operation ever showed.
    """

    def __init__(self, relations: Relations) -> None:
        self._relations = relations
        self._block_BD = np.zeros((relations.frame.block, relations.frame.dim), np.float32)
        self.restart()

    def restart(self) -> None:
        """Forget everything: the next row begins a recording."""
        self._course, self._at = Course(self._relations), 0
        self.part_D: Float64Array = np.zeros(self._relations.frame.dim)

    def step(self, row_D: NDArray[np.floating]) -> float | None:
        """Take a raw row.

        Returns:
            the score of the block that ends with it; None within a block, and while the recording settles.

        Raises:
            SchemaMismatch: another number of values; nothing was taken.
        """
        if np.shape(row_D) != (self._relations.frame.dim,):
            raise SchemaMismatch(
                f"a row of shape {np.shape(row_D)} came, relations of {self._relations.frame.dim} tags."
            )
        with np.errstate(over="ignore"):  # What no float32 holds is infinite, and so missing.
            self._block_BD[self._at] = row_D
        self._at = (self._at + 1) % len(self._block_BD)
        if self._at:
            return None
        told = self._course.take(self._block_BD[None])
        self.part_D, score = told.part_nD[0], float(told.score_n[0])
        return None if np.isnan(score) else score


def chunks(rows_TD: NDArray[np.floating], block: int, size: int = _CHUNK) -> Iterator[NDArray[np.floating]]:
    """One recording's whole blocks, (n, B, D), some at a time."""
    whole = len(rows_TD) // block
    blocks_nBD = rows_TD[: whole * block].reshape(whole, block, rows_TD.shape[1])
    for first in range(0, whole, size):
        yield blocks_nBD[first : first + size]


def ratios(values_nQC: Float64Array, limits_PQC: Float64Array, phase_n: IntArray) -> Float64Array:
    """The largest ratio of each continuous tag's streams to their limits, float64 (n, C)."""
    ratio_nQC = values_nQC / limits_PQC[phase_n]
    ratio_nQC[:, 0] = np.minimum(ratio_nQC[:, 0], _MOST_OF_E)
    most_nC: Float64Array = ratio_nQC.max(axis=1)
    return most_nC


def combined(ratio_nC: Float64Array, belief_nJ: Float64Array) -> Float64Array:
    """The logarithm of the largest of all ratios, float64 (n,)."""
    score_n: Float64Array = np.log(np.hstack([ratio_nC, belief_nJ]).max(axis=1, initial=_QUIET))
    return score_n


def held(score_n: Float64Array, block: int, rows: int) -> Float64Array:
    """Scores of blocks as scores of rows: each from its block's last row until the next one's; NaN before the first.

    Example:
        >>> held(np.array([1.0, 2.0]), 2, 5).tolist()
        [nan, 1.0, 1.0, 2.0, 2.0]
    """
    scores_T = np.full(rows, np.nan)
    later_T = np.repeat(score_n, block)[: rows - block + 1] if rows >= block else np.empty(0)
    scores_T[block - 1 : block - 1 + len(later_T)] = later_T
    return scores_T
