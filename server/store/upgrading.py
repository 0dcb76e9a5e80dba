"""Brings a store's tables up to date, for `crossplant store migrate`."""

from __future__ import annotations

from server.store.database import connect, database_errors
from server.store.migrate import upgrade, version
from server.store.store import RoundStore


def migrate(store: RoundStore) -> str | None:
    """Bring a store up to date; the version that it was of, None where it had none.

    Raises:
        StoreUnreadable: it is newer than this program.
        StoreError: it cannot be written.
    """
    engine = connect(store.place)
    with database_errors(store.place):
        with engine.connect() as connection:
            before = version(connection)
        upgrade(engine, store.place.shown)
    return before
