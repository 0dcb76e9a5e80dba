"""Rounds as values: what a run's state is, what a finished round leaves behind.

A round ends as `Committed`, `Skipped` or `Failed`; there is no fourth outcome. What is persisted is `RunState` and
`RoundRecord`.
Resume is: read the last committed state, continue. No Flower, no database here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from shared.lag.pooled import LagSum
from shared.model import GlobalModel, TensorSpec
from shared.schema import SensorSchema
from shared.series import FloatArray

JOINED = "joined:"
"""How the reason begins of a plant that joined late: it is told in one round and asked from the next on."""


class Phase(StrEnum):
    """The phases of a run, in order."""

    DESCRIBE = "describe"
    PRETRAIN = "pretrain"
    CLUSTER = "cluster"
    JOINT = "joint"
    CALIBRATE = "calibrate"


class Status(StrEnum):
    """How a round ended."""

    COMMITTED = "committed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True)
class Member:
    """A plant that was found compatible: in the describe round, or beside a later one.

    Attributes:
        plant: its name.
        examples: training windows it declared; a later reply must declare the same.
        segments: segments that these windows start in; the counts of its statistic add up to this.
        weight: its share in the mean, before normalisation (capped, see `server.aggregate.site_weights`).
        schema: fingerprint of its sensors, where plants have sensors of their own; empty: the federation's.
    """

    YOUNGER: ClassVar[frozenset[str]] = frozenset({"schema"})  # what a state of an older version lacks

    plant: str
    examples: int
    segments: int
    weight: float
    schema: str = ""


@dataclass(frozen=True)
class OptimizerState:
    """Moments of the server's optimiser; empty under plain averaging."""

    step: int = 0
    first: Mapping[str, FloatArray] = field(default_factory=dict)
    second: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Anchor:
    """The best model that the plants accepted so far; they vote on later ones against it.

    Attributes:
        round: after which it was the global model.
        model: the model, with its clusters.
        optimizer: the server optimiser's state that belongs to it.
        losses: loss on held-out normal data by plant, when last measured under an anchor.
    """

    round: int
    model: GlobalModel
    optimizer: OptimizerState
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Best:
    """The best model of a phase by the plants' loss on held-out normal data; what goes on where training stops early.

    Attributes:
        phase: the phase that it is the best of.
        round: after which it was the global model.
        model: the model, with its clusters.
        optimizer: the server optimiser's state that belongs to it.
        losses: that it was measured to have, by plant.
        mark: the losses that a model must be 1 % below to count as progress; those of the last that was.
        stalled: training rounds in a row since then.
    """

    phase: Phase
    round: int
    model: GlobalModel
    optimizer: OptimizerState
    losses: Mapping[str, float]
    mark: Mapping[str, float]
    stalled: int = 0


@dataclass(frozen=True)
class RunState:
    """Everything the next round depends on.

    Attributes:
        run: run name.
        config_digest: `RunConfig.digest`.
        finished: number of the last finished round, 0 before the first.
        step: index into the run's plan (`server.phases.plan`) of the step that comes next.
        skips: rounds skipped in a row since the run was started or resumed.
        model: the global model; None before the describe round.
        optimizer: the server optimiser's state.
        members: compatible plants by name, sorted; those that joined late among them.
        schema: the federation's sensor schema; None where each plant has its own.
        manifest: the detector's tensors.
        norms: medians of the update norms of the last training rounds, which the next one is clipped by.
        anchor: what plants vote against; None before the first vote.
        clip: norm that records' gradients are clipped to under local differential privacy; 0 until it moved.
        moments: what plants sent when they were last asked for moments, added up; None: nothing that may be shared.
        best: of the phase's models so far, where training may stop early (`server.stopping`).
    """

    run: str
    config_digest: str
    finished: int = 0
    step: int = 0
    skips: int = 0
    model: GlobalModel | None = None
    optimizer: OptimizerState = OptimizerState()
    members: tuple[Member, ...] = ()
    schema: SensorSchema | None = None
    manifest: tuple[TensorSpec, ...] = ()
    norms: tuple[float, ...] = ()
    anchor: Anchor | None = None
    clip: float = 0.0
    moments: LagSum | None = None
    best: Best | None = None


@dataclass(frozen=True)
class PlantReport:
    """One plant's part in one round.

    Attributes:
        plant: name.
        accepted: whether its reply counted.
        reason: why not (None when accepted): starts with a stable word such as `late`, `schema`, `joined`.
        metrics: what it reported, such as `train_loss`, `holdout_loss` (mean squared error in scaled units); under
            local differential privacy with its noise.
        examples: training windows it declared; None where the reply says nothing of them.
        bytes_down, bytes_up: payload to and from the plant.
        seconds: from sending the request to reading its reply.
        timings: seconds inside the plant by activity (`train`, `evaluate`, `cluster`).
    """

    plant: str
    accepted: bool
    reason: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    examples: int | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def joined(self) -> bool:
        """Whether it was not asked yet, and is a member from the next round on."""
        return not self.accepted and (self.reason or "").startswith(JOINED)


@dataclass(frozen=True)
class ClusterReport:
    """What a refresh did to the clusters; one entry a cluster, displacement in radii of the latent cloud.

    Attributes:
        mass, displacement, active: of each cluster.
        effective: number of clusters that the data really uses.
        plants: how many plants populate each; empty where it was not counted. A low score in a cluster that one plant
            alone populates is nothing that others should trust.
    """

    mass: tuple[float, ...]
    displacement: tuple[float, ...]
    active: tuple[bool, ...]
    effective: float
    plants: tuple[int, ...] = ()


@dataclass(frozen=True)
class RoundRecord:
    """A finished round as the store keeps it.

    Attributes:
        run: run name.
        number: counts from 1 within the run; skipped rounds have numbers too.
        phase: which phase.
        label: which step of the phase, such as `seed 2/4` or `refresh`.
        status: how it ended.
        reason: why it was skipped or failed; what there is to know about one that committed, None if nothing.
        started: ISO 8601, UTC.
        seconds: whole duration.
        plants: one report a member, and one a node that joined or was refused, sorted by name.
        metrics: aggregates over accepted plants, weighted as the mean is.
        clusters: what happened to the clusters, if anything.
        model: digest of the global model after the round; None before there is one.
        config: `RunConfig.digest`.
        timings: seconds by activity at the server (`wait`, `aggregate`).
    """

    run: str
    number: int
    phase: Phase
    label: str
    status: Status
    reason: str | None
    started: str
    seconds: float
    plants: tuple[PlantReport, ...]
    metrics: Mapping[str, float]
    clusters: ClusterReport | None
    model: str | None
    config: str
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of the plants whose reply counted."""
        return tuple(p.plant for p in self.plants if p.accepted)

    @property
    def rejected(self) -> tuple[PlantReport, ...]:
        """Reports of the plants whose reply did not count."""
        return tuple(p for p in self.plants if not p.accepted and not p.joined)

    @property
    def joined(self) -> tuple[str, ...]:
        """Names of the plants that are members from the next round on."""
        return tuple(p.plant for p in self.plants if p.joined)

    @property
    def bytes_total(self) -> int:
        """Payload in both directions."""
        return sum(p.bytes_down + p.bytes_up for p in self.plants)


@dataclass(frozen=True)
class Committed:
    """The round counts; `state` is what the next one starts from."""

    state: RunState
    record: RoundRecord


@dataclass(frozen=True)
class Skipped:
    """Too few replies counted, or no plant could take what came of them: the model stays, the step is tried again.

    When the plants vote a model down, the one that they had accepted before takes its place.
    """

    state: RunState
    record: RoundRecord


@dataclass(frozen=True)
class Failed:
    """The run cannot go on."""

    state: RunState
    record: RoundRecord


Outcome = Committed | Skipped | Failed
