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

from server.store.interrupts import InterruptsHeld
from server.store.models import disk_full
from server.store.place import Place
from server.store.tables import AccountRow, AuditRow, Base, OrderRow, PlantRow, SessionRow, SignatureRow, TallyRow
from shared.errors import StoreBusy, StoreError, StoreNotFound, StoreUnreadable

BUSY_S = 10.0
_PATIENCE: dict[str, dict[str, Any]] = {name: {"connect_timeout": round(BUSY_S)} for name in ("psycopg", "psycopg2")}
_POOL = {"pool_size": 4, "max_overflow": 16, "pool_timeout": BUSY_S, "pool_recycle": 600, "pool_pre_ping": True}
"""Of PostgreSQL, for who looks at many pages: a connection is a process there, and takes longer than most pages."""
_HELD_UP = ("55P03", "40001", "40P01")  # of PostgreSQL: a lock that is not given, transactions in each other's way
_NO_ROOM = "53100"
_LEAST_ROOM = 2**16  # bytes
_YOUNGER = {row.__tablename__ for row in (SignatureRow, TallyRow, PlantRow, OrderRow, AuditRow, AccountRow, SessionRow)}
"""Tables that came later: a store without them is read as one in which they are empty, and gets them when written."""

_URL_CURE = "Check the URL and that the database server can be reached."
_FILE_CURE = "Give the folder that `crossplant simulate --out DIR` wrote, or restore it from a backup."


def connect(place: Place, create: bool = False, look: bool = False) -> Engine:
    """An engine for the place; nothing is opened yet.

    Args:
        create: make the SQLite file, and put it into write-ahead mode, when it is first used.
        look: read even where the disk is full; a server has to hear of it. Connections to PostgreSQL are kept.

    Raises:
        StoreUnreadable: no such kind of database, or its driver is not installed.
    """
    json_words: dict[str, Any] = {"json_serializer": partial(json.dumps, allow_nan=False), "json_deserializer": _parsed}
    if place.file is not None:
        opener = partial(_open_sqlite, place.file, create, look)
        engine = create_engine("sqlite://", creator=opener, poolclass=NullPool, **json_words)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        patience = _PATIENCE.get(place.url.get_driver_name(), {}) if "connect_timeout" not in place.url.query else {}
        held = _POOL if look and place.url.get_backend_name() == "postgresql" else {"poolclass": NullPool}
        engine = create_engine(place.url, connect_args=patience, **json_words, **held)
        if engine.dialect.name == "postgresql":
            event.listen(engine, "begin", _begin_postgresql)
    except ImportError as error:
        cure = "Install that driver with pip, beside crossplant."
        raise StoreUnreadable(f"{place.shown} needs the driver {error.name!r}.", cure) from error
    except ArgumentError as error:
        raise StoreUnreadable(f"{place.shown}: {_one_line(error)}.", _URL_CURE) from error
    if engine.dialect.is_async:
        raise StoreUnreadable(f"{place.shown} names an asynchronous driver.", "Use a synchronous one, such as psycopg.")
    return engine


class _NotJson(Exception):
    """A column that holds something else."""


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:  # among them a number of too many digits
        raise _NotJson(_one_line(error)) from error


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


def _begin_postgresql(connection: Connection) -> None:
    """As patient as SQLite; whoever only reads sees one moment of the store, as there."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(BUSY_S * 1000)}")
    if not connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def check_tables(connection: Connection, shown: str) -> None:
    """Check that the tables are those of a round store.

    Raises:
        StoreNotFound: there are none.
        StoreUnreadable: others, or with other columns.
    """
    present = store_tables(connection)
    if not present and not inspect(connection).get_table_names():
        raise StoreNotFound(f"the round store at {shown} is empty.")
    missing = sorted(Base.metadata.tables.keys() - present - _YOUNGER)
    if missing:
        raise StoreUnreadable(f"{shown} is a database without the table {missing[0]!r}, so no round store.", _FILE_CURE)
    check_columns(connection)


def has_table(connection: Connection, name: str) -> bool:
    """Whether a table is there; one that came later may not be."""
    return inspect(connection).has_table(name)


def store_tables(connection: Connection) -> set[str]:
    """Names of the tables that a round store may have and that are there."""
    return set(inspect(connection).get_table_names()) & Base.metadata.tables.keys()


def check_columns(connection: Connection) -> None:
    """Check that the tables that are there have the columns of a round store.

    Raises:
        StoreUnreadable: one is missing.
    """
    names = sorted(store_tables(connection))
    columns = inspect(connection).get_multi_columns(filter_names=names) if names else {}
    for (_, name), found in sorted(columns.items(), key=lambda each: each[0][1]):
        missing = {column.name for column in Base.metadata.tables[name].columns} - {each["name"] for each in found}
        if missing:
            cause = f"the table {name!r} has no column {min(missing)!r}: another program or version made it."
            raise StoreUnreadable(cause, _FILE_CURE)


@contextmanager
def database_errors(place: Place) -> Iterator[None]:
    """Turn what the database raises into a `StoreError`; Ctrl-C waits until the block is done."""
    try:
        with InterruptsHeld():
            yield
    except _NotJson as error:
        raise StoreUnreadable(f"{place.shown} holds a value that is not JSON: {error}.") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _translate(error, place) from error


def _translate(error: Exception, place: Place) -> StoreError:
    original = getattr(error, "orig", None) or error
    name = getattr(original, "sqlite_errorname", None) or ""
    text = f"{place.shown}: {_one_line(original)}."
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy(f"{place.shown} is locked by another process.")
    if (state := getattr(original, "sqlstate", None)) in _HELD_UP:
        return StoreBusy(f"{place.shown} is held up by another process: {_one_line(original)}.")
    if state == _NO_ROOM:
        return disk_full(place.shown)
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
