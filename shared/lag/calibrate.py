"""A plant's scale of scores and its trailing mean, from held-out normal rows alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.errors import TooFewRows
from shared.lag.score import LagScorer, trailing
from shared.lag.var import VarModel
from shared.local_guard.lagged import LagModel, Values
from shared.scoring import Float64Array, RobustScale

TRAILS = (1, 2, 4, 8, 16, 32)
_HIGH = 0.99  # of normal scores: what an event has to rise above
_LEAST_GAIN = 0.05


def calibrated(
    mahalanobis: LagModel,
    var: VarModel,
    held_TD: Values,
    starts: Sequence[int] = (0,),
    shortest: int = 30,
    trails: Sequence[int] = TRAILS,
) -> LagScorer:
    """Both models with the scale of their scores, and a trailing mean.

    Args:
        mahalanobis, var: fitted, of the same tags.
        held_TD: (T, D), prepared, normal, none of which the models learnt from.
        starts: rows at which recordings begin.
        shortest: rows of the shortest event that must not be smoothed away.
        trails: lengths to choose from; (1,): no trailing mean.

    Raises:
        TooFewRows: no row with enough rows before it.
    """
    unit = RobustScale(median=0.0, spread=1.0)
    plain = LagScorer(mahalanobis, var, unit, unit)
    logs = _logs(plain, held_TD, starts)
    t2_N, residual_N = np.concatenate([*logs, np.empty((2, 0))], axis=1)
    if not len(t2_N):
        raise TooFewRows(f"no held-out row has {plain.rows - 1} rows before it: nothing tells the scale of its scores.")
    scales = RobustScale.fit(t2_N), RobustScale.fit(residual_N)
    scores = [(scales[0].apply(two_2N[0]) + scales[1].apply(two_2N[1])) / 2 for two_2N in logs]
    return LagScorer(mahalanobis, var, *scales, chosen_trail(scores, shortest, trails))


def _logs(plain: LagScorer, held_TD: Values, starts: Sequence[int]) -> list[Float64Array]:
    """Logarithms of both scores, (2, N) a recording; rows in sight of a value that is not finite are left out."""
    found = []
    for begin, end in zip(starts, [*starts[1:], len(held_TD)], strict=True):
        if end - begin >= plain.rows:
            logs_2N = np.concatenate([plain.logs(block) for block in plain.blocks(held_TD[begin:end])], axis=1)
            found.append(logs_2N[:, np.isfinite(logs_2N).all(axis=0)])
    return found


def chosen_trail(scores: Sequence[Float64Array], shortest: int, trails: Sequence[int] = TRAILS) -> int:
    """How many rows to average: what lets an event of `shortest` rows stand out most from normal scores.

    An event that lifts each score by d lifts the mean over m rows by `d (1 - (m - 1) / (2 E))` on average over its
    E >= m rows, while normal scores spread less. Chosen is the least m whose ratio of that to the upper spread of
    normal scores (99 % quantile less median) is within 5 % of the best: where normal scores are correlated, a longer
    mean delays alarms and gains nothing.

    Args:
        scores: of held-out normal recordings, unsmoothed.
        shortest: rows of the shortest event, E.
        trails: lengths to choose from, ascending.
    """
    fit = [m for m in trails if m <= shortest] or [1]
    gain = {m: (1 - (m - 1) / (2 * shortest)) / _upper(np.concatenate([trailing(s, m) for s in scores])) for m in fit}
    return next(m for m in fit if gain[m] >= (1 - _LEAST_GAIN) * max(gain.values()))


def _upper(scores_N: Float64Array) -> float:
    return max(float(np.quantile(scores_N, _HIGH) - np.median(scores_N)), 1e-12)
