"""An operator's order: promote, roll back, follow; carried out by the next round, told in the audit log."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.channel import Silent
from server.coordinator import Coordinator
from server.orders import Choice
from server.phases import Action, Step
from server.rounds import RoundRecord, RunState
from server.store.auditlog import Actor, entries, verify
from server.store.registry import Order, OrderState, Registry, RunOrders
from server.store.sent import published
from server.store.store import RoundStore
from shared.config import RunConfig
from shared.errors import InvalidConfig, ModelCorrupt, RoundNotFound, StoreBusy, StoreUnreadable
from shared.wire.inventory import Kind
from tests.support import plants
from tests.support.puppets import Puppet, Stage
from tests.support.stores import alter

ANNA = Actor("anna", "operator")
RUN = "run"


def config(**rounds: object) -> RunConfig:
    clustering = {"clusters": 3, "seed_steps": 1, "refine_steps": 1}
    given = {"pretrain": 1, "joint": 3, "deadline_s": 5.0, "quorum": 0.5, "calibrate_every": 1, **rounds}
    return plants.settings(rounds=given, recipe={"clustering": clustering, "detector": {"window": 30}})


@dataclass
class Counted:
    """The store, and the stage told which round it is."""

    store: RoundStore
    stage: Stage
    after: dict[int, object]

    def commit(self, record: RoundRecord, state: RunState, order: int | None = None) -> None:
        self.store.commit(record, state, order)
        self.told(record)

    def told(self, record: RoundRecord) -> None:
        """A round is over."""
        self.stage.rounds_done = record.number
        act = self.after.get(record.number)
        if callable(act):
            act()


class Told(RunOrders):
    """The run's orders, committed through the stage's journal."""

    def __init__(self, journal: Counted, run: str, site: Site) -> None:
        super().__init__(journal.store, run)
        self._journal, self._site = journal, site

    def choice(self) -> Choice | None:
        """What holds; an operator who is a moment too late acts right afterwards."""
        found, site = super().choice(), self._site
        if site.store.run(RUN).rounds == site.when:
            site.when = -1
            site.act()
        return found

    def carry(self, choice, record, state) -> None:  # type: ignore[no-untyped-def]
        super().carry(choice, record, state)
        self._journal.told(record)


class Watch(Silent):
    """Acts when a round has begun; a roll call before it is none."""

    def __init__(self, before: dict[int, object]) -> None:
        self._before = before

    def round_started(self, number: int, step: Step, plants: int) -> None:
        act = self._before.get(number)
        if callable(act) and step.action is not Action.DESCRIBE:
            act()


class Site:
    """A run with its store, from the beginning or wherever it stands."""

    def __init__(self, folder: Path, names: str = "abc", settings: RunConfig | None = None) -> None:
        self.config = settings or config()
        self.store = RoundStore.create(str(folder))
        self.store.start_run(RUN, self.config)
        self.registry = Registry(self.store)
        self.stage = Stage([Puppet(name) for name in names])
        self.after: dict[int, object] = {}
        self.before: dict[int, object] = {}
        self.when, self.act = -1, lambda: None

    def run(self, only_orders: bool = False) -> list[RoundRecord]:
        journal = Counted(self.store, self.stage, self.after)
        coordinator = Coordinator(self.config, self.stage, journal, clock=self.stage.clock)
        coordinator.orders = Told(journal, RUN, self)
        coordinator.observer = Watch(self.before)
        state = self.store.latest_state(RUN) or RunState(RUN, self.config.digest)
        self.stage.rounds_done = state.finished
        (coordinator.carry_out_orders if only_orders else coordinator.run)(state)
        return self.store.rounds(RUN)

    def sent(self) -> list[str]:
        """Digests of the models that plants were asked to calibrate, in order."""
        return [packet.texts["model"] for packet, _ in self.stage.sent if packet.texts["kind"] == Kind.CALIBRATE]


def number_of(records: list[RoundRecord], label: str) -> int:
    return next(r.number for r in records if r.label == label)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_finished_run_brings_plants_to_the_chosen_model_in_one_round(site: Site) -> None:
    records = site.run()
    first = number_of(records, "calibrate 1")
    state = site.store.latest_state(RUN)
    order = site.registry.rollback(RUN, ANNA, "false alarms since Monday", to=first)
    after = site.run()
    assert [r.label for r in after[len(records) :]] == [f"rollback to round {first}"]
    assert site.sent()[-1] == records[first - 1].model == order.model
    assert after[-1].accepted == ("a", "b", "c")
    ended = site.store.latest_state(RUN)
    assert ended.model.digest == state.model.digest
    assert ended.step == state.step
    held = site.registry.chosen(RUN)
    assert (held.state, held.round, held.id) == (OrderState.DONE, len(after), order.id)


def test_the_audit_log_says_who_and_why(site: Site) -> None:
    first = number_of(site.run(), "calibrate 1")
    site.registry.rollback(RUN, ANNA, "false  alarms\nsince Monday", to=first)
    site.run()
    with site.store.session() as session:
        carried, asked = entries(session)
        assert verify(session).broken is None
    assert (asked.who, asked.role, asked.action) == ("anna", "operator", "rollback")
    assert asked.target == f"run {RUN}, round {first}"
    assert asked.detail["why"] == "false alarms since Monday"
    assert (carried.who, carried.action, carried.detail["plants"]) == ("coordinator", "carry out", ["a", "b", "c"])


def test_an_order_during_a_run_is_the_very_next_round_and_training_goes_on_as_if_it_had_not_been(
    tmp_path: Path,
) -> None:
    plain = Site(tmp_path / "plain")
    undisturbed = plain.run()
    site = Site(tmp_path / "disturbed")
    first, during = number_of(undisturbed, "calibrate 1"), number_of(undisturbed, "train 3/3")
    site.after = {during: lambda: site.registry.promote(RUN, first, ANNA, "it alarms less")}
    records = site.run()
    assert records[during].label == f"promote round {first}"
    del records[during]
    assert [r.model for r in records] == [r.model for r in undisturbed]
    assert [r.label for r in records] == [r.label for r in undisturbed]


def test_while_a_choice_holds_the_plans_calibrations_send_it_too(site: Site) -> None:
    chosen = 7
    site.after = {8: lambda: site.registry.promote(RUN, chosen, ANNA, "it alarms less")}
    records = site.run()
    held = records[chosen - 1].model
    ordered, *later = site.sent()[-3:]
    assert ordered == held
    assert set(later) == {held} != {records[-1].model}


def test_to_follow_lets_the_newest_model_go_out_at_once_and_from_then_on(site: Site) -> None:
    records = site.run()
    first = number_of(records, "calibrate 1")
    site.registry.promote(RUN, first, ANNA, "try")
    site.run()
    site.registry.follow(RUN, ANNA, "enough")
    site.run()
    assert site.sent()[-2:] == [records[first - 1].model, records[-1].model]
    assert RunOrders(site.store, RUN).choice() is None


def test_to_roll_back_without_a_round_means_what_plants_scored_by_before(site: Site) -> None:
    records = site.run()
    calibrated = [r.number for r in records if r.label.startswith("calibrate")]
    models = {n: records[n - 1].model for n in calibrated}
    assert site.registry.before(RUN) == max(n for n in calibrated if models[n] != models[calibrated[-1]])
    site.registry.promote(RUN, calibrated[0], ANNA, "try")
    site.run()
    back = site.registry.rollback(RUN, ANNA, "worse")
    assert back.model == models[calibrated[-1]]


def test_nothing_to_go_back_to_is_said(tmp_path: Path) -> None:
    site = Site(tmp_path, settings=config(calibrate_every=0, joint=1))
    with pytest.raises(RoundNotFound, match="no model yet"):
        site.registry.before(RUN)
    site.run()
    with pytest.raises(RoundNotFound, match="one model only"):
        site.registry.rollback(RUN, ANNA, "back")


def test_a_newer_order_replaces_one_that_waits(site: Site) -> None:
    records = site.run()
    one = site.registry.promote(RUN, number_of(records, "calibrate 1"), ANNA, "one")
    two = site.registry.promote(RUN, number_of(records, "calibrate 2"), ANNA, "two")
    assert [(o.id, o.state) for o in site.registry.orders(RUN)] == [
        (two.id, OrderState.OPEN),
        (one.id, OrderState.REPLACED),
    ]
    assert len(site.run()) == len(records) + 1
    assert site.sent()[-1] == two.model


def test_without_a_quorum_an_order_is_tried_again_then_given_up_and_the_run_stays_what_it_was(tmp_path: Path) -> None:
    site = Site(tmp_path, settings=config(max_skips=2))
    records = site.run()
    state = site.store.latest_state(RUN)
    site.registry.promote(RUN, number_of(records, "calibrate 1"), ANNA, "try")
    site.stage.absent = {0, 1}
    after = site.run()
    assert [r.status.value for r in after[len(records) :]] == ["skipped", "skipped"]
    assert site.registry.orders(RUN)[0].state is OrderState.FAILED
    ended = site.store.latest_state(RUN)
    assert (ended.step, ended.skips, ended.model.digest) == (state.step, 0, state.model.digest)
    with site.store.session() as session:
        assert "quorum" in entries(session)[0].detail["reason"]


def test_an_order_that_comes_just_before_a_calibration_of_the_plan_is_the_round_after_it(site: Site) -> None:
    site.when = 13  # rounds are over, and the plan's second calibration is due
    site.act = lambda: site.registry.promote(RUN, 7, ANNA, "it alarms less")
    records = site.run()
    ended = [r for r in records if r.label.startswith(("calibrate", "promote"))]
    assert [r.label for r in ended] == ["calibrate 1", "calibrate 2", "promote round 7", "calibrate"]
    with site.store.session() as session:
        told = published(session, RUN, [r.number for r in ended])
    assert [told[r.number] for r in ended] == site.sent()


def test_an_order_that_is_replaced_while_its_round_runs_was_carried_out_all_the_same(site: Site) -> None:
    records = site.run()
    one, two = (number_of(records, label) for label in ("calibrate 1", "calibrate 2"))
    site.registry.promote(RUN, one, ANNA, "one")
    site.before = {len(records) + 1: lambda: site.registry.promote(RUN, two, ANNA, "two")}
    after = site.run()
    assert [r.label for r in after[len(records) :]] == [f"promote round {one}", f"promote round {two}"]
    assert [(o.state, o.round) for o in site.registry.orders(RUN)] == [
        (OrderState.DONE, len(after)),
        (OrderState.DONE, len(after) - 1),
    ]
    assert site.registry.before(RUN) == one


def test_each_order_has_its_own_tries(tmp_path: Path) -> None:
    site = Site(tmp_path, settings=config(max_skips=2))
    records = site.run()
    first = number_of(records, "calibrate 1")
    site.registry.promote(RUN, first, ANNA, "one")
    site.stage.absent = {0, 1}
    site.after = {len(records) + 1: lambda: site.registry.promote(RUN, first, ANNA, "two")}
    assert len(site.run()) == len(records) + 3
    assert [o.state for o in site.registry.orders(RUN)] == [OrderState.FAILED, OrderState.REPLACED]


def test_a_store_that_cannot_be_asked_afterwards_has_no_order_carried_out_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = site.run()
    orders = RunOrders(site.store, RUN)
    site.registry.promote(RUN, number_of(records, "calibrate 1"), ANNA, "try")
    choice, state = orders.choice(), site.store.latest_state(RUN)
    assert choice is not None
    assert choice.open
    after = dataclasses.replace(state, finished=state.finished + 1)
    orders.carry(choice, dataclasses.replace(records[-1], number=after.finished, label=choice.label), after)
    monkeypatch.setattr(Registry, "chosen", _locked)
    known = orders.choice()
    assert (known.order, known.open, known.holds) == (choice.order, False, True)


def test_a_store_that_cannot_be_asked_has_an_order_that_was_given_up_not_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = site.run()
    orders = RunOrders(site.store, RUN)
    site.registry.promote(RUN, number_of(records, "calibrate 1"), ANNA, "try")
    orders.give_up(orders.choice(), "no quorum")
    monkeypatch.setattr(Registry, "chosen", _locked)
    assert orders.choice() is None


def _locked(registry: Registry, run: str) -> Order:
    raise StoreBusy("the store is locked by another process.")


def test_a_model_that_cannot_be_read_just_now_is_asked_for_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    records = site.run()
    order = site.registry.promote(RUN, number_of(records, "calibrate 1"), ANNA, "try")
    orders = RunOrders(site.store, RUN)
    with monkeypatch.context() as locked:
        locked.setattr(RoundStore, "model", lambda store, run, number: _locked(site.registry, run))
        assert orders.choice() is None
    assert orders.choice().order == order.id


@pytest.mark.parametrize("change", ["action = 'x'", "state = 'done', target = NULL", "target = 'x'", "who = x'00'"])
def test_a_damaged_order_is_one_clear_error_and_ends_no_run(site: Site, tmp_path: Path, change: str) -> None:
    site.after = {12: _stop}
    with pytest.raises(KeyboardInterrupt):
        site.run()
    site.after = {}
    site.registry.promote(RUN, 7, ANNA, "try")
    alter(tmp_path, f"UPDATE orders SET {change}")
    with pytest.raises(StoreUnreadable, match="order 1"):
        site.registry.orders(RUN)
    assert site.run()[-1].label == "calibrate"


def test_of_a_failed_run_orders_are_carried_out_and_nothing_else(site: Site) -> None:
    site.after = {12: _stop}
    with pytest.raises(KeyboardInterrupt):
        site.run()
    first = number_of(site.store.rounds(RUN), "calibrate 1")
    site.after = {}
    site.registry.rollback(RUN, ANNA, "stop", to=first)
    records = site.run(only_orders=True)
    assert [r.label for r in records[12:]] == [f"rollback to round {first}"]


def _stop() -> None:
    raise KeyboardInterrupt


def test_a_model_that_no_plant_can_score_by_cannot_be_ordered(site: Site) -> None:
    records = site.run()
    with pytest.raises(RoundNotFound, match="no clusters yet"):
        site.registry.promote(RUN, number_of(records, "train 1/1"), ANNA, "try")
    with pytest.raises(RoundNotFound, match="no round 99"):
        site.registry.promote(RUN, 99, ANNA, "try")
    assert site.registry.orders(RUN) == []
    with site.store.session() as session:
        assert entries(session) == []


def test_a_model_file_that_is_gone_fails_the_order_not_the_run(site: Site, tmp_path: Path) -> None:
    records = site.run()
    order = site.registry.promote(RUN, number_of(records, "calibrate 1"), ANNA, "try")
    (tmp_path / "models" / f"{order.model}.safetensors").unlink()
    assert len(site.run()) == len(records)
    assert site.registry.orders(RUN)[0].state is OrderState.FAILED
    with pytest.raises(ModelCorrupt):
        site.registry.promote(RUN, order.target, ANNA, "again")


@pytest.mark.parametrize("why", ["", "   ", "a\x1b[2Jb", "x" * 1001])
def test_a_reason_is_asked_for_and_is_text(site: Site, why: str) -> None:
    records = site.run()
    with pytest.raises(InvalidConfig):
        site.registry.promote(RUN, number_of(records, "calibrate 1"), ANNA, why)
