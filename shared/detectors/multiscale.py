"""Multi-scale convolutional autoencoder with attention.

    windows (N, W, D) -> convolutions of 3, 5 and 7 steps side by side, 64 channels each -> linear -> states (N, W, 64)
    states -> convolutions of 3 steps, dilations 1, 2, 4, 8, added one after the other: 31 steps in sight
    states -> 2 layers of attention with 8 heads, added -> flat -> linear, tanh -> latent (N, 16)
    latent -> linear -> states (N, W, 64) -> convolutions with dilations 8, 4, 2, 1 -> convolution -> windows (N, W, D)

The dilated stack is that of a temporal convolutional network (Bai et al. 2018, arXiv 1803.01271), attention that of
Vaswani et al. 2017 with the normalisation before it and without trained factors. docs/detectors.md says what else is
ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.config import DetectorConfig
from shared.detectors.base import Detector, SeededDropout, register
from shared.detectors.layers import Attention, flat

if TYPE_CHECKING:
    from shared.detectors.graph import Graph

KERNELS, DILATIONS, HEADS = (3, 5, 7), (1, 2, 4, 8), 8


@register
class Multiscale(Detector):
    """See the module's docstring.

    Example:
        >>> from shared.config import DetectorConfig
        >>> sum(spec.size for spec in Multiscale(DetectorConfig(name="multiscale"), dim=51).manifest())
        266691
    """

    name: ClassVar[str] = "multiscale"

    def __init__(self, config: DetectorConfig, dim: int) -> None:
        super().__init__(config, dim)
        h, whole = config.hidden, config.window * config.hidden
        self.scales = nn.ModuleList(nn.Conv1d(dim, h, k, padding=k // 2) for k in KERNELS)
        self.fuse = nn.Linear(len(KERNELS) * h, h)
        self.forth = nn.ModuleList(nn.Conv1d(h, h, 3, padding=d, dilation=d) for d in DILATIONS)
        self.attention = nn.ModuleList(Attention(h, HEADS) for _ in range(config.layers))
        self.bottleneck = flat(whole, config.latent)
        self.expand = flat(config.latent, whole)
        self.back = nn.ModuleList(nn.Conv1d(h, h, 3, padding=d, dilation=d) for d in reversed(DILATIONS))
        self.output = nn.Conv1d(h, dim, 3, padding=1)
        self.dropout = SeededDropout(config.dropout)

    def encode(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Tensor:
        windows_NDW = windows_NWD.transpose(1, 2)
        scales_NSW = torch.cat([convolve(windows_NDW) for convolve in self.scales], dim=1).relu()
        states_NHW = self.fuse(scales_NSW.transpose(1, 2)).transpose(1, 2)
        for convolve in self.forth:
            states_NHW = states_NHW + convolve(states_NHW).relu()
        states_NWH = states_NHW.transpose(1, 2)
        for attend in self.attention:
            seen_NWH = attend(functional.layer_norm(states_NWH, [self.config.hidden]))
            states_NWH = states_NWH + self.dropout(seen_NWH, noise)
        return self.bounded(self.bottleneck(states_NWH.flatten(1)))

    def decode(self, latents_NZ: Tensor, noise: torch.Generator | None = None) -> Tensor:
        flat_NF = self.dropout(self.expand(latents_NZ).relu(), noise)
        states_NHW = flat_NF.unflatten(1, (self.config.window, self.config.hidden)).transpose(1, 2)
        for convolve in self.back:
            states_NHW = states_NHW + convolve(states_NHW).relu()
        windows_NWD: Tensor = self.output(states_NHW).transpose(1, 2)
        return windows_NWD

    def graph(self) -> bytes:
        from shared.detectors.graph import Graph  # needs the package onnx, which a plant has

        c, g, swap = self.config, Graph(self.weights()), [0, 2, 1]
        channels = g.node("Transpose", ["windows"], ["channels"], perm=swap)
        found = [g.conv(channels, f"scales.{at}", f"scale.{at}") for at in range(len(KERNELS))]
        scales = g.node("Relu", [g.node("Concat", found, ["scales.all"], axis=1)], ["scales.positive"])
        states = g.linear(g.node("Transpose", [scales], ["scales.rows"], perm=swap), "fuse", "fused")
        states = g.node("Transpose", [states], ["fused.channels"], perm=swap)
        states = self._added(g, states, "forth", DILATIONS)
        states = g.node("Transpose", [states], ["forth.rows"], perm=swap)
        for depth in range(c.layers):
            seen = g.attention(g.normalised(states, c.hidden, f"calm.{depth}"), f"attention.{depth}", HEADS)
            states = g.node("Add", [states, seen], [f"attended.{depth}"])
        latents = g.latents(g.reshape(states, [1, c.window * c.hidden], "flat"), "bottleneck", c.bottleneck)
        flat = g.node("Relu", [g.linear(latents, "expand", "expanded")], ["expanded.positive"])
        states = g.node("Transpose", [g.reshape(flat, [1, c.window, c.hidden], "rows")], ["rows.channels"], perm=swap)
        states = self._added(g, states, "back", tuple(reversed(DILATIONS)))
        g.node("Transpose", [g.conv(states, "output", "output.channels")], ["reconstruction"], perm=swap)
        window = (1, c.window, self.dim)
        return g.model({"windows": window}, {"reconstruction": window, "latents": (1, c.latent)})

    def _added(self, g: Graph, states: str, layers: str, dilations: tuple[int, ...]) -> str:
        """`x + relu(conv(x))`, one dilation after the other."""
        for at, dilation in enumerate(dilations):
            name = f"{layers}.{at}"
            new = g.node("Relu", [g.conv(states, name, f"{name}.new", dilation)], [f"{name}.positive"])
            states = g.node("Add", [states, new], [f"{name}.states"])
        return states
