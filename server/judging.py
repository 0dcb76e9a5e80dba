"""Judges the replies of a round: what each plant's must match, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from server import phases, private
from server.channel import Arrival
from server.moments import moments_due
from server.phases import Step
from server.replays import Replays, sent
from server.rounds import PlantReport, RunState
from server.sketch import UpdateSketches
from shared.config import RunConfig
from shared.wire.gate import Accepted, Expectation, Rejected, parse_reply
from shared.wire.inventory import Kind
from shared.wire.messages import Request


@dataclass
class Heard:
    """What a round has heard so far."""

    state: RunState
    request: Request
    sent: float
    bytes_down: int
    reports: dict[str, PlantReport] = field(default_factory=dict)
    sketches: UpdateSketches | None = None

    def update(self, verdict: Accepted | Rejected) -> None:
        """Remember which way an accepted update points."""
        if self.sketches is not None and isinstance(verdict, Accepted) and verdict.weights is not None:
            self.sketches.add(verdict.plant, verdict.weights)

    def told(self) -> dict[str, PlantReport]:
        """The reports, with the cosine of each update to the mean."""
        cosines = {} if self.sketches is None else self.sketches.cosines()
        return {
            plant: replace(r, metrics={**r.metrics, "update_cosine": cosines[plant]}) if plant in cosines else r
            for plant, r in self.reports.items()
        }


def sketches_of(request: Request, config: RunConfig, share: Mapping[str, float]) -> UpdateSketches | None:
    """What holds the directions of a round's updates; None where none are due, or none may be told: under central
    differential privacy the server adds its noise to the sum alone.
    """
    if request.kind is not Kind.TRAIN or request.model is None or config.recipe.privacy.mode == "central":
        return None
    return UpdateSketches(None if request.order.one_step else request.model.weights, share)


def judge_packet(arrival: Arrival, expect: Expectation, node: str) -> Accepted | Rejected:
    """What an arrival is, held against what was due."""
    if arrival.packet is None:
        told = arrival.failure.startswith(("absent: ", "late: ", "name: "))
        return Rejected(expect.plant or node, arrival.failure if told else f"failed: {arrival.failure}")
    return parse_reply(arrival.packet, expect, node)


class Judge:
    """What every reply of a round must match, plant by plant."""

    def __init__(self, config: RunConfig, request: Request, step: Step, state: RunState, replays: Replays) -> None:
        model, rounds = request.model, config.rounds
        due = model is not None and model.clusters is not None and phases.wants_statistic(step, config)
        self._members = {m.plant: m for m in state.members}
        self._request, self._replays = request, replays
        self._sent = sent(model.weights if model else {})
        self._expect = Expectation(
            kind=request.kind,
            run=request.run,
            round=request.round,
            digest=request.digest,
            manifest=state.manifest,
            base=model.weights if model else None,
            clusters=model.clusters.centroids_KZ.shape if due and model and model.clusters else None,
            radius=request.radius,
            max_update_norm=rounds.max_update_norm,
            max_examples=rounds.max_examples,
            wire=rounds.wire,
            schema=state.schema.fingerprint if state.schema else "",
            gradient=request.order.one_step,
            measured=config.recipe.privacy.mode != "central",
        )
        self._config, self._moments = config, partial(moments_due, state, config, request)

    def __call__(self, arrival: Arrival, plant: str) -> Accepted | Rejected:
        member = self._members[plant]
        due = replace(self._expect, plant=plant, examples=member.examples, segments=member.segments)
        due = replace(due, schema=member.schema or due.schema)
        due = replace(due, noise=private.due(self._config, self._request, member), moments=self._moments(member))
        verdict = judge_packet(arrival, due, plant)
        if isinstance(verdict, Accepted) and verdict.update_norm and arrival.packet is not None:
            copied = self._replays.judge(self._request.round, self._sent, plant, arrival.packet)
            return verdict if copied is None else Rejected(plant, copied)
        return verdict


def report_of(verdict: Accepted | Rejected, arrival: Arrival, bytes_down: int, seconds: float) -> PlantReport:
    """What the store keeps of a reply."""
    plant, bytes_up = verdict.plant, arrival.packet.payload_bytes if arrival.packet else 0
    if isinstance(verdict, Rejected):
        return PlantReport(plant, False, verdict.reason, {}, None, bytes_down, bytes_up, seconds)
    metrics = dict(verdict.metrics)
    if verdict.update_norm is not None:
        metrics["update_norm"] = verdict.update_norm
    return PlantReport(
        plant, True, None, metrics, verdict.examples, bytes_down, bytes_up, seconds, dict(verdict.timings)
    )
