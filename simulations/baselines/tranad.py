"""TranAD: a transformer that rebuilds a window's newest row twice, the second time looking at where it was wrong
(Tuli et al. 2022, PVLDB 15(6), arXiv 2201.07284).

    focus f = 0: x1 = D1(I(w, f), x)         f = (x1 - x)^2: x2 = D2(I(w, f), x)          section 3.3, equations 3 to 6
    L = decay^n ||x - x1||^2 + (1 - decay^n) ||x - x2||^2                                 n: the epoch, from 1
    score: 1/2 ||x - x1||^2 + 1/2 ||x - x2||^2                                            equation 13

w the window of 10 rows, x its newest row. The paper's adversarial term (equation 10) is left out, as in its authors'
published code, whose sizes are taken: one layer a side, width 2 D, 16 hidden units, heads of 2, dropout 0.1. Own code:
that repository says that it is not supported, and no maintained package has it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shared.series import FloatArray
from simulations.baselines.base import register
from simulations.baselines.training import Range, batches, scored, seeded
from simulations.baselines.windowed import Score, Windowed

_WINDOW, _EPOCHS, _HIDDEN, _DROPOUT, _DECAY = 10, 10, 16, 0.1, 0.8


class TranAd(nn.Module):
    """Encoder over the window and the focus, two decoders with the newest row as their query.

    Args:
        dim: number of tags D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        width, heads = 2 * dim, dim
        self.encoder = nn.TransformerEncoderLayer(width, heads, _HIDDEN, _DROPOUT, batch_first=True)
        self.first, self.second = (
            nn.TransformerDecoderLayer(width, heads, _HIDDEN, _DROPOUT, batch_first=True) for _ in range(2)
        )
        self.output = nn.Sequential(nn.Linear(2 * dim, dim), nn.Sigmoid())
        self.places_WC = nn.Buffer(places(_WINDOW, 2 * dim), persistent=False)

    def forward(self, windows_NWD: Tensor) -> tuple[Tensor, Tensor]:
        """Both reconstructions of the newest row, (N, D) each."""
        newest_N1D = windows_NWD[:, -1:]
        first_N1D = self._rebuilt(windows_NWD, torch.zeros_like(windows_NWD), newest_N1D, self.first)
        focus_NWD = (first_N1D - windows_NWD).square()
        return first_N1D[:, 0], self._rebuilt(windows_NWD, focus_NWD, newest_N1D, self.second)[:, 0]

    def _rebuilt(self, windows_NWD: Tensor, focus_NWD: Tensor, newest_N1D: Tensor, decoder: nn.Module) -> Tensor:
        inputs_NWC = torch.cat([windows_NWD, focus_NWD], dim=2) * math.sqrt(windows_NWD.shape[2])
        memory_NWC = self.encoder(inputs_NWC + self.places_WC)
        rebuilt_N1D: Tensor = self.output(decoder(newest_N1D.repeat(1, 1, 2), memory_NWC))
        return rebuilt_N1D

    def scores(self, windows_NWD: Tensor) -> Tensor:
        """Equation 13, (N,)."""
        first, second = ((windows_NWD[:, -1] - one).square().mean(dim=1) for one in self(windows_NWD))
        both: Tensor = 0.5 * first + 0.5 * second
        return both


def places(rows: int, width: int) -> Tensor:
    """Sines and cosines of each row's place, (W, C): Vaswani et al. 2017, section 3.5."""
    angles_WC = torch.arange(rows)[:, None] / 10_000 ** (torch.arange(width) // 2 * 2 / width)
    return torch.where(torch.arange(width) % 2 == 0, angles_WC.sin(), angles_WC.cos())


def learn(windows_NWD: FloatArray, seed: int) -> Score:
    """Train with weights that shift from the first reconstruction to the second."""
    within = Range.of(windows_NWD)
    with seeded(seed):
        network = TranAd(windows_NWD.shape[2])
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-5)
        for epoch, batch in batches(within(windows_NWD), _EPOCHS):
            first, second = ((batch[:, -1] - one).square().mean() for one in network(batch))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(_DECAY**epoch * first + (1.0 - _DECAY**epoch) * second)
            optimizer.step()
    return scored(network, within, network.scores)


register(Windowed("tranad", learn, window=_WINDOW, most=5_000))
