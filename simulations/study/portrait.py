"""What pictures of a trained detector need: latents, modes, and how badly each sensor is reconstructed over time."""

from __future__ import annotations

import numpy as np
import torch

from client.training.infer import score_all
from client.training.judged import window_modes
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.bundle.whole import Bundle
from shared.detectors.adapter import build_for
from shared.series import FloatArray
from shared.windows import window_starts
from simulations.study.contestant import Arrays

POINTS = 1500
"""Windows that are shown, evenly spread over the test rows."""


def portrait(bundle: Bundle, test_TD: FloatArray, starts: tuple[int, ...], device: torch.device) -> Arrays:
    """Some windows of the test rows through the network.

    Returns:
        `latents_NZ` float32, `modes_N` int64 (-1 without clusters), `ends_N` int64, the raw test row that each window
        ends at, and `errors_ND` float32, each sensor's part of the error.
    """
    rows = bundle.preprocessor.live(np.asarray(test_TD, np.float32), starts)
    window, every = bundle.recipe.detector.window, bundle.preprocessor.every
    starts_N = window_starts(len(rows.values_TD), window, 1, rows.starts)
    if not len(starts_N):
        return {}
    chosen_N = starts_N[np.unique(np.linspace(0, len(starts_N) - 1, POINTS).astype(np.int64))]
    detector = build_for(bundle.recipe, bundle.schema).to(device)
    detector.load_weights(bundle.model.weights)
    found = score_all(detector, TensorWindows(Part(rows.values_TD, chosen_N), window, device))
    modes_N = window_modes(found, bundle.model.clusters)
    return {
        "latents_NZ": found.latent_NZ,
        "modes_N": np.full(len(chosen_N), -1, np.int64) if modes_N is None else modes_N,
        "ends_N": np.minimum((chosen_N + window) * every - 1, len(test_TD) - 1),
        "errors_ND": found.contribution_ND,
    }
