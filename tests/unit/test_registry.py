"""The model registry over a store, without a run: what each run's orders are, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.rounds import Phase, Status
from server.store.auditlog import Actor, entries
from server.store.registry import LONGEST_WHY, Order, OrderState, Registry, parse_why
from server.store.store import RoundStore
from shared.errors import InvalidConfig, RoundNotFound, StoreError
from tests.support.stores import CONFIG, NORTH, SOUTH, alter, commit, filled, model, record, state

ME = Actor("anna", "operator")


@pytest.fixture
def store(tmp_path: Path) -> RoundStore:
    """Two runs of three rounds."""
    made = filled(tmp_path)
    made.start_run("b", CONFIG)
    for number in (1, 2, 3):
        made.commit(record(state("b", number)), state("b", number))
    return made


def carried(store: RoundStore, order: Order, number: int) -> None:
    """A round that carries an order out."""
    commit(store, number, (NORTH, SOUTH), number, order.id, phase=Phase.CALIBRATE, label=order.label)


def test_an_order_of_one_run_is_none_of_another(store: RoundStore) -> None:
    registry = Registry(store)
    other = registry.promote("b", 2, ME, "b's own")
    assert (registry.chosen("a"), registry.open_order("a"), registry.orders("a")) == (None, None, [])
    own = registry.promote("a", 3, ME, "a's own")
    assert [(o.id, o.state) for o in registry.orders()] == [(own.id, OrderState.OPEN), (other.id, OrderState.OPEN)]
    assert registry.waiting() == {"a", "b"}
    assert registry.chosen("b") == other


def test_what_plants_of_one_run_scored_by_is_nothing_to_go_back_to_in_another(store: RoundStore) -> None:
    registry = Registry(store)
    for number, target in ((4, 2), (5, 3)):
        carried(store, registry.promote("a", target, ME, "try"), number)
    assert registry.before("a") == 2
    with pytest.raises(RoundNotFound, match="no model yet"):
        registry.before("b")


def test_a_calibration_that_was_skipped_brought_plants_no_model(store: RoundStore) -> None:
    commit(store, 4, (NORTH,), 4, label="calibrate 1")
    commit(store, 5, (NORTH,), 5, label="calibrate 2")
    commit(store, 6, (NORTH,), 6, label="calibrate 3", status=Status.SKIPPED)
    assert Registry(store).before("a") == 4


def test_once_plants_follow_again_the_plans_calibrations_count_by_their_own_model(store: RoundStore) -> None:
    registry = Registry(store)
    carried(store, registry.promote("a", 2, ME, "try"), 4)
    commit(store, 5, (NORTH,), 5, label="calibrate 1")  # sends the chosen one
    with pytest.raises(RoundNotFound, match="one model only"):
        registry.before("a")
    carried(store, registry.follow("a", ME, "enough"), 6)
    assert registry.before("a") == 2
    commit(store, 7, (NORTH,), 7, label="calibrate 2")
    assert registry.before("a") == 5, "the newest was sent when plants were told to follow"


def test_orders_come_in_pages(store: RoundStore) -> None:
    registry = Registry(store)
    ids = [registry.promote("a", 2, ME, "again").id for _ in range(3)][::-1]
    assert [order.id for order in registry.orders("a", limit=2)] == ids[:2]
    assert [order.id for order in registry.orders("a", before=ids[1])] == ids[2:]
    assert [order.id for order in registry.orders("a", before=2**70, limit=2**70)] == ids


def test_an_order_that_was_carried_out_waits_no_more_and_cannot_fail(store: RoundStore) -> None:
    registry = Registry(store)
    order = registry.promote("a", 2, ME, "try")
    assert registry.open_order("a") == order
    carried(store, order, 4)
    assert (registry.open_order("a"), registry.waiting()) == (None, frozenset())
    registry.fail(order.id, "too late")
    assert [found.state for found in registry.orders("a")] == [OrderState.DONE]
    with store.session() as session:
        assert [entry.action for entry in entries(session)] == ["carry out", "promote"]


def test_a_round_is_not_committed_for_an_order_that_is_gone(store: RoundStore, tmp_path: Path) -> None:
    order = Registry(store).promote("a", 2, ME, "try")
    alter(tmp_path, "DELETE FROM orders")
    with pytest.raises(StoreError, match=f"order {order.id} is gone"):
        carried(store, order, 4)
    assert store.run("a").rounds == 3


def test_a_run_without_a_round_has_no_model_to_order(store: RoundStore) -> None:
    store.start_run("c", CONFIG)
    with pytest.raises(RoundNotFound, match=r"no round yet.*first model"):
        Registry(store).follow("c", ME, "now")
    with pytest.raises(RoundNotFound, match="no round yet"):
        Registry(store).promote("a", -1, ME, "now")


def test_a_reason_may_be_as_long_as_the_limit() -> None:
    assert parse_why("x" * LONGEST_WHY) == "x" * LONGEST_WHY
    with pytest.raises(InvalidConfig):
        parse_why("x" * (LONGEST_WHY + 1))


def test_what_a_newer_model_is_measured_against_is_the_one_that_was_ordered_last(store: RoundStore) -> None:
    """Two orders that both were carried out: the later round decides, not the later order."""
    registry = Registry(store)
    one = registry.promote("a", 2, ME, "one")
    two = registry.promote("a", 3, ME, "two")
    carried(store, two, 4)
    carried(store, one, 5)
    commit(store, 6, (NORTH,), 6, label="calibrate 1")
    assert registry.before("a") == 3
    assert model(2).digest == registry.orders("a")[1].model
