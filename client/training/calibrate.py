"""Turn a global model into local alarms: score the normal data, fit the score scale, the judge and the threshold, and
keep what normal data scores.

With a judge (`shared.evidence`) threshold and figures rest on all of the plant's normal rows, each scored by models
that had not seen it; without, on the windows that the network was not trained on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from client.training.infer import reconstruction_loss, score_all
from client.training.judged import Judged, judged, window_modes
from client.training.live_rows import LiveRows, measured_ends
from client.training.tensors import TensorWindows
from client.training.workspace import Part, Workspace
from shared.bundle.parts import Calibration, Rehearsal
from shared.config import Recipe, ThresholdConfig
from shared.detectors import Detector, WindowScores
from shared.distribution import Distribution
from shared.errors import DataError, NothingToLearn, TooFewRows
from shared.evidence.judge import Judge
from shared.lag.pooled import Lag
from shared.model import Clusters
from shared.preprocess import Rows
from shared.relations import Relations
from shared.relations.beside import joined
from shared.ring import Ring
from shared.scoring import (
    Float64Array,
    ScoreScale,
    check_calibration,
    entropy,
    fit_score_scale,
    student_t_assignments,
)
from shared.series import FloatArray
from shared.thresholds import Threshold, effective_size, fit
from shared.thresholds.budget import REARM_S, Bursts
from shared.windows import IntArray

_FEWEST = 4  # held-out windows that can be halved
_DAY_S = 86_400.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Confirmed:
    """Windows of a plant's calibration ring (`shared.ring`), at least one.

    Attributes:
        id: of the ring, hex.
        windows: prepared as live rows are.
        rows: that they lie in.
        ends_N: int64 (N,), the last row of each.
        ring: the raw rows; None: they are not at hand.
    """

    id: str
    windows: TensorWindows
    rows: Rows
    ends_N: IntArray
    ring: Ring | None = None

    def told(self, relations: Relations | None, recipe: Recipe) -> Float64Array | None:
        """What a plant's relations say of each of the rows, float64 (T,), NaN: nothing; None without relations."""
        if relations is None or self.ring is None:
            return None
        scores_T = relations.scores(self.ring.rows_TD, self.ring.starts)
        return joined(scores_T, self.ring.starts, recipe.preprocess.every)


def confirmed(ring: Ring, workspace: Workspace, recipe: Recipe, device: torch.device) -> Confirmed | None:
    """The ring's windows for a recipe, those left out that are mostly missing readings; None: there are none."""
    if not len(ring.rows_TD):
        return None
    rows, window = workspace.preprocessor.live(ring.rows_TD, ring.starts), recipe.detector.window
    ends_N = measured_ends(rows, workspace, recipe)
    if not len(ends_N):
        return None
    part = Part(rows.values_TD, ends_N - (window - 1))
    return Confirmed(ring.id, TensorWindows(part, window, device), rows, ends_N, ring)


@dataclass(frozen=True)
class Calibrated:
    """What a site needs beside the global model to raise alarms. It never leaves the site.

    Attributes:
        scale: how error and entropy become one score.
        threshold: with its provenance.
        figures: what normal data scores.
        lag: lagged moments of the plant and of the others, as they were given.
        judge: what scores, in the place of `scale`; None: `scale` does.
        relations: what scores beside the judge; None: nothing does.
    """

    scale: ScoreScale
    threshold: Threshold
    figures: Calibration
    lag: Lag | None = None
    judge: Judge | None = None
    relations: Relations | None = None

    @property
    def holdout_loss(self) -> float:
        """Mean reconstruction error on the held-out normal data."""
        return self.figures.holdout_loss


def calibrate(
    detector: Detector,
    clusters: Clusters | None,
    train: TensorWindows,
    holdout: TensorWindows,
    recipe: Recipe,
    step_s: float = 1.0,
    ring: Confirmed | None = None,
    lag: Lag | None = None,
    live: LiveRows | None = None,
) -> Calibrated:
    """Fit scale, judge and threshold on normal data.

    Without a judge the threshold is set on held-out data, or on training data where the recipe says so (the paper).

    Args:
        detector, clusters: the model.
        train, holdout: windows in order of time.
        recipe: of the run.
        step_s: seconds from one window to the next at stride 1.
        ring: windows that a person has confirmed as normal since; held out as well.
        lag: lagged moments; those of the other plants lend the judge a prior.
        live: all normal rows, the ring's among them, for a judge; None: none is wanted. Where there is too little for
            one, `figures.unjudged` says why.

    Raises:
        TooFewRows: there is no held-out window.
        NothingToLearn: the model has diverged.
        UnknownName: no such threshold rule.
    """
    held = _score(detector, holdout, clusters, recipe)
    held = held if ring is None else held + _score(detector, ring.windows, clusters, recipe)
    fitted_on = held if recipe.threshold.fit_on == "holdout" else _score(detector, train, clusters, recipe)
    own, loss = _scale(fitted_on, recipe), reconstruction_loss(detector, holdout)
    check_calibration(np.append(own.combine(held.error_N, held.entropy_N), loss), "scores")
    found = _judged(detector, clusters, live, recipe, lag)
    if isinstance(found, Judged):
        held = fitted_on = _Scored(found.scores_N, found.part_MD, None, found.modes_N, found.judge.rows)
    scale, threshold = _fitted(fitted_on, recipe, step_s)
    halved = _halved(fitted_on, scale, threshold, recipe, step_s)
    scores_N = scale.combine(held.error_N, held.entropy_N)
    check_calibration(scores_N, "scores")
    figures = Calibration(
        holdout_loss=loss,
        effective_size=effective_size(scores_N),
        distribution=Distribution.of_scores(scores_N),
        rehearsal=_rehearsed(held, scale, threshold, recipe, step_s),
        occupancy=_occupancy(held, clusters),
        tag_error=tuple(held.tag_error_ND.mean(axis=0, dtype=np.float64).tolist()),
        tag_error_high=tuple(held.tag_error_ND.max(axis=0).astype(np.float64).tolist()),
        beside_guard=None if halved is None else _named(halved, ring),
        bursts=Bursts.of_scores(scores_N, max(1, round(REARM_S / step_s))),
        unjudged="" if isinstance(found, Judged) else found,
    )
    judge, relations = (found.judge, found.relations) if isinstance(found, Judged) else (None, None)
    return Calibrated(own, _named(threshold, ring), figures, lag, judge, relations)


def _judged(
    detector: Detector, clusters: Clusters | None, live: LiveRows | None, recipe: Recipe, lag: Lag | None
) -> Judged | str:
    """The plant's judge; where there is none, why: empty where none is wanted."""
    if live is None or not recipe.scoring.evidence:
        return ""
    try:
        return judged(detector, clusters, live, recipe, lag)
    except (TooFewRows, NothingToLearn) as error:
        log.warning("scores are those of the network alone: %s", error.cause)
        return error.cause


def _named(threshold: Threshold, ring: Confirmed | None) -> Threshold:
    """With the ring that it rests on, if it does."""
    if ring is None or threshold.fitted_on == "train":
        return threshold
    return structs.replace(threshold, ring=ring.id, ring_size=len(ring.windows))


@dataclass(frozen=True)
class _Scored:
    """What the threshold and the figures come from; modes are None without clusters, as the entropy is.

    With `judged`, the rows that a judge looks at together, `error_N` is its score and needs no scale, and
    `tag_error_ND` the tags' parts of the scores of rows held out.
    """

    error_N: NDArray[Any]
    tag_error_ND: NDArray[Any]
    entropy_N: FloatArray | None
    modes_N: IntArray | None
    judged: int = 0

    def __add__(self, later: _Scored) -> _Scored:
        def both(a: Any, b: Any) -> Any:
            return None if a is None or b is None else np.concatenate([a, b])

        return _Scored(
            both(self.error_N, later.error_N),
            both(self.tag_error_ND, later.tag_error_ND),
            both(self.entropy_N, later.entropy_N),
            both(self.modes_N, later.modes_N),
            self.judged,
        )

    def __getitem__(self, part: slice) -> _Scored:
        entropy_M = None if self.entropy_N is None else self.entropy_N[part]
        modes_M = None if self.modes_N is None else self.modes_N[part]
        return _Scored(self.error_N[part], self.tag_error_ND, entropy_M, modes_M, self.judged)


def _score(detector: Detector, windows: TensorWindows, clusters: Clusters | None, recipe: Recipe) -> _Scored:
    found = score_all(detector, windows, recipe.scoring.tail)
    modes_N = window_modes(found, clusters)
    return _Scored(found.error_N, found.contribution_ND, window_entropy(found, clusters), modes_N)


def _scale(scored: _Scored, recipe: Recipe) -> ScoreScale:
    if scored.judged:
        return ScoreScale(entropy_weight=0)
    return fit_score_scale(scored.error_N, scored.entropy_N, recipe.scoring)


def _fitted(scored: _Scored, recipe: Recipe, step_s: float) -> tuple[ScoreScale, Threshold]:
    scale = _scale(scored, recipe)
    return scale, _threshold(scored, scale, recipe.threshold, step_s)


def _threshold(scored: _Scored, scale: ScoreScale, asked: ThresholdConfig, step_s: float) -> Threshold:
    scores_N = scale.combine(scored.error_N, scored.entropy_N)
    return fit(asked.rule, scores_N, asked, scored.modes_N, _DAY_S / step_s)


def _halved(
    scored: _Scored, scale: ScoreScale, threshold: Threshold, recipe: Recipe, step_s: float
) -> Threshold | None:
    """The threshold at half of the rate, where the rule can be asked for one."""
    if threshold.false_alarm_rate is None:
        return None
    return _threshold(scored, scale, _at(recipe.threshold, threshold.false_alarm_rate / 2), step_s)


def _at(asked: ThresholdConfig, rate: float | None) -> ThresholdConfig:
    """The same settings for another rate, which `daily` does not exceed; None: as they are."""
    return asked if rate is None else asked.model_copy(update={"false_alarm_rate": rate})


def _rehearsed(
    held: _Scored, scale: ScoreScale, threshold: Threshold, recipe: Recipe, step_s: float
) -> Rehearsal | None:
    """Alarms in the second half of the windows, by what the first half sets for the threshold's own rate. Windows
    overlap: those that share rows with the first half are left out. A threshold set on training data knows neither
    half, and is taken as it is; so is a judge, of whose scores each is by models that had not seen its row.
    """
    count, half = len(held.error_N), len(held.error_N) // 2
    if count < _FEWEST:
        return None
    try:
        if recipe.threshold.fit_on == "holdout":
            scale, asked = _scale(held[:half], recipe), _at(recipe.threshold, threshold.false_alarm_rate)
            threshold = _threshold(held[:half], scale, asked, step_s)
    except DataError:  # Half of the data is too little for the rule.
        return None
    later = held[min(half + max(recipe.detector.window, held.judged) - 1, count - 1) :]
    scores_M = scale.combine(later.error_N, later.entropy_N)
    return Rehearsal(
        size=len(scores_M),
        effective_size=effective_size(scores_M),
        rate=float(np.mean(threshold.alarms(scores_M, later.modes_N))),
        asked=threshold.false_alarm_rate,
    )


def _occupancy(held: _Scored, clusters: Clusters | None) -> tuple[float, ...]:
    """Share of the windows whose nearest active cluster is k."""
    if clusters is None:
        return ()
    if held.modes_N is None:
        return (0.0,) * clusters.count
    counts_K = np.bincount(held.modes_N, minlength=clusters.count)
    return tuple((counts_K / len(held.modes_N)).tolist())


def window_entropy(scores: WindowScores, clusters: Clusters | None) -> FloatArray | None:
    """Entropy of each window's cluster assignment in nats, float32 (N,); None without clusters."""
    if clusters is None:
        return None
    q_NK = student_t_assignments(scores.latent_NZ, clusters.centroids_KZ, clusters.active_K)
    return np.asarray(entropy(q_NK), np.float32)


def combined(scores: WindowScores, clusters: Clusters | None, scale: ScoreScale) -> Float64Array:
    """One score a window, float64 (N,)."""
    return scale.combine(scores.error_N, window_entropy(scores, clusters))
