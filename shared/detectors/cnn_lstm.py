"""CNN-LSTM autoencoder: 82,859 parameters at D = 43, whatever the window (BATADAL with W = 24).

    windows (N, W, D) -> convolution of 3 steps, 32 channels, ReLU -> the larger of each two steps (N, W / 2, 32)
    -> LSTM 64 -> LSTM 32, last state = latent (N, 32)
    latent, repeated W / 2 times -> LSTM 32 -> LSTM 64 -> every step twice (N, W, 64)
    -> convolution of 3 steps -> windows (N, W, D)

The published count has one bias a gate, as Keras has; PyTorch's LSTM has two, 768 parameters more, of which only the
sum counts. So layers here have none, and a last input that is always 1: its weights are the biases.
An LSTM's state is o tanh(c), within (-1, 1) by itself: the latent needs no other bound.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.config import DetectorConfig
from shared.detectors.base import Detector, SeededDropout, register
from shared.model import Weights


@register
class CnnLstm(Detector):
    """See the module's docstring.

    Example:
        >>> from shared.config import DetectorConfig
        >>> sum(spec.size for spec in CnnLstm(DetectorConfig(name="cnn-lstm", window=24), dim=43).manifest())
        82859
    """

    name: ClassVar[str] = "cnn-lstm"

    def __init__(self, config: DetectorConfig, dim: int) -> None:
        super().__init__(config, dim)
        channels = max(1, config.hidden // 2)
        units = [*[config.hidden] * (config.layers - 1), config.latent]
        self.convolve = nn.Conv1d(dim, channels, 3, padding=1)
        self.encoder = _lstms([channels, *units])
        self.decoder = _lstms([config.latent, *reversed(units)])
        self.output = nn.Conv1d(units[0], dim, 3, padding=1)
        self.dropout = SeededDropout(config.dropout)

    @property
    def steps(self) -> int:
        """Of a window after pooling; the last step of an odd window is alone."""
        return (self.config.window + 1) // 2

    def encode(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Tensor:
        features_NCW = self.convolve(windows_NWD.transpose(1, 2)).relu()
        pooled_NCT = functional.max_pool1d(features_NCW, 2, ceil_mode=True)
        states_NTZ = self._through(self.encoder, self.dropout(pooled_NCT.transpose(1, 2), noise), noise)
        return states_NTZ[:, -1]

    def decode(self, latents_NZ: Tensor, noise: torch.Generator | None = None) -> Tensor:
        repeated_NTZ = latents_NZ[:, None, :].expand(-1, self.steps, -1)
        states_NTH = self._through(self.decoder, repeated_NTZ, noise)
        states_NWH = states_NTH.repeat_interleave(2, dim=1)[:, : self.config.window]
        windows_NWD: Tensor = self.output(states_NWH.transpose(1, 2)).transpose(1, 2)
        return windows_NWD

    def _through(self, layers: nn.ModuleList, states: Tensor, noise: torch.Generator | None) -> Tensor:
        for depth, layer in enumerate(layers):
            dropped = self.dropout(states, noise) if depth else states
            states, _ = layer(functional.pad(dropped, (0, 1), value=1.0))
        return states

    def graph(self) -> bytes:
        from shared.detectors.graph import Graph  # needs the package onnx, which a plant has

        c, g = self.config, Graph(_with_biases(self.weights()))
        channels = g.node("Transpose", ["windows"], ["channels"], perm=[0, 2, 1])
        features = g.node("Relu", [g.conv(channels, "convolve", "features")], ["features.positive"])
        pooled = g.node("MaxPool", [features], ["pooled"], kernel_shape=[2], strides=[2], ceil_mode=1)
        states = g.node("Transpose", [pooled], ["pooled.first"], perm=[2, 0, 1])
        for depth in range(c.layers):
            states = g.lstm(states, f"encoder.{depth}", both_ways=False, last_only=depth == c.layers - 1)
        latents = g.reshape(states, [1, c.latent], "latents")
        repeats = g.constant("repeats", np.array([self.steps, 1, 1], np.int64))
        states = g.node("Expand", [g.reshape(latents, [1, 1, c.latent], "latent"), repeats], ["latent.repeated"])
        for depth in range(c.layers):
            states = g.lstm(states, f"decoder.{depth}", both_ways=False)
        rows = g.twice(states, self.steps, c.window, "rows")
        rebuilt = g.conv(g.node("Transpose", [rows], ["rows.channels"], perm=[1, 2, 0]), "output", "rebuilt")
        g.node("Transpose", [rebuilt], ["reconstruction"], perm=[0, 2, 1])
        window = (1, c.window, self.dim)
        return g.model({"windows": window}, {"reconstruction": window, "latents": (1, c.latent)})


def _lstms(sizes: list[int]) -> nn.ModuleList:
    """One layer from each size to the next; each has the input that is always 1 beside its own."""
    return nn.ModuleList(nn.LSTM(inputs + 1, units, batch_first=True, bias=False) for inputs, units in pairwise(sizes))


def _with_biases(weights: Weights) -> Weights:
    """The same layers with biases of their own instead of the input that is always 1, as ONNX has them."""
    split = dict(weights)
    for name in [name for name in weights if name.endswith(".weight_ih_l0")]:
        layer, into_GI = name.removesuffix(".weight_ih_l0"), weights[name]
        split[name], split[f"{layer}.bias_ih_l0"] = into_GI[:, :-1], into_GI[:, -1]
        split[f"{layer}.bias_hh_l0"] = np.zeros(len(into_GI), np.float32)
    return split
