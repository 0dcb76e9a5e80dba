"""Sessions: a random token in a cookie, its SHA-256 in the table. Whoever reads the database can log in as nobody."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import create_engine, delete, select, update
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from server.store.tables import Base, SessionRow

MOST = 50
"""Sessions of one account; the oldest ends when there is one more."""
TOUCH = timedelta(minutes=1)


class Opens(Protocol):
    """Opens a transaction; `RoundStore.session` does."""

    def __call__(self, writes: bool = False) -> AbstractContextManager[Session]: ...


@dataclass(frozen=True)
class Held:
    """A session that holds.

    Attributes:
        account: who.
        csrf: token of its changes.
        created, seen: ISO 8601, UTC.
    """

    account: str
    csrf: str
    created: str
    seen: str


@dataclass(frozen=True)
class Ticket:
    """A login that has just been made.

    Attributes:
        token: for the cookie; kept nowhere else.
        csrf: token of its changes.
        lasts: how long it does.
    """

    token: str
    csrf: str
    lasts: timedelta


def stamp(moment: datetime) -> str:
    """A moment as the tables keep it; stamps compare as their moments do.

    Example:
        >>> from datetime import UTC
        >>> stamp(datetime(2024, 5, 1, tzinfo=UTC))
        '2024-05-01T00:00:00.000+00:00'
    """
    return moment.isoformat(timespec="milliseconds")


def digest_of(token: str) -> str:
    """What the tables keep of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def start(session: Session, account: str, now: datetime, longest: timedelta) -> Ticket:
    """Begin a session; those that have run out are removed."""
    ticket = Ticket(secrets.token_urlsafe(32), secrets.token_urlsafe(32), longest)
    session.execute(delete(SessionRow).where(SessionRow.expires <= stamp(now)))
    mine = select(SessionRow.token).where(SessionRow.account == account).order_by(SessionRow.created.desc())
    if surplus := list(session.scalars(mine.offset(MOST - 1))):
        session.execute(delete(SessionRow).where(SessionRow.token.in_(surplus)))
    row = SessionRow(token=digest_of(ticket.token), account=account, csrf=ticket.csrf, created=stamp(now))
    row.seen, row.expires = stamp(now), stamp(now + longest)
    session.add(row)
    return ticket


def find(session: Session, token: str, now: datetime, idle: timedelta) -> Held | None:
    """The session of a token; None when there is none, or it has run out."""
    row = session.get(SessionRow, digest_of(token))
    if row is None or row.expires <= stamp(now) or row.seen <= stamp(now - idle):
        return None
    return Held(row.account, row.csrf, row.created, row.seen)


def stale(held: Held, now: datetime) -> bool:
    """Whether it is time to note that the session was used."""
    return held.seen <= stamp(now - TOUCH)


def touch(session: Session, token: str, now: datetime) -> None:
    """Note that a session was used."""
    session.execute(update(SessionRow).where(SessionRow.token == digest_of(token)).values(seen=stamp(now)))


def end(session: Session, token: str) -> str | None:
    """End a session; whose it was, None when there is none."""
    row = session.get(SessionRow, digest_of(token))
    if row is None:
        return None
    session.delete(row)
    return row.account


def end_all(session: Session, account: str) -> None:
    """End every session of an account."""
    session.execute(delete(SessionRow).where(SessionRow.account == account))


def in_memory() -> Opens:
    """Sessions that end with the process, for a console that writes nothing."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine, tables=[SessionRow.metadata.tables[SessionRow.__tablename__]])
    lock = threading.Lock()  # one connection for all threads

    @contextmanager
    def opens(writes: bool = False) -> Iterator[Session]:
        with lock, Session(engine) as session, session.begin():
            yield session

    return opens
