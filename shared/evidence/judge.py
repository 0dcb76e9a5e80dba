"""The judge: what several models say of a row, in comparable units, weighed, as one score that what lasts raises.

    z_c = (ln(v_c + 0.1) - median_c) / spread_c,   x = sum_c w_c held_{m_c}(z_c),   s = (x + held_m(x)) / 2

Medians, spreads, weights and trails are a plant's own, from normal rows that the models had not seen
(`shared.evidence.fit`). 0 is an ordinary row; the unit is a robust standard deviation of ordinary rows. Lean: an edge
box imports this. Shapes: T rows, N windows, H rows of history, D tags, C channels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from shared.errors import SchemaMismatch
from shared.evidence.lasting import CHANNEL, SCORE, held, persistent
from shared.evidence.models import Looked, Models
from shared.evidence.newest import Newest, NewestTable
from shared.evidence.recent import Recent
from shared.lag.sums import Values
from shared.scoring import Float64Array
from shared.windows import IntArray, window_view

_CHUNK = 512  # windows that are laid out in memory at once
_MOST = 1e12  # sum of squares of a row; beyond it a stream asks as in batch


@dataclass(frozen=True, eq=False)
class Judge:
    """Models with the scale, the trailing mean and the weight of each channel, as a value.

    Attributes:
        models: what the channels are computed by.
        median_C, spread_C: robust scale of each channel's logarithm on unseen normal rows.
        trail_C: int64 (C,), rows of each channel's trailing mean; 1: none.
        weight_C: float64 (C,), not negative, adding up to 1.
        trail: rows of the score's trailing mean.

    Trailing means are bounded by what is newest (`shared.evidence.lasting`).
    """

    models: Models
    median_C: Float64Array
    spread_C: Float64Array
    trail_C: IntArray
    weight_C: Float64Array
    trail: int = 1

    @property
    def rows(self) -> int:
        """Rows of history that a score looks at, H, trailing means apart."""
        return self.models.rows

    def scores(
        self,
        rows_TD: Values,
        starts: Sequence[int],
        scored_T: np.ndarray,
        residual_TD: Values | None = None,
        modes_T: IntArray | None = None,
    ) -> Float64Array:
        """Score prepared rows.

        Args:
            rows_TD: (T, D), prepared.
            starts: rows at which recordings begin; nothing is looked at across them. A row with fewer than H - 1 rows
                before it is taken to follow upon a standstill at the first of them.
            scored_T: bool (T,), rows to score. Trailing means pass over the others.
            residual_TD, modes_T: what the network left of each row to be scored, and its cluster.

        Returns:
            float64 (T,): NaN where a row is not scored; +inf where what it looks at is not a finite number.

        Raises:
            SchemaMismatch: another number of tags.
        """
        logs_TC = channel_logs(self.models, rows_TD, starts, scored_T, residual_TD, modes_T)
        return self.combined(logs_TC, starts)

    def combined(self, logs_TC: Float64Array, starts: Sequence[int]) -> Float64Array:
        """Scores from what the channels say; NaN rows are passed over. Args and returns as in `scores`."""
        scores_T = np.full(len(logs_TC), np.nan)
        for begin, end in zip(starts, [*starts[1:], len(logs_TC)], strict=True):
            told_T = begin + np.flatnonzero(~np.isnan(logs_TC[begin:end]).all(axis=1))
            if len(told_T):
                scores_T[told_T] = persistent(self._weighed(logs_TC[told_T]), self.trail)
        return scores_T

    def ceilings(self, logs_TC: Float64Array, starts: Sequence[int]) -> Float64Array:
        """What rows reach by themselves, no mean taken, or as `combined` where that is more: float64 (T,).

        A threshold rests on these. Means are quieter than rows are, but they do not average out what drifts, and
        normal data to come has drifted: a threshold that trusted the quiet would be passed for good.
        """
        alone_T = ((logs_TC - self.median_C) / self.spread_C) @ self.weight_C
        return np.fmax(alone_T, self.combined(logs_TC, starts))

    def evidence(self, logs_NC: Float64Array) -> Float64Array:
        """Channels in robust units with their trailing means, of consecutive rows: float64 (N, C)."""
        z_NC = (logs_NC - self.median_C) / self.spread_C
        trails = zip(z_NC.T, self.trail_C, strict=True)
        return np.stack([z_N if m == 1 else held(z_N, int(m), CHANNEL) for z_N, m in trails], axis=1)

    def newest(self, logs_MC: Float64Array) -> float:
        """The last of `_weighed` alone, of at least as many rows as trailing means are over, or all that there are."""
        counted_MC = np.arange(len(logs_MC) - 1, -1, -1)[:, None] < self.trail_C
        z_MC = (logs_MC - self.median_C) / self.spread_C
        mean_C = np.where(counted_MC, z_MC, 0.0).sum(axis=0) / counted_MC.sum(axis=0)
        held_C = np.where(self.trail_C == 1, z_MC[-1], np.minimum(mean_C, np.maximum(z_MC[-1], 0.0) + CHANNEL))
        weighed = float(held_C @ self.weight_C)
        return np.inf if np.isnan(weighed) else weighed

    def _weighed(self, logs_NC: Float64Array) -> Float64Array:
        weighed_N: Float64Array = self.evidence(logs_NC) @ self.weight_C
        return np.where(np.isnan(weighed_N), np.inf, weighed_N)

    def parts(
        self, windows_NHD: Values, logs_NC: Float64Array, residual_ND: Values | None, modes_N: IntArray | None
    ) -> Float64Array:
        """Each tag's part of the score, float64 (N, D), not negative: its share of each channel above ordinary.

        Rows add up to the weighed sum of what the channels say above 0, which is at least the score before smoothing.
        """
        return self.parts_of(self.models.looked(windows_NHD), logs_NC, residual_ND, modes_N)

    def parts_of(
        self, looked: Looked, logs_NC: Float64Array, residual_ND: Values | None, modes_N: IntArray | None
    ) -> Float64Array:
        """See `parts`."""
        above_NC = np.maximum((logs_NC - self.median_C) / self.spread_C, 0.0) * self.weight_C
        above_NC = np.where(np.isfinite(above_NC), above_NC, 1e9)
        shares_NCD = self.models.parts_of(looked, residual_ND, modes_N)
        parts_ND: Float64Array = np.einsum("nc,ncd->nd", above_NC, shares_NCD)
        return parts_ND

    @cached_property
    def table(self) -> NewestTable:
        """What streams of this judge share."""
        return NewestTable(self.models)

    @cached_property
    def slope_C(self) -> Float64Array:  # noqa: N802 (a shape suffix)
        """What a channel's logarithm adds to the score."""
        return self.weight_C / self.spread_C

    @cached_property
    def recent_MC(self) -> Float64Array:  # noqa: N802 (a shape suffix)
        """What the newest M rows' logarithms add, oldest first; M the longest trailing mean of a channel."""
        counted_MC = np.arange(int(self.trail_C.max()) - 1, -1, -1)[:, None] < self.trail_C
        return counted_MC * (self.slope_C / self.trail_C)

    @cached_property
    def ordinary_C(self) -> Float64Array:  # noqa: N802 (a shape suffix)
        """What a channel's median adds."""
        return self.median_C * self.slope_C

    @cached_property
    def most_C(self) -> Float64Array:  # noqa: N802 (a shape suffix)
        """By how much a channel's trailing mean may pass its newest value; without bound where there is no mean."""
        return np.where(self.trail_C == 1, np.inf, CHANNEL * self.weight_C)

    def stream(self) -> JudgeStream:
        """The same, row by row, from the beginning of a recording."""
        return JudgeStream(self)


class Verdict(NamedTuple):
    """What a judge says of the newest row.

    Attributes:
        score: as `Judge.scores` gives it.
        part_D: each tag's part, `Judge.parts`.
    """

    score: float
    part_D: Float64Array


class JudgeStream:
    """A judge applied row by row. `copy.deepcopy` takes a snapshot that goes on by itself, by the same judge."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self._newest, self._dim, self._height = judge, Newest(judge.table), judge.models.dim, judge.rows
        self._rows, self._logs = Recent(judge.rows, judge.models.dim), Recent(*judge.recent_MC.shape)
        self._plain: deque[float] = deque(maxlen=judge.trail)
        self.restart()

    def __deepcopy__(self, memo: dict[int, object]) -> JudgeStream:
        """A judge does not change: there need not be two."""
        other = JudgeStream(self._judge)
        other._rows, other._logs = self._rows.copy(), self._logs.copy()
        other._plain, other._tame = self._plain.copy(), self._tame
        return other

    def restart(self) -> None:
        """Forget everything: the next row begins a recording."""
        self._tame = 0
        self._rows.clear()
        self._logs.clear()
        self._plain.clear()

    def take(self, row_D: Values) -> None:
        """Take one prepared row.

        Raises:
            SchemaMismatch: another number of values; nothing was taken.
        """
        if np.shape(row_D) != (self._dim,):
            raise SchemaMismatch(f"a row of shape {np.shape(row_D)} came, the judge has {self._dim} tags.")
        if not self._rows.count:
            self.begin(np.asarray(row_D)[None])
            return
        self._rows.put(row_D)
        self._tame = self._tame + 1 if _tame(self._rows.newest(1)) else 0

    def begin(self, rows_TD: Values) -> None:
        """Begin a recording: `restart`, and `take` of some prepared rows (T, D), T >= 1, at once.

        Raises:
            SchemaMismatch: another number of values; nothing was changed.
        """
        if rows_TD.ndim != 2 or rows_TD.shape[1] != self._dim or not len(rows_TD):
            raise SchemaMismatch(f"rows of shape {rows_TD.shape} came, the judge has {self._dim} tags.")
        self.restart()
        self._rows.begin(rows_TD)
        newest_HD = self._rows.newest(self._height)
        wild_n = np.flatnonzero(~(np.einsum("hd,hd->h", newest_HD, newest_HD) < _MOST))
        self._tame = len(newest_HD) - 1 - int(wild_n[-1]) if len(wild_n) else len(newest_HD)

    def judge(self, residual_D: Values | None = None, mode: int | None = None) -> Verdict:
        """The score of the newest row, which enters the trailing means: once a row.

        Args:
            residual_D: what the network left of it, rebuilt less read.
            mode: cluster of its window; None: none.
        """
        residual = None if residual_D is None else np.asarray(residual_D, np.float64)
        tame = self._tame >= self._height and (residual is None or _tame(residual))
        logs = self._newest.logs(self._rows.newest(self._height), residual, mode) if tame else None
        if logs is None:
            return self._at_length(residual, mode)
        logs_C = np.array(logs)
        part_D = self._newest.parts(np.maximum(logs_C - self._judge.median_C, 0.0) * self._judge.slope_C)
        return Verdict(self._smoothed(logs_C), part_D)

    def _at_length(self, residual_D: Float64Array | None, mode: int | None) -> Verdict:
        """As in batch, of whatever numbers there are."""
        models = self._judge.models
        residual_1D = None if residual_D is None else residual_D[None]
        modes_1 = np.array([-1 if mode is None else mode])
        looked = models.looked(self._rows.newest(self._height)[None])
        logs_1C = models.logs_of(looked, residual_1D, modes_1)
        part_D = self._judge.parts_of(looked, logs_1C, residual_1D, modes_1)[0]
        return Verdict(self._smoothed(logs_1C[0]), part_D)

    def _smoothed(self, logs_C: Float64Array) -> float:
        """The score, now that the newest row's channels are known."""
        judge, logs = self._judge, self._logs
        logs.put(logs_C)
        logs_MC, plain = logs.newest(logs.count), np.nan
        if logs.count == len(judge.recent_MC):
            mean_C = np.einsum("mc,mc->c", logs_MC, judge.recent_MC) - judge.ordinary_C
            newest_C = np.maximum(logs_C * judge.slope_C - judge.ordinary_C, 0.0)
            plain = float(np.minimum(mean_C, newest_C + judge.most_C).sum())
        plain = plain if math.isfinite(plain) else judge.newest(logs_MC)
        self._plain.append(plain)
        lasting = min(sum(self._plain) / len(self._plain), max(plain, 0.0) + SCORE)
        return (plain + lasting) / 2


def _tame(values: Float64Array) -> bool:
    """Whether all are finite, and small enough to be squared in 32 bits."""
    return float(np.vdot(values, values)) < _MOST


def channel_logs(
    models: Models,
    rows_TD: Values,
    starts: Sequence[int],
    scored_T: np.ndarray,
    residual_TD: Values | None = None,
    modes_T: IntArray | None = None,
) -> Float64Array:
    """What every channel says of every row to be scored, float64 (T, C), NaN elsewhere. See `Judge.scores`.

    Raises:
        SchemaMismatch: another number of tags.
    """
    if rows_TD.ndim != 2 or rows_TD.shape[1] != models.dim:
        raise SchemaMismatch(f"rows of shape {rows_TD.shape} came, the judge was fitted on {models.dim} tags.")
    logs_TC = np.full((len(rows_TD), len(models.channels)), np.nan)
    for rows_N, windows_NHD in histories(rows_TD, starts, scored_T, models.rows):
        residual_ND = None if residual_TD is None else residual_TD[rows_N].astype(np.float64)
        modes_N = None if modes_T is None else modes_T[rows_N]
        logs_TC[rows_N] = models.logs(windows_NHD, residual_ND, modes_N)
    return logs_TC


def histories(
    rows_TD: Values, starts: Sequence[int], scored_T: np.ndarray, rows: int
) -> Iterator[tuple[IntArray, Float64Array]]:
    """Rows to be scored with the rows before them, (N,) and (N, H, D), a chunk at a time."""
    for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
        piece_TD = np.asarray(rows_TD[begin:end], np.float32)
        if not len(piece_TD):
            continue
        windows_THD = window_view(np.concatenate([np.repeat(piece_TD[:1], rows - 1, axis=0), piece_TD]), rows)
        wanted_N = np.flatnonzero(scored_T[begin:end])
        for first in range(0, len(wanted_N), _CHUNK):
            some_N = wanted_N[first : first + _CHUNK]
            yield (begin + some_N).astype(np.int64), windows_THD[some_N].astype(np.float64)
