"""Records for tests of clipping: made-up windows, a detector, and gradients by autograd, one record at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from client.training.private import Records
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import DetectorConfig
from shared.detectors import ClusterTarget, Detector, build
from shared.model import initial_weights

WINDOW = 6


def detector(dim: int = 3, seed: int = 0, **fields: object) -> Detector:
    """A small one, initialised."""
    config = DetectorConfig.model_validate({"window": WINDOW, "hidden": 5, "latent": 4, "dropout": 0.0} | fields)
    made = build(config, dim)
    made.load_weights(initial_weights(made.manifest(), seed))
    return made


def target(latent: int = 4, alpha: float = 0.7) -> ClusterTarget:
    """Three clusters, of which one is rare."""
    centroids = torch.linspace(-0.9, 0.9, 3 * latent).reshape(3, latent)
    return ClusterTarget(centroids, torch.tensor([0.6, 0.35, 0.05]), alpha)


def records(pieces: Sequence[np.ndarray], per_record: int, window: int = WINDOW) -> Records:
    """Records from their rows, (windows * W, D) each; no rows: no windows."""
    rows_TD = np.concatenate([np.asarray(piece, np.float32).reshape(-1, pieces[0].shape[1]) for piece in pieces])
    counts = [len(piece) // window for piece in pieces]
    part = Part(rows_TD, np.arange(sum(counts), dtype=np.int64) * window)
    first_R = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Records(TensorWindows(part, window, torch.device("cpu")), first_R, per_record, len(pieces))


def noisy(
    counts: Sequence[int], dim: int = 3, seed: int = 0, scale: float = 1.0, window: int = WINDOW
) -> list[np.ndarray]:
    """Rows of records with so many windows each."""
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=(count * window, dim)) for count in counts]


def by_autograd(made: Detector, found: Records, clusters: ClusterTarget | None) -> list[dict[str, np.ndarray]]:
    """(1 / m) sum of the gradients of each record's windows: backward once a window, with plain layers."""
    gradients = []
    for first, end in zip(found.first_R, found.first_R[1:], strict=False):
        made.zero_grad()
        for index in range(first, end):
            batch = found.windows.batch(torch.tensor([index]))
            torch.autograd.backward(made.loss(batch, clusters).total / found.per_record)
        gradients.append({n: _value(p.grad, p) for n, p in made.named_parameters()})
    made.zero_grad()
    return gradients


def _value(gradient: torch.Tensor | None, parameter: torch.Tensor) -> np.ndarray:
    return (torch.zeros_like(parameter) if gradient is None else gradient).double().numpy()


def norm(gradient: dict[str, np.ndarray]) -> float:
    """Over all parameters."""
    return float(np.sqrt(sum((value**2).sum() for value in gradient.values())))


def clipped(gradients: list[dict[str, np.ndarray]], clip: float) -> dict[str, np.ndarray]:
    """Their sum, each scaled to at most `clip`."""
    factors = [min(1.0, clip / max(norm(gradient), 1e-300)) for gradient in gradients]
    return {
        name: np.sum([factor * gradient[name] for factor, gradient in zip(factors, gradients, strict=True)], axis=0)
        for name in gradients[0]
    }


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Norm of the difference."""
    assert set(one) == set(other)
    return norm({name: one[name] - other[name] for name in one})
