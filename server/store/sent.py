"""Which model the calibrations of a run sent to its plants, who publish it: the newest, or one that was ordered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, or_, select
from sqlalchemy.orm import Session

from server.rounds import Phase
from server.store.database import has_table
from server.store.orders import OrderAction, OrderState
from server.store.tables import OrderRow, RoundRow

_CALIBRATE, _MOMENTS = "calibrate", "moments"
_ORDERED = re.compile(r"(?:promote|rollback to|follow from) round ([0-9]{1,18})")
"""`Order.label`: of a round for an order."""


def calibrates(phase: str, label: str) -> bool:
    """Whether plants calibrated in a round: as planned, in any phase, or for an order."""
    return label.startswith(_CALIBRATE) or (phase == Phase.CALIBRATE.value and not label.startswith(_MOMENTS))


def calibrating() -> ColumnElement[bool]:
    """The same as a condition on `rounds`; LIKE would mind no case in SQLite."""
    planned = func.substr(RoundRow.label, 1, len(_CALIBRATE)) == _CALIBRATE
    moments = func.substr(RoundRow.label, 1, len(_MOMENTS)) == _MOMENTS
    return or_(planned, and_(RoundRow.phase == Phase.CALIBRATE.value, ~moments))


def published(session: Session, run: str, numbers: Iterable[int]) -> dict[int, str | None]:
    """Digest of the model that each of some calibrations sent."""
    columns = (RoundRow.number, RoundRow.label, RoundRow.model)
    rows = session.execute(select(*columns).where(RoundRow.run == run, RoundRow.number.in_(set(numbers)))).all()
    orders = _orders(session, run) if rows else []
    targets = {row.number: int(found[1]) for row in rows if (found := _ORDERED.fullmatch(str(row.label)))}
    chosen = _models(session, run, set(targets.values())) if targets else {}
    return {row.number: chosen.get(targets.get(row.number, 0)) or _sent(row, orders) for row in rows}


def _sent(row: Row[*tuple[Any, ...]], orders: Sequence[Row[*tuple[Any, ...]]]) -> str | None:
    """Of a planned calibration: what the last order before it chose, unless that says to follow the newest."""
    held = next((order for order in orders if order.round < row.number), None)
    model: str | None = row.model if held is None or held.action == OrderAction.FOLLOW.value else held.model
    return model


def _orders(session: Session, run: str) -> Sequence[Row[*tuple[Any, ...]]]:
    """Orders that were carried out, the newest first."""
    if not has_table(session.connection(), OrderRow.__tablename__):
        return []
    query = select(OrderRow.round, OrderRow.action, OrderRow.model)
    done = query.where(OrderRow.run == run, OrderRow.state == OrderState.DONE.value, OrderRow.round.is_not(None))
    return session.execute(done.order_by(OrderRow.round.desc(), OrderRow.id.desc())).all()


def _models(session: Session, run: str, numbers: set[int]) -> dict[int, str | None]:
    query = select(RoundRow.number, RoundRow.model).where(RoundRow.run == run, RoundRow.number.in_(numbers))
    return {row.number: row.model for row in session.execute(query)}
