"""vae: the draw, the divergence, their weight, and what clusters and scores are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from shared.config import DetectorConfig
from shared.detectors import ClusterTarget, build
from shared.detectors.vae import Vae, divergences, drawn
from shared.model import initial_weights

WINDOW, DIM = 6, 3


def make(**settings: object) -> Vae:
    given = {"name": "vae", "window": WINDOW, "hidden": 8, "latent": 4, "dropout": 0.0, **settings}
    made = build(DetectorConfig.model_validate(given), DIM)
    assert isinstance(made, Vae)
    made.load_weights(initial_weights(made.manifest(), 0))
    return made


def windows(count: int = 5) -> Tensor:
    return torch.randn(count, WINDOW, DIM, generator=torch.Generator().manual_seed(1))


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_divergence_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(7, 4, generator=noise()), torch.randn(7, 4, generator=noise(1))
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    due = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergences(mean, log_variance), due)
    assert divergences(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_a_draw_has_the_mean_and_the_variance_and_comes_from_the_generator_alone() -> None:
    mean, log_variance = torch.full((40_000, 1), 0.3), torch.full((40_000, 1), -1.2)
    before = torch.random.get_rng_state()
    values = drawn(mean, log_variance, noise())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert values.mean().item() == pytest.approx(0.3, abs=0.01)
    assert values.var().item() == pytest.approx(np.exp(-1.2), rel=0.03)
    assert torch.equal(values, drawn(mean, log_variance, noise()))
    assert not torch.equal(values, drawn(mean, log_variance, noise(1)))


def test_scores_and_latents_are_those_of_the_mean() -> None:
    made, x = make(), windows()
    mean, _ = made.posterior(x)
    assert torch.equal(made.encode(x), mean)
    assert not torch.equal(made.encode(x, noise()), mean)
    np.testing.assert_array_equal(made.score(x).latent_NZ, mean.detach().numpy())


def test_gradients_go_through_the_draw() -> None:
    """Both heads learn from the reconstruction alone: with the divergence at weight 0 there is no other way."""
    made = make(kl_weight=0.0)
    made.loss(windows(), None, noise()).total.backward()
    for head in (made.mean, made.log_variance):
        assert head.weight.grad is not None
        assert head.weight.grad.abs().max() > 0


def test_the_loss_is_the_evidence_bound_in_units_of_the_error() -> None:
    """-ELBO = 1/2 ||x - x'||^2 + KL + constant with unit variance; times 2 / (W D)."""
    made, x = make(), windows()
    mean, log_variance = made.posterior(x, noise())
    draws = noise()
    rebuilt = made.decode(drawn(mean, log_variance, draws), draws)
    bound = 0.5 * (rebuilt - x).square().sum((1, 2)) + divergences(mean, log_variance)
    loss = made.loss(x, None, noise())
    torch.testing.assert_close(loss.total, bound.mean() * 2 / (WINDOW * DIM))
    assert loss.prior > 0  # type: ignore[operator]


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_the_weight_of_the_divergence_is_a_setting(weight: float) -> None:
    x = windows()
    with torch.no_grad():
        plain, weighted = make().loss(x, None), make(kl_weight=weight).loss(x, None)
    assert float(weighted.prior) == pytest.approx(weight * float(plain.prior))
    assert torch.equal(weighted.reconstruction, plain.reconstruction)


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="kl_weight"):
        make(kl_weight=-1.0)


def test_clusters_are_of_the_means_and_not_of_draws() -> None:
    """So the statistic that a plant sends and the target that it trains towards speak of the same latents."""
    made, x = make(), windows()
    goal = ClusterTarget(torch.linspace(-0.8, 0.8, 12).reshape(3, 4), torch.tensor([0.5, 0.3, 0.2]), 0.4)
    assert torch.equal(made.loss(x, goal, noise(0)).cluster, made.loss(x, goal, noise(1)).cluster)
    assert torch.equal(made.loss(x, goal, noise(0)).cluster, made.loss(x, goal).cluster)


@pytest.mark.parametrize("bottleneck", ["tanh", "linear"])
def test_variances_stay_finite_whatever_comes_in(bottleneck: str) -> None:
    made = make(bottleneck=bottleneck)
    x = torch.full((2, WINDOW, DIM), 1e6)
    _, log_variance = made.posterior(x)
    assert log_variance.abs().max() <= 8
    loss = made.loss(x / 1e3, None, noise())
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)


def test_the_divergence_draws_unused_coordinates_to_the_prior() -> None:
    """Trained on windows that say nothing, every coordinate ends near N(0, 1)."""
    made, x = make(), torch.zeros(16, WINDOW, DIM)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    draws = noise()
    for _ in range(200):
        optimizer.zero_grad()
        made.loss(x, None, draws).total.backward()
        optimizer.step()
    mean, log_variance = made.posterior(x)
    assert mean.abs().max() < 0.1
    assert log_variance.abs().max() < 0.2
