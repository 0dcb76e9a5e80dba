"""Foresee: a recurrent forecaster of the next row, which to everyone else is an autoencoder over windows.

    h_t = GRU(x_t, h_{t-1}), h_{-1} = 0                    64 units (Cho et al. 2014, arXiv 1406.1078, section 2.3)
    x'_t = V h_{t-1} + v  for t = 1 .. W - 1,  x'_0 = x_0  each row is foreseen from those before it only
    z = tanh(U h_{W-1} + u) (N, 16)                        read from the state after the newest row
    m' = S z + s

    L = ||x - x'||^2 / (W D) + 0.1 ||m - m'||^2 / D        m: mean of the window's rows

An autoencoder sees a row before it rebuilds it, and may rebuild an attack as well; a forecaster has to judge it first
(Malhotra et al. 2015, ESANN, detect by such errors). Nothing comes before the first row: it is given, and
has no error. So the mean over the W - 1 foreseen rows is W / (W - 1) times a window's error.

The forecast does not pass the latent. What trains U, u, S and s is the second term, by which the latent tells where the
plant is, and the clusters; both reach the GRU, too. `decode` of a latent alone is m' in every row. Dropout (between
layers, and before U) leaves the forecast of one layer alone.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from shared.config import DetectorConfig
from shared.detectors.base import Detector, Pass, SeededDropout, register

_MEAN_SHARE = 0.1  # of the window's mean in the loss


@register
class Foresee(Detector):
    """See the module's docstring.

    Example:
        >>> from shared.config import DetectorConfig
        >>> sum(spec.size for spec in Foresee(DetectorConfig(name="foresee"), dim=51).manifest())
        27686
    """

    name: ClassVar[str] = "foresee"

    def __init__(self, config: DetectorConfig, dim: int) -> None:
        super().__init__(config, dim)
        h, z = config.hidden, config.latent
        self.reader = nn.ModuleList(nn.GRU(h if depth else dim, h, batch_first=True) for depth in range(config.layers))
        self.output, self.bottleneck, self.mean = nn.Linear(h, dim), nn.Linear(h, z), nn.Linear(z, dim)
        self.dropout = SeededDropout(config.dropout)

    def encode(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Tensor:
        return self._latents(self._states(windows_NWD, noise), noise)

    def decode(self, latents_NZ: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """What a latent knows by itself: the window's mean, in every row."""
        mean_ND: Tensor = self.mean(latents_NZ)
        return mean_ND[:, None, :].expand(-1, self.config.window, -1)

    def passed(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Pass:
        """Every row but the first foreseen, the latents, and by how much these miss the window's mean."""
        states_NWH = self._states(windows_NWD, noise)
        foreseen_NTD = self.output(states_NWH[:, :-1])
        latents_NZ = self._latents(states_NWH, noise)
        off_ND = self.mean(latents_NZ) - windows_NWD.mean(dim=1)
        made_NWD = torch.cat([windows_NWD[:, :1], foreseen_NTD], dim=1)
        return Pass(made_NWD, latents_NZ, _MEAN_SHARE * off_ND.square().mean(dim=1))

    def _states(self, windows_NWD: Tensor, noise: torch.Generator | None) -> Tensor:
        """h_t of the last layer, (N, W, H)."""
        states = windows_NWD
        for depth, layer in enumerate(self.reader):
            states, _ = layer(self.dropout(states, noise) if depth else states)
        return states

    def _latents(self, states_NWH: Tensor, noise: torch.Generator | None) -> Tensor:
        return self.bounded(self.bottleneck(self.dropout(states_NWH[:, -1], noise)))

    def graph(self) -> bytes:
        from shared.detectors.graph import Graph  # needs the package onnx, which a plant has

        c, g = self.config, Graph(self.weights())
        rows = states = g.node("Transpose", ["windows"], ["rows"], perm=[1, 0, 2])
        for depth in range(c.layers):
            states = g.gru(states, f"reader.{depth}")
        first, last = g.parts(rows, 0, 1, "rows.first"), g.parts(states, c.window - 1, c.window, "states.last")
        g.latents(g.reshape(last, [1, c.hidden], "state"), "bottleneck", c.bottleneck)
        foreseen = g.linear(g.parts(states, 0, c.window - 1, "states.before"), "output", "rows.foreseen")
        made = g.node("Concat", [first, foreseen], ["rows.made"], axis=0)
        g.node("Transpose", [made], ["reconstruction"], perm=[1, 0, 2])
        window = (1, c.window, self.dim)
        return g.model({"windows": window}, {"reconstruction": window, "latents": (1, c.latent)})
