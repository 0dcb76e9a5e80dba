"""The queries behind `server.store.reading`: lean columns of few rows, in an open session, for SQLite and PostgreSQL.

A value that a column cannot hold rightly gives `StoreUnreadable`; NaN and infinity, which JSON lacks, read as None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import pairwise
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, func, literal, select
from sqlalchemy.orm import Session

from server.rounds import PlantReport, RoundRecord
from server.store import totals
from server.store.database import has_table
from server.store.sent import calibrates, published
from server.store.tables import OrderRow, RoundRow, RunRow, UpdateRow
from shared.errors import StoreUnreadable

Figures = dict[str, float | None]
NEWEST = 50
"""Rounds in which names of figures are looked for."""
PLANT_NEWEST = 4
"""The same of single plants, who each have their own; of rounds with figures over all plants, if there are any."""
_MOST_NAMES = 200
_INT64 = 2**63 - 1
_MATRIX_ROUNDS = 500


@contextmanager
def damage(where: str) -> Iterator[None]:
    """Say of a value that no reader can use that the store is damaged."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise StoreUnreadable(f"{where} is damaged: {' '.join(str(error).split())[:200]}.") from error


def figures(value: Any, where: str, wanted: Sequence[str] | None = None) -> Figures:
    """A JSON column of figures.

    Args:
        value: of the column.
        where: for the message, such as `round 3 of run 'a'`.
        wanted: only these, None where there is none; all that there are without it.

    Raises:
        StoreUnreadable: it is no object of numbers and nulls.
    """
    if not isinstance(value, dict):
        raise StoreUnreadable(f"{where}: expected an object of figures, found {str(value)[:60]!r}.")
    if wanted is not None:
        return {name: _figure(value.get(name), where) for name in wanted}
    return {name: _figure(number, where) for name, number in value.items()}


def _figure(value: Any, where: str) -> float | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    if value is None:
        return None
    if type(value) is not int:
        raise StoreUnreadable(f"{where}: expected a number, found {str(value)[:60]!r}.")
    try:
        return float(value)
    except OverflowError as error:
        raise StoreUnreadable(f"{where}: expected a number, found {str(value)[:60]!r}.") from error


def below(column: Any, before: int | None) -> list[ColumnElement[bool]]:
    """The condition of a page that goes on."""
    return [] if before is None else [column < max(-_INT64, min(before, _INT64))]


_RUN = [column for column in RunRow.__table__.columns if column.name != "config"]


def run_row(session: Session, name: str) -> Row[*tuple[Any, ...]] | None:
    """A run without its settings; None where there is none."""
    return session.execute(select(*_RUN).where(RunRow.name == name)).one_or_none()


def run_rows(session: Session, before: int | None, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Runs without their settings, the newest first, with the number of their last round."""
    last = select(func.max(RoundRow.number)).where(RoundRow.run == RunRow.name).scalar_subquery()
    query = select(*_RUN, last.label("rounds")).where(*below(RunRow.ordinal, before))
    return session.execute(query.order_by(RunRow.ordinal.desc()).limit(limit)).all()


_LINE = ("number", "phase", "label", "status", "reason", "started", "seconds", "model", "metrics", "timings")


_RECORD = tuple(f.name for f in fields(RoundRecord) if f.name != "plants")
_REPORT = tuple(f.name for f in fields(PlantReport))


def line_rows(
    session: Session, run: str, before: int | None, limit: int, status: str | None = None
) -> list[dict[str, Any]]:
    """Rounds without their states, the newest first, with their tallies."""
    conditions = [RoundRow.run == run, *below(RoundRow.number, before)]
    conditions += [] if status is None else [RoundRow.status == status]
    columns = [getattr(RoundRow, name) for name in _LINE]
    rows = session.execute(select(*columns).where(*conditions).order_by(RoundRow.number.desc()).limit(limit)).all()
    counts = totals.tallies(session, run, [row.number for row in rows]) if rows else {}
    none = {"asked": 0, "accepted": 0, "joined": 0, "bytes": 0}
    return [dict(zip(_LINE, row, strict=True)) | counts.get(row.number, none) for row in rows]


def counts(session: Session, run: str) -> tuple[dict[str, int], dict[str, int]]:
    """Rounds by phase and by status."""
    query = select(RoundRow.phase, RoundRow.status, func.count()).where(RoundRow.run == run)
    phases: dict[str, int] = {}
    statuses: dict[str, int] = {}
    for phase, status, count in session.execute(query.group_by(RoundRow.status, RoundRow.phase)):
        phases[phase] = phases.get(phase, 0) + count
        statuses[status] = statuses.get(status, 0) + count
    return phases, statuses


def plant_metrics(session: Session, run: str, numbers: Sequence[int]) -> tuple[str, ...]:
    """Names of the figures of single plants in some rounds."""
    query = select(UpdateRow.metrics).where(UpdateRow.run == run, UpdateRow.number.in_(numbers))
    return names(figures(value, f"run {run!r}") for value in session.scalars(query))


def names(found: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """All names in some objects, sorted; the first of too many."""
    return tuple(sorted({name for each in found for name in each})[:_MOST_NAMES])


def metric_rows(session: Session, run: str, plant: str | None, points: int) -> list[tuple[int, Any]]:
    """Figures of rounds, ascending, thinned evenly to so many at most; the last is always among them, as is the first.

    Empty where there are none.
    """
    table: Any = RoundRow if plant is None else UpdateRow
    mine = [table.run == run] if plant is None else [table.run == run, table.plant == plant]
    first, last = _ends(session, table, mine)
    if last is None:
        return []
    numbers = {last} if points < 2 else {*_strides(session, table, mine, first, stride(last - first, points)), last}
    query = select(table.number, table.metrics).where(*mine, table.number.in_(numbers)).order_by(table.number)
    return [(row[0], row[1]) for row in session.execute(query)]


def _ends(session: Session, table: Any, mine: Sequence[Any]) -> tuple[Any, Any]:
    """The first and the last number: a seek in the index for each, which SQLite does not do for both at once."""
    ends = [select(end(table.number)).where(*mine).scalar_subquery() for end in (func.min, func.max)]
    first, last = session.execute(select(*ends)).one()
    return first, last


def stride(span: int, points: int) -> int:
    """How far apart rounds are taken for at most `points` over a span, if the last is taken too.

    Example:
        >>> stride(8, 3), stride(9, 3), stride(1, 400)
        (4, 5, 1)
    """
    return max(1, -(-span // max(1, points - 1)))


def _strides(session: Session, table: Any, mine: Sequence[Any], first: int, every: int) -> Sequence[int]:
    """Numbers that are there, from the first on and at least so far apart: one seek in the index for each.

    Every second step is longer by one: steps of a run come in turns, such as a training and its refreshes, and a stride
    of the same length would meet one kind only.
    """
    odd = int(every > 1)
    begin = select(literal(first, BigInteger).label("number"), literal(0, BigInteger).label("turn"))
    at = begin.cte("at", recursive=True)
    reach = at.c.number + every + at.c.turn
    following = select(func.min(table.number)).where(*mine, table.number >= reach).scalar_subquery()
    at = at.union_all(select(following.label("number"), odd - at.c.turn).where(at.c.number.is_not(None)))
    return session.scalars(select(at.c.number).where(at.c.number.is_not(None))).all()


def whole_round(session: Session, run: str, number: int) -> dict[str, Any] | None:
    """A round without its state, with the part of each plant, by name; None where there is none."""
    if not 0 < number <= _INT64:
        return None
    columns = [getattr(RoundRow, name) for name in _RECORD]
    row = session.execute(select(*columns).where(RoundRow.run == run, RoundRow.number == number)).one_or_none()
    if row is None:
        return None
    parts = select(*(getattr(UpdateRow, name) for name in _REPORT)).where(UpdateRow.run == run)
    plants = [dict(part) for part in session.execute(parts.where(UpdateRow.number == number)).mappings()]
    return dict(zip(_RECORD, row, strict=True)) | {"plants": sorted(plants, key=lambda part: str(part["plant"]))}


def attempt_rows(
    session: Session, run: str, plant: str, before: int | None, limit: int, refused: bool
) -> Sequence[Row[*tuple[Any, ...]]]:
    """A plant's parts with the start of their rounds, the newest first."""
    u = UpdateRow
    conditions = [u.run == run, u.plant == plant, *below(u.number, before), *([u.accepted.is_(False)] * refused)]
    mine = select(u.number, u.accepted, u.reason, u.metrics, u.seconds).where(*conditions)
    part = mine.order_by(u.number.desc()).limit(limit).subquery()
    query = select(part, RoundRow.started).join(RoundRow, RoundRow.number == part.c.number).where(RoundRow.run == run)
    return session.execute(query.order_by(part.c.number.desc())).all()


def version_parts(session: Session, run: str) -> list[object]:
    """What changes when anything of a run does."""
    status, note = session.execute(select(RunRow.status, RunRow.note).where(RunRow.name == run)).one()
    parts: list[object] = [status, note, *_ends(session, RoundRow, [RoundRow.run == run])]
    if has_table(session.connection(), OrderRow.__tablename__):
        query = select(OrderRow.state, func.max(OrderRow.id), func.max(OrderRow.round), func.count())
        rows = session.execute(query.where(OrderRow.run == run).group_by(OrderRow.state).order_by(OrderRow.state))
        parts += [list(row) for row in rows]
    return parts


# ---- candidates: a round sends the model that the round before it left, and plants measure what they are sent ----


def measured(session: Session, run: str, last: int, metric: str) -> dict[int, str]:
    """The digest of the model that each of the newest rounds measured, the newest first: of `last` models at most."""
    columns = (RoundRow.number, RoundRow.phase, RoundRow.label, RoundRow.status, RoundRow.model, RoundRow.metrics)
    query = select(*columns).where(RoundRow.run == run).order_by(RoundRow.number.desc()).limit(_MATRIX_ROUNDS)
    rows = session.execute(query).all()
    calibrations = published(session, run, [r.number for r in rows if calibrates(str(r.phase), str(r.label))])
    found: dict[int, str] = {}
    models: set[str] = set()
    for row, earlier in pairwise(rows):
        told = row.status != "committed" or metric in figures(row.metrics, f"round {row.number} of run {run!r}")
        model = calibrations.get(row.number, earlier.model)
        if told and model is not None and (model in models or len(models) < last):
            found[row.number] = model
            models.add(model)
    return found


def measurements(session: Session, run: str, numbers: Sequence[int]) -> Sequence[Row[*tuple[Any, ...]]]:
    """Number, plant and metrics of every part in some rounds, in their order."""
    query = select(UpdateRow.number, UpdateRow.plant, UpdateRow.metrics)
    chosen = query.where(UpdateRow.run == run, UpdateRow.number.in_(numbers))
    return session.execute(chosen.order_by(UpdateRow.number)).all()


def makers(session: Session, run: str, models: Iterable[str]) -> dict[str, int]:
    """The first round after which each model was the global one."""
    query = select(RoundRow.model, func.min(RoundRow.number)).where(RoundRow.run == run)
    rows = session.execute(query.where(RoundRow.model.in_(set(models))).group_by(RoundRow.model))
    return {str(row[0]): row[1] for row in rows}
