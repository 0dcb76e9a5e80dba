"""Opening a store for the console."""

from __future__ import annotations

from server.store.database import connect, database_errors
from server.store.migrate import upgrade
from server.store.place import parse_place
from server.store.store import RoundStore
from shared.errors import StoreUnreadable


def opened(location: str, read_only: bool) -> RoundStore:
    """A store that exists, with the console's own tables where they may be made.

    Raises:
        StoreError: there is none, or it cannot be read; or written, where it is not read-only.
    """
    store = RoundStore.open(location, look=True)
    if not read_only:
        place = parse_place(location)
        try:
            with database_errors(place):
                upgrade(connect(place), place.shown)
        except StoreUnreadable as error:
            raise StoreUnreadable(
                error.cause, f"{error.cure} To look only: `crossplant console --read-only`."
            ) from error
    return store
