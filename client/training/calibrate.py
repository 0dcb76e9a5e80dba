"""Turn a global model into local alarms: score the held-out normal data, fit the score scale and the threshold, and
keep what normal data scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from msgspec import structs

from client.training.infer import reconstruction_loss, score_all
from client.training.tensors import TensorWindows
from client.training.workspace import Part, Workspace
from shared.bundle.parts import Calibration, Rehearsal
from shared.config import Recipe
from shared.detectors import Detector, WindowScores
from shared.distribution import Distribution
from shared.errors import DataError
from shared.model import Clusters
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
from shared.windows import IntArray, window_starts

_FEWEST = 4  # held-out windows that can be halved


@dataclass(frozen=True)
class Confirmed:
    """Windows of a plant's calibration ring (`shared.ring`), at least one.

    Attributes:
        id: of the ring, hex.
        windows: prepared as live rows are.
    """

    id: str
    windows: TensorWindows


def confirmed(ring: Ring, workspace: Workspace, recipe: Recipe, device: torch.device) -> Confirmed | None:
    """The ring's windows for a recipe, those left out that are mostly missing readings; None: there are none."""
    if not len(ring.rows_TD):
        return None
    prepared, window = workspace.preprocessor, recipe.detector.window
    rows = prepared.live(ring.rows_TD, ring.starts)
    starts_N = window_starts(len(rows.values_TD), window, 1, rows.starts)
    if not len(starts_N):
        return None
    measured_N = starts_N[prepared.imputed_share(rows.imputed_TD, starts_N, window) <= recipe.preprocess.max_imputed]
    if not len(measured_N):
        return None
    return Confirmed(ring.id, TensorWindows(Part(rows.values_TD, measured_N), window, device))


@dataclass(frozen=True)
class Calibrated:
    """What a site needs beside the global model to raise alarms. It never leaves the site.

    Attributes:
        scale: how error and entropy become one score.
        threshold: with its provenance.
        figures: what held-out normal data scores.
    """

    scale: ScoreScale
    threshold: Threshold
    figures: Calibration

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
) -> Calibrated:
    """Fit scale and threshold on held-out normal data, or on training data where the recipe says so (the paper).

    Args:
        detector, clusters: the model.
        train, holdout: windows in order of time.
        recipe: of the run.
        step_s: seconds from one window to the next at stride 1.
        ring: windows that a person has confirmed as normal since; held out as well.

    Raises:
        TooFewRows: there is no held-out window.
        NothingToLearn: the model has diverged.
        UnknownName: no such threshold rule.
    """
    held = _score(detector, holdout, clusters, recipe)
    held = held if ring is None else held + _score(detector, ring.windows, clusters, recipe)
    fitted_on = held if recipe.threshold.fit_on == "holdout" else _score(detector, train, clusters, recipe)
    scale, threshold = _fitted(fitted_on, recipe)
    halved = _halved(fitted_on, scale, threshold, recipe)
    scores_N, loss = scale.combine(held.error_N, held.entropy_N), reconstruction_loss(detector, holdout)
    check_calibration(np.append(scores_N, loss), "scores")
    figures = Calibration(
        holdout_loss=loss,
        effective_size=effective_size(scores_N),
        distribution=Distribution.of_scores(scores_N),
        rehearsal=_rehearsed(held, scale, threshold, recipe),
        occupancy=_occupancy(held, clusters),
        tag_error=tuple(held.tag_error_ND.mean(axis=0, dtype=np.float64).tolist()),
        tag_error_high=tuple(held.tag_error_ND.max(axis=0).astype(np.float64).tolist()),
        beside_guard=None if halved is None else _named(halved, ring),
        bursts=Bursts.of_scores(scores_N, max(1, round(REARM_S / step_s))),
    )
    return Calibrated(scale, _named(threshold, ring), figures)


def _named(threshold: Threshold, ring: Confirmed | None) -> Threshold:
    """With the ring that it rests on, if it does."""
    if ring is None or threshold.fitted_on == "train":
        return threshold
    return structs.replace(threshold, ring=ring.id, ring_size=len(ring.windows))


@dataclass(frozen=True)
class _Scored:
    """What the threshold and the figures come from; modes are None without clusters, as the entropy is."""

    error_N: FloatArray
    tag_error_ND: FloatArray
    entropy_N: FloatArray | None
    modes_N: IntArray | None

    def __add__(self, later: _Scored) -> _Scored:
        def both(a: Any, b: Any) -> Any:
            return None if a is None or b is None else np.concatenate([a, b])

        return _Scored(
            both(self.error_N, later.error_N),
            both(self.tag_error_ND, later.tag_error_ND),
            both(self.entropy_N, later.entropy_N),
            both(self.modes_N, later.modes_N),
        )

    def __getitem__(self, part: slice) -> _Scored:
        entropy_M = None if self.entropy_N is None else self.entropy_N[part]
        modes_M = None if self.modes_N is None else self.modes_N[part]
        return _Scored(self.error_N[part], self.tag_error_ND[part], entropy_M, modes_M)


def _score(detector: Detector, windows: TensorWindows, clusters: Clusters | None, recipe: Recipe) -> _Scored:
    found = score_all(detector, windows, recipe.scoring.tail)
    modes_N = window_modes(found, clusters)
    return _Scored(found.error_N, found.contribution_ND, window_entropy(found, clusters), modes_N)


def _fitted(scored: _Scored, recipe: Recipe) -> tuple[ScoreScale, Threshold]:
    scale = fit_score_scale(scored.error_N, scored.entropy_N, recipe.scoring)
    scores_N = scale.combine(scored.error_N, scored.entropy_N)
    return scale, fit(recipe.threshold.rule, scores_N, recipe.threshold, scored.modes_N)


def _halved(scored: _Scored, scale: ScoreScale, threshold: Threshold, recipe: Recipe) -> Threshold | None:
    """The threshold at half of the rate, where the rule can be asked for one."""
    if threshold.false_alarm_rate is None:
        return None
    scores_N = scale.combine(scored.error_N, scored.entropy_N)
    asked = recipe.threshold.model_copy(update={"false_alarm_rate": threshold.false_alarm_rate / 2})
    return fit(recipe.threshold.rule, scores_N, asked, scored.modes_N)


def _rehearsed(held: _Scored, scale: ScoreScale, threshold: Threshold, recipe: Recipe) -> Rehearsal | None:
    """Alarms in the second half of the held-out windows, by what the first half sets. Windows overlap: those that share
    rows with the first half are left out. A threshold set on training data knows neither half, and is taken as it is.
    """
    count, half = len(held.error_N), len(held.error_N) // 2
    if count < _FEWEST:
        return None
    try:
        if recipe.threshold.fit_on == "holdout":
            scale, threshold = _fitted(held[:half], recipe)
    except DataError:  # Half of the data is too little for the rule.
        return None
    later = held[min(half + recipe.detector.window - 1, count - 1) :]
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


def window_modes(scores: WindowScores, clusters: Clusters | None) -> IntArray | None:
    """The nearest active cluster of each window, int64 (N,); None without clusters or without an active one."""
    if clusters is None or not clusters.active_K.any():
        return None
    q_NK = student_t_assignments(scores.latent_NZ, clusters.centroids_KZ, clusters.active_K)
    modes_N: IntArray = q_NK.argmax(axis=1).astype(np.int64)
    return modes_N


def window_entropy(scores: WindowScores, clusters: Clusters | None) -> FloatArray | None:
    """Entropy of each window's cluster assignment in nats, float32 (N,); None without clusters."""
    if clusters is None:
        return None
    q_NK = student_t_assignments(scores.latent_NZ, clusters.centroids_KZ, clusters.active_K)
    return np.asarray(entropy(q_NK), np.float32)


def combined(scores: WindowScores, clusters: Clusters | None, scale: ScoreScale) -> Float64Array:
    """One score a window, float64 (N,)."""
    return scale.combine(scores.error_N, window_entropy(scores, clusters))
