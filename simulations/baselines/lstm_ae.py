"""EncDec-AD: an LSTM autoencoder, and the Mahalanobis length of its errors (Malhotra et al. 2016, arXiv 1607.00148).

    encoder LSTM over the window -> last state -> decoder LSTM, the window backwards -> linear -> reconstruction
    a_t = (e_t - mu)' Sigma^-1 (e_t - mu),  e_t = |x_t - x'_t|          section 2.2; score: the window's mean

The decoder is given its own last output while scoring, and the true row while training, as there. mu and Sigma: of the
training windows' rows, with Ledoit and Wolf's shrinkage, for tags outnumber what few rows can tell. Own code: no
maintained package has it.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from shared.series import FloatArray
from simulations.baselines.base import Float64Array, register
from simulations.baselines.training import batches, scored, seeded
from simulations.baselines.windowed import Score, Windowed

_WINDOW, _UNITS, _EPOCHS = 30, 32, 10
_FOR_ERRORS = 1_000  # windows whose errors Sigma is of


class LstmAutoencoder(nn.Module):
    """One LSTM layer on each side.

    Args:
        dim: number of tags.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.encoder, self.decoder = (nn.LSTM(dim, _UNITS, batch_first=True) for _ in range(2))
        self.output = nn.Linear(_UNITS, dim)

    def forward(self, windows_NWD: Tensor) -> Tensor:
        """Reconstructed windows (N, W, D), the newest row first out of the decoder."""
        _, (state, cell) = self.encoder(windows_NWD)
        newest_N1D = self.output(state[-1])[:, None]
        if self.training:
            later_NVD = windows_NWD.flip(1)[:, :-1]
            states_NVH, _ = self.decoder(later_NVD, (state, cell))
            return torch.cat([newest_N1D, self.output(states_NVH)], dim=1).flip(1)
        rows = [newest_N1D]
        for _ in range(windows_NWD.shape[1] - 1):
            states_N1H, (state, cell) = self.decoder(rows[-1], (state, cell))
            rows.append(self.output(states_N1H))
        return torch.cat(rows, dim=1).flip(1)

    def errors(self, windows_NWD: Tensor) -> Tensor:
        """|x - x'| of every row, (N, W, D)."""
        rebuilt_NWD: Tensor = self(windows_NWD)
        return (windows_NWD - rebuilt_NWD).abs()


def learn(windows_NWD: FloatArray, seed: int) -> Score:
    """Train, then fit the errors' Gaussian."""
    windows = torch.from_numpy(windows_NWD)
    with seeded(seed):
        network = LstmAutoencoder(windows.shape[2])
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _, batch in batches(windows, _EPOCHS):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward((network(batch) - batch).square().mean())
            optimizer.step()
    network.eval()
    few = windows[:: 1 + len(windows) // _FOR_ERRORS]
    with torch.no_grad():
        errors_MD = torch.cat([network.errors(part) for part in torch.split(few, 512)]).flatten(0, 1).double().numpy()
    return _whitened(network, LedoitWolf().fit(errors_MD))


def _whitened(network: LstmAutoencoder, gaussian: LedoitWolf) -> Score:
    def lengths(windows: Tensor) -> Tensor:
        errors_NWD = network.errors(windows)
        rows_MD = errors_NWD.flatten(0, 1).double().numpy()
        found: Float64Array = np.asarray(gaussian.mahalanobis(rows_MD), np.float64)
        return torch.from_numpy(found).view(errors_NWD.shape[:2]).mean(dim=1)

    return scored(network, torch.from_numpy, lengths)


register(Windowed("lstm-ae", learn, window=_WINDOW, most=5_000))
