from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from client.training.infer import encode_all, reconstruction_loss, score_all
from client.training.loop import gradient_step, round_generator, train_epochs
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import DetectorConfig, TrainingConfig
from shared.detectors import ClusterTarget, Detector, build
from shared.errors import TaskGivenUp
from shared.model import initial_weights

CPU = torch.device("cpu")
WINDOW = 8
ROWS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
WINDOWS = TensorWindows(Part(ROWS, np.arange(0, 193, 3)), WINDOW, CPU)


def detector(dropout: float = 0.0, seed: int = 0) -> Detector:
    made = build(DetectorConfig(window=WINDOW, hidden=8, latent=4, dropout=dropout), 3)
    made.load_weights(initial_weights(made.manifest(), seed))
    return made


def config(**fields: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"batch_size": 16} | fields)


def noise(site: str = "north", step: int = 0, seed: int = 0) -> torch.Generator:
    return round_generator(seed, site, step, CPU)


def digest(made: Detector) -> str:
    return hashlib.sha256(b"".join(value.tobytes() for value in made.weights().values())).hexdigest()


def target(alpha: float = 0.3) -> ClusterTarget:
    return ClusterTarget(torch.linspace(-0.5, 0.5, 8).reshape(2, 4), torch.tensor([0.6, 0.4]), alpha)


# ---- windows as tensors ----------------------------------------------------------------------------------------------


def test_batches_are_the_windows_in_order() -> None:
    got = torch.cat(list(WINDOWS.batches(10)))
    assert got.shape == (65, WINDOW, 3)
    for n, start in enumerate(range(0, 193, 3)):
        np.testing.assert_array_equal(got[n].numpy(), ROWS[start : start + WINDOW])
    np.testing.assert_array_equal(WINDOWS.batch(torch.tensor([4, 1])).numpy(), got[[4, 1]].numpy())


# ---- training --------------------------------------------------------------------------------------------------------


def test_training_learns() -> None:
    made = detector()
    before = reconstruction_loss(made, WINDOWS)
    trained = train_epochs(made, WINDOWS, None, config(local_epochs=12, learning_rate=0.03), noise())
    assert reconstruction_loss(made, WINDOWS) < 0.95 * before
    assert trained.reconstruction == pytest.approx(reconstruction_loss(made, WINDOWS), rel=0.1)
    assert trained.cluster == 0.0


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_round_repeats_exactly(dropout: float) -> None:
    digests = set()
    for _ in range(2):
        made = detector(dropout)
        train_epochs(made, WINDOWS, target(), config(local_epochs=2), noise())
        digests.add(digest(made))
        torch.rand(7)  # the global generator is nobody's business
    assert len(digests) == 1


@pytest.mark.parametrize("other", [{"site": "south"}, {"step": 1}, {"seed": 1}])
def test_sites_steps_and_seeds_draw_their_own_numbers(other: dict[str, object]) -> None:
    first, second = detector(), detector()
    train_epochs(first, WINDOWS, None, config(), noise())
    train_epochs(second, WINDOWS, None, config(), noise(**other))
    assert digest(first) != digest(second)


def test_training_touches_no_global_random_state() -> None:
    made = detector(0.3)
    before = torch.random.get_rng_state()
    train_epochs(made, WINDOWS, None, config(), noise())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_round_starts_with_a_fresh_optimiser() -> None:
    """Two epochs in one round are not two rounds of one: Adam's moments end with a round."""
    once, twice = detector(), detector()
    train_epochs(once, WINDOWS, None, config(batch_size=0, local_epochs=2), noise())
    for _ in range(2):
        train_epochs(twice, WINDOWS, None, config(batch_size=0), noise())
    assert digest(once) != digest(twice)
    sgd = config(batch_size=0, local_epochs=2, optimizer="sgd", learning_rate=0.1)
    once, twice = detector(), detector()
    train_epochs(once, WINDOWS, None, sgd, noise())
    for _ in range(2):
        train_epochs(twice, WINDOWS, None, sgd.model_copy(update={"local_epochs": 1}), noise())
    for name, value in once.weights().items():
        np.testing.assert_allclose(value, twice.weights()[name], atol=1e-6)


def test_every_window_is_seen_once_an_epoch() -> None:
    seen: list[int] = []

    class Counting(TensorWindows):
        def batch(self, index_B: torch.Tensor) -> torch.Tensor:
            seen.extend(index_B.tolist())
            return super().batch(index_B)

    windows = Counting(Part(ROWS, np.arange(0, 193, 3)), WINDOW, CPU)
    train_epochs(detector(), windows, None, config(local_epochs=2, batch_size=20), noise())
    assert sorted(seen) == sorted([*range(65), *range(65)])
    assert seen[:65] != list(range(65))
    assert seen[:65] != seen[65:]


@pytest.mark.parametrize("size", [0, 65, 10_000])
def test_a_full_batch_is_one_step_on_the_mean_gradient(size: int) -> None:
    made, plain = detector(), detector()
    train_epochs(made, WINDOWS, target(), config(batch_size=size, optimizer="sgd", learning_rate=0.5), noise())
    plain.loss(WINDOWS.batch(torch.arange(65)), target()).total.backward()
    for name, parameter in plain.named_parameters():
        expected = (parameter - 0.5 * parameter.grad).detach().numpy()
        np.testing.assert_allclose(made.weights()[name], expected, atol=1e-6)


def test_large_batches_in_chunks_have_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, chunked = detector(), detector()
    one = gradient_step(whole, WINDOWS, target(), noise())
    monkeypatch.setattr("client.training.loop._CHUNK", 7)
    many = gradient_step(chunked, WINDOWS, target(), noise())
    assert many.reconstruction == pytest.approx(one.reconstruction, rel=1e-5)
    assert many.cluster == pytest.approx(one.cluster, rel=1e-4)
    for name, value in whole.weights().items():
        np.testing.assert_allclose(value, chunked.weights()[name], atol=1e-6)


def test_one_gradient_step_has_rate_one() -> None:
    made, plain = detector(), detector()
    trained = gradient_step(made, WINDOWS, target(), noise())
    loss = plain.loss(WINDOWS.batch(torch.arange(65)), target())
    loss.total.backward()
    assert trained.reconstruction == pytest.approx(loss.reconstruction.item(), rel=1e-6)
    assert trained.cluster == pytest.approx(loss.cluster.item(), rel=1e-5)
    for name, parameter in plain.named_parameters():
        np.testing.assert_allclose(made.weights()[name], (parameter - parameter.grad).detach().numpy(), atol=1e-6)


def test_the_reported_loss_is_that_of_the_last_epoch() -> None:
    one, three = detector(), detector()
    sgd = {"batch_size": 0, "optimizer": "sgd", "learning_rate": 0.5}
    first = train_epochs(one, WINDOWS, None, config(**sgd), noise())
    third = train_epochs(three, WINDOWS, None, config(local_epochs=3, **sgd), noise())
    assert first.reconstruction == pytest.approx(reconstruction_loss(detector(), WINDOWS), rel=1e-5)
    assert third.reconstruction < first.reconstruction


def test_a_task_is_given_up_between_two_batches() -> None:
    answers = iter([False, False, True])
    made = detector()
    with pytest.raises(TaskGivenUp):
        train_epochs(made, WINDOWS, None, config(), noise(), stop=lambda: next(answers))
    assert all(np.isfinite(value).all() for value in made.weights().values())
    assert list(answers) == []


# ---- inference -------------------------------------------------------------------------------------------------------


def test_inference_in_batches_is_inference_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = detector(dropout=0.4)
    whole = WINDOWS.batch(torch.arange(65))
    with torch.no_grad():
        expected, latents = made(whole)
    error = (expected - whole).square().mean(dim=(1, 2)).numpy()
    monkeypatch.setattr("client.training.infer._BATCH", 9)
    np.testing.assert_allclose(encode_all(made, WINDOWS), latents.numpy(), atol=1e-6)
    scores = score_all(made, WINDOWS)
    np.testing.assert_allclose(scores.error_N, error, rtol=1e-5)
    assert reconstruction_loss(made, WINDOWS) == pytest.approx(error.mean(), rel=1e-5)


def test_no_windows_no_scores() -> None:
    none = TensorWindows(Part(ROWS, np.empty(0, np.int64)), WINDOW, CPU)
    assert encode_all(detector(), none).shape == (0, 4)
    scores = score_all(detector(), none)
    assert (scores.error_N.shape, scores.contribution_ND.shape, scores.latent_NZ.shape) == ((0,), (0, 3), (0, 4))
    assert reconstruction_loss(detector(), none) == 0.0
