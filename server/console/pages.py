"""The console's pages: the runs, and one run. The other pages are in the modules beside it; `router` has them all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.console import compare_page, events, log_page, plant_page, registry_page, round_page
from server.console.asked import cursor, word
from server.console.charts import LINES, charts_of
from server.console.context import Console, User, console_of, user_of
from server.console.results import COLUMNS, results_of
from server.console.standing import live, settings_of, strip
from server.console.templating import path, render
from server.rounds import Status
from server.store.shown import RunPage

router = APIRouter(include_in_schema=False)
ROWS, ROUNDS = 25, 12
"""Rows of a page of runs, and of one of rounds."""


@router.get("/")
def runs(request: Request, user: Annotated[User, Depends(user_of)]) -> Response:
    """All runs, the newest first."""
    before = cursor(request, "before")
    found = console_of(request).reader.runs(before, ROWS + 1)
    older = path("", before=found[ROWS - 1][0]) if len(found) > ROWS else None
    newest = "/" if before else None
    return render(request, "runs.html", runs=[info for _, info in found[:ROWS]], older=older, newest=newest)


@router.get("/runs/{run}")
def run(request: Request, run: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """One run. Where htmx asks for it, only the part that changes while the run goes on."""
    console, before = console_of(request), cursor(request, "before")
    status = word(request, "status", [one.value for one in Status])
    page = console.reader.page(run)
    values = _live_part(console, page, before, status)
    if request.headers.get("HX-Request"):
        return render(request, "run_live.html", **values)
    plants = [plant.plant for plant in console.reader.plants(run)]
    chosen = unquote(request.query_params.get("plant", "")) or None  # quoted once more: forms change line ends
    chosen = chosen if chosen in plants else None
    return render(
        request,
        "run.html",
        charts=charts_of(console.reader, page, plants, chosen),
        plants=plants,
        chosen=chosen,
        results=results_of(console.store, run),
        columns=COLUMNS,
        lines=LINES,
        **values,
    )


def _live_part(console: Console, page: RunPage, before: int | None, status: str | None) -> dict[str, Any]:
    run = page.info.name
    rounds = console.reader.rounds(run, before, ROUNDS + 1, status)
    older = path("runs", run, before=rounds[ROUNDS - 1].number, status=status) if len(rounds) > ROUNDS else None
    return {
        "page": page,
        "run": run,
        "strip": strip(page, settings_of(console, run)),
        "live": live(console, page, datetime.now(UTC)),
        "rounds": rounds[:ROUNDS],
        "older": older,
        "newest": path("runs", run, status=status) if before else None,
        "status": status,
        "address": path("runs", run, before=before, status=status),
    }


for module in (round_page, plant_page, compare_page, registry_page, log_page, events):
    router.include_router(module.router)
