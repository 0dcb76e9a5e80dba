"""Versions of the round store: a fresh one is made whole, an older one becomes one of today, a newer one is refused.

Alembic is imported only where there is something to migrate: it takes longer than most commands have.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, insert, inspect, select
from sqlalchemy.orm import Session

from server.store import totals
from server.store.database import check_columns, check_tables, store_tables
from server.store.guards import guard_audit
from server.store.tables import Base
from shared.errors import StoreUnreadable

HEAD = "0002"
"""The version of the tables in `server.store.tables`."""
KNOWN = ("0001", HEAD)
"""Versions that this program reads. A store without one is of a release that did not count them, and like the first."""

_VERSIONS = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
_LOCK = 0x63706C616E74  # of PostgreSQL, for whoever changes tables


def version(connection: Connection) -> str | None:
    """The version of a store; None where it has none."""
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    found = connection.scalars(select(_VERSIONS.c.version_num).order_by(_VERSIONS.c.version_num)).all()
    return "+".join(map(str, found)) or None


def check_version(connection: Connection, shown: str) -> str | None:
    """The version of a store.

    Raises:
        StoreUnreadable: this program does not know it.
    """
    found = version(connection)
    if found is not None and found not in KNOWN:
        cause = f"the round store at {shown} is of version {found[:60]!r}, and this program knows none after {HEAD}."
        raise StoreUnreadable(cause, "Update crossplant, or use the version that wrote the store.")
    return found


def check(engine: Engine, shown: str) -> None:
    """Check that there is a round store that this program reads.

    Raises:
        StoreNotFound: there is nothing.
        StoreUnreadable: a newer version, another database, or other columns.
    """
    with engine.connect() as connection:
        check_version(connection, shown)
        check_tables(connection, shown)


def upgrade(engine: Engine, shown: str) -> None:
    """Make the tables of a fresh store, or bring those of an older one up to date: all of it, or nothing.

    Args:
        engine: of a place that may be written.
        shown: what to call it in messages.

    Raises:
        StoreUnreadable: the store is of a newer version, or no round store.
    """
    with engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        found = check_version(connection, shown)
        fresh = not store_tables(connection)
        if not fresh:
            check_columns(connection)
        if not fresh and found != HEAD:
            _migrate(connection)
        Base.metadata.create_all(connection)
        if fresh:
            guard_audit(connection)
            _stamp(connection)
        with Session(bind=connection) as session:
            totals.mend(session)
            session.commit()  # of the session: the transaction is the connection's


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _stamp(connection: Connection) -> None:
    _VERSIONS.create(connection, checkfirst=True)
    connection.execute(insert(_VERSIONS).values(version_num=HEAD))
