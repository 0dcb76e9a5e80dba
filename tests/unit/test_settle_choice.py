"""The outcome of a calibration that sent a chosen model, as a function of what came back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.aggregate import Aggregate
from server.orders import Choice, order_step, settle_choice
from server.phases import Action, Step
from server.rounds import Committed, Failed, Member, PlantReport, RunState, Skipped, Status
from server.transition import Conducted
from shared.model import GlobalModel, initial_weights
from shared.wire.gate import Description
from tests.support.plants import settings
from tests.support.puppets import MANIFEST, SCHEMA

CONFIG = settings(rounds={"quorum": 0.5, "max_skips": 3})
MODEL = GlobalModel(initial_weights(MANIFEST, 0), None)
STATE = RunState(
    "run",
    CONFIG.digest,
    finished=11,
    step=9,
    skips=2,
    model=MODEL,
    members=tuple(Member(name, 100, 11, 100.0) for name in "abcd"),
    schema=SCHEMA,
    manifest=MANIFEST,
)
ORDERED: Step = order_step(Choice(1, "promote round 3", MODEL, open=True))


def conducted(count: int, *notes: str, joined: str = "") -> Conducted:
    reports = tuple(PlantReport(name, i < count, None if i < count else "late: 60 s") for i, name in enumerate("abcd"))
    said = {name: Description(SCHEMA, MANIFEST, 100, 11) for name in joined}
    return Conducted(Aggregate(None, None, {}, count), reports, "2024-05-01", 1.5, {}, said, notes)


def test_the_round_of_an_order_is_a_calibration_by_the_orders_name() -> None:
    assert (ORDERED.action, ORDERED.label) == (Action.CALIBRATE, "promote round 3")


@pytest.mark.parametrize(("planned", "step", "skips"), [(True, 10, 0), (False, 9, 2)])
def test_a_quorum_is_enough_and_only_a_step_of_the_plan_moves_the_plan(planned: bool, step: int, skips: int) -> None:
    outcome = settle_choice(STATE, ORDERED, CONFIG, conducted(2), planned)
    assert isinstance(outcome, Committed)
    assert outcome.state == replace(STATE, finished=12, step=step, skips=skips)
    assert (outcome.record.number, outcome.record.status, outcome.record.reason) == (12, Status.COMMITTED, None)


def test_without_a_quorum_the_round_of_an_order_counts_as_no_skip_of_the_run() -> None:
    outcome = settle_choice(STATE, ORDERED, CONFIG, conducted(1, "slow plants", "one more"), planned=False)
    assert isinstance(outcome, Skipped)
    assert outcome.state == replace(STATE, finished=12)
    assert outcome.record.reason == "1 of 4 plants counted, the quorum is 2; slow plants; one more"


def test_without_a_quorum_a_step_of_the_plan_is_skipped_and_too_many_fail_the_run() -> None:
    outcome = settle_choice(replace(STATE, skips=0), ORDERED, CONFIG, conducted(1, "slow plants"), planned=True)
    assert isinstance(outcome, Skipped)
    assert (outcome.state.skips, outcome.state.step) == (1, 9)
    assert outcome.record.reason == "1 of 4 plants counted, the quorum is 2; slow plants"
    assert isinstance(settle_choice(STATE, ORDERED, CONFIG, conducted(1), planned=True), Failed)


def test_what_happened_is_told_of_a_round_that_counted_too() -> None:
    outcome = settle_choice(STATE, ORDERED, CONFIG, conducted(4, "slow plants", "one more"), planned=False)
    assert outcome.record.reason == "slow plants; one more"


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("planned", [True, False])
def test_however_it_ends_who_joined_has_joined(count: int, planned: bool) -> None:
    state = replace(STATE, skips=0)
    outcome = settle_choice(state, ORDERED, CONFIG, conducted(count, joined="e"), planned)
    assert [member.plant for member in outcome.state.members] == list("abcde")
