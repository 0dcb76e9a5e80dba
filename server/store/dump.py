"""A store's rows as JSON lines, one file a table, and back into any database.

A column is what the driver gives for it, which is JSON in every table of the store; both directions go by the tables'
columns, so that what a newer or an older version wrote is refused or left empty as `server.store.tables` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.orm import Session

from server.store import totals
from server.store.archive import row_file, tables
from server.store.database import store_tables
from server.store.tables import Base, OrderRow
from shared.errors import StoreUnreadable

_BATCH = 1000


def write_rows(session: Session, folder: Path) -> dict[str, Path]:
    """Write every table to a file of its own; the files by table."""
    there = store_tables(session.connection())
    written: dict[str, Path] = {}
    for name in tables():
        if name not in there:
            continue
        written[name] = folder / f"{name}.jsonl"
        with written[name].open("w", encoding="utf-8") as file:
            for row in read_table(session, name):
                file.write(json.dumps(row, allow_nan=False) + "\n")
    return written


def read_table(session: Session, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a table, in the order of its key."""
    table = Base.metadata.tables[name]
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_BATCH)
    for row in session.execute(query).mappings():
        yield dict(row)


def read_file(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows in a file of a backup.

    Raises:
        StoreUnreadable: a line is no row of that table.
    """
    path, table = folder / row_file(name), Base.metadata.tables[name]
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield _parsed(table, json.loads(line))
            except (ValueError, TypeError, RecursionError) as error:
                raise StoreUnreadable(f"line {number} of {row_file(name)} is no row.", "Use another backup.") from error


def _parsed(table: Table, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or row.keys() != {column.name for column in table.columns}:
        raise ValueError
    for column in table.columns:
        value, kind = row[column.name], column.type.python_type
        fits = (value is None and column.nullable) or _fits(value, kind)
        if not fits:
            raise TypeError
    return row


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return type(value) is int and abs(value) < 2**63
    return type(value) is (dict if kind is object else kind)  # SQLAlchemy calls JSON's type `object`


def load_rows(session: Session, rows: Mapping[str, Iterable[Mapping[str, Any]]], models_dir: Path) -> None:
    """Put rows into a store that has the tables and no run yet.

    Args:
        session: of a transaction that writes.
        rows: by table.
        models_dir: where the model files of its runs are from now on.
    """
    for name in tables():
        batch: list[Mapping[str, Any]] = []
        for row in rows.get(name, ()):
            batch.append({**row, "models_dir": str(models_dir)} if name == "runs" else row)
            if len(batch) == _BATCH:
                _insert(session, name, batch)
        _insert(session, name, batch)
    totals.mend(session)
    if session.get_bind().dialect.name == "postgresql":
        highest = session.scalar(select(func.max(OrderRow.id)))
        if highest is not None:
            session.execute(text("SELECT setval(pg_get_serial_sequence('orders', 'id'), :id)"), {"id": highest})


def _insert(session: Session, name: str, batch: list[Mapping[str, Any]]) -> None:
    if batch:
        session.execute(insert(Base.metadata.tables[name]), batch)
        batch.clear()
