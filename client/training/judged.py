"""A plant's judge (`shared.evidence`), fitted on its normal rows, and any rows scored by one.

The network's part is what it leaves of the newest row of a window, rebuilt less read, and the window's cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.training.infer import score_all
from client.training.live_rows import LiveRows
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import Recipe
from shared.detectors import Detector, WindowScores
from shared.evidence.fit import Choice, Fitted, Normal, fit_judge
from shared.evidence.judge import Judge, histories
from shared.lag.pooled import Lag, fitting_lags
from shared.model import Clusters
from shared.relations import Relations
from shared.relations.beside import WEIGHT, mixed
from shared.scoring import Float64Array, check_calibration, student_t_assignments
from shared.series import BoolArray, FloatArray
from shared.windows import IntArray

_MOST_NUMBERS = 2**22  # of a plant's prototypes: 16 MB on the edge box


@dataclass(frozen=True, eq=False)
class Judged:
    """A judge with what it says of the normal rows that count, by models that had not seen them.

    Attributes:
        judge: fitted on all rows.
        scores_N: float64 (N,), in order of time.
        modes_N: int64 (N,), the nearest active cluster; None without clusters.
        part_MD: float64 (M, D), each tag's part of the scores of rows that nothing was trained on.
        held_N: bool (N,), which rows those are.
        relations: beside the judge, where the plant has them; the scores are of both.
    """

    judge: Judge
    scores_N: Float64Array
    modes_N: IntArray | None
    part_MD: Float64Array
    held_N: BoolArray
    relations: Relations | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network says of rows with which a window ends; of the others, nothing.

    Attributes:
        ends_T: bool (T,), which rows those are.
        residual_TD: float32 (T, D), rebuilt less read; 0 elsewhere.
        modes_T: int64 (T,), the nearest active cluster, -1 elsewhere; None without clusters.
    """

    ends_T: BoolArray
    residual_TD: FloatArray
    modes_T: IntArray | None


def judged(
    detector: Detector, clusters: Clusters | None, live: LiveRows, recipe: Recipe, lag: Lag | None = None
) -> Judged:
    """Fit a plant's judge.

    Args:
        detector, clusters: the model.
        live: the plant's normal rows.
        recipe: of the run.
        lag: lagged moments of the other plants; they count if they are of the lags that are wanted here.

    Raises:
        TooFewRows: too little for a judge.
        NothingToLearn: no tag moves, or the model has diverged.
    """
    seen = seen_by(detector, clusters, live.rows_TD, live.ends_N, recipe)
    check_calibration(seen.residual_TD.ravel(), "residuals")
    count = 0 if clusters is None else clusters.count
    normal = Normal(live.rows_TD, live.starts, seen.ends_T, seen.residual_TD, seen.modes_T, count, live.unseen_T)
    choice = choice_of(recipe, live.rows_TD.shape[1])
    others = None if lag is None or lag.others is None or lag.others.lags != choice.lags else lag.others
    fitted = fit_judge(normal, choice, others)
    told_N, scores_T, parts_MD = live.ends_N, fitted.scores_T, _parts(fitted, live, seen)
    if live.relations is not None and live.told_T is not None:
        scores_T, parts_MD = mixed(live.relations, scores_T, live.told_T), (1 - WEIGHT) * parts_MD
    modes_N = None if seen.modes_T is None else seen.modes_T[told_N]
    held_N = live.unseen_T[told_N]
    return Judged(fitted.judge, scores_T[told_N], modes_N, parts_MD, held_N, live.relations)


def choice_of(recipe: Recipe, dim: int) -> Choice:
    """What a recipe says of a judge of D tags; of very many tags fewer lags and courses are kept."""
    asked, lags = recipe.evidence, fitting_lags(dim, recipe.lag.lags)
    affordable = max(8, _MOST_NUMBERS // (dim * asked.lengths[-1]))
    return Choice(lags or 0, asked.lengths, min(asked.prototypes, affordable), asked.shortest)


def judge_scores(
    judge: Judge,
    detector: Detector,
    clusters: Clusters | None,
    rows_TD: FloatArray,
    starts: tuple[int, ...],
    starts_N: IntArray,
    recipe: Recipe,
) -> tuple[Float64Array, IntArray | None]:
    """Score prepared rows.

    Args:
        judge, detector, clusters, recipe: of a bundle; the detector has the model's weights.
        rows_TD: (T, D).
        starts: rows at which recordings begin.
        starts_N: first rows of the windows that are scored.

    Returns:
        scores float64 (T,), each on the last row of its window and NaN elsewhere; the windows' modes int64 (T,), -1
        elsewhere; None without clusters.
    """
    seen = seen_by(detector, clusters, rows_TD, starts_N + (recipe.detector.window - 1), recipe)
    return judge.scores(rows_TD, starts, seen.ends_T, seen.residual_TD, seen.modes_T), seen.modes_T


def seen_by(
    detector: Detector, clusters: Clusters | None, rows_TD: FloatArray, ends_N: IntArray, recipe: Recipe
) -> Seen:
    """What a network says of the windows that end with some rows, (N,), of prepared rows (T, D)."""
    window, device = recipe.detector.window, next(detector.parameters()).device
    found = score_all(detector, TensorWindows(Part(rows_TD, ends_N - (window - 1)), window, device), None)
    ends_T, residual_TD = np.zeros(len(rows_TD), np.bool_), np.zeros(rows_TD.shape, np.float32)
    ends_T[ends_N], residual_TD[ends_N] = True, found.residual_ND
    modes_N = window_modes(found, clusters)
    if modes_N is None:
        return Seen(ends_T, residual_TD, None)
    modes_T = np.full(len(rows_TD), -1, np.int64)
    modes_T[ends_N] = modes_N
    return Seen(ends_T, residual_TD, modes_T)


def window_modes(scores: WindowScores, clusters: Clusters | None) -> IntArray | None:
    """The nearest active cluster of each window, int64 (N,); None without clusters or without an active one."""
    if clusters is None or not clusters.active_K.any():
        return None
    q_NK = student_t_assignments(scores.latent_NZ, clusters.centroids_KZ, clusters.active_K)
    modes_N: IntArray = q_NK.argmax(axis=1).astype(np.int64)
    return modes_N


def _parts(fitted: Fitted, live: LiveRows, seen: Seen) -> Float64Array:
    """Each tag's part of the scores of rows that nothing was trained on, or of all where there is none of these."""
    wanted_T = seen.ends_T & live.unseen_T
    wanted_T = wanted_T if wanted_T.any() else seen.ends_T
    found = []
    for rows_N, windows_NHD in histories(live.rows_TD, live.starts, wanted_T, fitted.judge.rows):
        modes_N = None if seen.modes_T is None else seen.modes_T[rows_N]
        found.append(
            fitted.judge.parts(
                windows_NHD, fitted.logs_TC[rows_N], seen.residual_TD[rows_N].astype(np.float64), modes_N
            )
        )
    return np.concatenate(found)
