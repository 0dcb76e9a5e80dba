"""Fitting a judge at the plant, from normal rows alone; never on the edge box.

Every model is fitted on all normal rows. Scales, tails, weights and trails come from what the same models say of rows
that they have not seen: recordings are cut into blocks, and each block is scored by models fitted on the others
(cross-fitting, Stone 1974, "Cross-validatory choice", J. R. Stat. Soc. B 36). No label enters anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import TooFewRows
from shared.evidence.judge import Judge, channel_logs, histories
from shared.evidence.kinds import Kinds, kinds_of
from shared.evidence.models import QUIET, STEP_TRAILS, Models, standardised
from shared.evidence.residual import ResidualModel, fit_residual
from shared.evidence.shape import fit_shape
from shared.evidence.weigh import NETWORKED, skills, trails
from shared.lag.learn import conditional, fit_mahalanobis
from shared.lag.prior import chosen_rows, pieces, with_prior
from shared.lag.sums import Moments, Values, moments
from shared.scoring import Float64Array, RobustScale
from shared.series import BoolArray
from shared.windows import IntArray

_BLOCKS = 4
_LEAST_SPREAD = 0.25  # of a channel's logarithm: a scale below it would turn rounding into alarms
_LEAST_JOINT = 0.03  # of the joint channel, which is a mean over tags
_HIGH, _BELL_HIGH = 0.99, 2.33  # the spread is that of a bell curve with the same upper tail
_TAIL = 0.999
_BELL_TAIL = 3.29  # what |N(0, 1)| exceeds once in a thousand times
_LEAST_TAIL = 0.3


@dataclass(frozen=True)
class Choice:
    """What a recipe says of a judge (`recipe.evidence`).

    Attributes:
        lags: rows before the newest one that the lag models look at, p.
        lengths: rows of the courses that are compared, ascending.
        prototypes: courses kept of a tag.
        shortest: rows over which what lasts is told from noise: those of the shortest event that matters.
    """

    lags: int = 5
    lengths: tuple[int, ...] = (5, 10, 20, 40)
    prototypes: int = 128
    shortest: int = 30


@dataclass(frozen=True, eq=False)
class Normal:
    """A plant's normal rows, prepared as live rows are.

    Attributes:
        rows_TD: (T, D), finite.
        starts: rows at which recordings begin.
        scored_T: bool (T,), rows whose window is measured well enough to count.
        residual_TD: what the network left of each row to be scored; None without a network.
        modes_T: its cluster, below 0: none.
        modes: how many clusters there are.
        unseen_T: bool (T,), rows that the network was not trained on.
    """

    rows_TD: Values
    starts: tuple[int, ...]
    scored_T: BoolArray
    residual_TD: Values | None = None
    modes_T: IntArray | None = None
    modes: int = 0
    unseen_T: BoolArray | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A judge, what it says of rows that its models had not seen, and what it borrowed.

    Attributes:
        judge: fitted on all rows.
        logs_TC: of every row that counts, by models that had not seen it; NaN elsewhere.
        scores_T: what a threshold may rest on, of the same rows (`Judge.ceilings`).
        borrowed: rows of the other plants in the lag models, n0.
    """

    judge: Judge
    logs_TC: Float64Array
    scores_T: Float64Array
    borrowed: float


def fit_judge(normal: Normal, choice: Choice, others: Moments | None = None) -> Fitted:
    """Fit a judge to a plant's normal rows.

    Args:
        normal: the rows.
        choice: what the recipe says.
        others: summed moments of the other plants, of `choice.lags` lags; None: the plant stands alone.

    Raises:
        TooFewRows: too little to cut into blocks.
        NothingToLearn: no tag moves.
    """
    kinds = kinds_of(normal.rows_TD)
    none = Moments.none(normal.rows_TD.shape[1], choice.lags)
    lent = none if others is None else others
    borrowed = chosen_rows(pieces(normal.rows_TD, normal.starts, choice.lags), lent)
    logs_TC, steps_TD = _unseen(normal, choice, kinds, lent, borrowed)
    tails_D = np.maximum(np.nanquantile(steps_TD, _TAIL, axis=0) / _BELL_TAIL, _LEAST_TAIL)
    logs_TC[:, 1 : 1 + len(STEP_TRAILS)] = np.log((steps_TD / tails_D).max(axis=1) + QUIET)[:, None]
    models = _fitted(normal.rows_TD, normal.starts, choice, kinds, lent, borrowed, tails_D, _residuals(normal))
    judge = _weighed(models, logs_TC, normal, kinds, choice)
    return Fitted(judge, logs_TC, judge.ceilings(logs_TC, normal.starts), borrowed)


def _fitted(
    rows_TD: Values,
    starts: Sequence[int],
    choice: Choice,
    kinds: Kinds,
    lent: Moments,
    borrowed: float,
    tails_D: Float64Array,
    network: ResidualModel | None,
) -> Models:
    joint = fit_mahalanobis(with_prior(moments(rows_TD, starts, choice.lags), lent, borrowed))
    shape = fit_shape(rows_TD, starts, kinds.analogue_D, kinds.still_D, choice.lengths, choice.prototypes)
    return Models(joint, conditional(joint), tails_D, shape, network)


def _unseen(
    normal: Normal, choice: Choice, kinds: Kinds, lent: Moments, borrowed: float
) -> tuple[Float64Array, Float64Array]:
    """What models that have not seen a row say of it, (T, C), and the step residual of its tags, (T, D)."""
    blocks_T = _blocks(normal)
    plain_D = np.ones(normal.rows_TD.shape[1])
    steps_TD = np.full(normal.rows_TD.shape, np.nan)
    parts = []
    for block in range(_BLOCKS):
        rest_TD, rest_starts = _without(normal, blocks_T == block)
        network = _residuals(normal, blocks_T != block)
        models = _fitted(rest_TD, rest_starts, choice, kinds, lent, borrowed, plain_D, network)
        inside_T = (blocks_T == block) & normal.scored_T
        starts = _starts_of(blocks_T, normal.starts)
        parts.append(channel_logs(models, normal.rows_TD, starts, inside_T, normal.residual_TD, normal.modes_T))
        for rows_N, windows_NHD in histories(normal.rows_TD, starts, inside_T, models.step.rows):
            steps_TD[rows_N] = standardised(models.step, windows_NHD)
    logs_TC = np.full_like(parts[0], np.nan)
    for block, part_TC in enumerate(parts):
        logs_TC[blocks_T == block] = part_TC[blocks_T == block]
    return logs_TC, steps_TD


def _blocks(normal: Normal) -> IntArray:
    """The block of each row: consecutive parts of each recording."""
    blocks_T = np.empty(len(normal.rows_TD), np.int64)
    for begin, end in zip(normal.starts, [*normal.starts[1:], len(blocks_T)], strict=True):
        counted_T = normal.scored_T[begin:end].cumsum()  # Rows that count are shared out evenly, the others go along.
        whole = int(counted_T[-1]) if len(counted_T) else 0
        evenly_T = (counted_T - 1).clip(0) if whole else np.arange(end - begin)
        blocks_T[begin:end] = evenly_T * _BLOCKS // max(whole or end - begin, 1)
    if len(np.unique(blocks_T[normal.scored_T])) < _BLOCKS:
        raise TooFewRows(f"{int(normal.scored_T.sum())} normal rows cannot be cut into {_BLOCKS} blocks that count.")
    return blocks_T


def _starts_of(blocks_T: IntArray, starts: Sequence[int]) -> tuple[int, ...]:
    """Rows at which a block begins: nothing is looked at across them, or models would be told what they learnt."""
    turns_T = np.flatnonzero(np.diff(blocks_T)) + 1
    return tuple(sorted({*(int(turn) for turn in turns_T), *starts}))


def _without(normal: Normal, out_T: BoolArray) -> tuple[Values, tuple[int, ...]]:
    """The rows that are left, and where pieces of them begin."""
    begins_T = np.zeros(len(out_T), np.bool_)
    begins_T[list(normal.starts)] = True
    begins_T[1:] |= out_T[:-1] & ~out_T[1:]
    kept_T = ~out_T
    return normal.rows_TD[kept_T], tuple(np.flatnonzero(begins_T[kept_T]).tolist())


def _residuals(normal: Normal, among_T: BoolArray | None = None) -> ResidualModel | None:
    """The network's residuals on rows that count, those preferred that it was not trained on."""
    if normal.residual_TD is None:
        return None
    usable_T = normal.scored_T if among_T is None else normal.scored_T & among_T
    unseen_T = usable_T if normal.unseen_T is None else usable_T & normal.unseen_T
    chosen_T = unseen_T if unseen_T.sum() >= 5 * normal.rows_TD.shape[1] else usable_T
    modes_N = np.full(int(chosen_T.sum()), -1) if normal.modes_T is None else normal.modes_T[chosen_T]
    return fit_residual(np.asarray(normal.residual_TD[chosen_T], np.float64), modes_N, normal.modes)


def _weighed(models: Models, logs_TC: Float64Array, normal: Normal, kinds: Kinds, choice: Choice) -> Judge:
    scales = [_scale(logs_TC[:, c], name, normal) for c, name in enumerate(models.channels)]
    median_C = np.array([scale.median for scale in scales])
    spread_C = np.array([scale.spread for scale in scales])
    weight_C = skills(models, median_C, kinds, normal)
    return Judge(models, median_C, spread_C, trails(models), weight_C, choice.shortest)


def _scale(logs_T: Float64Array, name: str, normal: Normal) -> RobustScale:
    """Of the rows that count; of the network's, those that it was not trained on."""
    known_T = ~np.isnan(logs_T)
    if name in NETWORKED and normal.unseen_T is not None and (known_T & normal.unseen_T).any():
        known_T &= normal.unseen_T
    median = float(np.median(logs_T[known_T]))
    spread = (float(np.quantile(logs_T[known_T], _HIGH)) - median) / _BELL_HIGH
    return RobustScale(median=median, spread=max(spread, _LEAST_JOINT if name == "joint" else _LEAST_SPREAD))
