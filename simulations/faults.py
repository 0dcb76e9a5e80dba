"""Plants that mean ill, for experiments and tests: an agent in a wrapper that changes what it sends.

The wrapped agent stays honest; only its replies to TRAIN are tampered with. `IN_NORM` is the one that no rule of
aggregation stops: an update as long as an honest one, learnt from data in which the attack to come is normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import numpy as np

from client.agent.bench import Bench
from client.agent.service import PlantAgent
from client.training.tensors import TensorWindows
from shared.config import Recipe
from shared.errors import InvalidConfig
from shared.series import FloatArray, SiteData
from shared.wire.envelope import Packet, decode_array, encode_array
from shared.wire.inventory import Kind
from shared.wire.messages import WEIGHT

LOUD = 10.0  # times an honest update


class Agent(Protocol):
    """What answers for a plant."""

    @property
    def name(self) -> str:
        """The plant's name."""

    def handle(self, packet: Packet) -> Packet:
        """Answer one request."""


class Attack(StrEnum):
    """What a hostile plant does to its update u."""

    SIGN_FLIP = "sign flip"  # -u
    SCALING = "scaling x10"  # 10 u
    NAN = "NaN"
    NOISE = "noise"  # Gaussian, 10 times as long as u
    IN_NORM = "in norm"  # an accomplice's update, as long as u


@dataclass
class Attacker:
    """An agent whose updates are poisoned.

    Args:
        agent: the honest agent of the plant.
        attack: what is done to its updates.
        accomplice: for `IN_NORM`, the agent of the same plant over poisoned data (`Accomplice`).
        seed: of the noise.
        first: training round, by its index in the run, from which on it attacks.
    """

    agent: Agent
    attack: Attack
    accomplice: Agent | None = None
    seed: int = 0
    first: int = 0

    @property
    def name(self) -> str:
        """The plant's name."""
        return self.agent.name

    def handle(self, packet: Packet) -> Packet:
        """Answer like an honest plant, but for the update.

        Raises:
            InvalidConfig: updates are compressed, or `IN_NORM` has no accomplice.
        """
        reply = self.agent.handle(packet)
        if packet.texts.get("kind") != Kind.TRAIN or "refused" in reply.texts:
            return reply
        step = int(packet.numbers["step"])
        if step < self.first:
            return reply
        if packet.texts["wire"] != "fp32":
            raise InvalidConfig("attackers speak fp32 only.", "Set rounds.wire to fp32.")
        before, honest = _weights(packet), _change(packet, reply)
        moved = self._poison(packet, honest, np.random.default_rng([self.seed, step]))
        arrays = {f"{WEIGHT}{name}": encode_array((before[name] + moved[name]).astype(np.float32)) for name in before}
        return replace(reply, arrays={**reply.arrays, **arrays})

    def _poison(self, packet: Packet, honest: dict[str, FloatArray], rng: np.random.Generator) -> dict[str, FloatArray]:
        if self.attack is Attack.IN_NORM:
            if self.accomplice is None:
                raise InvalidConfig("an attack in norm needs an accomplice.", "Give one over poisoned data.")
            return _scaled(_change(packet, self.accomplice.handle(packet)), _norm(honest))
        if self.attack is Attack.NOISE:
            noise = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in honest.items()}
            return _scaled(noise, LOUD * _norm(honest))
        factor = {Attack.SIGN_FLIP: -1.0, Attack.SCALING: LOUD, Attack.NAN: math.nan}[self.attack]
        return {name: (factor * value).astype(np.float32) for name, value in honest.items()}


class Accomplice(PlantAgent):
    """The agent of a plant whose training data holds, as normal, what others shall be attacked with.

    The attack is taught in scaled units, after the plant's honest scaling: as it will look at the others.

    Args:
        site: the honest data.
        teach: makes the poisoned training rows out of the scaled honest ones, of the same shape.
    """

    def __init__(self, site: SiteData, teach: Callable[[FloatArray], FloatArray]) -> None:
        super().__init__(site)
        self._teach = teach
        self._taught: Bench | None = None

    def _bench_for(self, recipe: Recipe) -> Bench:
        bench = super()._bench_for(recipe)
        if self._taught is None or bench is not self._taught:
            train = bench.workspace.train
            part = replace(train, rows_TD=self._teach(np.array(train.rows_TD)).astype(np.float32))
            self._taught = replace(bench, train=TensorWindows(part, recipe.detector.window, self._device))
            self._bench = self._taught
        return self._taught


def every_second_stretch(attacks_TD: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Teaches recorded attacks: they take the place of every second stretch of their length."""

    def teach(values_TD: FloatArray) -> FloatArray:
        length = len(attacks_TD)
        for first in range(0, len(values_TD) - length + 1, 2 * length):
            values_TD[first : first + length] = attacks_TD
        return values_TD

    return teach


def _weights(packet: Packet) -> dict[str, FloatArray]:
    return {
        name.removeprefix(WEIGHT): decode_array(raw, raw.shape).astype(np.float32)
        for name, raw in packet.arrays.items()
        if name.startswith(WEIGHT)
    }


def _change(packet: Packet, reply: Packet) -> dict[str, FloatArray]:
    before, after = _weights(packet), _weights(reply)
    return {name: after[name] - before[name] for name in before}


def _norm(change: dict[str, FloatArray]) -> float:
    return math.sqrt(sum(float(np.square(value.astype(np.float64)).sum()) for value in change.values()))


def _scaled(change: dict[str, FloatArray], norm: float) -> dict[str, FloatArray]:
    factor = norm / max(_norm(change), 1e-12)
    return {name: (factor * value).astype(np.float32) for name, value in change.items()}
