"""Two rounds side by side, and every candidate on every plant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.console import figures
from server.console.asked import cursor, word
from server.console.context import Console, User, console_of, user_of
from server.console.templating import render
from server.store.compare import compare_models, compare_rounds
from server.store.shown import Candidate
from shared.errors import CrossplantError

router = APIRouter(include_in_schema=False)
TENSORS = 20
"""Tensors in the list of those that moved most."""
_CANDIDATES = 20
_SHADES = 5


@router.get("/runs/{run}/compare")
def compare(request: Request, run: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """Two rounds."""
    console = console_of(request)
    newest = console.reader.rounds(run, limit=2)
    a, b = _pair([line.number for line in newest], cursor(request, "a"), cursor(request, "b"))
    rounds: Mapping[str, Any] | None = None
    models: Mapping[str, Any] | None = None
    trouble = ""
    if a is not None and b is not None:
        rounds = compare_rounds(console.reader.round(run, a), console.reader.round(run, b))
        models, trouble = _models(console, run, a, b)
    return render(
        request,
        "compare.html",
        run=run,
        a=a,
        b=b,
        rounds=rounds,
        models=models,
        trouble=trouble,
        most=TENSORS,
        better=better,
    )


def _pair(newest: Sequence[int], a: int | None, b: int | None) -> tuple[int | None, int | None]:
    """The rounds that are compared: the two newest where nobody says."""
    b = b if b is not None else newest[0] if newest else None
    return (a if a is not None else max(1, b - 1) if b is not None else None), b


def _models(console: Console, run: str, a: int, b: int) -> tuple[Mapping[str, Any] | None, str]:
    """How far the models are apart; without them, why."""
    try:
        return compare_models(console.store.model(run, a), console.store.model(run, b)), ""
    except CrossplantError as error:
        return None, f"{error.code}: {error.cause} {error.cure}"


def better(name: str, difference: float | None) -> str:
    """Whether a difference is one for the better, in a word; empty where nobody can say."""
    direction = figures.metric(name).better
    if difference is None or difference == 0 or not direction:
        return ""
    return "better" if (difference < 0) == (direction == "lower") else "worse"


@dataclass(frozen=True)
class Cell:
    """A candidate at a plant.

    Attributes:
        value: the figure; None where the plant did not measure it.
        rank: 1 for the best at this plant.
        shade: 1 (best) to 5.
        best: whether no candidate is better here.
    """

    value: float | None
    rank: int = 0
    shade: int = 0
    best: bool = False


@router.get("/runs/{run}/matrix")
def matrix(request: Request, run: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """Every candidate on every plant."""
    console = console_of(request)
    names = console.reader.page(run).plant_metrics
    metric = word(request, "metric", names) or "holdout_loss"
    candidates = console.reader.matrix(run, _CANDIDATES, metric)
    plants = sorted({plant for candidate in candidates for plant in candidate.values})
    return render(
        request,
        "matrix.html",
        run=run,
        chosen=metric,
        names=names,
        candidates=candidates,
        plants=plants,
        cells=cells(candidates, plants, higher=figures.metric(metric).better == "higher"),
    )


def cells(candidates: Sequence[Candidate], plants: Sequence[str], higher: bool) -> dict[tuple[int, str], Cell]:
    """The matrix, each plant ranked by itself: plants' figures cannot be compared with each other."""
    found: dict[tuple[int, str], Cell] = {}
    for plant in plants:
        column = [(candidate.values[plant], i) for i, candidate in enumerate(candidates) if plant in candidate.values]
        levels = sorted({value for value, _ in column}, reverse=higher)
        for value, i in column:
            rank = levels.index(value)
            shade = 1 + (_SHADES - 1) * rank // max(1, len(levels) - 1)
            found[i, plant] = Cell(value, rank + 1, shade, rank == 0 and len(levels) > 1)
    return found
