"""DAGMM-like: a small autoencoder and a mixture of Gaussians, trained together (Zong et al. 2018, ICLR, BJJLHbb0-).

    z = [latent, relative Euclidean distance, cosine similarity of x and x']            equations 1 to 3
    gamma = softmax(MLP(z));  phi, mu, Sigma: the batch's moments under gamma           equations 4 and 5
    E(z) = -log sum_k phi_k N(z; mu_k, Sigma_k)                                         equation 6
    L = mean ||x - x'||^2 + 0.1 mean E(z) + 0.005 sum 1 / diag Sigma                    equation 7
    score: E(z) with phi, mu, Sigma of all training windows

Own code: no maintained package has it. Ours: a latent of 8 (published: 1 and 2, for other data), a ridge of 1e-3 on
every Sigma, and logarithms throughout.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.series import FloatArray
from simulations.baselines.base import register
from simulations.baselines.training import batches, scored, seeded
from simulations.baselines.windowed import Score, Windowed

_LATENT, _GAUSSIANS, _RIDGE = 8, 4, 1e-3
_EPOCHS, _STEPS = 20, 1_000
_ENERGY, _THIN = 0.1, 0.005  # lambda_1, lambda_2: section 4.3


class Mixture(NamedTuple):
    """Shares (K,), means (K, Z), Cholesky factors of the covariances (K, Z, Z)."""

    shares_K: Tensor
    means_KZ: Tensor
    factors_KZZ: Tensor

    @staticmethod
    def of(points_NZ: Tensor, gamma_NK: Tensor) -> Mixture:
        """Equation 5."""
        count_K = gamma_NK.sum(dim=0) + 1e-9
        means_KZ = gamma_NK.T @ points_NZ / count_K[:, None]
        off_NKZ = points_NZ[:, None, :] - means_KZ
        covariance_KZZ = torch.einsum("nk,nky,nkz->kyz", gamma_NK, off_NKZ, off_NKZ) / count_K[:, None, None]
        ridge_ZZ = _RIDGE * torch.eye(points_NZ.shape[1])
        return Mixture(count_K / len(points_NZ), means_KZ, torch.linalg.cholesky(covariance_KZZ + ridge_ZZ))

    def energies(self, points_NZ: Tensor) -> Tensor:
        """Equation 6, (N,)."""
        off_KZN = (points_NZ[:, None, :] - self.means_KZ).permute(1, 2, 0)
        white_KZN = torch.linalg.solve_triangular(self.factors_KZZ, off_KZN, upper=False)
        spread_K = self.factors_KZZ.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        constant = 0.5 * points_NZ.shape[1] * math.log(2 * math.pi)
        log_KN = (self.shares_K.log() - spread_K - constant)[:, None] - 0.5 * white_KZN.square().sum(dim=1)
        return -torch.logsumexp(log_KN, dim=0)


class Dagmm(nn.Module):
    """The compression and the estimation network.

    Args:
        whole: numbers of a window.
    """

    def __init__(self, whole: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(whole, 60), nn.Tanh(), nn.Linear(60, 10), nn.Tanh(), nn.Linear(10, _LATENT)
        )
        self.decoder = nn.Sequential(
            nn.Linear(_LATENT, 10), nn.Tanh(), nn.Linear(10, 60), nn.Tanh(), nn.Linear(60, whole)
        )
        self.estimator = nn.Sequential(
            nn.Linear(_LATENT + 2, 10), nn.Tanh(), nn.Dropout(0.5), nn.Linear(10, _GAUSSIANS)
        )

    def forward(self, flat_NX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (N, X), points z (N, Z + 2), gamma (N, K)."""
        latents_NZ = self.encoder(flat_NX)
        rebuilt_NX = self.decoder(latents_NZ)
        apart_N = (flat_NX - rebuilt_NX).norm(dim=1) / (flat_NX.norm(dim=1) + 1e-6)
        alike_N = functional.cosine_similarity(flat_NX, rebuilt_NX, dim=1)
        points_NZ = torch.cat([latents_NZ, apart_N[:, None], alike_N[:, None]], dim=1)
        return rebuilt_NX, points_NZ, torch.softmax(self.estimator(points_NZ), dim=1)

    def loss(self, flat_NX: Tensor) -> Tensor:
        """Equation 7 on a batch."""
        rebuilt_NX, points_NZ, gamma_NK = self(flat_NX)
        mixture = Mixture.of(points_NZ, gamma_NK)
        variances_KZ = mixture.factors_KZZ.square().sum(dim=2)
        error = (flat_NX - rebuilt_NX).square().mean()
        loss: Tensor = error + _ENERGY * mixture.energies(points_NZ).mean() + _THIN * variances_KZ.reciprocal().sum()
        return loss


def learn(windows_NWD: FloatArray, seed: int) -> Score:
    """Train, then take the mixture of all training windows."""
    flat_NX = torch.from_numpy(windows_NWD).flatten(1)
    with seeded(seed):
        network = Dagmm(flat_NX.shape[1])
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _, batch in batches(flat_NX, _EPOCHS, _STEPS):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(network.loss(batch))
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
    network.eval()
    with torch.no_grad():
        mixture = Mixture.of(*network(flat_NX)[1:])
    return scored(network, torch.from_numpy, lambda windows: mixture.energies(network(windows.flatten(1))[1]))


register(Windowed("dagmm", learn, window=5, most=10_000))
