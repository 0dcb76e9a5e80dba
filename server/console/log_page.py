"""The audit log: who changed what, when and why, and whether its chain holds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.console.asked import cursor
from server.console.context import User, console_of, user_of
from server.console.templating import path, render
from server.store import auditlog
from server.store.auditlog import Entry
from server.store.words import brief

router = APIRouter(include_in_schema=False)
ROWS = 50


@router.get("/audit")
def audit(request: Request, user: Annotated[User, Depends(user_of)]) -> Response:
    """The audit log, the newest first."""
    before = cursor(request, "before")
    with console_of(request).store.session() as session:
        found = auditlog.entries(session, before, ROWS + 1)
    older = path("audit", before=found[ROWS - 1].seq) if len(found) > ROWS else None
    newest = "/audit" if before else None
    return render(request, "audit.html", entries=found[:ROWS], older=older, newest=newest, told=told)


def told(entry: Entry) -> list[tuple[str, str]]:
    """What else an entry says, in short; `why` comes first."""
    return [(name, brief(value)) for name, value in sorted(entry.detail.items(), key=lambda item: item[0] != "why")]
