"""The interface behind which every detector lives, and the registry that lists them.

A detector is one file beside this one: a `Detector` subclass with a `name`, registered with `@register`. The contract
tests pick it up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.config import DetectorConfig
from shared.detectors.layers import specs
from shared.errors import UnknownName
from shared.model import Clusters, TensorSpec, Weights


@dataclass(frozen=True)
class ClusterTarget:
    """Clusters as constants of a loss: nothing here depends on the batch.

    Attributes:
        centroids_KZ: float32 (K, Z), active clusters only.
        frequency_K: float32 (K,), on the simplex.
        alpha: weight of the clustering loss.
    """

    centroids_KZ: Tensor
    frequency_K: Tensor
    alpha: float


@dataclass(frozen=True)
class Loss:
    """A loss and its parts, scalars; `total = reconstruction + alpha * cluster + prior`.

    Attributes:
        total: what is minimised.
        reconstruction: mean squared error.
        cluster: divergence from the target.
        prior: what a detector asks of its latents besides, weighted; 0 for most.
    """

    total: Tensor
    reconstruction: Tensor
    cluster: Tensor
    prior: Tensor | float = 0.0


@dataclass(frozen=True)
class Pass:
    """What one pass of windows through a detector gives: what its loss is made of.

    Attributes:
        windows_NWD: reconstructed windows.
        latents_NZ: what is clustered.
        prior_N: what the detector asks of each window's latent besides, weighted; 0 for most.
    """

    windows_NWD: Tensor
    latents_NZ: Tensor
    prior_N: Tensor | float = 0.0


@dataclass(frozen=True)
class WindowScores:
    """What a detector says about each window, before calibration.

    Attributes:
        error_N: mean squared reconstruction error, float32 (N,).
        contribution_ND: the same by sensor (mean over time), float32 (N, D); its mean over D is `error_N`.
        latent_NZ: float32 (N, Z).
        residual_ND: what is left of the newest row, rebuilt less read, float32 (N, D).
    """

    error_N: NDArray[np.float32]
    contribution_ND: NDArray[np.float32]
    latent_NZ: NDArray[np.float32]
    residual_ND: NDArray[np.float32]


class Detector(nn.Module, ABC):
    """An autoencoder over windows with a latent that can be clustered.

    Args:
        config: architecture.
        dim: number of sensors D.

    Attributes:
        unclipped: why no record's gradient can be clipped exactly, so that local differential privacy refuses the
            detector; empty: it can.
    """

    name: ClassVar[str]
    unclipped: ClassVar[str] = ""

    def __init__(self, config: DetectorConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.dim = dim

    @property
    def latent_box(self) -> float:
        """Bound on each latent coordinate, as the server takes it from the settings; infinite when there is none."""
        return 1.0 if self.config.bottleneck == "tanh" else float("inf")

    def bounded(self, latents_NZ: Tensor) -> Tensor:
        """Latents within `latent_box`."""
        return torch.tanh(latents_NZ) if self.config.bottleneck == "tanh" else latents_NZ

    def manifest(self) -> tuple[TensorSpec, ...]:
        """Every trained tensor with the bound of its initial values, sorted by name."""
        return specs(self)

    @abstractmethod
    def encode(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Latents (N, Z). With `noise`, dropout is drawn from it; without, there is none."""

    @abstractmethod
    def decode(self, latents_NZ: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Reconstructed windows (N, W, D)."""

    def forward(self, windows_NWD: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction (N, W, D) and latents (N, Z), without dropout: the graph that an edge box runs."""
        made = self.passed(windows_NWD)
        return made.windows_NWD, made.latents_NZ

    @abstractmethod
    def graph(self) -> bytes:
        """`forward` for one window as an ONNX model: `windows` (1, W, D) to `reconstruction` (1, W, D) and `latents`
        (1, Z), float32. The same weights give the same bytes.
        """

    def passed(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Pass:
        """One pass. A detector whose loss has more parts than error and clusters says them here."""
        latents_NZ = self.encode(windows_NWD, noise)
        return Pass(self.decode(latents_NZ, noise), latents_NZ)

    def loss(self, windows_NWD: Tensor, target: ClusterTarget | None, noise: torch.Generator | None = None) -> Loss:
        """L = ||x - x'||^2 / (W D) + prior + alpha KL(p || q), averaged over windows; separable over windows."""
        made = self.passed(windows_NWD, noise)
        error = (made.windows_NWD - windows_NWD).square().mean()
        prior = made.prior_N.mean() if isinstance(made.prior_N, Tensor) else made.prior_N
        total = error + prior if isinstance(prior, Tensor) else error
        if target is None or target.alpha == 0.0:
            return Loss(total, error, torch.zeros_like(error), prior)
        divergence = cluster_divergence(made.latents_NZ, target)
        return Loss(total + target.alpha * divergence, error, divergence, prior)

    def losses(self, windows_NWD: Tensor, target: ClusterTarget | None) -> Tensor:
        """`loss(...).total` of each window by itself, (N,), without dropout: what a record's gradient is taken of.

        `loss(...).total` is the mean of this.
        """
        made = self.passed(windows_NWD)
        error_N = (made.windows_NWD - windows_NWD).square().mean(dim=(1, 2))
        total_N = error_N + made.prior_N if isinstance(made.prior_N, Tensor) else error_N
        if target is None or target.alpha == 0.0:
            return total_N
        return total_N + target.alpha * cluster_divergences(made.latents_NZ, target)

    def rebuilt(self, windows_NWD: Tensor) -> Tensor:
        """The reconstruction (N, W, D) that held-out losses are of: `forward`'s, but where that holds more."""
        reconstruction_NWD: Tensor = self(windows_NWD)[0]
        return reconstruction_NWD

    def assign(self, place: int, count: int) -> None:
        """Be told which of `count` plants this is, before training: for detectors of which each plant trains a part."""

    def contrast(self, windows_NWD: Tensor) -> None:
        """Be shown windows of labelled faults (N, W, D), at least one, before training: nothing for most."""

    def before_step(
        self, batch: Callable[[], Tensor], optimizer: torch.optim.Optimizer, noise: torch.Generator
    ) -> None:
        """What comes before the step on the loss of a batch, such as a critic's own steps: nothing for most.

        Args:
            batch: gives its windows (N, W, D), 1,024 at most.
            optimizer: the one that takes the step; a parameter without a gradient stays as it is.
            noise: what is drawn comes from here.
        """

    @torch.no_grad()
    def score(self, windows_NWD: Tensor, tail: int | None = None) -> WindowScores:
        """Reconstruction error in total and by sensor, over the newest `tail` rows (None: all), and the latents."""
        reconstruction, latents = self(windows_NWD)
        residual = reconstruction - windows_NWD
        square = residual.square()
        contribution = (square if tail is None else square[:, -tail:]).mean(dim=1)
        return WindowScores(
            error_N=contribution.mean(dim=1).cpu().numpy(),
            contribution_ND=contribution.cpu().numpy(),
            latent_NZ=latents.cpu().numpy(),
            residual_ND=residual[:, -1].cpu().numpy().copy(),
        )

    def load_weights(self, weights: Weights) -> None:
        """Copy weights in by name. Shapes are the caller's to check (`shared.wire.gate`)."""
        own = dict(self.named_parameters())
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(torch.from_numpy(np.array(value, np.float32)))

    def weights(self) -> Weights:
        """A copy of the weights that plants share by name, sorted; later training does not change it."""
        return {name: p.detach().cpu().numpy().copy() for name, p in sorted(self.shared_parameters())}

    def own_weights(self) -> Weights:
        """The same of what never leaves the plant: nothing, but for an adapter (`shared.detectors.adapter`)."""
        return {}

    def shared_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The trained tensors that plants share, by name."""
        return self.named_parameters()


def cluster_divergence(latents_NZ: Tensor, target: ClusterTarget) -> Tensor:
    """`cluster_divergences` averaged over windows."""
    return cluster_divergences(latents_NZ, target).mean()


def cluster_divergences(latents_NZ: Tensor, target: ClusterTarget) -> Tensor:
    """KL(p || q) of each window, (N,), with q the Student-t assignment and p its sharpened target.

    q_j ~ (1 + ||z - mu_j||^2)^-1,  p_j ~ q_j^2 / f_j with the released frequency f (Xie et al. 2016, eq. 1 to 3, with
    f a constant
    of the round instead of a batch statistic: docs/algorithm.md, section 4).
    """
    square_NK = (latents_NZ[:, None, :] - target.centroids_KZ[None, :, :]).square().sum(dim=2)
    log_q_NK = torch.log_softmax(-torch.log1p(square_NK), dim=1)
    log_p_NK = torch.log_softmax(2.0 * log_q_NK.detach() - target.frequency_K.log(), dim=1)
    return (log_p_NK.exp() * (log_p_NK - log_q_NK)).sum(dim=1)


def cluster_target(clusters: Clusters, alpha: float, device: torch.device | str = "cpu") -> ClusterTarget:
    """The active clusters as constants on a device."""
    active_K = clusters.active_K
    frequency_K = clusters.frequency_K[active_K]
    return ClusterTarget(
        centroids_KZ=torch.from_numpy(clusters.centroids_KZ[active_K].copy()).to(device),
        frequency_K=torch.from_numpy((frequency_K / frequency_K.sum()).astype(np.float32)).to(device),
        alpha=alpha,
    )


class SeededDropout(nn.Module):
    """Dropout whose mask comes from a given generator, so that threads and engines draw the same numbers."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor, noise: torch.Generator | None) -> Tensor:
        """Zero a `share` of the values and scale up the rest; the identity without `noise`."""
        if noise is None or self.share == 0.0:
            return values
        keep = torch.empty_like(values).bernoulli_(1.0 - self.share, generator=noise)
        return values * keep / (1.0 - self.share)


D = TypeVar("D", bound=type[Detector])
_REGISTRY: dict[str, type[Detector]] = {}


def register(detector: D) -> D:
    """Class decorator: make a detector known under its name."""
    _REGISTRY[detector.name] = detector
    return detector


def known() -> list[str]:
    """Names of the registered detectors."""
    return sorted(_REGISTRY)


def build(config: DetectorConfig, dim: int) -> Detector:
    """A detector as configured, for D sensors.

    Raises:
        UnknownName: no detector of that name.
    """
    if config.name not in _REGISTRY:
        raise UnknownName("detector", config.name, known())
    return _REGISTRY[config.name](config, dim)
