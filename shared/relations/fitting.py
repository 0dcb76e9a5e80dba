"""Fitting relations to a plant's own raw normal rows, at its agent; never on the edge box.

Limits and cuts come from blocks that the relations, scales and hazards had not seen: normal rows are cut into four
consecutive parts, and each is looked at by what was fitted on the other three (cross-fitting, Stone 1974, J. R. Stat.
Soc. B 36). The scores that come back are one step more honest: their limits are of the other parts, too. No label
enters anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from shared.relations import repeats, streams
from shared.relations.blocks import Blocks, Frame, Walk, last_known
from shared.relations.grow import grow_hazards, grow_scale
from shared.relations.hazards import LEAST_SURPRISE, Beliefs, Hazards
from shared.relations.kinds import Kinds, kinds_of, switches
from shared.relations.model import LEAST, Relations, chunks, combined, held, ratios
from shared.relations.ridge import ridge
from shared.scoring import Float64Array
from shared.series import BoolArray, FloatArray
from shared.windows import IntArray

LEAST_BLOCKS = 10_000
LEAST_SWITCHES = 20
_PARTS = 4
_BLOCK_S, _MOST_ROWS = 10.0, 100
_MOST_BLOCKS = 60_000  # the newest ones: a week at a row a second
_SETTLED = 60  # blocks of a recording that are not learnt from
_PAST_S, _MOST_PAST = 6 * 3600.0, 21_600
_PATIENCE_S = 2400.0
_MARGIN = 0.5  # on the largest surprise
_FEWEST_IN_PHASE = 50
_PHASES = 3
_HOME = 0.02  # share of rows
_TIGHT_R2, _TIGHT_RATIO = 0.9, 20.0
_HIGH, _BELL_HIGH, _LEAST_SPREAD = 0.99, 2.33, 0.25
_TINY = 1e-12
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Fitted:
    """Relations, and what they say of the rows they rest on.

    Attributes:
        relations: fitted on all rows.
        scores_T: float64 (T,), of raw rows by relations and limits that had not seen them; NaN where there is none.
    """

    relations: Relations
    scores_T: Float64Array


@dataclass(frozen=True)
class Unfit:
    """Why a plant has no relations, in words."""

    reason: str


class _Normal(NamedTuple):
    """All blocks of normal rows: the repeats, the part and the recording of each, and whether it is learnt from."""

    blocks: Blocks
    repeats_n2C: Float64Array
    part_n: IntArray
    recording_n: IntArray
    settled_n: BoolArray

    @property
    def follows_n(self) -> BoolArray:
        """Settled blocks whose next one is of the same recording and part."""
        same_m = (np.diff(self.recording_n) == 0) & (np.diff(self.part_n) == 0)
        follows_n: BoolArray = self.settled_n & np.append(same_m, False)
        return follows_n

    def runs(self, wanted_n: BoolArray) -> list[slice]:
        """Each recording's wanted blocks, which are consecutive."""
        found = [np.flatnonzero(wanted_n & (self.recording_n == one)) for one in np.unique(self.recording_n[wanted_n])]
        return [slice(int(n[0]), int(n[-1]) + 1) for n in found]


class _Unseen(NamedTuple):
    """What was found of blocks by what had not seen them: residuals, those by mode, and each part's hazards."""

    residual_nO: Float64Array
    z_nO: Float64Array
    hazards: list[Hazards]


def fit(rows_TD: FloatArray, starts: Sequence[int] = (0,), period_s: float = 1.0) -> Fitted | Unfit:
    """Fit relations to normal rows.

    Args:
        rows_TD: float32 (T, D), raw, normal operation; may hold NaN.
        starts: rows at which recordings begin; nothing is looked at across them.
        period_s: seconds from row to row.
    """
    block = min(max(1, round(_BLOCK_S / period_s)), _MOST_ROWS)
    if len(rows_TD) // block < LEAST_BLOCKS:
        return Unfit(f"{len(rows_TD)} rows are fewer than {LEAST_BLOCKS} blocks of {block}")
    newest = max(0, len(rows_TD) - _MOST_BLOCKS * block)
    starts = (0, *(start - newest for start in starts if start > newest))
    filled_TD, middle_D = _filled(np.asarray(rows_TD[newest:], np.float32), starts)
    kinds = kinds_of(filled_TD, 2 * block)
    most = int(switches(filled_TD, kinds).max(initial=0))
    if most < LEAST_SWITCHES or not len(kinds.continuous_C):
        return Unfit(f"no coded tag switches {LEAST_SWITCHES} times (the busiest: {most}) beside a continuous one")
    frame, home_CH = _frame(filled_TD, middle_D, kinds, block), _home(filled_TD[:, kinds.continuous_C])
    past = min(max(100, round(_PAST_S / period_s)), _MOST_PAST)
    normal = _laid(filled_TD, starts, frame, home_CH, past)
    if int(normal.settled_n.sum()) < LEAST_BLOCKS // 2:
        return Unfit("most recordings are shorter than ten minutes")
    patience = max(1, round(_PATIENCE_S / (period_s * block)))
    relations, score_n = _learnt(normal, frame, home_CH, past, patience)
    ends = [*starts[1:], len(filled_TD)]
    told = [
        held(score_n[normal.recording_n == i], block, b - a) for i, (a, b) in enumerate(zip(starts, ends, strict=True))
    ]
    return Fitted(relations, np.concatenate([np.full(newest, np.nan), *told]))


def _filled(rows_TD: FloatArray, starts: Sequence[int]) -> tuple[FloatArray, Float64Array]:
    """Rows with the last reading where there is none, and each tag's median; 0 for a tag without readings."""
    known_TD = np.isfinite(rows_TD)
    columns = zip(rows_TD.T, known_TD.T, strict=True)
    middle_D = np.array(
        [np.median(values_T[known_T]) if known_T.any() else 0.0 for values_T, known_T in columns], float
    )
    ends = [*starts[1:], len(rows_TD)]
    pieces = [last_known(rows_TD[a:b], known_TD[a:b], middle_D) for a, b in zip(starts, ends, strict=True)]
    return np.concatenate(pieces), middle_D


def _frame(rows_TD: FloatArray, middle_D: Float64Array, kinds: Kinds, block: int) -> Frame:
    whole = len(rows_TD) // block * block
    read_TC = rows_TD[:whole, kinds.continuous_C]
    mean_nC = read_TC.reshape(-1, block, read_TC.shape[1]).mean(axis=1, dtype=np.float64)
    return Frame(rows_TD.shape[1], block, middle_D, kinds, mean_nC.mean(axis=0), mean_nC.std(axis=0) + _TINY)


def _home(read_TC: FloatArray) -> Float64Array:
    """Values of each tag that make up a fiftieth of its rows or more, (C, H), NaN-padded."""
    found = []
    for values_T in read_TC.T:
        value_M, count_M = np.unique(values_T, return_counts=True)
        found.append(value_M[count_M > _HOME * len(values_T)])
    home_CH = np.full((len(found), max(1, *(len(one) for one in found))), np.nan)
    for c, one in enumerate(found):
        home_CH[c, : len(one)] = one
    return home_CH


def _laid(rows_TD: FloatArray, starts: Sequence[int], frame: Frame, home_CH: Float64Array, past: int) -> _Normal:
    """All recordings' blocks, one after the other."""
    blocks, repeated, counts = [], [], []
    for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
        walk, repeating = Walk(frame), repeats.Repeats(home_CH, past)
        laid = [walk.take(rows_nBD) for rows_nBD in chunks(rows_TD[begin:end], frame.block)]
        repeated += [repeating.take(one.rows_nBC) for one in laid]
        blocks += laid
        counts.append((end - begin) // frame.block)
    total = sum(counts)
    within_n = np.concatenate([np.arange(count) for count in counts])
    return _Normal(
        blocks=Blocks(*(np.concatenate(column) for column in zip(*blocks, strict=True))),
        repeats_n2C=np.concatenate(repeated),
        part_n=np.arange(total) * _PARTS // total,
        recording_n=np.repeat(np.arange(len(counts)), counts),
        settled_n=within_n >= _SETTLED,
    )


def _learnt(
    normal: _Normal, frame: Frame, home_CH: Float64Array, past: int, patience: int
) -> tuple[Relations, Float64Array]:
    """Relations of all blocks, and the score of each block by what had not seen it."""
    blocks, settled_n = normal.blocks, normal.settled_n
    unseen = _unseen(normal)
    tight_C = _tight(unseen.residual_nO[settled_n], blocks.mean_nC[settled_n])
    values_nQC = _values(normal, unseen.z_nO, tight_C)
    most_PKQC, surprise_KJ = _most(values_nQC, normal), _surprises(unseen.hazards, normal)
    weights_PO = ridge(*_sums(blocks, settled_n))
    residual_nO = blocks.target_nO - blocks.x_nP @ weights_PO
    relations = Relations(
        frame=frame,
        weights_PO=weights_PO,
        scale=grow_scale(blocks.history_nF[settled_n], residual_nO[settled_n]),
        tight_C=tight_C,
        home_CH=home_CH,
        past=past,
        limits_PQC=_limits(most_PKQC),
        hazards=grow_hazards(blocks.control_nK, blocks.stable_nJ, normal.follows_n),
        cut_J=_cut(surprise_KJ),
        patience=patience,
    )
    score_n = _unseen_scores(values_nQC, most_PKQC, surprise_KJ, unseen.hazards, patience, normal)
    median, spread = _scale(score_n[settled_n])
    return replace(relations, median=median, spread=spread), score_n


def _unseen_scores(
    values_nQC: Float64Array,
    most_PKQC: Float64Array,
    surprise_KJ: Float64Array,
    hazards: Sequence[Hazards],
    patience: int,
    normal: _Normal,
) -> Float64Array:
    """The score of each settled block by streams, hazards and limits that had not seen it, (n,); NaN elsewhere."""
    score_n = np.full(len(values_nQC), np.nan)
    for part in range(_PARTS):
        limits_PQC, here_n = _limits(np.delete(most_PKQC, part, axis=1)), normal.part_n == part
        cut_J = _cut(np.delete(surprise_KJ, part, axis=0))
        belief_nJ = _beliefs(hazards[part], cut_J, patience, normal, here_n)
        ratio_nC = ratios(values_nQC[here_n], limits_PQC, normal.blocks.phase_n[here_n])
        score_n[here_n] = combined(ratio_nC, belief_nJ[here_n])
    return np.where(normal.settled_n, score_n, np.nan)


def _scale(score_m: Float64Array) -> tuple[float, float]:
    """Median of scores, and the spread of a bell curve with their upper tail."""
    median, high = np.quantile(score_m, (0.5, _HIGH))
    return float(median), max(float(high - median) / _BELL_HIGH, _LEAST_SPREAD)


def _sums(blocks: Blocks, wanted_n: BoolArray) -> tuple[Float64Array, Float64Array, int]:
    """X'X, X'Y and how many blocks they are of."""
    x_mP = blocks.x_nP[wanted_n]
    return x_mP.T @ x_mP, x_mP.T @ blocks.target_nO[wanted_n], len(x_mP)


def _unseen(normal: _Normal) -> _Unseen:
    blocks = normal.blocks
    residual_nO, z_nO = np.zeros_like(blocks.target_nO), np.zeros_like(blocks.target_nO)
    hazards = []
    for part in range(_PARTS):
        here_n = normal.part_n == part
        rest_n = normal.settled_n & ~here_n
        weights_PO = ridge(*_sums(blocks, rest_n))
        fitted_mO = blocks.target_nO[rest_n] - blocks.x_nP[rest_n] @ weights_PO
        scale = grow_scale(blocks.history_nF[rest_n], fitted_mO)
        residual_nO[here_n] = blocks.target_nO[here_n] - blocks.x_nP[here_n] @ weights_PO
        z_nO[here_n] = residual_nO[here_n] / scale(blocks.history_nF[here_n])
        hazards.append(grow_hazards(blocks.control_nK, blocks.stable_nJ, normal.follows_n & ~here_n))
    return _Unseen(residual_nO, np.where(normal.settled_n[:, None], z_nO, 0.0), hazards)


def _tight(residual_mO: Float64Array, mean_mC: Float64Array) -> BoolArray:
    """Tags whose level the others tell: not one that integrates, whose change is told far better than its level."""
    tags = mean_mC.shape[1]
    spread_O = residual_mO.std(axis=0)
    told_C = 1 - spread_O[tags:] ** 2 / (mean_mC.var(axis=0) + _TINY) > _TIGHT_R2
    tight_C: BoolArray = told_C & (spread_O[tags:] < _TIGHT_RATIO * spread_O[:tags])
    return tight_C


def _values(normal: _Normal, z_nO: Float64Array, tight_C: BoolArray) -> Float64Array:
    """All streams, (n, Q, C)."""
    found = [streams.Trails(tight_C).take(z_nO[run]) for run in normal.runs(np.ones(len(z_nO), bool))]
    return np.concatenate([np.concatenate(found), normal.repeats_n2C], axis=1)


def _most(values_nQC: Float64Array, normal: _Normal) -> Float64Array:
    """The largest value in each phase and part, (P, K, Q, C). Repeats know no phases, nor does a phase that is rare."""
    found_PKQC = np.zeros((_PHASES, _PARTS, *values_nQC.shape[1:]))
    for part in range(_PARTS):
        whole_n = normal.settled_n & (normal.part_n == part)
        found_PKQC[:, part] = values_nQC[whole_n].max(axis=0, initial=0.0)
        for phase in range(_PHASES):
            inside_n = whole_n & (normal.blocks.phase_n == phase)
            if inside_n.sum() >= _FEWEST_IN_PHASE:
                trailed = slice(len(streams.NAMES))
                found_PKQC[phase, part, trailed] = values_nQC[inside_n, trailed].max(axis=0)
    return found_PKQC


def _limits(most_PKQC: Float64Array) -> Float64Array:
    limits_PQC: Float64Array = np.maximum(most_PKQC.max(axis=1), np.array(LEAST)[:, None])
    return limits_PQC


def _surprises(hazards: Sequence[Hazards], normal: _Normal) -> Float64Array:
    """The largest surprise about a switch in each part, (K, J)."""
    stable_nJ, control_nK = normal.blocks.stable_nJ, normal.blocks.control_nK
    found_KJ = np.zeros((_PARTS, stable_nJ.shape[1]))
    for part, one in enumerate(hazards):
        here_m = np.flatnonzero(normal.follows_n & (normal.part_n == part))
        switches_m = here_m[(stable_nJ[here_m] != stable_nJ[here_m + 1]).any(axis=1)]
        surprise_mJAA = one.surprises(control_nK[switches_m])
        for tag, (now_m, next_m) in enumerate(zip(stable_nJ[switches_m].T, stable_nJ[switches_m + 1].T, strict=True)):
            at_m = np.arange(len(switches_m))
            told_m = np.where(now_m != next_m, surprise_mJAA[at_m, tag, now_m, next_m], 0.0)
            found_KJ[part, tag] = told_m.max(initial=0.0)
    return found_KJ


def _cut(surprise_KJ: Float64Array) -> Float64Array:
    cut_J: Float64Array = np.maximum(surprise_KJ.max(axis=0) + _MARGIN, LEAST_SURPRISE)
    return cut_J


def _beliefs(hazards: Hazards, cut_J: Float64Array, patience: int, normal: _Normal, here_n: BoolArray) -> Float64Array:
    """Suspicion about the controllers in some blocks, (n, J); 0 in the others."""
    blocks = normal.blocks
    found_nJ = np.zeros(blocks.stable_nJ.shape)
    for run in normal.runs(here_n):
        beliefs = Beliefs(cut_J, patience)
        for first in range(run.start, run.stop, _CHUNK):
            some = slice(first, min(first + _CHUNK, run.stop))
            found_nJ[some] = beliefs.take(blocks.stable_nJ[some], hazards.surprises(blocks.control_nK[some]))
    return found_nJ
