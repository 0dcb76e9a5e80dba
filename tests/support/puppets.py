"""Plants made of cardboard: well-formed replies to any request, without data, on a stage with its own clock."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from server.channel import Arrival
from server.coordinator import Coordinator
from server.rounds import RoundRecord, RunState
from shared.config import Recipe, RunConfig
from shared.lag.sums import moments
from shared.model import TensorSpec
from shared.schema import SensorSchema
from shared.wire.envelope import PROTOCOL, Number, Packet, RawArray, decode_array, encode_array
from shared.wire.gate import encode_manifest
from shared.wire.inventory import FINGERPRINT, Kind

MANIFEST = (TensorSpec("head.bias", (3,), 0.5), TensorSpec("head.weight", (3, 4), 0.1))
SCHEMA = SensorSchema(tags=("FIT101", "LIT101"), period_s=1.0)

Act = Callable[[Packet, Packet], Packet | str | None]


def honest(request: Packet, reply: Packet) -> Packet:
    """Send what was computed."""
    return reply


@dataclass
class Puppet:
    """One plant that answers by the book.

    Attributes:
        step: added to every weight in a train reply.
        delay_s: how long it takes.
        act: last word on a reply, given the request: another packet, a text (its process failed) or None (no reply).
        away: rounds in which it is not connected.
    """

    name: str
    examples: int = 100
    segments: int = 11
    schema: SensorSchema = SCHEMA
    manifest: tuple[TensorSpec, ...] = MANIFEST
    step: float = 0.01
    delay_s: float = 0.0
    act: Act = honest
    away: Container[int] = ()

    def answer(self, request: Packet) -> Packet:
        """A reply that the gate accepts."""
        kind = Kind(request.texts["kind"])
        head = {name: request.texts[name] for name in ("run", "kind", "model") if name in request.texts}
        numbers: dict[str, Number] = {"protocol": PROTOCOL, "round": request.numbers["round"]}
        texts = {**head, "plant": self.name}
        if kind is not Kind.DESCRIBE:
            texts[FINGERPRINT] = self.schema.fingerprint
        arrays: dict[str, RawArray] = {}
        if kind is Kind.DESCRIBE:
            numbers |= {"examples": self.examples, "segments": min(self.segments, self.examples)}
            texts |= {"schema": self.schema.json.decode(), "manifest": encode_manifest(self.manifest)}
        if kind is Kind.TRAIN:
            arrays |= {f"weights/{spec.name}": self._moved(request, spec) for spec in self.manifest}
            numbers |= {"examples": self.examples, "train_loss": 0.5, "cluster_loss": 0.25, "holdout_loss": 1.0}
            numbers |= {"seconds_train": 2.0, "seconds_evaluate": 1.0, "seconds_cluster": 0.0}
        if kind is Kind.MOMENTS:
            arrays["moments"] = encode_array(sums(self.schema.dim, Recipe.model_validate_json(request.texts["recipe"])))
        if kind is Kind.CALIBRATE:
            numbers |= {"holdout_loss": 1.0, "calibrated": 1}
        if kind is Kind.CLUSTER or request.numbers.get("with_statistic"):
            k, z = request.arrays["clusters/centroids"].shape
            arrays["cluster_sums"] = encode_array(np.full((k, z), 0.01))
            arrays["cluster_counts"] = encode_array(np.full(k, min(self.segments, self.examples) / k))
            numbers |= {"cluster_spread": 0.5, "seconds_cluster": 0.5}
        return Packet(arrays, numbers, texts)

    def _moved(self, request: Packet, spec: TensorSpec) -> RawArray:
        base = decode_array(request.arrays[f"weights/{spec.name}"], spec.shape).astype(np.float32)
        return encode_array(base + np.float32(self.step))


def sums(dim: int, recipe: Recipe) -> np.ndarray:
    """Moments of fifty made-up rows, as the wire carries them."""
    rows = np.random.default_rng(0).normal(size=(50, dim)).clip(-3, 3)
    return moments(rows, lags=recipe.lag.lags).vector_Q


def changed(packet: Packet, **parts: dict[str, object]) -> Packet:
    """A packet with some fields set: `changed(reply, numbers={"round": 3})`; a value of None removes the field."""
    maps = {part: {**getattr(packet, part), **values} for part, values in parts.items()}
    return replace(packet, **{p: {k: v for k, v in values.items() if v is not None} for p, values in maps.items()})


@dataclass
class Stage:
    """A channel to puppets whose time passes only while somebody waits. Nodes are indices into `puppets`.

    Attributes:
        absent: nodes that are never connected.
        sent, beside: packets, and to whom.
        rounds_done: rounds that were finished, by which a puppet's `away` is told; a `Chronicle` counts them.
        leaves: nodes that are away for good from a time on.
        keyed: whether nodes are known by registered keys, as on a network.
    """

    puppets: list[Puppet]
    now: float = 0.0
    absent: set[int] = field(default_factory=set)
    sent: list[tuple[Packet, tuple[int, ...]]] = field(default_factory=list)
    beside: list[tuple[Packet, tuple[int, ...]]] = field(default_factory=list)
    rounds_done: int = 0
    leaves: dict[int, float] = field(default_factory=dict)
    keyed: bool = False
    _coming: list[tuple[float, Arrival]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def nodes(self) -> Sequence[int]:
        return [node for node in range(len(self.puppets)) if self._connected(node)]

    def name(self, node: int) -> str | None:
        return self.puppets[node].name if self.keyed else None

    def _connected(self, node: int) -> bool:
        here = node not in self.absent and self.rounds_done + 1 not in self.puppets[node].away
        return here and self.now < self.leaves.get(node, float("inf"))

    def send(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        self.sent.append((packet, tuple(nodes)))
        self._coming = [pair for pair in self._coming if pair[1].beside]
        self._deliver(packet, nodes, beside=False)

    def send_beside(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        self.beside.append((packet, tuple(nodes)))
        self._deliver(packet, nodes, beside=True)

    def _deliver(self, packet: Packet, nodes: Sequence[int], beside: bool) -> None:
        for node in nodes:
            puppet = self.puppets[node]
            said = puppet.act(packet, puppet.answer(packet))
            if said is not None:
                content, failure = (None, said) if isinstance(said, str) else (said, "")
                self._coming.append((self.now + puppet.delay_s, Arrival(node, content, failure, beside)))
        self._coming.sort(key=lambda pair: pair[0])

    def receive(self, wait_s: float) -> Sequence[Arrival]:
        first = self._coming[0][0] if self._coming else float("inf")
        self.now = min(max(first, self.now), self.now + wait_s)
        due = [arrival for when, arrival in self._coming if when <= self.now]
        self._coming = [pair for pair in self._coming if pair[0] > self.now]
        return due


@dataclass
class Chronicle:
    """A journal in memory that tells a stage which round it is. `until` ends the process before a round is kept."""

    stage: Stage
    until: int = 10**9
    records: list[RoundRecord] = field(default_factory=list)
    states: list[RunState] = field(default_factory=list)

    def commit(self, record: RoundRecord, state: RunState) -> None:
        if record.number >= self.until:
            raise Killed
        self.records.append(record)
        self.states.append(state)
        self.stage.rounds_done = record.number


class Killed(Exception):
    """What a kill -9 looks like from inside."""


def play(stage: Stage, config: RunConfig, state: RunState | None = None, until: int = 10**9) -> Chronicle:
    """Run on a stage, from a state or the beginning, to the end or until it is killed."""
    start = state or RunState("run", config.digest)
    stage.rounds_done = start.finished
    journal = Chronicle(stage, until)
    with suppress(Killed):
        Coordinator(config, stage, journal, clock=stage.clock).run(start)
    return journal
