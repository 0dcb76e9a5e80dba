from __future__ import annotations

import math

import numpy as np
import pytest

from server.optimizers import MOVED, TAU, moved
from server.rounds import OptimizerState
from shared.config import RoundConfig, build
from shared.errors import InvalidConfig
from shared.model import Weights

THETA = {"w": np.array([1.0, -2.0], np.float32)}
STEPS = (np.array([0.5, -0.1]), np.array([-0.2, 0.3]), np.array([0.1, 0.0]))


def walk(name: str, rate: float) -> Weights:
    """Three rounds in which plants move the model by `STEPS`."""
    weights: Weights = THETA
    state, rounds = (
        OptimizerState(),
        RoundConfig.model_validate({"server_optimizer": name, "server_learning_rate": rate}),
    )
    for step in STEPS:
        mean = {"w": (weights["w"] + step).astype(np.float32)}
        weights, state = moved(weights, mean, state, rounds)
    assert state.step == len(STEPS)
    return weights


def by_hand(name: str, at: int, rate: float) -> float:
    """The formulas of Reddi et al. 2021, algorithm 2, and Hsu et al. 2019, for one coordinate."""
    theta, m, v = float(THETA["w"][at]), 0.0, TAU**2
    for step in STEPS:
        delta = float(step[at])
        if name == "fedavgm":
            m = 0.9 * m + delta
            theta += rate * m
            continue
        m = 0.9 * m + 0.1 * delta
        if name == "fedadagrad":
            v += delta**2
        elif name == "fedadam":
            v = 0.99 * v + 0.01 * delta**2
        else:
            v -= 0.01 * delta**2 * math.copysign(1.0, v - delta**2) if v != delta**2 else 0.0
        theta += rate * m / (math.sqrt(v) + TAU)
    return theta


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.parametrize("at", [0, 1])
def test_it_follows_its_formula(name: str, at: int) -> None:
    assert float(walk(name, 0.1)["w"][at]) == pytest.approx(by_hand(name, at, 0.1), rel=1e-5)


def test_the_first_step_with_momentum_is_the_mean() -> None:
    mean = {"w": np.array([3.0, 4.0], np.float32)}
    after, _ = moved(THETA, mean, OptimizerState(), RoundConfig(server_optimizer="fedavgm"))
    np.testing.assert_allclose(after["w"], mean["w"])


@pytest.mark.parametrize("name", MOVED)
def test_what_it_is_given_stays_as_it_was(name: str) -> None:
    before = THETA["w"].copy()
    walk(name, 0.1)
    np.testing.assert_array_equal(THETA["w"], before)


@pytest.mark.parametrize(
    ("name", "rate"), [("avg", 1e-3), ("adam", 1e-3), ("fedavgm", 1.0), ("fedadam", 1e-2), ("fedyogi", 1e-2)]
)
def test_each_has_a_rate_that_suits_it(name: str, rate: float) -> None:
    assert build({"a": {"rounds": {"server_optimizer": name}}})[0].rounds.server_learning_rate == rate


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ({"recipe": {"sharing": {"share": "trunk"}}, "rounds": {"server_optimizer": "adam"}}, "moves no adapter"),
        ({"recipe": {"sharing": {"proximal": 0.1}}, "rounds": {"server_optimizer": "adam"}}, "no proximal part"),
    ],
)
def test_one_gradient_a_round_is_refused_where_it_would_do_nothing(layer: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        build({"a": layer})
