"""Orders as the store keeps them: values, and what a round's transaction does with them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.orm import Session

from server.rounds import RoundRecord
from server.store.auditlog import Actor, append, hold
from server.store.codec import RECORDS
from server.store.database import has_table
from server.store.tables import OrderRow
from shared.errors import StoreError

COORDINATOR = Actor("coordinator", "system")


class OrderAction(StrEnum):
    """What an operator wants."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    FOLLOW = "follow"


class OrderState(StrEnum):
    """How an order stands."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    REPLACED = "replaced"


HOLDS = (OrderState.OPEN.value, OrderState.DONE.value)


@dataclass(frozen=True)
class Order:
    """One order; the fields are those of `server.store.tables.OrderRow`."""

    id: int
    run: str
    action: OrderAction
    target: int
    model: str
    made: str
    who: str
    why: str
    state: OrderState
    round: int | None

    @property
    def label(self) -> str:
        """What its round is called."""
        words = {OrderAction.ROLLBACK: "rollback to", OrderAction.PROMOTE: "promote", OrderAction.FOLLOW: "follow from"}
        return f"{words[self.action]} round {self.target}"


def carry_out(session: Session, order: int, record: RoundRecord) -> str:
    """Enter into a round's transaction that it carried an order out; the digest of the order's model."""
    hold(session)
    row = session.get(OrderRow, order)
    if row is None or row.model is None:
        raise StoreError(f"order {order} is gone.", "Is another program writing the store?")
    row.state = OrderState.DONE.value  # also where a newer one replaced it meanwhile: plants score by it until that is
    row.round = record.number
    detail = {"order": order, "round": record.number, "model": row.model, "plants": list(record.accepted)}
    append(session, COORDINATOR, "carry out", target_of(order_of(row)), detail)
    return row.model


def kept(session: Session) -> bool:
    """Whether the store has orders; an older one has not."""
    return has_table(session.connection(), OrderRow.__tablename__)


def target_of(order: Order) -> str:
    """What an order is about, for the audit log."""
    return f"run {order.run}, round {order.target}"


def order_of(row: OrderRow) -> Order:
    """The order that a row keeps.

    Raises:
        StoreUnreadable: a column does not hold what it must.
    """
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(Order)}
    return RECORDS.decode(Order, fields, f"order {row.id}")
