"""The HTTP API, `/api/v1`: what the pages show, for programs; docs/console-api.md.

Every answer to a GET but `/me` carries an ETag. One that is of a run is made from `Reader.version`, so that a question
that is repeated while nothing happened costs one small query; the others are made from what is answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.exceptions import HTTPException

from server.console import api_models as told
from server.console.api_models import LARGEST
from server.console.context import Console, Role, User, console_of, needs, user_of
from server.rounds import Status
from server.store import auditlog
from server.store.compare import compare_models, compare_rounds
from server.store.reading import MOST
from server.store.registry import Order
from server.store.rows import RunInfo
from server.store.views import show_entry

PREFIX = "/api/v1"
_PROBLEMS = {
    400: "The body is none that can be read.",
    401: "Nobody is logged in.",
    403: "Not for this role, or without the token of its session, or the console is read-only.",
    404: "There is no such run, round or plant.",
    405: "Not by this method.",
    408: "The body took too long to arrive.",
    409: "What is stored does not allow it.",
    413: "Too large.",
    422: "A value is outside what it may be.",
    429: "Too many requests; Retry-After says when to go on.",
    503: "The store cannot be read just now.",
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Answers that tell of trouble, for the description."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {code: {"description": _PROBLEMS[code], "content": content} for code in codes}


router = APIRouter(
    prefix=PREFIX, dependencies=[Depends(user_of)], responses=problems(401, 403, 404, 405, 422, 429, 503), tags=["v1"]
)
Shown = Annotated[Console, Depends(console_of)]
Name = Annotated[str, Path(description="Name of the run.", max_length=255)]
Number = Annotated[int, Path(description="Number of the round.", ge=1, le=LARGEST)]
Before = Annotated[int | None, Query(description="Only what is older: `next` of the page before.", ge=1, le=LARGEST)]
Limit = Annotated[int, Query(description="Rows of a page.", ge=1, le=MOST)]
Metric = Annotated[str, Query(description="Name of the figure.", min_length=1, max_length=200)]


# ---- ETags ----


def tag_of(*parts: object) -> str:
    """An ETag; weak, for the same rows may be written in another way by another version."""
    text = "\0".join(map(str, (version("crossplant"), *parts)))
    return f'W/"{hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]}"'


def check_tag(request: Request, response: Response, tag: str) -> None:
    """Set the ETag of an answer.

    Raises:
        HTTPException: 304, whoever asks has that answer already.
    """
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    given = [part.strip() for part in request.headers.get("if-none-match", "").split(",")]
    if tag in given or tag.removeprefix("W/") in given or given == ["*"]:
        raise HTTPException(304, headers=headers)
    response.headers.update(headers)


def fresh(request: Request, response: Response, run: Name, shown: Shown) -> Console:
    """The console, when something happened to the run since whoever asks asked last. A dependency."""
    check_tag(request, response, tag_of(request.url.path, request.url.query, shown.reader.version(run)))
    return shown


Fresh = Annotated[Console, Depends(fresh)]


def page(items: Sequence[Any], limit: int, number: Callable[[Any], int], kind: Any) -> dict[str, Any]:
    """A page of rows with the cursor of the next one."""
    more = len(items) == limit and number(items[-1]) > 1
    return {"items": [kind(item) for item in items], "next": number(items[-1]) if more else None}


def _same(item: Any) -> Any:
    return item


# ---- what there is ----


@router.get("/me", response_model=told.Me)
def me(user: Annotated[User, Depends(user_of)], shown: Shown) -> Any:
    """Who is asking."""
    return {"name": user.name, "role": user.role, "csrf": user.csrf, "read_only": shown.read_only}


@router.get("/runs", response_model=told.Page[told.Run])
def runs(request: Request, response: Response, shown: Shown, before: Before = None, limit: Limit = 50) -> Any:
    """Runs, the newest first."""
    found = shown.reader.runs(before, limit)
    check_tag(request, response, tag_of(before, limit, found))
    return page(found, limit, lambda pair: pair[0], lambda pair: pair[1])


@router.get("/runs/{run}", response_model=told.RunDetail)
def run_detail(shown: Fresh, run: Name) -> Any:
    """A run."""
    found = shown.reader.page(run)
    own = {name: getattr(found, name) for name in ("phases", "statuses", "metrics", "plant_metrics", "newest")}
    return _fields(found.info) | own | {"order": shown.registry.chosen(run)}


def _fields(info: RunInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in told.Run.model_fields}


@router.get("/runs/{run}/rounds", response_model=told.Page[told.Round])
def rounds(
    shown: Fresh,
    run: Name,
    before: Before = None,
    limit: Limit = 50,
    status: Annotated[Status | None, Query(description="Only those that ended so.")] = None,
) -> Any:
    """Rounds of a run, the newest first."""
    found = shown.reader.rounds(run, before, limit, None if status is None else status.value)
    return page(found, limit, lambda line: line.number, _same)


@router.get("/runs/{run}/rounds/{number}", response_model=told.RoundDetail)
def round_detail(shown: Fresh, run: Name, number: Number) -> Any:
    """A round with all its plants, why one did not count, and the clusters."""
    return show_entry(shown.reader.round(run, number))


@router.get("/runs/{run}/series", response_model=told.Series)
def series(
    shown: Fresh,
    run: Name,
    metric: Metric,
    plant: Annotated[str | None, Query(description="Of one plant; else over all.", max_length=255)] = None,
    points: Annotated[int, Query(description="Points of the curve, spread evenly.", ge=2, le=2000)] = 400,
) -> Any:
    """A figure over the rounds of a run."""
    return shown.reader.series(run, metric, plant, points)


@router.get("/runs/{run}/plants", response_model=told.Plants)
def plants(shown: Fresh, run: Name) -> Any:
    """The plants of a run, by name."""
    return {"items": shown.reader.plants(run)}


@router.get("/runs/{run}/plants/{plant:path}", response_model=told.PlantDetail)
def plant_detail(
    shown: Fresh,
    run: Name,
    plant: Annotated[str, Path(description="Name of the plant, whatever is in it.", max_length=255)],
    before: Before = None,
    limit: Limit = 50,
    refused: Annotated[bool, Query(description="Only rounds in which it did not count.")] = False,
) -> Any:
    """A plant, and its rounds, the newest first."""
    line = shown.reader.plant(run, plant)
    found = shown.reader.attempts(run, plant, before, limit, refused)
    own = {name: getattr(line, name) for name in told.Plant.model_fields}
    return own | {"attempts": page(found, limit, lambda attempt: attempt.number, _same)}


@router.get("/runs/{run}/compare", response_model=told.Comparison, responses=problems(409))
def compare(
    shown: Fresh,
    run: Name,
    a: Annotated[int, Query(description="A round.", ge=1, le=LARGEST)],
    b: Annotated[int, Query(description="Another one.", ge=1, le=LARGEST)],
) -> Any:
    """Two rounds: metrics, plants, and how far their models are apart."""
    one, other = shown.reader.round(run, a), shown.reader.round(run, b)
    result = compare_rounds(one, other) | {"weights": None, "tensors": [], "unmatched": [], "centroids": None}
    if one.model and other.model:
        result |= compare_models(shown.store.model(run, a), shown.store.model(run, b))
    return result


@router.get("/runs/{run}/matrix", response_model=told.Matrix)
def matrix(
    shown: Fresh,
    run: Name,
    metric: Metric = "holdout_loss",
    last: Annotated[int, Query(description="How many models.", ge=1, le=100)] = 20,
) -> Any:
    """Each of the newest models as every plant measured it."""
    return {"metric": metric, "items": shown.reader.matrix(run, last, metric)}


@router.get("/audit", response_model=told.Page[told.AuditEntry])
def audit(request: Request, response: Response, shown: Shown, before: Before = None, limit: Limit = 50) -> Any:
    """The audit log, the newest entry first."""
    with shown.store.session() as session:
        found = auditlog.entries(session, before, limit)
    check_tag(request, response, tag_of(before, limit, found[0].digest if found else "", len(found)))
    return page(found, limit, lambda entry: entry.seq, _same)


# ---- orders ----


@router.get("/runs/{run}/orders", response_model=told.Page[told.Order])
def orders(shown: Fresh, run: Name, before: Before = None, limit: Limit = 50) -> Any:
    """What operators wanted, the newest first."""
    return page(shown.registry.orders(run, before, limit), limit, lambda order: order.id, _same)


@router.post("/runs/{run}/orders", status_code=201, response_model=told.Order, responses=problems(400, 408, 409, 413))
def make_order(
    shown: Shown, user: Annotated[User, Depends(needs(Role.OPERATOR))], run: Name, wanted: told.Wanted
) -> Order:
    """Say what plants shall score by. The next round of the run carries it out."""
    registry, actor = shown.registry, user.actor
    if isinstance(wanted, told.Promote):
        return registry.promote(run, wanted.number, actor, wanted.why)
    if isinstance(wanted, told.Rollback):
        return registry.rollback(run, actor, wanted.why, wanted.number)
    return registry.follow(run, actor, wanted.why)
