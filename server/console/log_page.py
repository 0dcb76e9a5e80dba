"""The audit log: who changed what, when and why, and whether its chain holds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.console.asked import cursor
from server.console.context import Console, User, console_of, user_of
from server.console.templating import path, render
from server.store import auditlog
from server.store.auditlog import Entry
from server.store.database import has_table
from server.store.tables import AuditRow
from server.store.words import brief

router = APIRouter(include_in_schema=False)
ROWS = 50


@router.get("/audit")
def audit(request: Request, user: Annotated[User, Depends(user_of)]) -> Response:
    """The audit log, the newest first."""
    before = cursor(request, "before")
    found = _entries(console_of(request), before, ROWS + 1)
    older = path("audit", before=found[ROWS - 1].seq) if len(found) > ROWS else None
    newest = "/audit" if before else None
    return render(request, "audit.html", entries=found[:ROWS], older=older, newest=newest, told=told)


def _entries(console: Console, before: int | None, limit: int) -> list[Entry]:
    with console.store.session() as session:
        if not has_table(session.connection(), AuditRow.__tablename__):
            return []  # a store that is older than the log
        return auditlog.entries(session, before, limit)


def told(entry: Entry) -> list[tuple[str, str]]:
    """What else an entry says, in short; `why` comes first."""
    return [(name, brief(value)) for name, value in sorted(entry.detail.items(), key=lambda item: item[0] != "why")]
