"""Variational autoencoder over whole windows (Kingma and Welling 2014, arXiv 1312.6114).

    windows (N, W, D) -> flat -> linear, ReLU, twice, 64 units -> mean (N, 16), tanh, and log variance (N, 16)
    z = mean + sd * e,  e ~ N(0, I) from the generator that training is given; at scoring z is the mean
    z -> linear, ReLU, twice, 64 units -> linear -> windows (N, W, D)

    L = ||x - x'||^2 / (W D) + 2 b / (W D) KL( N(mean, sd^2) || N(0, I) )

With b = 1 (`recipe.detector.kl_weight`) that is the negative evidence bound of a decoder with unit variance, times
2 / (W D): in the units of every other detector's loss. The bounded mean is ours: it gives latents a public radius;
`bottleneck = "linear"` is the textbook's.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from shared.config import DetectorConfig
from shared.detectors.base import Detector, Pass, SeededDropout, register
from shared.detectors.layers import flat

_WIDEST = 8.0  # bound on |log variance|: from 0.02 to 55 standard deviations of the prior


@register
class Vae(Detector):
    """See the module's docstring.

    Example:
        >>> from shared.config import DetectorConfig
        >>> sum(spec.size for spec in Vae(DetectorConfig(name="vae"), dim=51).manifest())
        208922
    """

    name: ClassVar[str] = "vae"

    def __init__(self, config: DetectorConfig, dim: int) -> None:
        super().__init__(config, dim)
        h, z, whole = config.hidden, config.latent, config.window * dim
        self.encoder = nn.ModuleList(flat(h if depth else whole, h) for depth in range(config.layers))
        self.mean, self.log_variance = nn.Linear(h, z), nn.Linear(h, z)
        self.decoder = nn.ModuleList(nn.Linear(h if depth else z, h) for depth in range(config.layers))
        self.output = flat(h, whole)
        self.dropout = SeededDropout(config.dropout)

    def posterior(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents, (N, Z) each."""
        values = windows_NWD.flatten(1)
        for layer in self.encoder:
            values = self.dropout(layer(values).relu(), noise)
        mean_NZ, log_variance_NZ = self.mean(values), self.log_variance(values)
        return self.bounded(mean_NZ), _WIDEST * torch.tanh(log_variance_NZ / _WIDEST)

    def encode(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Latents (N, Z): drawn with `noise`, their means without."""
        return drawn(*self.posterior(windows_NWD, noise), noise)

    def decode(self, latents_NZ: Tensor, noise: torch.Generator | None = None) -> Tensor:
        values = latents_NZ
        for layer in self.decoder:
            values = self.dropout(layer(values).relu(), noise)
        windows_NWD: Tensor = self.output(values).unflatten(1, (self.config.window, self.dim))
        return windows_NWD

    def passed(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Pass:
        """With the module's second term; the means are what is clustered."""
        mean_NZ, log_variance_NZ = self.posterior(windows_NWD, noise)
        made_NWD = self.decode(drawn(mean_NZ, log_variance_NZ, noise), noise)
        return Pass(made_NWD, mean_NZ, self._weight * divergences(mean_NZ, log_variance_NZ))

    @property
    def _weight(self) -> float:
        """Of the divergence from the prior."""
        return 2.0 * self.config.kl_weight / (self.config.window * self.dim)

    def graph(self) -> bytes:
        from shared.detectors.graph import Graph  # needs the package onnx, which a plant has

        c, g = self.config, Graph(self.weights())
        values = g.reshape("windows", [1, c.window * self.dim], "flat")
        for depth in range(c.layers):
            values = g.node("Relu", [g.linear(values, f"encoder.{depth}", f"in.{depth}")], [f"in.{depth}.positive"])
        values = g.latents(values, "mean", c.bottleneck)
        for depth in range(c.layers):
            values = g.node("Relu", [g.linear(values, f"decoder.{depth}", f"out.{depth}")], [f"out.{depth}.positive"])
        window = (1, c.window, self.dim)
        g.reshape(g.linear(values, "output", "flat.rebuilt"), window, "reconstruction")
        return g.model({"windows": window}, {"reconstruction": window, "latents": (1, c.latent)})


def drawn(mean_NZ: Tensor, log_variance_NZ: Tensor, noise: torch.Generator | None) -> Tensor:
    """Latents mean + sd * e with e from the generator (Kingma and Welling, section 2.4); without one the mean."""
    if noise is None:
        return mean_NZ
    return mean_NZ + (0.5 * log_variance_NZ).exp() * torch.empty_like(mean_NZ).normal_(generator=noise)


def divergences(mean_NZ: Tensor, log_variance_NZ: Tensor) -> Tensor:
    """KL(N(mean, sd^2) || N(0, I)) of each window, (N,): 1/2 sum(mean^2 + sd^2 - 1 - log sd^2) (appendix B there)."""
    return 0.5 * (mean_NZ.square() + log_variance_NZ.exp() - 1.0 - log_variance_NZ).sum(dim=1)
