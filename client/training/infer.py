"""Inference in bounded memory: latents, errors and per-sensor contributions of many windows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from client.training.tensors import TensorWindows
from shared.detectors import Detector, WindowScores
from shared.series import FloatArray

_BATCH = 512


@torch.no_grad()
def encode_all(detector: Detector, windows: TensorWindows, alone: bool = False) -> FloatArray:
    """Latents of all windows, float32 (N, Z).

    Args:
        detector, windows: as they are.
        alone: whether a window's latent must not depend on how many others there are, not even in its last bits, which
            a network can be made to blow up: then all batches have the same size.
    """
    size = _BATCH if alone else 0
    parts = [detector.encode(_filled(batch, size)).cpu().numpy()[: len(batch)] for batch in windows.batches(_BATCH)]
    return np.concatenate(parts) if parts else np.empty((0, detector.config.latent), np.float32)


def _filled(batch: Tensor, size: int) -> Tensor:
    """A batch with its first window repeated up to a size."""
    missing = size - len(batch)
    return batch if missing <= 0 else torch.cat([batch, batch[:1].expand(missing, *batch.shape[1:])])


def score_all(detector: Detector, windows: TensorWindows, tail: int | None = None) -> WindowScores:
    """Error over the newest `tail` rows (None: all), contributions and latents of all windows."""
    parts = [detector.score(batch, tail) for batch in windows.batches(_BATCH)]
    return WindowScores(
        error_N=np.concatenate([p.error_N for p in parts]) if parts else np.empty(0, np.float32),
        contribution_ND=_stack([p.contribution_ND for p in parts], detector.dim),
        latent_NZ=_stack([p.latent_NZ for p in parts], detector.config.latent),
        residual_ND=_stack([p.residual_ND for p in parts], detector.dim),
    )


def _stack(parts: list[FloatArray], width: int) -> FloatArray:
    return np.concatenate(parts) if parts else np.empty((0, width), np.float32)


@torch.no_grad()
def reconstruction_loss(detector: Detector, windows: TensorWindows) -> float:
    """Mean squared reconstruction error per window, in scaled units."""
    total = 0.0
    for batch in windows.batches(_BATCH):
        total += float((detector.rebuilt(batch) - batch).square().mean(dim=(1, 2)).double().sum())
    return total / max(len(windows), 1)
