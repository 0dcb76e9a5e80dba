"""The mean over plants, one update at a time.

Server memory does not grow with the number of plants as long as replies come roughly in the order of the roster, as the
in-process engine delivers them. Replies that overtake a slow plant wait for it (`server.coordinator`): the price of
sums that do not depend on who was faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from server.rounds import OptimizerState
from shared.clustering import Statistic
from shared.lag.pooled import LagSum
from shared.model import Weights
from shared.wire.gate import Accepted

Weighting = Literal["examples", "bucket", "uniform"]
POPULATED = 1.0  # segments of a plant in a cluster from which on it counts as one that populates it


def site_weights(examples: Mapping[str, int], weighting: Weighting, cap: float) -> dict[str, float]:
    """How much each plant counts in the mean, before normalisation; sorted by name.

    Args:
        examples: training windows by plant.
        weighting: `examples` (FedAvg, McMahan et al. 2017), `bucket` (the next power of two: volume leaks less), or
            `uniform`.
        cap: no plant counts more than `cap` times the median plant.

    Example:
        >>> site_weights({"a": 100, "b": 120, "c": 9_000}, "examples", cap=10)
        {'a': 100.0, 'b': 120.0, 'c': 1200.0}
    """
    raw = {plant: _raw_weight(n, weighting) for plant, n in sorted(examples.items())}
    limit = cap * float(np.median(list(raw.values()))) if raw else math.inf
    return {plant: min(weight, limit) for plant, weight in raw.items()}


def _raw_weight(examples: int, weighting: Weighting) -> float:
    if weighting == "uniform":
        return 1.0
    return float(examples if weighting == "examples" else 1 << (examples - 1).bit_length())


@dataclass(frozen=True)
class Aggregate:
    """What the accepted replies of a round amount to.

    Attributes:
        weights: sum_s w_s theta_s / sum_s w_s, float32; of gradients where the round asked for these; None when the
            round carried none.
        statistic: sum over plants; None when the round carried none.
        metrics: weighted means.
        count: accepted replies.
        plants_K: how many plants populate each cluster; empty when the round carried no statistic.
        norms: norms of the updates, before they are clipped; empty under the mean.
        bound: what they were clipped to; infinite when they were not.
        notes: what a person should know about how they were put together.
        moments: sum over plants; None when the round carried none that may be shared.
    """

    weights: Weights | None
    statistic: Statistic | None
    metrics: Mapping[str, float]
    count: int
    plants_K: tuple[int, ...] = ()
    norms: tuple[float, ...] = ()
    bound: float = math.inf
    notes: tuple[str, ...] = ()
    moments: LagSum | None = None


class Fold(Protocol):
    """Puts accepted replies together, one at a time, in the order given."""

    def add(self, accepted: Accepted, weight: float) -> None:
        """Fold one reply in; it may be forgotten afterwards."""

    def result(self) -> Aggregate:
        """What they amount to."""


@dataclass
class RunningMean:
    """Folds accepted replies in, in the order given; the coordinator sorts by plant, so sums are reproducible."""

    _total: float = 0.0
    _count: int = 0
    _weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _statistic: Statistic | None = None
    _plants_K: NDArray[np.int64] | None = None
    _metrics: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, accepted: Accepted, weight: float) -> None:
        """Fold one reply in; it may be forgotten afterwards."""
        self._count += 1
        self._total += weight
        for name, value in (accepted.weights or {}).items():
            if name in self._weights:
                self._weights[name] += weight * value.astype(np.float64)
            else:
                self._weights[name] = weight * value.astype(np.float64)
        if accepted.statistic is not None:
            self._statistic = accepted.statistic + self._statistic if self._statistic else accepted.statistic
            here_K = (accepted.statistic.counts_K >= POPULATED).astype(np.int64)
            self._plants_K = here_K if self._plants_K is None else self._plants_K + here_K
        for name, number in accepted.metrics.items():
            done, share = self._metrics.get(name, (0.0, 0.0))
            self._metrics[name] = (done + weight * number, share + weight)

    def result(self) -> Aggregate:
        """The mean so far."""
        weights = {name: (total / self._total).astype(np.float32) for name, total in self._weights.items()}
        metrics = {name: done / share for name, (done, share) in self._metrics.items() if share > 0}
        plants_K = () if self._plants_K is None else tuple(self._plants_K.tolist())
        return Aggregate(weights or None, self._statistic, metrics, self._count, plants_K)


def average(updates: Sequence[tuple[Accepted, float]]) -> Aggregate:
    """The mean of updates at hand; the order in which they are given does not matter."""
    mean = RunningMean()
    for accepted, weight in sorted(updates, key=lambda pair: pair[0].plant):
        mean.add(accepted, weight)
    return mean.result()


@np.errstate(over="ignore", invalid="ignore")  # the caller looks at what comes out
def adam_step(
    weights: Weights, gradient: Weights, state: OptimizerState, learning_rate: float
) -> tuple[Weights, OptimizerState]:
    """One step of Adam at the server on the plants' mean gradient (Reddi et al. 2021, algorithm 2, FedAdam).

    m <- .9 m + .1 g,  v <- .999 v + .001 g^2,  theta <- theta - eta m' / (sqrt(v') + 1e-8), with bias-corrected m', v'.
    A rate too high gives infinite weights, not an error.
    """
    t = state.step + 1
    first: dict[str, NDArray[np.float32]] = {}
    second: dict[str, NDArray[np.float32]] = {}
    moved: dict[str, NDArray[np.float32]] = {}
    for name, theta in weights.items():
        g = gradient[name].astype(np.float64)
        m = 0.9 * state.first.get(name, 0.0) + 0.1 * g
        v = 0.999 * state.second.get(name, 0.0) + 0.001 * g * g
        step = learning_rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        first[name], second[name] = m.astype(np.float32), v.astype(np.float32)
        moved[name] = (theta - step).astype(np.float32)
    return moved, OptimizerState(t, first, second)
