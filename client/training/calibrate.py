"""Turn a global model into local alarms: score the held-out normal data, fit the score scale and the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.training.infer import reconstruction_loss, score_all
from client.training.tensors import TensorWindows
from shared.config import Recipe
from shared.detectors import Detector, WindowScores
from shared.model import Clusters
from shared.scoring import ScoreScale, entropy, fit_score_scale, student_t_assignments
from shared.series import FloatArray
from shared.thresholds import Threshold, fit


@dataclass(frozen=True)
class Calibration:
    """What a site needs beside the global model to raise alarms. It never leaves the site.

    Attributes:
        scale: how error and entropy become one score.
        threshold: with its provenance.
        holdout_loss: mean reconstruction error on the held-out normal data.
    """

    scale: ScoreScale
    threshold: Threshold
    holdout_loss: float


def calibrate(
    detector: Detector, clusters: Clusters | None, train: TensorWindows, holdout: TensorWindows, recipe: Recipe
) -> Calibration:
    """Fit scale and threshold on held-out normal data, or on training data where the recipe says so (the paper)."""
    chosen = holdout if recipe.threshold.fit_on == "holdout" else train
    fitted_on = score_all(detector, chosen, recipe.scoring.tail)
    entropy_N = window_entropy(fitted_on, clusters)
    scale = fit_score_scale(fitted_on.error_N, entropy_N, recipe.scoring)
    threshold = fit(recipe.threshold.rule, scale.combine(fitted_on.error_N, entropy_N), recipe.threshold)
    return Calibration(scale, threshold, reconstruction_loss(detector, holdout))


def window_entropy(scores: WindowScores, clusters: Clusters | None) -> FloatArray | None:
    """Entropy of each window's cluster assignment in nats, float32 (N,); None without clusters."""
    if clusters is None:
        return None
    q_NK = student_t_assignments(scores.latent_NZ, clusters.centroids_KZ, clusters.active_K)
    return np.asarray(entropy(q_NK), np.float32)
