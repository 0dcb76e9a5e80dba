"""The network of `hac-uml` (11 sensors, 68 units, 220,007 weights) and a handful of windows, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DIM, WINDOW, HIDDEN, LATENT = 11, 2, 68, 16
WINDOWS = 16


class Net(nn.Module):
    """Two-layer BiLSTM encoder, two-layer LSTM decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(DIM, HIDDEN, num_layers=2, batch_first=True, bidirectional=True)
        self.bottleneck = nn.Linear(2 * HIDDEN, LATENT)
        self.decoder = nn.LSTM(LATENT, HIDDEN, num_layers=2, batch_first=True)
        self.output = nn.Linear(HIDDEN, DIM)

    def forward(self, windows: Tensor) -> Tensor:
        states, _ = self.encoder(windows)
        latents = torch.tanh(self.bottleneck(states[:, -1]))
        decoded, _ = self.decoder(latents[:, None, :].expand(-1, WINDOW, -1))
        result: Tensor = self.output(decoded)
        return result


def windows(plant: int) -> Tensor:
    """A plant's data."""
    return torch.randn(WINDOWS, WINDOW, DIM, generator=torch.Generator().manual_seed(plant))


def train(net: Net, data: Tensor) -> float:
    """One epoch of one batch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(data), data)
    torch.autograd.backward(loss)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def test(net: Net, data: Tensor) -> float:
    """Loss of a model."""
    return float(nn.functional.mse_loss(net(data), data))
