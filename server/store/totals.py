"""What rounds amount to: a tally of each round, and the totals of each plant.

Both are written in the transaction of the round, and can be derived from `updates`: so they are where a store has no
such tables yet, or where an older version of this program wrote rounds in between. Nothing here reads states.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Subquery, and_, case, cast, delete, func, insert, not_, select
from sqlalchemy.orm import Session

from server.rounds import JOINED, PlantReport, RoundRecord
from server.store.codec import storable
from server.store.database import has_table
from server.store.sent import calibrates, calibrating, published
from server.store.tables import PlantRow, RoundRow, TallyRow, UpdateRow

_MOST = 2**63 - 1
_TALLY_FIELDS = tuple(column.name for column in TallyRow.__table__.columns if column.name != "run")


# ---- when a round is committed ----


def enter(session: Session, record: RoundRecord) -> None:
    """Add a round to the totals, in its own transaction and after its rows; nothing where the tables are missing."""
    if not has_table(session.connection(), TallyRow.__tablename__):
        return
    session.flush()
    if not _complete(session, record.run, record.number - 1):
        rebuild(session, record.run)
        return
    session.add(TallyRow(run=record.run, number=record.number, **tally(record)))
    names = [storable(report.plant) for report in record.plants]
    found = select(PlantRow).where(PlantRow.run == record.run, PlantRow.plant.in_(names))
    known = {row.plant: row for row in session.scalars(found)}
    live = calibrates(record.phase.value, record.label)
    model = published(session, record.run, [record.number])[record.number] if live else None
    for name, report in zip(names, record.plants, strict=True):
        row = known.get(name) or _fresh(session, record.run, name)
        _add(row, record, report)
        if live and report.accepted:
            row.live_round, row.live_model = record.number, model


def tally(record: RoundRecord) -> dict[str, int]:
    """The tally of a round, by column."""
    joined, accepted = len(record.joined), len(record.accepted)
    whole = min(record.bytes_total, _MOST)
    return {"asked": len(record.plants) - joined, "accepted": accepted, "joined": joined, "bytes": whole}


def _fresh(session: Session, run: str, plant: str) -> PlantRow:
    row = PlantRow(run=run, plant=plant, rounds=0, accepted=0, bytes_down=0, bytes_up=0, last_round=0)
    session.add(row)
    return row


def _add(row: PlantRow, record: RoundRecord, report: PlantReport) -> None:
    row.rounds += not report.joined
    row.bytes_down = min(row.bytes_down + report.bytes_down, _MOST)
    row.bytes_up = min(row.bytes_up + report.bytes_up, _MOST)
    row.last_round = record.number
    row.last_reason = None if report.reason is None else storable(report.reason)
    if report.accepted:
        row.accepted += 1
        row.seen_round, row.seen = record.number, storable(record.started)


# ---- derived from the plants' parts ----


def complete(session: Session, run: str) -> bool:
    """Whether the tables hold the totals of all rounds of a run."""
    if not has_table(session.connection(), TallyRow.__tablename__):
        return False
    return _complete(session, run, session.scalar(select(func.max(RoundRow.number)).where(RoundRow.run == run)) or 0)


def _complete(session: Session, run: str, last: int) -> bool:
    return last == 0 or session.get(TallyRow, (run, last)) is not None


def mend(session: Session) -> None:
    """Write the totals of every run that lacks some: an older version does not know them."""
    newest = select(RoundRow.run, func.max(RoundRow.number)).group_by(RoundRow.run)
    for run, last in session.execute(newest).all():
        if not _complete(session, run, last):
            rebuild(session, run)


def rebuild(session: Session, run: str) -> None:
    """Write the totals of a run anew."""
    session.execute(delete(TallyRow).where(TallyRow.run == run))
    session.execute(insert(TallyRow).from_select(["run", *_TALLY_FIELDS], derive_tallies(run)))
    session.execute(delete(PlantRow).where(PlantRow.run == run))
    if rows := derive_plants(session, run):
        session.execute(insert(PlantRow), rows)
    session.expire_all()


def plants(session: Session, run: str, plant: str | None = None) -> list[dict[str, Any]]:
    """The totals of the plants of a run, as columns; of one only with `plant`."""
    if not complete(session, run):
        return derive_plants(session, run, plant)
    query: Select[*tuple[Any, ...]] = select(PlantRow.__table__).where(PlantRow.run == run)
    chosen = query if plant is None else query.where(PlantRow.plant == plant)
    return [dict(row) for row in session.execute(chosen).mappings()]


def tallies(session: Session, run: str, numbers: Iterable[int]) -> dict[int, dict[str, int]]:
    """The tallies of some rounds, by number."""
    wanted = list(numbers)
    query: Select[*tuple[Any, ...]] = select(TallyRow.__table__).where(TallyRow.run == run, TallyRow.number.in_(wanted))
    rows = session.execute(query if complete(session, run) else derive_tallies(run, wanted)).all()
    return {row[1]: dict(zip(_TALLY_FIELDS[1:], row[2:], strict=True)) for row in rows}


def derive_tallies(run: str, numbers: list[int] | None = None) -> Select[*tuple[Any, ...]]:
    """Selects the tallies of a run's rounds, or of some: columns as in `TallyRow`. A round without plants has one."""
    parts = and_(UpdateRow.run == RoundRow.run, UpdateRow.number == RoundRow.number)
    moved = _sum(UpdateRow.bytes_down + UpdateRow.bytes_up)
    query = select(
        RoundRow.run, RoundRow.number, _sum(_one(not_(_joins()), UpdateRow.plant)), _sum(_one(UpdateRow.accepted)),
        _sum(_one(_joins())), moved,
    )  # fmt: skip
    chosen = query.outerjoin(UpdateRow, parts).where(RoundRow.run == run).group_by(RoundRow.run, RoundRow.number)
    return chosen if numbers is None else chosen.where(RoundRow.number.in_(numbers))


def derive_plants(session: Session, run: str, plant: str | None = None) -> list[dict[str, Any]]:
    """The totals of a run's plants, or of one, from their parts: columns as in `PlantRow`."""
    whole, live = _sums(run, plant), _lives(run, plant)
    last, seen = UpdateRow.__table__.alias(), RoundRow.__table__.alias()
    parts = and_(last.c.run == run, last.c.number == whole.c.last_round, last.c.plant == whole.c.plant)
    joined = whole.join(last, parts).outerjoin(live, live.c.plant == whole.c.plant)
    joined = joined.outerjoin(seen, and_(seen.c.run == run, seen.c.number == whole.c.seen_round))
    columns = (last.c.reason.label("last_reason"), seen.c.started.label("seen"), live.c.live_round)
    rows = [dict(row) for row in session.execute(select(whole, *columns).select_from(joined)).mappings()]
    models = published(session, run, {row["live_round"] for row in rows} - {None})
    return [row | {"live_model": models.get(row["live_round"])} for row in rows]


def _sums(run: str, plant: str | None) -> Subquery:
    query = select(
        UpdateRow.run,
        UpdateRow.plant,
        _sum(_one(not_(_joins()))).label("rounds"),
        _sum(_one(UpdateRow.accepted)).label("accepted"),
        _sum(UpdateRow.bytes_down).label("bytes_down"),
        _sum(UpdateRow.bytes_up).label("bytes_up"),
        func.max(UpdateRow.number).label("last_round"),
        func.max(case((UpdateRow.accepted, UpdateRow.number))).label("seen_round"),
    )
    return _of(query, run, plant).group_by(UpdateRow.run, UpdateRow.plant).subquery()


def _lives(run: str, plant: str | None) -> Subquery:
    """In which round each plant calibrated last."""
    rounds = select(RoundRow.number).where(RoundRow.run == run, calibrating())
    query = select(UpdateRow.plant, func.max(UpdateRow.number).label("live_round"))
    chosen = _of(query, run, plant).where(UpdateRow.accepted, UpdateRow.number.in_(rounds))
    return chosen.group_by(UpdateRow.plant).subquery()


def _of(query: Select[*tuple[Any, ...]], run: str, plant: str | None) -> Select[*tuple[Any, ...]]:
    chosen = query.where(UpdateRow.run == run)
    return chosen if plant is None else chosen.where(UpdateRow.plant == plant)


def _joins() -> ColumnElement[bool]:
    """`PlantReport.joined`."""
    word = func.substr(func.coalesce(UpdateRow.reason, ""), 1, len(JOINED))
    return and_(not_(UpdateRow.accepted), word == JOINED)


def _one(condition: Any, there: Any = None) -> ColumnElement[int]:
    """1 where it holds, and where there is a row at all."""
    return case((condition if there is None else and_(there.is_not(None), condition), 1), else_=0)


def _sum(value: Any) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(value), 0), BigInteger)
