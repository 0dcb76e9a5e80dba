"""How what was trained leaves the plant: a gradient or weights as they are, or a change in fewer bytes."""

from __future__ import annotations

import time

import numpy as np

from client.agent.residual import Residual, ResidualBook
from shared.clustering import Statistic
from shared.detectors import Detector
from shared.model import Weights
from shared.series import FloatArray
from shared.wire.compress import compress, expand, flatten
from shared.wire.envelope import Number, RawArray, encode_array
from shared.wire.messages import GRADIENT, WEIGHT, Request


class Updates:
    """Encodes updates of a plant.

    Args:
        residuals: what rounding took from the update before, by run.
    """

    def __init__(self, residuals: ResidualBook) -> None:
        self._residuals = residuals

    def weights(self, request: Request, before: Weights, detector: Detector) -> dict[str, RawArray]:
        """The detector's weights as they are now; in fewer bytes, how they changed."""
        now, specs = detector.weights(), detector.manifest()
        if request.order.wire == "fp32":
            return {f"{WEIGHT}{name}": encode_array(value) for name, value in now.items()}
        return self._compressed(request, flatten(now, specs) - flatten(before, specs), detector)

    def gradient(self, request: Request, gradient: Weights, detector: Detector) -> dict[str, RawArray]:
        """A gradient by parameter name; in fewer bytes, the change that a step of 1 along it makes.

        As theta - g it would lose all of g that float32 cannot tell from 0 beside theta.
        """
        if request.order.wire == "fp32":
            return {f"{GRADIENT}{name}": encode_array(value) for name, value in gradient.items()}
        return self._compressed(request, -flatten(gradient, detector.manifest()), detector)

    def _compressed(self, request: Request, delta_P: FloatArray, detector: Detector) -> dict[str, RawArray]:
        specs, step, wire = detector.manifest(), request.order.step, request.order.wire
        before_P = self._residuals.carried(request.run, step, delta_P.size)
        arrays = compress(delta_P + before_P, specs, wire)
        if np.isfinite(delta_P).all():  # else the server refuses it, and nothing of it may stay
            after_P = delta_P + before_P - expand(arrays, specs, wire)
            self._residuals.keep(request.run, Residual(step, before_P, after_P))
        return arrays


def encode_statistic(said: Statistic) -> tuple[dict[str, RawArray], dict[str, Number]]:
    """A cluster statistic as the arrays and numbers of a reply."""
    arrays = {"cluster_sums": encode_array(said.sums_KZ), "cluster_counts": encode_array(said.counts_K)}
    return arrays, {"cluster_spread": said.spread}


class Clock:
    """Seconds by activity."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """What took the time since the lap before."""
        now = time.perf_counter()
        self._laps[name] = now - self._last
        self._last = now

    def numbers(self) -> dict[str, Number]:
        """As a reply carries them."""
        return {f"seconds_{name}": seconds for name, seconds in self._laps.items()}
