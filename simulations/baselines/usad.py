"""USAD: two autoencoders with one encoder, the second trained against the first (Audibert et al. 2020,
doi 10.1145/3394486.3403392).

    w1 = D1(E(w)),  w2 = D2(E(w)),  w2'' = D2(E(w1))                                    n: the epoch, from 1
    autoencoder 1:  1/n ||w - w1||^2 + (1 - 1/n) ||w - w2''||^2                          equation 7
    autoencoder 2:  1/n ||w - w2||^2 - (1 - 1/n) ||w - w2''||^2                          equation 8
    score:          1/2 ||w - w1||^2 + 1/2 ||w - w2''||^2                                equation 9, alpha = beta

Own code: no maintained package has it. The published networks shrink by half twice; 12 rows a window, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.series import FloatArray
from simulations.baselines.base import register
from simulations.baselines.training import Range, batches, scored, seeded
from simulations.baselines.windowed import Score, Windowed

_WINDOW, _LATENT, _EPOCHS, _WIDEST = 12, 32, 20, 512


class Usad(nn.Module):
    """One encoder, two decoders; windows lie within 0 and 1.

    Args:
        whole: numbers of a window.
    """

    def __init__(self, whole: int) -> None:
        super().__init__()
        half, quarter = (max(8, min(_WIDEST, whole // part)) for part in (2, 4))
        self.encoder = _three(whole, half, quarter, _LATENT, nn.ReLU())
        self.first, self.second = (_three(_LATENT, quarter, half, whole, nn.Sigmoid()) for _ in range(2))

    def forward(self, flat_NX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """w1, w2 and w2''."""
        latents_NZ = self.encoder(flat_NX)
        rebuilt_NX = self.first(latents_NZ)
        return rebuilt_NX, self.second(latents_NZ), self.second(self.encoder(rebuilt_NX))

    def scores(self, windows_NWD: Tensor) -> Tensor:
        """Equation 9, (N,)."""
        flat_NX = windows_NWD.flatten(1)
        first, _, again = self(flat_NX)
        errors: Tensor = 0.5 * (flat_NX - first).square().mean(1) + 0.5 * (flat_NX - again).square().mean(1)
        return errors


def learn(windows_NWD: FloatArray, seed: int) -> Score:
    """Train both autoencoders in turns."""
    within = Range.of(windows_NWD)
    with seeded(seed):
        network = Usad(windows_NWD[0].size)
        one, other = (
            torch.optim.Adam([*network.encoder.parameters(), *decoder.parameters()], lr=1e-3)
            for decoder in (network.first, network.second)
        )
        for epoch, windows in batches(within(windows_NWD), _EPOCHS):
            for optimizer, sign in ((one, 1.0), (other, -1.0)):
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(_loss(network, windows.flatten(1), epoch, sign))
                optimizer.step()
    return scored(network, within, network.scores)


def _loss(network: Usad, flat_NX: Tensor, epoch: int, sign: float) -> Tensor:
    """Equation 7 with the sign 1, equation 8 with -1."""
    first, second, again = network(flat_NX)
    rebuilt = (flat_NX - (first if sign > 0 else second)).square().mean()
    loss: Tensor = rebuilt / epoch + sign * (1.0 - 1.0 / epoch) * (flat_NX - again).square().mean()
    return loss


def _three(inputs: int, first: int, second: int, outputs: int, end: nn.Module) -> nn.Sequential:
    layers = [nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, outputs), end]
    return nn.Sequential(*layers)


register(Windowed("usad", learn, window=_WINDOW, most=10_000))
