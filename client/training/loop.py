"""Local training: epochs of mini-batches, or one exact gradient step on the whole local set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import Parameter

from client.training.tensors import TensorWindows
from shared.config import TrainingConfig
from shared.detectors import ClusterTarget, Detector
from shared.errors import TaskGivenUp
from shared.model import Weights

_CHUNK = 1024


@dataclass(frozen=True)
class Trained:
    """Mean losses over the last epoch, per window."""

    reconstruction: float
    cluster: float


def round_generator(seed: int, site: str, step: int, device: torch.device) -> torch.Generator:
    """Random numbers of one site in one training round: the same wherever and however often it is run."""
    key = hashlib.sha256(f"{seed}:{site}:{step}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(key[:7], "little"))


def train_epochs(
    detector: Detector,
    windows: TensorWindows,
    target: ClusterTarget | None,
    config: TrainingConfig,
    noise: torch.Generator,
    stop: Callable[[], bool] = lambda: False,
    proximal: float = 0.0,
) -> Trained:
    """Train in place for the configured epochs, with a fresh optimiser (a round is a pure function of what came in).

    With `proximal` mu the loss has mu / 2 ||w - w_t||^2 besides, w_t the weights that training begins with: FedProx
    (Li et al. 2020, arXiv 1812.06127, equation 2), of what plants share. The losses that are told are without it.

    Raises:
        TaskGivenUp: `stop` said so between two batches.
    """
    optimizer = _optimizer(detector, config)
    size = config.batch_size or len(windows)
    sums = torch.zeros(2, dtype=torch.float64)
    anchored = _anchored(detector) if proximal else []
    for _ in range(config.local_epochs):
        order_N = torch.randperm(len(windows), generator=noise, device=noise.device)
        sums.zero_()
        for index_B in torch.split(order_N, size):
            if stop():
                raise TaskGivenUp("training was interrupted.")
            detector.before_step(partial(windows.batch, index_B[:_CHUNK]), optimizer, noise)
            optimizer.zero_grad(set_to_none=True)
            sums += accumulate_gradient(detector, windows, index_B, target, noise) * len(index_B)
            for parameter, begun in anchored:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach() - begun, alpha=proximal)
            optimizer.step()
    mean = (sums / len(windows)).tolist()
    return Trained(mean[0], mean[1])


def _anchored(detector: Detector) -> list[tuple[Parameter, Tensor]]:
    """The tensors that plants share, and what they are now."""
    return [(parameter, parameter.detach().clone()) for _, parameter in detector.shared_parameters()]


def gradient_step(
    detector: Detector, windows: TensorWindows, target: ClusterTarget | None, noise: torch.Generator
) -> Trained:
    """One step, theta <- theta - gradient of the mean loss over all windows; the learning rate is the server's."""
    detector.zero_grad(set_to_none=True)
    losses = accumulate_gradient(detector, windows, torch.arange(len(windows), device=noise.device), target, noise)
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad)
    return Trained(float(losses[0]), float(losses[1]))


def gradient_of(detector: Detector) -> Weights:
    """The gradient that lies in a detector by parameter name, float32, sorted; 0 where none came."""
    return {
        name: torch.zeros_like(p).cpu().numpy() if p.grad is None else p.grad.detach().cpu().numpy().copy()
        for name, p in sorted(detector.shared_parameters())
    }


def accumulate_gradient(
    detector: Detector, windows: TensorWindows, index_B: Tensor, target: ClusterTarget | None, noise: torch.Generator
) -> Tensor:
    """Add the gradient of the mean loss over a batch, chunk by chunk; returns both mean losses, float64 (2,)."""
    losses = torch.zeros(2, dtype=torch.float64)
    for chunk in torch.split(index_B, _CHUNK):
        share = len(chunk) / len(index_B)
        loss = detector.loss(windows.batch(chunk), target, noise)
        torch.autograd.backward(loss.total * share)
        losses += torch.stack([loss.reconstruction, loss.cluster]).detach().double().cpu() * share
    return losses


def _optimizer(detector: Detector, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(detector.parameters(), lr=config.learning_rate)
    return torch.optim.Adam(detector.parameters(), lr=config.learning_rate)
