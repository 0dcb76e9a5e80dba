"""HAC-UML: BiLSTM autoencoder with deep embedded clustering (Khan 2026, doi 10.55529/jaimlnn.61.31.41).

    windows (N, W, D) -> BiLSTM, 2 layers, 64 a direction -> last states (N, 128) -> linear, tanh -> latent (N, 16)
    latent, repeated W times -> LSTM, 2 layers, 64 -> linear -> windows (N, W, D)

The clustering head sees the bottleneck directly (the paper's skip path). Parameters: 219,011 at D = 51 with 8
centroids, 221,319 at
D = 55; the 1.87 M printed in the paper is not the network that it describes. The bounded bottleneck is ours: it gives
latents a public
radius; `bottleneck = "linear"` is the paper's.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from shared.config import DetectorConfig
from shared.detectors.base import Detector, SeededDropout, register


@register
class HacUml(Detector):
    """The default detector; see the module's docstring.

    Example:
        >>> from shared.config import DetectorConfig
        >>> sum(spec.size for spec in HacUml(DetectorConfig(), dim=51).manifest()) + 8 * 16
        219011
    """

    name: ClassVar[str] = "hac-uml"

    def __init__(self, config: DetectorConfig, dim: int) -> None:
        super().__init__(config, dim)
        h, z = config.hidden, config.latent
        self.encoder = nn.ModuleList(
            nn.LSTM(dim if layer == 0 else 2 * h, h, batch_first=True, bidirectional=True)
            for layer in range(config.layers)
        )
        self.bottleneck = nn.Linear(2 * h, z)
        self.decoder = nn.ModuleList(
            nn.LSTM(z if layer == 0 else h, h, batch_first=True) for layer in range(config.layers)
        )
        self.output = nn.Linear(h, dim)
        self.dropout = SeededDropout(config.dropout)

    def encode(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Tensor:
        states, h = windows_NWD, self.config.hidden
        for depth, layer in enumerate(self.encoder):
            states, _ = layer(states if depth == 0 else self.dropout(states, noise))
        # Last state of each direction: the forward one ends at the newest sample, the backward one at the oldest.
        ends_N2h = torch.cat([states[:, -1, :h], states[:, 0, h:]], dim=1)
        return self.bounded(self.bottleneck(ends_N2h))

    def decode(self, latents_NZ: Tensor, noise: torch.Generator | None = None) -> Tensor:
        states = latents_NZ[:, None, :].expand(-1, self.config.window, -1)
        for depth, layer in enumerate(self.decoder):
            states, _ = layer(states if depth == 0 else self.dropout(states, noise))
        windows_NWD: Tensor = self.output(states)
        return windows_NWD

    def graph(self) -> bytes:
        from shared.detectors.graph import Graph  # needs the package onnx, which a plant has

        c, g = self.config, Graph(self.weights())
        states = g.node("Transpose", ["windows"], ["window_first"], perm=[1, 0, 2])
        for depth in range(c.layers):
            states = g.lstm(states, f"encoder.{depth}", both_ways=True, last_only=depth == c.layers - 1)
        # The last states of the two ways are those at the newest and at the oldest sample: what `encode` takes.
        ends = g.reshape(g.node("Transpose", [states], ["ends.beside"], perm=[1, 0, 2]), [1, 2 * c.hidden], "ends")
        bounded = c.bottleneck == "tanh"
        latents = g.linear(ends, "bottleneck", "latents.free" if bounded else "latents")
        if bounded:
            latents = g.node("Tanh", [latents], ["latents"])
        repeats = g.constant("repeats", np.array([c.window, 1, 1], np.int64))
        states = g.node("Expand", [g.reshape(latents, [1, 1, c.latent], "latent"), repeats], ["latent.repeated"])
        for depth in range(c.layers):
            states = g.lstm(states, f"decoder.{depth}", both_ways=False)
        g.node("Transpose", [g.linear(states, "output", "rows")], ["reconstruction"], perm=[1, 0, 2])
        window = (1, c.window, self.dim)
        return g.model({"windows": window}, {"reconstruction": window, "latents": (1, c.latent)})
