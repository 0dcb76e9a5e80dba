"""Drives a run: ask, wait, judge, settle, commit. Knows no Flower and no database, only a channel and a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from server import phases
from server.aggregate import Aggregate, Fold, RunningMean
from server.phases import Action, Step
from server.robust import fold_for
from server.rounds import Failed, Member, Outcome, PlantReport, RoundRecord, RunState
from server.transition import Conducted, quorum, settle, settle_describe
from shared.config import RunConfig
from shared.errors import InvalidConfig, NoCompatiblePlants, RunFailed
from shared.wire.envelope import Packet
from shared.wire.gate import Accepted, Description, Expectation, Rejected, parse_reply
from shared.wire.messages import Request, encode_request

_KEEP = "Resume with the settings and the version that it began with, or start a new run."


@dataclass(frozen=True)
class Arrival:
    """A reply as the channel hands it over.

    Attributes:
        node: who sent it.
        packet: its content, or None when there is none.
        failure: why there is none.
    """

    node: int
    packet: Packet | None
    failure: str = ""


class Channel(Protocol):
    """What carries packets to plants and back."""

    def nodes(self) -> Sequence[int]:
        """Nodes that are connected now."""

    def send(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        """Send one packet to several nodes; replies to an earlier send are dropped from now on."""

    def receive(self, wait_s: float) -> Sequence[Arrival]:
        """Replies that came since the last call; waits up to `wait_s` when there are none."""


class Journal(Protocol):
    """Where finished rounds are kept."""

    def commit(self, record: RoundRecord, state: RunState) -> None:
        """Keep a finished round and the state after it, in one transaction."""


class Observer(Protocol):
    """Who watches a run, such as a progress bar."""

    def round_started(self, number: int, step: Step, plants: int) -> None:
        """A round begins."""

    def reply_received(self, plant: str) -> None:
        """A plant's reply was judged."""

    def round_finished(self, record: RoundRecord) -> None:
        """A round is in the journal."""


class Silent:
    """An observer that does nothing."""

    def round_started(self, number: int, step: Step, plants: int) -> None: ...

    def reply_received(self, plant: str) -> None: ...

    def round_finished(self, record: RoundRecord) -> None: ...


@dataclass
class Coordinator:
    """Conducts one run over a channel.

    Args:
        config: the run's settings.
        channel: to the plants.
        journal: where rounds are kept.
        observer: who watches.
        clock: monotonic seconds.
    """

    config: RunConfig
    channel: Channel
    journal: Journal
    observer: Observer = field(default_factory=Silent)
    clock: Callable[[], float] = time.monotonic
    _plant_of: dict[int, str] = field(default_factory=dict)
    _left_out: dict[str, str] = field(default_factory=dict)
    _doubles: tuple[PlantReport, ...] = ()

    def run(self, state: RunState) -> RunState:
        """Continue from a state to the end of the plan.

        Skips are counted from here on: a run that failed by them and is resumed has them all before it again.

        Raises:
            InvalidConfig: the state belongs to other settings.
            RunFailed: rounds were skipped too often in a row.
            NoCompatiblePlants: the describe round found fewer than two plants that fit.
        """
        if state.config_digest != self.config.digest:
            raise InvalidConfig(f"the settings of run {state.run!r} were changed since it began.", _KEEP)
        steps, state = phases.plan(self.config), replace(state, skips=0)
        if state.step > 0:
            self._roll_call(state)
        while state.step < len(steps):
            outcome = self._round(state, steps[state.step])
            self.journal.commit(outcome.record, outcome.state)
            self.observer.round_finished(outcome.record)
            if isinstance(outcome, Failed):
                failure = NoCompatiblePlants if outcome.record.number == 1 else RunFailed
                raise failure(f"round {outcome.record.number} failed: {outcome.record.reason}.")
            state = outcome.state
        return state

    def _round(self, state: RunState, step: Step) -> Outcome:
        if step.action is Action.DESCRIBE:
            conducted, described = self._describe(state, step)
            return settle_describe(state, step, self.config, conducted, described)
        return settle(state, step, self.config, self._conduct(state, step))

    # ---- rounds after the first --------------------------------------------------------------------------------------

    def _conduct(self, state: RunState, step: Step) -> Conducted:
        started, begin = datetime.now(UTC).isoformat(timespec="milliseconds"), self.clock()
        request = phases.request(step, state, self.config)
        packet = encode_request(request)
        nodes = {plant: node for node, plant in self._plant_of.items()}
        asked = [m for m in state.members if m.plant in nodes]
        self.observer.round_started(request.round, step, len(asked))
        self.channel.send(
            packet, [nodes[m.plant] for m in asked], self.config.rounds.deadline_s, f"{state.run}/{request.round}"
        )
        judge = _Judge(self, request, step, state)
        needed = quorum(len(state.members), self.config.rounds.quorum)
        reports: dict[str, PlantReport] = {}
        into = fold_for(state, self.config.rounds)
        fold = _OrderedFold([m.plant for m in asked], {m.plant: m.weight for m in asked}, into)
        for arrival in self._arrivals({nodes[m.plant] for m in asked}, lambda: fold.accepted >= needed):
            plant = self._plant_of[arrival.node]
            if plant in reports:
                continue
            verdict = judge(arrival, plant)
            reports[plant] = _report(plant, verdict, arrival, packet.payload_bytes, self.clock() - begin)
            fold.take(plant, verdict)
            self.observer.reply_received(plant)
        waited = self.clock() - begin
        aggregate = fold.finish()
        roster = [reports.get(m.plant) or self._missing(m, nodes, waited) for m in state.members]
        whole = tuple(sorted([*roster, *self._doubles], key=lambda report: report.plant))
        self._doubles = ()
        timings = {"wait": waited, "aggregate": self.clock() - begin - waited}
        return Conducted(aggregate, whole, started, self.clock() - begin, timings)

    def _missing(self, member: Member, nodes: Mapping[str, int], waited: float) -> PlantReport:
        connected = member.plant in nodes
        absent = self._left_out.get(member.plant, "absent: not connected")
        reason = f"late: no reply within {waited:.0f} s" if connected else absent
        return PlantReport(member.plant, accepted=False, reason=reason)

    def _arrivals(self, pending: set[int], enough: Callable[[], bool]) -> Iterator[Arrival]:
        """Replies until all are in, the deadline passes, or the grace period after the quorum is over."""
        rounds, begin, quorate = self.config.rounds, self.clock(), None
        while pending:
            now = self.clock()
            if quorate is None and enough():
                quorate = now
            ends = [begin + rounds.deadline_s]
            if quorate is not None and rounds.grace_s is not None:
                ends.append(quorate + rounds.grace_s)
            if now >= min(ends):
                return
            for arrival in self.channel.receive(min(1.0, min(ends) - now)):
                if arrival.node in pending:
                    pending.discard(arrival.node)
                    yield arrival

    # ---- the describe round and the roll call after a restart --------------------------------------------------------

    def _describe(self, state: RunState, step: Step) -> tuple[Conducted, dict[str, Description]]:
        started, begin = datetime.now(UTC).isoformat(timespec="milliseconds"), self.clock()
        reports: dict[int, PlantReport] = {}
        described: dict[str, Description] = {}

        def enough(asked: int) -> bool:
            return len(described) >= max(2, quorum(asked, self.config.rounds.quorum))

        for node, verdict, report in self._ask_all(state, step, enough):
            if isinstance(verdict, Accepted) and verdict.description is not None:
                if verdict.plant in described:
                    report = replace(report, accepted=False, reason=f"name: another plant is called {verdict.plant!r}")
                else:
                    described[verdict.plant], self._plant_of[node] = verdict.description, verdict.plant
            reports[node] = report
        aggregate = RunningMean().result()
        ordered = _distinct(reports, self._plant_of, self._plant_of.values())
        took = self.clock() - begin
        conducted = Conducted(replace(aggregate, count=len(described)), ordered, started, took, {"wait": took})
        return conducted, described

    def _ask_all(
        self, state: RunState, step: Step, enough: Callable[[int], bool]
    ) -> Iterator[tuple[int, Accepted | Rejected, PlantReport]]:
        """What every connected node says of itself. `enough(asked)` tells when the grace period may begin."""
        request = phases.request(step, replace(state, model=None), self.config)
        packet, nodes, begin = encode_request(request), list(self.channel.nodes()), self.clock()
        expect = Expectation(request.kind, request.run, request.round, max_examples=self.config.rounds.max_examples)
        self.observer.round_started(request.round, step, len(nodes))
        # A roll call shares its number with the round after it, not its group: late answers must not meet.
        self.channel.send(packet, nodes, self.config.rounds.deadline_s, f"{state.run}/{request.round}/describe")
        silent = set(nodes)
        for arrival in self._arrivals(set(nodes), lambda: enough(len(nodes))):
            silent.discard(arrival.node)
            verdict = _judge_packet(arrival, expect, f"node {arrival.node}")
            yield (
                arrival.node,
                verdict,
                _report(verdict.plant, verdict, arrival, packet.payload_bytes, self.clock() - begin),
            )
            self.observer.reply_received(verdict.plant)
        for node in sorted(silent):
            late = Rejected(f"node {node}", f"late: no reply within {self.clock() - begin:.0f} s")
            yield node, late, PlantReport(late.plant, accepted=False, reason=late.reason)

    def _roll_call(self, state: RunState) -> None:
        """Find out which node is which plant after a restart; a plant whose data changed is left out.

        Of several nodes that claim one plant and fit, the lowest is asked; the first round to come reports the others.
        """
        step = phases.plan(self.config)[0]
        members = {m.plant: m for m in state.members}
        needed = quorum(len(members), self.config.rounds.quorum)
        claims: dict[str, list[int]] = {}
        for node, verdict, _ in self._ask_all(state, step, lambda asked: len(claims) >= needed):
            member = members.get(verdict.plant)
            if member is None:
                continue
            changed = _change(verdict, member, state)
            if changed is None:
                claims.setdefault(member.plant, []).append(node)
            else:
                self._left_out[member.plant] = changed
        self._plant_of = {min(nodes): plant for plant, nodes in claims.items()}
        self._doubles = _distinct(_doubles(claims), self._plant_of, members)


def _doubles(claims: Mapping[str, Sequence[int]]) -> dict[int, PlantReport]:
    """A report for each node whose plant a lower one has."""
    return {
        node: PlantReport(plant, False, f"name: node {min(nodes)} is called {plant!r} too, and is asked instead")
        for plant, nodes in claims.items()
        for node in nodes
        if node != min(nodes)
    }


def _change(verdict: Accepted | Rejected, member: Member, state: RunState) -> str | None:
    """Why a plant is not the one that joined the run, or None when it is."""
    if isinstance(verdict, Rejected):
        return verdict.reason
    if verdict.examples != member.examples:
        return f"changed: {verdict.examples} windows, {member.examples} when the run began"
    now = verdict.description
    if now is not None and now.segments != member.segments:
        return f"changed: {now.segments} segments, {member.segments} when the run began"
    if now is None or (now.schema, now.manifest) != (state.schema, state.manifest):
        return "changed: other tags or another detector than when the run began"
    return None


def _distinct(
    reports: Mapping[int, PlantReport], holders: Mapping[int, str], names: Iterable[str]
) -> tuple[PlantReport, ...]:
    """Reports under names of their own, sorted: whoever does not hold the name that it gave is told by its node too."""
    taken, named = set(names), []
    for node, report in sorted(reports.items()):
        name = report.plant
        while name in taken and holders.get(node) != name:
            name = f"{name} (node {node})"
        taken.add(name)
        named.append(replace(report, plant=name))
    return tuple(sorted(named, key=lambda report: report.plant))


def _judge_packet(arrival: Arrival, expect: Expectation, node: str) -> Accepted | Rejected:
    if arrival.packet is None:
        return Rejected(expect.plant or node, f"failed: {arrival.failure}")
    return parse_reply(arrival.packet, expect, node)


class _Judge:
    """What every reply of a round must match, plant by plant."""

    def __init__(self, coordinator: Coordinator, request: Request, step: Step, state: RunState) -> None:
        model = request.model
        due = model is not None and model.clusters is not None and phases.wants_statistic(step, coordinator.config)
        self._members = {m.plant: m for m in state.members}
        self._expect = Expectation(
            kind=request.kind,
            run=request.run,
            round=request.round,
            digest=request.digest,
            manifest=state.manifest,
            base=model.weights if model else None,
            clusters=model.clusters.centroids_KZ.shape if due and model and model.clusters else None,
            radius=request.radius,
            max_update_norm=coordinator.config.rounds.max_update_norm,
            max_examples=coordinator.config.rounds.max_examples,
            wire=coordinator.config.rounds.wire,
        )

    def __call__(self, arrival: Arrival, plant: str) -> Accepted | Rejected:
        member = self._members[plant]
        due = replace(self._expect, plant=plant, examples=member.examples, segments=member.segments)
        return _judge_packet(arrival, due, plant)


class _OrderedFold:
    """Folds replies together in the order of the roster: sums do not depend on arrival.

    What overtakes a slow plant waits in memory: little when replies come roughly in order, at worst (the first of the
    roster answers last) every other reply of the round.
    """

    def __init__(self, order: Sequence[str], weights: Mapping[str, float], into: Fold) -> None:
        self._order = list(order)
        self._weights = weights
        self._waiting: dict[str, Accepted | Rejected] = {}
        self._next = 0
        self._into = into
        self.accepted = 0

    def take(self, plant: str, verdict: Accepted | Rejected) -> None:
        self.accepted += isinstance(verdict, Accepted)
        self._waiting[plant] = verdict
        while self._next < len(self._order) and self._order[self._next] in self._waiting:
            self._fold(self._order[self._next])
            self._next += 1

    def _fold(self, plant: str) -> None:
        verdict = self._waiting.pop(plant)
        if isinstance(verdict, Accepted):
            self._into.add(verdict, self._weights[plant])

    def finish(self) -> Aggregate:
        for plant in self._order[self._next :]:
            if plant in self._waiting:
                self._fold(plant)
        return self._into.result()


def _report(plant: str, verdict: Accepted | Rejected, arrival: Arrival, bytes_down: int, seconds: float) -> PlantReport:
    bytes_up = arrival.packet.payload_bytes if arrival.packet else 0
    if isinstance(verdict, Rejected):
        return PlantReport(plant, False, verdict.reason, {}, None, bytes_down, bytes_up, seconds)
    metrics = dict(verdict.metrics)
    if verdict.update_norm is not None:
        metrics["update_norm"] = verdict.update_norm
    return PlantReport(
        plant, True, None, metrics, verdict.examples, bytes_down, bytes_up, seconds, dict(verdict.timings)
    )
