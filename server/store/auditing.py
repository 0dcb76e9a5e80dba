"""Checks the audit log of a store, against a copy of an earlier head if there is one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.store import auditlog
from server.store.database import has_table
from server.store.store import RoundStore
from server.store.tables import AuditRow
from shared.errors import InvalidConfig

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Checked:
    """Whether the log is what it was.

    Attributes:
        entries: how many were read.
        head: digest of the last one that fits.
        broken: number of the first that does not fit; None when all do.
        known: whether the earlier head is among them; None when none was given.
    """

    entries: int
    head: str
    broken: int | None
    known: bool | None

    @property
    def holds(self) -> bool:
        """Whether nothing was changed, taken out, put in or cut off, as far as can be told."""
        return self.broken is None and self.known is not False

    def words(self) -> list[str]:
        """In words."""
        if self.broken is not None:
            return [f"The log was changed: entry {self.broken} is not the one that was written after its neighbours."]
        if self.known is False:
            return ["The log was cut off, or is another one: it lacks the entry whose digest you kept."]
        return [
            f"{self.entries} entries, and the chain holds. Keep its head, for the next `audit verify --head`:",
            self.head,
        ]


def verified(store: RoundStore, head: str | None = None) -> Checked:
    """Check the log of a store.

    Args:
        store: opened.
        head: what an earlier check gave as the head.

    Raises:
        InvalidConfig: `head` is no digest.
    """
    if head is not None and not _DIGEST.fullmatch(head):
        raise InvalidConfig(f"{head[:80]!r} is no digest.", "Give the head that `audit verify` printed.")
    with store.session() as session:
        if not has_table(session.connection(), AuditRow.__tablename__):
            return Checked(0, auditlog.FIRST, None, None if head is None else head == auditlog.FIRST)
        verdict = auditlog.verify(session)
        known = None if head is None else _known(session, head)
    return Checked(verdict.entries, verdict.head, verdict.broken, known)


def _known(session: Session, head: str) -> bool:
    found = session.scalar(select(AuditRow.seq).where(AuditRow.digest == head).limit(1))
    return head == auditlog.FIRST or found is not None
