"""The model registry: which round's model plants shall score by, wanted by an operator or by nobody.

An order stands in the store until a round carries it out: it sends the chosen model with its clusters, each plant
calibrates it on its own data and publishes it as its bundle (`server.orders`). From then on the calibrations of the run
send the chosen model too, until the next order: after `follow` each newest model goes out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.orders import Choice
from server.rounds import RoundRecord, RunState
from server.store.auditlog import Actor, append, hold
from server.store.orders import COORDINATOR, HOLDS, Order, OrderAction, OrderState, kept, order_of, target_of
from server.store.rows import gone, pruned
from server.store.store import RoundStore
from server.store.tables import OrderRow, RoundRow
from shared.errors import InvalidConfig, ModelCorrupt, RoundNotFound, StoreError

__all__ = ["Order", "OrderAction", "OrderState", "Registry", "RunOrders", "parse_why"]

LONGEST_WHY = 1000
_MOST = 2**63 - 1  # that a database counts to


class Registry:
    """The registry of a store. Changes are entered in the audit log, in the same transaction.

    Args:
        store: opened.
    """

    def __init__(self, store: RoundStore) -> None:
        self._store = store

    def promote(self, run: str, number: int, actor: Actor, why: str) -> Order:
        """Have plants score by a round's model.

        Raises:
            RoundNotFound: no such run or round, or its model has no clusters yet.
            ModelCorrupt: its file is missing or changed.
            InvalidConfig: `why` is empty, too long, or holds control characters.
        """
        return self._order(run, OrderAction.PROMOTE, number, actor, why)

    def rollback(self, run: str, actor: Actor, why: str, to: int | None = None) -> Order:
        """Have plants score by an earlier round's model again.

        Args:
            run: the run.
            actor: who wants it.
            why: in words.
            to: the round; None: that of the model which plants scored by before the present one.

        Raises:
            RoundNotFound: there is no earlier one, or `to` is none that a plant could score by.
            ModelCorrupt: its file is missing or changed.
            InvalidConfig: `why` is empty, too long, or holds control characters.
        """
        return self._order(run, OrderAction.ROLLBACK, self.before(run) if to is None else to, actor, why)

    def follow(self, run: str, actor: Actor, why: str) -> Order:
        """Have plants score by the newest model, and by each that is calibrated from now on.

        Raises:
            RoundNotFound, ModelCorrupt, InvalidConfig: as `promote`.
        """
        return self._order(run, OrderAction.FOLLOW, self._store.run(run).rounds, actor, why)

    def before(self, run: str) -> int:
        """The round whose model plants scored by before the one that they score by now.

        Raises:
            RoundNotFound: there was none.
        """
        with self._store.session() as session:
            self._store.require(session, run)
            live = _live(session, run)
        if (number := _back(live)) is not None:
            return number
        told = "has had one model only that plants score by" if live else "has no model yet that plants score by"
        raise RoundNotFound(f"run {run!r} {told}.", "Name the round to go back to, with --to.")

    def orders(self, run: str | None = None, before: int | None = None, limit: int = 50) -> list[Order]:
        """Orders, the newest first."""
        query = select(OrderRow).order_by(OrderRow.id.desc()).limit(min(limit, _MOST))
        query = query if run is None else query.where(OrderRow.run == run)
        query = query if before is None else query.where(OrderRow.id < min(before, _MOST))
        with self._store.session() as session:
            return [order_of(row) for row in session.scalars(query)] if kept(session) else []

    def open_order(self, run: str) -> Order | None:
        """The order that waits to be carried out."""
        held = self.chosen(run)
        return held if held is not None and held.state is OrderState.OPEN else None

    def chosen(self, run: str) -> Order | None:
        """The order that holds: the newest that is open or done. None, or one to follow: the newest model goes out."""
        query = select(OrderRow).where(OrderRow.run == run, OrderRow.state.in_(HOLDS))
        with self._store.session() as session:
            if not kept(session):
                return None
            row = session.scalars(query.order_by(OrderRow.id.desc()).limit(1)).first()
            return None if row is None else order_of(row)

    def waiting(self) -> frozenset[str]:
        """Runs with an open order."""
        query = select(OrderRow.run).where(OrderRow.state == OrderState.OPEN.value)
        with self._store.session() as session:
            return frozenset(session.scalars(query)) if kept(session) else frozenset()

    def fail(self, order: int, reason: str) -> None:
        """An order came to nothing."""
        with self._store.session(writes=True) as session:
            hold(session)
            row = session.get(OrderRow, order)
            if row is not None and row.state == OrderState.OPEN.value:
                row.state = OrderState.FAILED.value
                append(session, COORDINATOR, "fail order", target_of(order_of(row)), {"order": order, "reason": reason})

    def load(self, order: Order) -> Choice:
        """The order with its model.

        Raises:
            RoundNotFound, ModelCorrupt: it is not there any more.
        """
        model = self._store.model(order.run, order.target)
        is_open, holds = order.state is OrderState.OPEN, order.action is not OrderAction.FOLLOW
        return Choice(order.id, order.label, model, is_open, holds)

    def _order(self, run: str, action: OrderAction, target: int, actor: Actor, why: str) -> Order:
        why = parse_why(why)
        if target < 1:
            raise RoundNotFound(f"run {run!r} has no round yet.", "Wait for its first model.")
        model = self._store.model(run, target)
        if model.clusters is None:
            cause = f"round {target} of run {run!r} has no clusters yet: no plant can score by its model."
            raise RoundNotFound(cause, "Choose a round after the cluster phase.")
        with self._store.session(writes=True) as session:
            hold(session)
            self._refuse_pruned(session, run, target)
            for old in session.scalars(select(OrderRow).where(OrderRow.run == run, OrderRow.state == "open")):
                old.state = OrderState.REPLACED.value
            made = datetime.now(UTC).isoformat(timespec="milliseconds")
            row = OrderRow(run=run, action=action.value, target=target, model=model.digest, made=made)
            row.who, row.why, row.state, row.round = actor.name, why, OrderState.OPEN.value, None
            session.add(row)
            session.flush()
            order = order_of(row)
            append(session, actor, action.value, target_of(order), {"order": row.id, "model": row.model, "why": why})
            return order

    def _refuse_pruned(self, session: Session, run: str, number: int) -> None:
        """Asked in the transaction of the order: from its end on, no prune takes the model away."""
        row = session.get(RoundRow, (run, number))
        if row is None or (date := pruned(row.state)) is None:
            return
        raise gone(f"the model of round {number} of run {run!r}", date)


def live_rounds(session: Session, run: str) -> frozenset[int]:
    """The round whose model plants score by, and that of the one before it, which `Registry.before` names."""
    live = _live(session, run)
    return frozenset(number for number in (live[0][0] if live else None, _back(live)) if number is not None)


def _back(live: Sequence[tuple[int, str]]) -> int | None:
    return next((number for number, model in live if model != live[0][1]), None)


def _live(session: Session, run: str) -> list[tuple[int, str]]:
    """Rounds in which plants calibrated, and the models that they did it by, the newest first."""
    calibrated = select(RoundRow.number, RoundRow.model, RoundRow.label).where(
        RoundRow.run == run, RoundRow.status == "committed", RoundRow.label.like("calibrate%")
    )
    planned = {n: (n, m) for n, m, _ in session.execute(calibrated) if m is not None}
    query = select(OrderRow).where(OrderRow.run == run, OrderRow.state == OrderState.DONE.value)
    orders = list(session.scalars(query)) if kept(session) else []
    done = sorted(map(order_of, orders), key=lambda order: order.round or 0)
    for number in planned:
        held = next((o for o in reversed(done) if (o.round or 0) < number), None)
        if held is not None and held.action is not OrderAction.FOLLOW:
            planned[number] = (held.target, held.model)
    planned |= {order.round: (order.target, order.model) for order in done if order.round is not None}
    return [planned[number] for number in sorted(planned, reverse=True)]


class RunOrders:
    """`server.orders.Orders` of one run, over its store. What the store cannot say just now is what it said before.

    Args:
        store: opened by the one that writes it.
        run: the run.
    """

    def __init__(self, store: RoundStore, run: str) -> None:
        self._store, self._registry, self._run = store, Registry(store), run
        self._known: Choice | None = None
        self._of: Order | None = None

    def choice(self) -> Choice | None:
        try:
            order = self._registry.chosen(self._run)
            if order != self._of:
                self._known, self._of = self._load(order), order
        except StoreError:  # a database that is locked just now, or a damaged row, must not end a run
            pass
        return self._known

    def carry(self, choice: Choice, record: RoundRecord, state: RunState) -> None:
        self._store.commit(record, state, order=choice.order)
        self._known, self._of = replace(choice, open=False), None  # what it was before must never be carried out again

    def give_up(self, choice: Choice, reason: str) -> None:
        self._registry.fail(choice.order, reason)
        self._known = self._of = None

    def _load(self, order: Order | None) -> Choice | None:
        if order is None or (order.action is OrderAction.FOLLOW and order.state is OrderState.DONE):
            return None
        try:
            return self._registry.load(order)
        except (ModelCorrupt, RoundNotFound) as error:
            self._registry.fail(order.id, error.cause)
            return None


def parse_why(text: str) -> str:
    """A reason as an operator gave it, on one line.

    Raises:
        InvalidConfig: empty, too long, or with characters that are none of a text.
    """
    told = " ".join(text.split())
    if not told:
        raise InvalidConfig("a reason is missing.", "Say why, for those who read the audit log.")
    if len(told) > LONGEST_WHY or not told.isprintable():
        raise InvalidConfig(
            f"a reason has at most {LONGEST_WHY} printable characters.", "Say it shorter, in plain text."
        )
    return told
