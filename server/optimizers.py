"""Server optimisers that take how far plants' training moved the mean for a gradient (Reddi et al. 2021, FedOpt).

    Delta = mean_s theta_s - theta, theta <- theta + eta m / (sqrt(v) + tau)        arXiv 2003.00295, algorithm 2
    m <- b1 m + (1 - b1) Delta
    fedadagrad  v <- v + Delta^2                          fedadam  v <- b2 v + (1 - b2) Delta^2
    fedyogi     v <- v - (1 - b2) Delta^2 sign(v - Delta^2)
    fedavgm     m <- b m + Delta, theta <- theta + eta m  (Hsu et al. 2019, arXiv 1909.06335)

b = b1 = 0.9, b2 = 0.99, tau = 1e-3, v begins at tau^2, no bias is corrected: Reddi et al., section 5.2. Flower has the
same four as strategies; here they are functions, for their moments are part of a round's state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from server.rounds import OptimizerState
from shared.config import RoundConfig
from shared.model import Weights

Double = NDArray[np.float64]

MOMENTUM, SQUARES, TAU = 0.9, 0.99, 1e-3


def _adagrad(v: Double, square: Double) -> Double:
    return v + square


def _adam(v: Double, square: Double) -> Double:
    return SQUARES * v + (1.0 - SQUARES) * square


def _yogi(v: Double, square: Double) -> Double:
    return v - (1.0 - SQUARES) * square * np.sign(v - square)


_SECOND: Mapping[str, Callable[[Double, Double], Double]] = {
    "fedadagrad": _adagrad,
    "fedadam": _adam,
    "fedyogi": _yogi,
}
MOVED = ("fedavgm", *_SECOND)
"""Names of these optimisers in `rounds.server_optimizer`."""


@np.errstate(over="ignore", invalid="ignore")  # the caller looks at what comes out
def moved(
    weights: Weights, mean: Weights, state: OptimizerState, rounds: RoundConfig
) -> tuple[Weights, OptimizerState]:
    """One step of `rounds.server_optimizer`.

    Args:
        weights: theta, that were sent.
        mean: what the plants made of them, put together.
        state: moments of the steps before.
        rounds: which optimiser, and eta.
    """
    first: dict[str, NDArray[np.float32]] = {}
    second: dict[str, NDArray[np.float32]] = {}
    after: dict[str, NDArray[np.float32]] = {}
    second_of = _SECOND.get(rounds.server_optimizer)
    for name, theta in weights.items():
        delta = mean[name].astype(np.float64) - theta
        if second_of is None:
            m = MOMENTUM * state.first.get(name, 0.0) + delta
            step = m
        else:
            m = MOMENTUM * state.first.get(name, 0.0) + (1.0 - MOMENTUM) * delta
            v = second_of(np.asarray(state.second.get(name, np.full(theta.shape, TAU**2)), np.float64), delta**2)
            second[name] = v.astype(np.float32)
            step = m / (np.sqrt(v) + TAU)
        first[name] = m.astype(np.float32)
        after[name] = (theta + rounds.server_learning_rate * step).astype(np.float32)
    return after, OptimizerState(state.step + 1, first, second)
