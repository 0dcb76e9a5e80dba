"""One member of `ewad`: a Wasserstein GAN with gradient penalty, and an encoder that inverts its generator.

    critic C    min  C(G(z)) - C(x) + 10 (||grad C(x')||_2 - 1)^2       x' = u x + (1 - u) G(z),  u ~ U(0, 1)
                     + C(fault) - C(x) where faults are labelled (ewad_faults.py)
    generator G min  -C(G(z)) / sqrt(W D)
    both E, G   min  ||x - G(E(x))||^2 / (W D) + ||f(x) - f(G(E(x)))||^2 / H

Critic and generator: Gulrajani et al. 2017, arXiv 1704.00028, equation 3 and algorithm 1. Encoder: f-AnoGAN, Schlegl et
al. 2019, doi 10.1016/j.media.2019.01.010, with f the critic's last hidden layer, normalised (ours: nothing bounds its
scale otherwise). Division by sqrt(W D) brings the critic, whose slope is 1 in ||x||, into the units of the error's
root. Each loss moves its own networks only; all are sums over windows. X = W D numbers of a window. The score A weighs
the two differences of the last loss by 0.9 and 0.1, as AnoGAN does (Schlegl et al. 2017, arXiv 1703.05921, eq. 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.config import DetectorConfig
from shared.detectors.ewad_faults import Faults
from shared.detectors.layers import flat

PENALTY = 10.0  # lambda: Gulrajani et al., section 4
SEEN = 0.1  # lambda of AnoGAN, the share of the score that is the critic's
SLOPE = 0.2  # of leaky ReLUs below 0
_TINY = 1e-12


class Member(nn.Module):
    """Encoder, generator and critic, dense.

    Args:
        config: `hidden` units in each of `layers` layers of each network, `latent` numbers between two of them.
        dim: number of sensors D.
    """

    def __init__(self, config: DetectorConfig, dim: int) -> None:
        super().__init__()
        whole, inner = config.window * dim, [config.hidden] * config.layers
        self.config = config
        self.encoder = _dense([whole, *inner, config.latent])
        self.generator = _dense([config.latent, *inner, whole])
        self.critic = _dense([whole, *inner])
        self.verdict = nn.Linear(config.hidden, 1, bias=False)  # a bias would cancel in every difference

    def encode(self, windows_NX: Tensor) -> Tensor:
        """Latents (N, Z)."""
        latents_NZ = _through(self.encoder, windows_NX)
        return torch.tanh(latents_NZ) if self.config.bottleneck == "tanh" else latents_NZ

    def generate(self, latents_NZ: Tensor) -> Tensor:
        """Windows (N, X)."""
        return _through(self.generator, latents_NZ)

    def features(self, windows_NX: Tensor, frozen: bool = False) -> Tensor:
        """What the critic sees, (N, H). Frozen: as constants, so that no gradient reaches its weights."""
        return functional.leaky_relu(_through(self.critic, windows_NX, frozen), SLOPE)

    def sight(self, windows_NX: Tensor, frozen: bool = False) -> Tensor:
        """The f of the module's docstring, (N, H): features in units of their own mean and spread."""
        return functional.layer_norm(self.features(windows_NX, frozen), [self.config.hidden])

    def strange(self, windows_NX: Tensor, rebuilt_NX: Tensor) -> Tensor:
        """A of each window, (N,): how badly it is rebuilt, and how different the critic finds it."""
        unseen_NH = self.sight(windows_NX) - self.sight(rebuilt_NX)
        error_N, unseen_N = (one.square().mean(dim=1) for one in (windows_NX - rebuilt_NX, unseen_NH))
        return (1.0 - SEEN) * error_N + SEEN * unseen_N

    def criticism(self, windows_NX: Tensor, frozen: bool = False) -> Tensor:
        """C(x), (N,): the higher the more like training data."""
        verdict = self.verdict.weight.detach() if frozen else self.verdict.weight
        return functional.linear(self.features(windows_NX, frozen), verdict)[:, 0]

    def drawn(self, count: int, noise: torch.Generator, like: Tensor) -> Tensor:
        """Latents to generate from, (count, Z): uniform in the encoder's box, normal where it has none."""
        latents_NZ = like.new_empty(count, self.config.latent)
        if self.config.bottleneck == "tanh":
            return latents_NZ.uniform_(-1.0, 1.0, generator=noise)
        return latents_NZ.normal_(generator=noise)

    def critic_losses(self, windows_NX: Tensor, noise: torch.Generator, faults: Faults | None = None) -> Tensor:
        """The critic's loss for each window, (N,), against windows generated anew."""
        with torch.no_grad():
            made_NX = self.generate(self.drawn(len(windows_NX), noise, windows_NX))
        share_N1 = torch.empty_like(windows_NX[:, :1]).uniform_(generator=noise)
        return self._judged(windows_NX, made_NX, share_N1) + self._told(windows_NX, noise, faults)

    def losses(self, windows_NX: Tensor, noise: torch.Generator | None, faults: Faults | None = None) -> Tensor:
        """The three losses of each window added up, (N,).

        Without `noise` nothing is drawn: the generated window is the rebuilt one, and x' lies half way.
        """
        rebuilt_NX = self.generate(self.encode(windows_NX))
        unseen_NH = self.sight(windows_NX, frozen=True) - self.sight(rebuilt_NX, frozen=True)
        fit_N = (windows_NX - rebuilt_NX).square().mean(dim=1) + unseen_NH.square().mean(dim=1)
        made_NX, share_N1 = rebuilt_NX, torch.full_like(windows_NX[:, :1], 0.5)
        if noise is not None:
            made_NX = self.generate(self.drawn(len(windows_NX), noise, windows_NX))
            share_N1.uniform_(generator=noise)
        fooled_N = -self.criticism(made_NX, frozen=True) / math.sqrt(windows_NX.shape[1])
        judged_N = self._judged(windows_NX, made_NX.detach(), share_N1)
        return fit_N + fooled_N + judged_N + self._told(windows_NX, noise, faults)

    def _told(self, windows_NX: Tensor, noise: torch.Generator | None, faults: Faults | None) -> Tensor | float:
        """What labelled faults add to the critic's loss of each window; 0 without any, and where nothing is drawn."""
        if faults is None or noise is None:
            return 0.0
        return self.criticism(faults.drawn(len(windows_NX), noise)) - self.criticism(windows_NX)

    def _judged(self, windows_NX: Tensor, made_NX: Tensor, share_N1: Tensor) -> Tensor:
        apart_N = self.criticism(made_NX) - self.criticism(windows_NX)
        steep_N = slope_penalties(self.criticism, windows_NX, made_NX, share_N1)
        return apart_N + PENALTY * steep_N


def slope_penalties(critic: Callable[[Tensor], Tensor], real_NX: Tensor, made_NX: Tensor, share_N1: Tensor) -> Tensor:
    """(||grad C(u x + (1 - u) x_made)||_2 - 1)^2 of each window, (N,): Gulrajani et al. 2017, equation 3.

    Args:
        critic: (N, X) to (N,), each window by itself.
        real_NX, made_NX: windows of the data and of the generator.
        share_N1: u, within 0 and 1.
    """
    with torch.enable_grad():
        between_NX = (share_N1 * real_NX + (1.0 - share_N1) * made_NX).detach().requires_grad_()
        (slope_NX,) = torch.autograd.grad(critic(between_NX).sum(), between_NX, create_graph=True)
        length_N: Tensor = (slope_NX.square().sum(dim=1) + _TINY).sqrt()
        penalty_N: Tensor = (length_N - 1.0).square()
        return penalty_N


def _dense(sizes: list[int]) -> nn.ModuleList:
    return nn.ModuleList(flat(inputs, outputs) for inputs, outputs in pairwise(sizes))


def _through(layers: nn.ModuleList, values: Tensor, frozen: bool = False) -> Tensor:
    """Linear layers with leaky ReLUs between them."""
    for depth, layer in enumerate(layers):
        assert isinstance(layer, nn.Linear)
        entered = functional.leaky_relu(values, SLOPE) if depth else values
        weight, bias = (one.detach() if frozen else one for one in (layer.weight, layer.bias))
        values = functional.linear(entered, weight, bias)
    return values
