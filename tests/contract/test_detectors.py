"""What every registered detector must do; a new file beside `shared/detectors/hac_uml.py` is picked up here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.config import DetectorConfig
from shared.detectors import ClusterTarget, Detector, build, cluster_target, known
from shared.errors import UnknownName
from shared.model import Clusters, initial_weights, parse_model
from shared.model import GlobalModel as Model

WINDOW, DIM, HIDDEN, LATENT = 8, 3, 8, 4
pytestmark = pytest.mark.parametrize("name", known())


def make(name: str, seed: int = 0, **config: object) -> Detector:
    settings = {"name": name, "window": WINDOW, "hidden": HIDDEN, "latent": LATENT, **config}
    detector = build(DetectorConfig.model_validate(settings), DIM)
    detector.load_weights(initial_weights(detector.manifest(), seed))
    return detector


def windows(count: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, WINDOW, DIM, generator=torch.Generator().manual_seed(seed))


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def target(alpha: float = 0.4) -> ClusterTarget:
    centroids = torch.linspace(-0.8, 0.8, 3 * LATENT).reshape(3, LATENT)
    return ClusterTarget(centroids, torch.tensor([0.5, 0.3, 0.2]), alpha)


def test_shapes(name: str) -> None:
    detector, x = make(name), windows()
    latents = detector.encode(x)
    assert latents.shape == (6, LATENT)
    assert detector.decode(latents).shape == x.shape
    rebuilt, again = detector(x)
    assert (rebuilt.shape, again.shape) == (x.shape, latents.shape)
    scores = detector.score(x)
    assert (scores.error_N.shape, scores.contribution_ND.shape, scores.latent_NZ.shape) == ((6,), (6, DIM), (6, LATENT))
    assert {scores.error_N.dtype, scores.contribution_ND.dtype, scores.latent_NZ.dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("count", [1, 2, 17])
def test_any_number_of_windows(name: str, count: int) -> None:
    assert make(name).score(windows(count)).error_N.shape == (count,)


def test_latents_stay_in_their_box(name: str) -> None:
    detector = make(name)
    latents = detector.encode(1000 * windows())
    assert latents.abs().max() <= detector.latent_box
    assert make(name, bottleneck="linear").latent_box == float("inf")


# ---- determinism -----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    x = windows()
    first, again = make(name, dropout=0.3), make(name, dropout=0.3)
    for seed in (0, 1):
        assert torch.equal(first.encode(x, noise(seed)), again.encode(x, noise(seed)))
        losses = [one.loss(x, target(), noise(seed)).total for one in (first, again)]
        assert torch.equal(losses[0], losses[1])


def test_it_draws_from_the_generator_it_is_given_only(name: str) -> None:
    detector, x = make(name, dropout=0.3), windows()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    detector.loss(x, target(), noise()).total.backward()
    detector.score(x)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dropout_needs_a_noise_generator(name: str) -> None:
    x = windows()
    detector = make(name, dropout=0.5)
    detector.train()
    assert torch.equal(detector(x)[0], detector(x)[0])
    assert torch.equal(detector(x)[0], make(name, dropout=0.0)(x)[0])
    quiet = detector.loss(x, None).total
    assert not torch.equal(detector.loss(x, None, noise(0)).total, quiet)
    assert not torch.equal(detector.loss(x, None, noise(0)).total, detector.loss(x, None, noise(1)).total)


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_every_parameter_has_a_finite_gradient(name: str) -> None:
    detector = make(name, dropout=0.2)
    detector.loss(windows(), target(), noise()).total.backward()
    for parameter, tensor in detector.named_parameters():
        assert tensor.grad is not None, parameter
        assert torch.isfinite(tensor.grad).all(), parameter
        assert tensor.grad.abs().max() > 0, parameter


def test_wild_inputs_have_finite_gradients_too(name: str) -> None:
    """The guard of the preprocessing lets through up to 20; a window on a centroid has no distance to it."""
    detector = make(name)
    x = torch.cat([20 * torch.ones(2, WINDOW, DIM), torch.zeros(2, WINDOW, DIM)])
    with torch.no_grad():
        on_it = detector.encode(x)[:3].clone()
    detector.loss(x, ClusterTarget(on_it, torch.tensor([0.98, 0.01, 0.01]), 0.5)).total.backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters())


@pytest.mark.parametrize("clustered", [False, True])
def test_the_loss_is_a_mean_over_windows(name: str, clustered: bool) -> None:
    """Separable: nothing of a window's loss depends on the rest of its batch."""
    detector, x = make(name), windows(7)
    goal = target() if clustered else None
    whole = detector.loss(x, goal)
    alone = [detector.loss(x[i : i + 1], goal) for i in range(len(x))]
    for part in ("total", "reconstruction", "cluster", "prior"):
        mean = torch.stack([torch.as_tensor(getattr(one, part)) for one in alone]).mean()
        torch.testing.assert_close(torch.as_tensor(getattr(whole, part)), mean, rtol=1e-5, atol=1e-7)


def test_the_total_is_the_weighted_sum_of_its_parts(name: str) -> None:
    detector, x = make(name), windows()
    loss = detector.loss(x, target(0.4))
    torch.testing.assert_close(loss.total, loss.reconstruction + 0.4 * loss.cluster + loss.prior)
    assert loss.cluster > 0
    assert torch.equal(detector.loss(x, target(0.0)).total, detector.loss(x, None).total)
    assert detector.loss(x, None).cluster == 0


@pytest.mark.parametrize("goal", [None, target(0.4)], ids=["plain", "clustered"])
def test_the_loss_of_each_window_by_itself_has_the_loss_as_its_mean(name: str, goal: ClusterTarget | None) -> None:
    """What a record's gradient is taken of is what is trained on without privacy (but for dropout)."""
    detector, x = make(name), windows(5)
    losses_N = detector.losses(x, goal)
    assert losses_N.shape == (5,)
    torch.testing.assert_close(losses_N.mean(), detector.loss(x, goal).total)


def test_the_reconstruction_loss_is_the_mean_of_the_scores(name: str) -> None:
    detector, x = make(name), windows()
    error = detector.score(x).error_N.mean()
    assert detector.loss(x, None).reconstruction.item() == pytest.approx(float(error), rel=1e-5)


def test_the_cluster_loss_by_hand(name: str) -> None:
    detector, x, goal = make(name), windows(), target()
    z = detector.encode(x).detach().numpy().astype(np.float64)
    square = ((z[:, None] - goal.centroids_KZ.numpy()[None]) ** 2).sum(2)
    q = 1 / (1 + square)
    q /= q.sum(1, keepdims=True)
    p = q**2 / goal.frequency_K.numpy()
    p /= p.sum(1, keepdims=True)
    expected = (p * np.log(p / q)).sum(1).mean()
    assert detector.loss(x, goal).cluster.item() == pytest.approx(expected, rel=1e-4)


def test_the_target_is_a_constant_of_the_loss(name: str) -> None:
    """Gradients flow through q only: p is what q is drawn to (Xie et al. 2016)."""
    detector, x, goal = make(name), windows(), target()
    detector.loss(x, goal).cluster.backward()
    got = {key: p.grad.clone() for key, p in detector.named_parameters() if p.grad is not None}

    def divergence(stop: bool) -> dict[str, Tensor]:
        detector.zero_grad(set_to_none=True)
        square = (detector.encode(x)[:, None] - goal.centroids_KZ).square().sum(2)
        q = 1 / (1 + square)
        q = q / q.sum(1, keepdim=True)
        p = (q.detach() if stop else q) ** 2 / goal.frequency_K
        p = p / p.sum(1, keepdim=True)
        (p * (p / q).log()).sum(1).mean().backward()
        return {key: p.grad.clone() for key, p in detector.named_parameters() if p.grad is not None}

    constant, moving = divergence(stop=True), divergence(stop=False)
    for key, gradient in got.items():
        torch.testing.assert_close(gradient, constant[key], rtol=1e-3, atol=1e-7)
    assert any(not torch.allclose(gradient, moving[key], rtol=1e-2) for key, gradient in got.items())


def test_masked_clusters_are_left_out(name: str) -> None:
    detector, x = make(name), windows()
    centroids = np.linspace(-0.8, 0.8, 3 * LATENT, dtype=np.float32).reshape(3, LATENT)
    masked = Clusters(
        centroids, np.asarray([0.4, 0.2, 0.4], np.float32), np.asarray([True, False, True]), np.zeros(3, np.int64), 1.0
    )
    two = ClusterTarget(torch.from_numpy(centroids[[0, 2]]), torch.tensor([0.5, 0.5]), 0.3)
    assert torch.equal(detector.loss(x, cluster_target(masked, 0.3)).total, detector.loss(x, two).total)


# ---- aliasing --------------------------------------------------------------------------------------------------------


def test_the_input_is_not_written_to(name: str) -> None:
    detector, x = make(name, dropout=0.3), windows()
    before = x.clone()
    detector.loss(x, target(), noise()).total.backward()
    detector.score(x)
    assert torch.equal(x, before)


def test_weights_are_a_copy(name: str) -> None:
    detector = make(name)
    taken = detector.weights()
    before = {key: value.copy() for key, value in taken.items()}
    optimizer = torch.optim.SGD(detector.parameters(), lr=1.0)
    detector.loss(windows(), None).total.backward()
    optimizer.step()
    for key, value in before.items():
        np.testing.assert_array_equal(taken[key], value)
        assert not np.array_equal(detector.weights()[key], value)


def test_loading_copies_too(name: str) -> None:
    detector = make(name)
    given = {key: np.array(value) for key, value in initial_weights(detector.manifest(), 5).items()}
    detector.load_weights(given)
    for value in given.values():
        value[...] = 7
    expected = initial_weights(detector.manifest(), 5)
    assert all(np.array_equal(value, expected[key]) for key, value in detector.weights().items())


def test_scores_do_not_alias_the_network(name: str) -> None:
    detector, x = make(name), windows()
    scores = detector.score(x)
    before = scores.latent_NZ.copy()
    detector.load_weights(initial_weights(detector.manifest(), 9))
    detector.score(x)
    np.testing.assert_array_equal(scores.latent_NZ, before)


# ---- weights by name -------------------------------------------------------------------------------------------------


def test_the_manifest_is_the_named_parameters(name: str) -> None:
    detector = make(name)
    manifest = detector.manifest()
    assert {spec.name: spec.shape for spec in manifest} == {p: tuple(t.shape) for p, t in detector.named_parameters()}
    assert [spec.name for spec in manifest] == sorted(spec.name for spec in manifest) == list(detector.weights())
    assert all(0 < spec.bound <= 1 for spec in manifest)
    assert make(name, seed=3).manifest() == manifest
    # A buffer would be neither sent nor reset between rounds.
    assert list(detector.buffers()) == []


def test_a_model_file_carries_it_from_one_machine_to_another(name: str) -> None:
    detector, other = make(name), make(name, seed=1)
    x = windows()
    other.load_weights(parse_model(Model(detector.weights()).file_bytes).weights)
    assert torch.equal(detector(x)[0], other(x)[0])
    assert Model(detector.weights()).digest == Model(other.weights()).digest


def test_the_order_of_the_names_does_not_matter(name: str) -> None:
    detector, other = make(name), make(name, seed=1)
    other.load_weights(dict(reversed(detector.weights().items())))
    assert torch.equal(detector(windows())[0], other(windows())[0])


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_contributions_are_shares_of_the_error(name: str) -> None:
    detector, x = make(name), windows()
    scores = detector.score(x)
    np.testing.assert_allclose(scores.contribution_ND.mean(axis=1), scores.error_N, rtol=1e-6)
    with torch.no_grad():
        square = (detector(x)[0] - x).square().numpy()
    np.testing.assert_allclose(scores.contribution_ND, square.mean(axis=1), rtol=1e-5)


def test_a_wild_sensor_has_the_largest_contribution(name: str) -> None:
    x = windows()
    x[:, :, 1] += 15
    assert (make(name).score(x).contribution_ND.argmax(axis=1) == 1).all()


def test_scores_do_not_depend_on_the_batch(name: str) -> None:
    detector, x = make(name), windows(9)
    one_by_one = np.concatenate([detector.score(x[i : i + 1]).error_N for i in range(9)])
    np.testing.assert_allclose(detector.score(x).error_N, one_by_one, rtol=1e-5)


PARAMETERS = {
    "cnn-lstm": {51: 85_427, 55: 86_583, 123: 106_235},
    "ewad": {51: 1_240_488, 55: 1_333_128, 123: 2_908_008},
    "foresee": {51: 27_814, 55: 28_910, 123: 47_542},
    "hac-uml": {51: 219_011, 55: 221_319, 123: 260_555},
    "multiscale": {51: 266_819, 55: 271_431, 123: 349_835},
    "vae": {51: 209_050, 55: 224_530, 123: 487_690},
}
"""Counted here, but for those of hac-uml and cnn-lstm, which are published (docs/detectors.md)."""


@pytest.mark.parametrize("dim", [51, 55, 123])
def test_the_number_of_parameters_with_eight_centroids(name: str, dim: int) -> None:
    config = DetectorConfig(name=name)
    detector = build(config, dim)
    clusters = Clusters(
        np.zeros((8, config.latent), np.float32), np.ones(8, np.float32), np.ones(8, bool), np.zeros(8, np.int64), 1.0
    )
    assert Model(detector.weights(), clusters).parameter_count == PARAMETERS[name][dim]


def test_an_unknown_detector_is_told_what_there_is(name: str) -> None:
    with pytest.raises(UnknownName, match="there is no detector called 'spy'") as caught:
        build(DetectorConfig(name="spy"), 3)
    assert name in caught.value.cure
