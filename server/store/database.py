"""Connections to the round store's database, and its errors in our words.

SQLite: write-ahead log, synchronous=FULL, foreign keys on, ten seconds of patience. No connection outlives its
transaction, so that a store at rest is one file. A reader never creates a store.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from server.store.models import disk_full
from server.store.place import Place
from server.store.tables import Base, SignatureRow
from shared.errors import StoreBusy, StoreError, StoreNotFound, StoreUnreadable

BUSY_S = 10.0
_LEAST_ROOM = 2**16  # bytes
_YOUNGER = {SignatureRow.__tablename__}
"""Tables that came later: a store without them is read as one in which they are empty, and gets them when written."""

_URL_CURE = "Check the URL and that the database server can be reached."
_FILE_CURE = "Give the folder that `crossplant simulate --out DIR` wrote, or restore it from a backup."


def connect(place: Place, create: bool = False) -> Engine:
    """An engine for the place; nothing is opened yet.

    Args:
        create: make the SQLite file, and put it into write-ahead mode, when it is first used.

    Raises:
        StoreUnreadable: no such kind of database, or its driver is not installed.
    """
    serializer = partial(json.dumps, allow_nan=False)
    if place.file is not None:
        opener = partial(_open_sqlite, place.file, create)
        engine = create_engine("sqlite://", creator=opener, poolclass=NullPool, json_serializer=serializer)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(place.url, poolclass=NullPool, json_serializer=serializer)
    except ImportError as error:
        cure = "Install that driver with pip, beside crossplant."
        raise StoreUnreadable(f"{place.shown} needs the driver {error.name!r}.", cure) from error
    except ArgumentError as error:
        raise StoreUnreadable(f"{place.shown}: {_one_line(error)}.", _URL_CURE) from error
    if engine.dialect.is_async:
        raise StoreUnreadable(f"{place.shown} names an asynchronous driver.", "Use a synchronous one, such as psycopg.")
    return engine


def _open_sqlite(file: Path, create: bool) -> sqlite3.Connection:
    uri = f"{file.as_uri()}?{'mode=rwc' if create else _read_mode(file)}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if create:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _read_mode(file: Path) -> str:
    """`rw` never creates the file. On a medium that cannot be written, a log is read if there is one."""
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        return "mode=rw"
    return "mode=ro" if Path(f"{file}-wal").exists() else "mode=ro&immutable=1"


def _begin_sqlite(connection: Connection) -> None:
    # Python's sqlite3 begins late, and read-then-write would fail with "database is locked" instead of waiting.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def create_tables(engine: Engine) -> None:
    """Make the tables that are missing, all or none."""
    with engine.execution_options(writes=True).begin() as connection:
        if _tables(connection):
            _check_columns(connection)
        Base.metadata.create_all(connection)


def check_tables(engine: Engine, shown: str) -> None:
    """Check that the tables are those of a round store.

    Raises:
        StoreNotFound: there are none.
        StoreUnreadable: others, or with other columns.
    """
    with engine.connect() as connection:
        present = _tables(connection)
        if not present and not inspect(connection).get_table_names():
            raise StoreNotFound(f"the round store at {shown} is empty.")
        missing = sorted(Base.metadata.tables.keys() - present - _YOUNGER)
        if missing:
            raise StoreUnreadable(
                f"{shown} is a database without the table {missing[0]!r}, so no round store.", _FILE_CURE
            )
        _check_columns(connection)


def has_table(connection: Connection, name: str) -> bool:
    """Whether a table is there; one that came later may not be."""
    return name in _tables(connection)


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) & Base.metadata.tables.keys()


def _check_columns(connection: Connection) -> None:
    for name in sorted(_tables(connection)):
        found = {column["name"] for column in inspect(connection).get_columns(name)}
        missing = {column.name for column in Base.metadata.tables[name].columns} - found
        if missing:
            cause = f"the table {name!r} has no column {min(missing)!r}: another program or version made it."
            raise StoreUnreadable(cause, _FILE_CURE)


@contextmanager
def database_errors(place: Place) -> Iterator[None]:
    """Turn what the database raises into a `StoreError`."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise StoreUnreadable(f"{place.shown} holds a value that is not JSON: {error}.") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _translate(error, place) from error


def _translate(error: Exception, place: Place) -> StoreError:
    original = getattr(error, "orig", None) or error
    name = getattr(original, "sqlite_errorname", None) or ""
    text = f"{place.shown}: {_one_line(original)}."
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy(f"{place.shown} is locked by another process.")
    if name == "SQLITE_FULL" or (name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and _no_room(place)):
        return disk_full(place.shown)
    if isinstance(error, IntegrityError):
        return StoreError(
            f"nothing was stored, for the rows contradict each other; {text}", "Is another process writing?"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StoreUnreadable(text, "Check the folder's permissions and its disk.")
    return StoreUnreadable(text, _FILE_CURE if place.file else _URL_CURE)


def _no_room(place: Place) -> bool:
    """Whether the disk is full: SQLite calls it an I/O error when it cannot lengthen its shared memory."""
    try:
        return place.file is not None and shutil.disk_usage(place.file.parent).free < _LEAST_ROOM
    except OSError:
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]
