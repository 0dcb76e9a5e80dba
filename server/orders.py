"""What an operator chose for plants to score by, and the round that carries it out. Knows no Flower and no database.

An order's round is a calibration with the chosen model in the place of the newest: plants calibrate it on their own
data and publish it as their bundle. The run's own state, its model among it, stays what it was, so that training goes
on where it stood. While a choice holds, the calibrations of the plan send the chosen model too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from server.membership import admit
from server.phases import Action, Step
from server.rounds import Committed, Outcome, Phase, RoundRecord, RunState, Skipped, Status
from server.transition import Conducted, quorum, record, skip
from shared.config import RunConfig
from shared.model import GlobalModel


@dataclass(frozen=True)
class Choice:
    """What plants shall score by instead of the newest model.

    Attributes:
        order: its number in the store.
        label: of the round that carries it out, such as `rollback to round 7`.
        model: the chosen round's, with its clusters.
        open: whether no round has carried it out yet.
        holds: whether later calibrations send it too.
    """

    order: int
    label: str
    model: GlobalModel
    open: bool
    holds: bool = True


class Orders(Protocol):
    """Where a run's coordinator hears of orders."""

    def choice(self) -> Choice | None:
        """What holds now; None: the newest model goes out."""

    def carry(self, choice: Choice, record: RoundRecord, state: RunState) -> None:
        """Keep the round that carried an order out, and that it did: both, or neither."""

    def give_up(self, choice: Choice, reason: str) -> None:
        """Plants could not be brought to it: it is asked for no more."""


class NoOrders:
    """Nobody orders anything."""

    def choice(self) -> Choice | None:
        return None

    def carry(self, choice: Choice, record: RoundRecord, state: RunState) -> None:
        raise AssertionError("nothing was ordered.")

    def give_up(self, choice: Choice, reason: str) -> None: ...


def order_step(choice: Choice) -> Step:
    """The round that carries an order out; it is none of the plan's."""
    return Step(Phase.CALIBRATE, Action.CALIBRATE, choice.label)


def settle_choice(state: RunState, step: Step, config: RunConfig, conducted: Conducted, planned: bool) -> Outcome:
    """The outcome of a calibration that sent a chosen model; nobody votes on it, an operator has.

    Args:
        state: of the run, with its own model.
        step, config, conducted: of the round.
        planned: whether it took the place of a step of the plan.
    """
    outcome = _settle(state, step, config, conducted, planned)
    return replace(outcome, state=admit(outcome.state, conducted.joined, config))


def _settle(state: RunState, step: Step, config: RunConfig, conducted: Conducted, planned: bool) -> Outcome:
    needed = quorum(len(state.members), config.rounds.quorum)
    after, notes = replace(state, finished=state.finished + 1), "; ".join(conducted.notes)
    if conducted.aggregate.count < needed:
        reason = f"{conducted.aggregate.count} of {len(state.members)} plants counted, the quorum is {needed}"
        if planned:
            return skip(state, step, config, conducted, reason)
        told = "; ".join(filter(None, (reason, notes)))
        return Skipped(after, record(after, step, Status.SKIPPED, told, conducted))
    after = replace(after, step=state.step + 1, skips=0) if planned else after
    return Committed(after, record(after, step, Status.COMMITTED, notes or None, conducted))
