"""The audit log: who changed what, when and why. Entries are chained by their digests and never change.

    digest_n = SHA-256(canonical JSON of (seq, at, who, role, action, target, detail, digest_{n-1}))

An entry is written in the transaction of the change that it tells of: neither is there without the other. A chain shows
that an entry in the middle was changed or taken out; that the last ones are missing shows only a copy of an earlier
`head` (`crossplant audit verify --head`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from server.store.database import has_table
from server.store.tables import AuditRow

FIRST = "0" * 64
"""What the first entry names as the one before it."""
_DAMAGED: Mapping[str, Any] = {"damaged": "what is stored here is no detail of an entry"}


@dataclass(frozen=True)
class Actor:
    """Who does something.

    Attributes:
        name: account of the console, or `os:USER` in the terminal.
        role: `viewer`, `operator`, `admin`, or `shell` in the terminal.
    """

    name: str
    role: str


@dataclass(frozen=True)
class Entry:
    """One change; the fields are those of `AuditRow`."""

    seq: int
    at: str
    who: str
    role: str
    action: str
    target: str
    detail: Mapping[str, Any]
    previous: str
    digest: str


@dataclass(frozen=True)
class Verdict:
    """Whether the chain holds.

    Attributes:
        entries: how many were read.
        head: digest of the last one.
        broken: number of the first entry that does not fit; None when all do.
    """

    entries: int
    head: str
    broken: int | None


def hold(session: Session) -> None:
    """Let no other change be entered until this transaction ends. Whoever reads first and changes by what it read calls
    this before it reads; in SQLite a transaction that writes is alone anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE audit IN EXCLUSIVE MODE"))


def append(session: Session, actor: Actor, action: str, target: str, detail: Mapping[str, Any]) -> str:
    """Enter a change in the transaction that makes it; its digest.

    Args:
        session: of a transaction that writes.
        actor: who.
        action: a verb such as `promote`.
        target: on what, such as `run a, round 7`.
        detail: what else there is to know, JSON; `why` among it.
    """
    hold(session)  # one at a time: each names the one before it
    last = session.scalars(select(AuditRow).order_by(AuditRow.seq.desc()).limit(1)).first()
    seq, previous = (1, FIRST) if last is None else (last.seq + 1, last.digest)
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    digest = digest_of(seq, at, actor.name, actor.role, action, target, detail, previous)
    whole = {"at": at, "who": actor.name, "role": actor.role, "action": action, "target": target}
    session.add(AuditRow(seq=seq, **whole, detail=dict(detail), previous=previous, digest=digest))
    session.flush()
    return digest


def digest_of(
    seq: int, at: str, who: str, role: str, action: str, target: str, detail: Mapping[str, Any], previous: str
) -> str:
    """The digest of an entry."""
    fields = [seq, at, who, role, action, target, dict(detail), previous]
    return hashlib.sha256(
        json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def entries(session: Session, before: int | None = None, limit: int = 100) -> list[Entry]:
    """Entries, the newest first; none in a store that is older than the log.

    Args:
        session: to read in.
        before: only those with a lower number.
        limit: how many at most.
    """
    if not has_table(session.connection(), AuditRow.__tablename__):
        return []
    query = select(AuditRow).order_by(AuditRow.seq.desc()).limit(limit)
    rows = session.scalars(query if before is None else query.where(AuditRow.seq < before))
    return [_entry(row) for row in rows]


def verify(session: Session) -> Verdict:
    """Read the whole chain."""
    previous, count = FIRST, 0
    for row in session.scalars(select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=1000)):
        count += 1
        if row.seq != count or row.previous != previous or not _fits(row):
            return Verdict(count, previous, row.seq)
        previous = row.digest
    return Verdict(count, previous, None)


def _fits(row: AuditRow) -> bool:
    try:
        told = digest_of(row.seq, row.at, row.who, row.role, row.action, row.target, row.detail, row.previous)
    except (TypeError, ValueError, RecursionError):  # what somebody put there could never have been entered
        return False
    return row.digest == told


def _entry(row: AuditRow) -> Entry:
    at, who, role, action, target = map(_text, (row.at, row.who, row.role, row.action, row.target))
    return Entry(row.seq, at, who, role, action, target, _detail(row.detail), _text(row.previous), _text(row.digest))


def _text(value: Any) -> str:
    """A column that somebody may have put anything into, as text that can be shown."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ascii(value)


def _detail(value: Any) -> Mapping[str, Any]:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return _DAMAGED
    return value if isinstance(value, dict) else _DAMAGED
