"""FedProx and what it does to training; without it, training is what it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.training.loop import round_generator, train_epochs
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import DetectorConfig, TrainingConfig
from shared.detectors import Detector, build
from shared.detectors.adapter import Adapted
from shared.model import Weights

CPU = torch.device("cpu")
SMALL = DetectorConfig(window=6, hidden=4, latent=2, dropout=0.0)


def trained(
    mu: float, detector: Detector, epochs: int = 3, optimizer: str = "sgd", whole: bool = False
) -> tuple[Weights, Weights]:
    rows_TD = np.random.default_rng(0).normal(size=(80, detector.dim)).astype(np.float32)
    windows = TensorWindows(Part(rows_TD, np.arange(70)), 6, CPU)
    config = TrainingConfig.model_validate(
        {"local_epochs": epochs, "batch_size": 0 if whole else 16, "optimizer": optimizer, "learning_rate": 0.1}
    )
    before = detector.weights()
    train_epochs(detector, windows, None, config, round_generator(0, "a", 0, CPU), proximal=mu)
    return before, detector.weights()


def seeded(dim: int = 3) -> Detector:
    torch.manual_seed(0)
    return build(SMALL, dim)


def distance(mu: float, optimizer: str = "sgd") -> float:
    before, after = trained(mu, seeded(), optimizer=optimizer)
    return float(sum(np.square(after[name] - before[name]).sum() for name in before))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_farther_it_pulls_the_nearer_training_stays(optimizer: str) -> None:
    # mu stays below 2 / learning rate, beyond which plain descent on the term itself diverges
    free, held = distance(0.0, optimizer), distance(5.0, optimizer)
    assert held < 0.8 * free


def test_one_step_is_that_of_the_formula() -> None:
    """w <- w - eta (grad F(w) + mu (w - w_t)), eta = 0.1: the first step has no pull, the second mu times the first."""
    begin, one = trained(0.0, seeded(), 1, whole=True)
    (_, free), (_, held) = (trained(mu, seeded(), 2, whole=True) for mu in (0.0, 2.0))
    for name, was in begin.items():
        np.testing.assert_allclose(held[name], free[name] - 0.1 * 2.0 * (one[name] - was), atol=1e-6)


def test_an_adapter_is_not_held_back() -> None:
    torch.manual_seed(0)
    detector = Adapted(SMALL, ("LIT101", "FIT101"), 5)
    start = detector.own_weights()
    before, after = trained(9.0, detector)
    assert all(np.abs(after[name] - before[name]).max() < 0.05 for name in before)
    assert np.abs(detector.own_weights()["adapter.outlet.weight"] - start["adapter.outlet.weight"]).max() > 0.01
