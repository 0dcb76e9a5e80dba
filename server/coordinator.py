"""Drives a run: ask, wait, judge, settle, commit. Knows no Flower and no database, only a channel and a journal.

At each round it looks anew who is connected. Members that are there are asked; whoever else is there is asked to
describe itself beside the round, and is asked like the others from the next round on if it fits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from server import phases
from server.aggregate import Fold, RunningMean
from server.attendance import Attendance, Question, distinct
from server.channel import LEFT, Arrival, Channel, Journal, Observer, Silent
from server.judging import Heard, Judge, judge_packet, report_of, sketches_of
from server.members import fold_with_members
from server.moments import MomentsFold, unasked
from server.ordered import OrderedFold
from server.orders import Choice, NoOrders, Orders, order_step, settle_choice
from server.phases import Action, Step
from server.replays import Replays
from server.robust import base_of
from server.rounds import Committed, Failed, Outcome, PlantReport, RunState
from server.transition import Conducted, quorum, settle, settle_describe
from server.waiting import Notice, Vigil, surplus
from shared.config import RunConfig
from shared.errors import InvalidConfig, NoCompatiblePlants, RunFailed
from shared.model import Weights
from shared.wire.envelope import Packet
from shared.wire.gate import Accepted, Description, Expectation, Rejected
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request

MUSTER_S = 120.0
"""How long a round waits for as many members to be connected as the quorum needs."""

Tell = Callable[[Collection[int], float, float], None]

_WORTH_TELLING_S = 0.5
_KEEP = "Resume with the settings and the version that it began with, or start a new run."


def unaccounted(number: int, purpose: str, multiplier: float) -> None:
    """What stands in for a ledger where none is due.

    Raises:
        InvalidConfig: it is due after all.
    """
    raise InvalidConfig("a run under central differential privacy has no ledger.", "Start it with `crossplant`.")


@dataclass
class Coordinator:
    """Conducts one run over a channel.

    Args:
        config: the run's settings.
        channel: to the plants.
        journal: where rounds are kept.
        observer: who watches.
        clock: monotonic seconds.
        signature: the operator's over the run, asked for anew with every request; empty when nobody signed it.
        start: weights to begin with, made from public data; None: fresh ones.
        orders: which model operators want plants to score by.
        charge: under central differential privacy, writes a release down before it is made: round, purpose, multiplier.
    """

    config: RunConfig
    channel: Channel
    journal: Journal
    observer: Observer = field(default_factory=Silent)
    clock: Callable[[], float] = time.monotonic
    signature: Callable[[], str] = str
    charge: Callable[[int, str, float], None] = unaccounted
    start: Weights | None = None
    orders: Orders = field(default_factory=NoOrders)
    _tries: tuple[int, int] = (0, 0)  # which order was tried, and how often in vain
    _there: Attendance = field(default_factory=Attendance)
    _replays: Replays = field(default_factory=Replays)

    def run(self, state: RunState) -> RunState:
        """Continue from a state to the end of the plan.

        Skips are counted from here on: a run that failed by them and is resumed has them all before it again.

        Raises:
            InvalidConfig: the state belongs to other settings.
            RunFailed: rounds were skipped too often in a row.
            NoCompatiblePlants: the describe round found fewer plants that fit than `rounds.fewest`.
        """
        if state.config_digest != self.config.digest:
            raise InvalidConfig(f"the settings of run {state.run!r} were changed since it began.", _KEEP)
        return self._go_on(replace(state, skips=0), phases.plan(self.config))

    def carry_out_orders(self, state: RunState) -> RunState:
        """Carry out what operators ordered, and nothing else of the plan: for a run that failed."""
        return self._go_on(state, ())

    def _go_on(self, state: RunState, steps: tuple[Step, ...]) -> RunState:
        """Orders first, then the next step. What operators want is asked once a round: it has one model."""
        known = state.step == 0  # the describe round finds out who is there
        while True:
            choice = self.orders.choice() if state.members else None
            if not (choice is not None and choice.open) and state.step >= len(steps):
                return state
            if not known:
                self._roll_call(state)
                known = True  # it took its time: what is wanted may be something else by now
            elif choice is not None and choice.open:
                state = self._carry_out(state, choice)
            else:
                state = self._proceed(state, steps[state.step], choice)

    def _proceed(self, state: RunState, step: Step, choice: Choice | None) -> RunState:
        outcome = self._round(state, step, choice)
        self.journal.commit(outcome.record, outcome.state)
        self.observer.round_finished(outcome.record)
        if isinstance(outcome, Failed):
            failure = NoCompatiblePlants if outcome.record.number == 1 else RunFailed
            raise failure(f"round {outcome.record.number} failed: {outcome.record.reason}.")
        return outcome.state

    # ---- what operators order ----------------------------------------------------------------------------------------

    def _carry_out(self, state: RunState, choice: Choice) -> RunState:
        """A round for an order. Without a quorum it is tried again, as often as any other round."""
        outcome = self._calibrate(state, order_step(choice), choice, planned=False)
        if isinstance(outcome, Committed):
            self.orders.carry(choice, outcome.record, outcome.state)
        else:
            order, tries = self._tries
            self._tries = choice.order, 1 + (tries if order == choice.order else 0)
            self.journal.commit(outcome.record, outcome.state)
            if self._tries[1] >= self.config.rounds.max_skips:
                self.orders.give_up(choice, f"round {outcome.record.number}: {outcome.record.reason}")
        self.observer.round_finished(outcome.record)
        return outcome.state

    def _calibrate(self, state: RunState, step: Step, choice: Choice, planned: bool) -> Outcome:
        """A calibration with the model that an operator chose."""
        conducted = self._conduct(replace(state, model=choice.model), step)
        return settle_choice(state, step, self.config, conducted, planned)

    def _round(self, state: RunState, step: Step, choice: Choice | None) -> Outcome:
        if step.action is Action.DESCRIBE:
            conducted, described = self._describe(state, step)
            outcome: Outcome = settle_describe(state, step, self.config, conducted, described, self.start)
            self._there.founded(outcome.state.members, outcome.record.number)
            return outcome
        if step.action is Action.MOMENTS and phases.lags(state, self.config) is None:
            return unasked(state, step, datetime.now(UTC))
        if step.action is Action.CALIBRATE and choice is not None and choice.holds:
            return self._calibrate(state, step, choice, planned=True)
        return settle(state, step, self.config, self._conduct(state, step))

    # ---- rounds after the first --------------------------------------------------------------------------------------

    def _conduct(self, state: RunState, step: Step) -> Conducted:
        started, begin = datetime.now(UTC).isoformat(timespec="milliseconds"), self.clock()
        self._muster(state)
        sent, nodes = self.clock(), self._there.nodes(state.members)
        request, asked = phases.request(step, state, self.config), [m for m in state.members if m.plant in nodes]
        weights = {member.plant: member.weight for member in asked}
        self._there.asked(weights)
        heard = Heard(state, request, sent, self._send(request, step, [nodes[plant] for plant in weights]))
        heard.sketches = sketches_of(request, self.config, weights)
        fold = OrderedFold(list(weights), weights, self._fold(state, request, len(weights)))
        plants = {node: plant for plant, node in nodes.items()}
        vigil = self._vigil(
            state, {nodes[plant] for plant in weights}, fold, self._told(request.round, plants.__getitem__)
        )
        self._collect(vigil, plants, Judge(self.config, request, step, state, self._replays), heard, fold)
        waited = self.clock() - sent
        aggregate = fold.finish()
        timings = {"wait": waited, "aggregate": self.clock() - sent - waited}
        timings |= {"muster": sent - begin} if sent - begin > _WORTH_TELLING_S else {}
        reports = self._whole(state, heard, nodes, vigil.gone, waited)
        told, joined = self._there.report(state.members)
        whole = tuple(sorted([*reports, *told], key=lambda report: report.plant))
        notes = (*self._replays.twins(), *surplus(vigil.surplus, plants))
        return Conducted(aggregate, whole, started, self.clock() - begin, timings, joined, notes)

    def _fold(self, state: RunState, request: Request, asked: int) -> Fold:
        """What puts the replies together; under central differential privacy with its noise, which is charged first."""
        if request.kind is Kind.MOMENTS:
            return MomentsFold(state, self.config)
        if self.config.recipe.privacy.mode != "central" or state.model is None:
            return fold_with_members(state, self.config.rounds)
        from server.central import CentralFold  # Imports cryptography.

        base = base_of(state.model.weights, self.config.rounds)
        members, charge = max(len(state.members), asked), partial(self.charge, request.round)
        least = quorum(len(state.members), self.config.rounds.quorum)
        return CentralFold(base, self.config.recipe.privacy, members, least, request.radius, charge)

    def _send(self, request: Request, step: Step, nodes: list[int]) -> int:
        """Send a round's request; bytes of its payload."""
        packet = encode_request(request, self.signature())
        self.observer.round_started(request.round, step, len(nodes))
        self.channel.send(packet, nodes, self.config.rounds.deadline_s, f"{request.run}/{request.round}")
        return packet.payload_bytes

    def _vigil(self, state: RunState, pending: set[int], fold: OrderedFold, tell: Tell) -> Vigil:
        needed = quorum(len(state.members), self.config.rounds.quorum)
        return Vigil(self.channel, self.clock, self.config.rounds, pending, lambda: fold.accepted >= needed, tell)

    def _told(self, number: int, name: Callable[[int], str]) -> Tell:
        """What tells the observer for whom a round waits."""

        def tell(pending: Collection[int], waited_s: float, left_s: float) -> None:
            self.observer.round_waits(number, sorted(map(name, pending)), waited_s, left_s)

        return tell

    def _collect(self, vigil: Vigil, plants: Mapping[int, str], judge: Judge, heard: Heard, fold: OrderedFold) -> None:
        """Judge replies as they come, those beside the round too."""
        for arrival in vigil.arrivals():
            if arrival.beside:
                self._hear(arrival, heard.state)
                continue
            plant = plants[arrival.node]
            verdict = judge(arrival, plant)
            heard.reports[plant] = report_of(verdict, arrival, heard.bytes_down, self.clock() - heard.sent)
            heard.update(verdict)
            fold.take(plant, verdict)
            self._learn(arrival.node, verdict, heard.request.round)
            self.observer.reply_received(plant)

    def _learn(self, node: int, verdict: Accepted | Rejected, number: int) -> None:
        """What a member's reply tells about whether it is still what it was."""
        if isinstance(verdict, Accepted):
            self._there.trust(node)
        elif verdict.reason.startswith("schema: "):
            self._there.leave_out(node, verdict.plant, verdict.reason, number)
        else:
            self._there.doubt(node)

    def _whole(
        self, state: RunState, heard: Heard, nodes: Mapping[str, int], gone: Mapping[int, float], waited: float
    ) -> list[PlantReport]:
        """One report a member, whether it answered or not."""
        late = f"late: no reply within {waited:.0f} s"

        def missing(plant: str) -> PlantReport:
            reason = self._there.absent(plant) if plant not in nodes else LEFT if nodes[plant] in gone else late
            return PlantReport(plant, accepted=False, reason=reason)

        reports = heard.told()
        return [reports.get(member.plant) or missing(member.plant) for member in state.members]

    # ---- who is there ------------------------------------------------------------------------------------------------

    def _muster(self, state: RunState) -> None:
        """See who is there; wait while fewer are than the quorum needs and more may come, or the round is in vain."""
        needed, begin = quorum(len(state.members), self.config.rounds.quorum), self.clock()
        ends = begin + min(self.config.rounds.deadline_s, MUSTER_S)
        notice = Notice(self.clock, lambda waited_s, left_s: self._say_who_is_away(state, waited_s, left_s))
        while True:
            connected = self.channel.nodes()
            self._there.look(connected, state.members)
            self._there.know({node: self.channel.name(node) for node in connected}, state.members)
            self._ask_beside(state)
            here = len(self._there.nodes(state.members))
            if here >= needed or here + self._there.may_come(state.members) < needed or self.clock() >= ends:
                return
            notice.look(ends)
            for arrival in self.channel.receive(min(1.0, ends - self.clock())):
                if arrival.beside:
                    self._hear(arrival, state)

    def _say_who_is_away(self, state: RunState, waited_s: float, left_s: float) -> None:
        here = self._there.nodes(state.members)
        away = sorted(member.plant for member in state.members if member.plant not in here)
        self.observer.round_waits(state.finished + 1, away, waited_s, left_s)

    def _ask_beside(self, state: RunState) -> None:
        """Ask nodes that are no members, or no longer sure to be what they were, to describe themselves."""
        steps, now, wait = phases.plan(self.config), self.clock(), self.config.rounds.deadline_s
        self._there.open = {n: q for n, q in self._there.open.items() if now < q.asked_s + wait}
        nodes = self._there.to_describe(state.finished + 1)
        if not nodes or state.step + 1 >= len(steps):  # whoever joins beside the last round has none to take part in
            return
        packet, expect = self._question(state, steps[0])
        for node in nodes:
            self._there.open[node] = Question(expect, now, packet.payload_bytes)
        self.channel.send_beside(packet, nodes, wait, f"{state.run}/{expect.round}")

    def _hear(self, arrival: Arrival, state: RunState) -> None:
        """Take in what a node says of itself; answers that nobody waits for any more are dropped."""
        question = self._there.open.pop(arrival.node, None)
        if question is None:
            return
        verdict = judge_packet(arrival, question.expect, self._called(arrival.node))
        report = report_of(verdict, arrival, question.bytes_down, self.clock() - question.asked_s)
        self._there.hear(arrival.node, verdict, report, state, state.finished + 1)

    def _called(self, node: int) -> str:
        """What to call a node that has not said who it is."""
        return self.channel.name(node) or f"node {node}"

    def _question(self, state: RunState, step: Step) -> tuple[Packet, Expectation]:
        """What asks a node to describe itself, and what its answer must match."""
        request = phases.request(step, replace(state, model=None), self.config)
        expect = Expectation(request.kind, request.run, request.round, max_examples=self.config.rounds.max_examples)
        return encode_request(request, self.signature()), expect

    # ---- the describe round and the roll call after a restart --------------------------------------------------------

    def _describe(self, state: RunState, step: Step) -> tuple[Conducted, dict[str, Description]]:
        started, begin = datetime.now(UTC).isoformat(timespec="milliseconds"), self.clock()
        reports: dict[int, PlantReport] = {}
        described: dict[str, Description] = {}
        plant_of = self._there.plant_of

        def enough(asked: int) -> bool:
            return len(described) >= max(self.config.rounds.fewest, quorum(asked, self.config.rounds.quorum))

        for node, verdict, report in self._ask_all(state, step, enough):
            if isinstance(verdict, Accepted) and verdict.description is not None:
                if verdict.plant in described:
                    report = replace(report, accepted=False, reason=f"name: another plant is called {verdict.plant!r}")
                else:
                    described[verdict.plant], plant_of[node] = verdict.description, verdict.plant
            reports[node] = report
        aggregate = RunningMean().result()
        ordered = distinct(reports, plant_of, plant_of.values())
        took = self.clock() - begin
        conducted = Conducted(replace(aggregate, count=len(described)), ordered, started, took, {"wait": took})
        return conducted, described

    def _ask_all(
        self, state: RunState, step: Step, enough: Callable[[int], bool]
    ) -> Iterator[tuple[int, Accepted | Rejected, PlantReport]]:
        """What every connected node says of itself. `enough(asked)` tells when the grace period may begin."""
        packet, expect = self._question(state, step)
        nodes, begin = list(self.channel.nodes()), self.clock()
        self.observer.round_started(expect.round, step, len(nodes))
        # A roll call shares its number with the round after it, not its group: late answers must not meet.
        self.channel.send(packet, nodes, self.config.rounds.deadline_s, f"{state.run}/{expect.round}/describe")
        silent = set(nodes)
        tell = self._told(expect.round, self._called)
        vigil = Vigil(self.channel, self.clock, self.config.rounds, set(nodes), lambda: enough(len(nodes)), tell)
        for arrival in vigil.arrivals():
            silent.discard(arrival.node)
            verdict = judge_packet(arrival, expect, self._called(arrival.node))
            yield arrival.node, verdict, report_of(verdict, arrival, packet.payload_bytes, self.clock() - begin)
            self.observer.reply_received(verdict.plant)
        for node in sorted(silent):
            late = Rejected(self._called(node), f"late: no reply within {self.clock() - begin:.0f} s")
            yield node, late, PlantReport(late.plant, accepted=False, reason=late.reason)

    def _roll_call(self, state: RunState) -> None:
        """Find out which node is which plant after a restart; a plant whose data changed is left out.

        Of several nodes that claim one plant and fit, the lowest is asked; the first round to come reports the others.
        """
        number, members = state.finished + 1, {m.plant for m in state.members}
        needed, describe = quorum(len(members), self.config.rounds.quorum), phases.plan(self.config)[0]
        there, heard = set[str](), []
        for node, verdict, report in self._ask_all(state, describe, lambda asked: len(there) >= needed):
            if isinstance(verdict, Accepted) and verdict.plant in members:
                there.add(verdict.plant)
            if not (report.reason or "").startswith("late"):  # beside the next round it is asked once more
                heard.append((node, verdict, report))
        self._there.look(self.channel.nodes(), state.members)
        for node, verdict, report in sorted(heard, key=lambda one: one[0]):
            self._there.hear(node, verdict, report, state, number)
