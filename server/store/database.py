"""Connections to the round store's database, and its errors in our words.

SQLite: write-ahead log, synchronous=FULL, foreign keys on, ten seconds of patience. No connection outlives its
transaction, so that a store at rest is one file. A reader never creates a store; one that only looks reads on a
full disk, where SQLite has no room for the files beside the database by which readers and writers keep apart.
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
from typing import Any

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


def connect(place: Place, create: bool = False, look: bool = False) -> Engine:
    """An engine for the place; nothing is opened yet.

    Args:
        create: make the SQLite file, and put it into write-ahead mode, when it is first used.
        look: read even where the disk is full; a server has to hear of it.

    Raises:
        StoreUnreadable: no such kind of database, or its driver is not installed.
    """
    serializer = partial(json.dumps, allow_nan=False)
    if place.file is not None:
        opener = partial(_open_sqlite, place.file, create, look)
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


class _ReadOnly(sqlite3.Connection):
    """A connection to a database on a full disk."""


def _open_sqlite(file: Path, create: bool, look: bool) -> sqlite3.Connection:
    connection = _opened(file, "mode=rwc" if create else _read_mode(file))
    try:
        if create:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA schema_version")  # the first read: it makes the files beside the database
    except sqlite3.OperationalError as error:
        connection.close()
        if not look or not _is_full(error, file) or _has_log(file):
            raise
        return _opened(file, "mode=ro&immutable=1", _ReadOnly)  # whoever wants to write now has no room either
    except BaseException:
        connection.close()
        raise
    return connection


def _opened(file: Path, mode: str, kind: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    uri = f"{file.as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=kind)


def _has_log(file: Path) -> bool:
    """Whether committed rows may stand beside the database: without its index they cannot be told."""
    try:
        return Path(f"{file}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _read_mode(file: Path) -> str:
    """`rw` never creates the file. On a medium that cannot be written, a log is read if there is one."""
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        return "mode=rw"
    return "mode=ro" if Path(f"{file}-wal").exists() else "mode=ro&immutable=1"


def _begin_sqlite(connection: Connection) -> None:
    # Python's sqlite3 begins late, and read-then-write would fail with "database is locked" instead of waiting.
    writes = connection.get_execution_options().get("writes", False)
    raw: Any = connection.connection.dbapi_connection
    if writes and isinstance(raw, _ReadOnly):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"
        raise error
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
    if place.file is not None and isinstance(original, sqlite3.Error) and _is_full(original, place.file):
        return disk_full(place.shown)
    if isinstance(error, IntegrityError):
        return StoreError(
            f"nothing was stored, for the rows contradict each other; {text}", "Is another process writing?"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StoreUnreadable(text, "Check the folder's permissions and its disk.")
    return StoreUnreadable(text, _FILE_CURE if place.file else _URL_CURE)


def _is_full(error: sqlite3.Error, file: Path) -> bool:
    """Whether the disk is full: SQLite calls it an I/O error when it cannot lengthen its shared memory."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if not name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
        return name == "SQLITE_FULL"
    try:
        return shutil.disk_usage(file.parent).free < _LEAST_ROOM
    except OSError:
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]
