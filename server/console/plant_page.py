"""The plants of a run, and one of them: how it takes part, how the model suits it, why it was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.console.advice import REFUSED
from server.console.asked import cursor
from server.console.certificates import certificates_of
from server.console.charts import charts_of
from server.console.context import User, console_of, user_of
from server.console.figures import number
from server.console.templating import path, render
from server.rounds import JOINED
from server.store.shown import Attempt, Series

router = APIRouter(include_in_schema=False)
ROWS = 12
STRIP = 60
"""Rounds in the strip of a plant."""
_POINTS = 400
_AS_GOOD, _WORSE = 1.1, 1.5


@dataclass(frozen=True)
class Drift:
    """How the newest global model does on a plant's own held-out normal data.

    Attributes:
        ratio: its loss over the plant's best one; None while there are not two.
        newest, best: the losses.
        newest_round, best_round: where they were measured.
        tone: `ok`, `warn` or `bad`, or empty.
        told: a plain reading.
    """

    ratio: float | None
    newest: float | None
    best: float | None
    newest_round: int | None
    best_round: int | None
    tone: str
    told: str


@router.get("/runs/{run}/plants")
def plants(request: Request, run: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """The plants of a run."""
    console = console_of(request)
    page = console.reader.page(run)
    certificates = certificates_of(console, datetime.now(UTC))
    found = console.reader.plants(run)
    return render(request, "plants.html", run=run, page=page, plants=found, certificates=certificates)


@router.get("/runs/{run}/plants/{plant:anything}")
def show(request: Request, run: str, plant: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """One plant."""
    console, before = console_of(request), cursor(request, "before")
    reader, page, line = console.reader, console.reader.page(run), console.reader.plant(run, plant)
    newest = reader.attempts(run, plant, limit=STRIP)
    missed = reader.attempts(run, plant, before, ROWS + 1, refused=True)
    more = path("runs", run, "plants", plant, before=missed[ROWS - 1].number) if len(missed) > ROWS else None
    return render(
        request,
        "plant.html",
        run=run,
        page=page,
        line=line,
        strip=marks(newest),
        newest=newest[:ROWS],
        missed=missed[:ROWS],
        older=more,
        first=path("runs", run, "plants", plant) if before else None,
        refusals=sum((one.reason or "").startswith(REFUSED) for one in missed[:ROWS]),
        drift=drift_of(reader.series(run, "holdout_loss", plant, _POINTS)),
        certificate=certificates_of(console, datetime.now(UTC)).get(plant),
        federated=console.federation is not None,
        charts=charts_of(reader, page, [plant], plant)[:4],
    )


@dataclass(frozen=True)
class Mark:
    """A round in the strip: its place, and how it went."""

    x: float
    number: int
    kind: str
    word: str


def marks(attempts: Sequence[Attempt]) -> tuple[Mark, ...]:
    """The strip of a plant's newest rounds, the newest at the right."""
    width = 100 / max(1, len(attempts))
    return tuple(
        Mark(round(i * width, 3), one.number, *_kind(one)) for i, one in enumerate(sorted(attempts, key=_number))
    )


def _number(attempt: Attempt) -> int:
    return attempt.number


def _kind(attempt: Attempt) -> tuple[str, str]:
    if attempt.accepted:
        return "yes", "counted"
    return ("joins", "joined") if (attempt.reason or "").startswith(JOINED) else ("no", "did not count")


def drift_of(series: Series) -> Drift:
    """How the newest global model does on a plant's own held-out normal data.

    Example:
        >>> drift_of(Series("holdout_loss", "north", (2, 3, 4), (0.5, 0.2, 0.5))).ratio
        2.5
    """
    told = [(n, v) for n, v in zip(series.numbers, series.values, strict=True) if v is not None and v >= 0]
    if len(told) < 2:
        return Drift(None, None, None, None, None, "", "Too few rounds told a loss on held-out data to compare.")
    (newest_round, newest), (best_round, best) = told[-1], min(told, key=lambda one: one[1])
    if best <= 0:
        return Drift(None, newest, best, newest_round, best_round, "", "Its best loss is 0: there is no ratio to it.")
    ratio = newest / best
    return Drift(ratio, newest, best, newest_round, best_round, *_reading(ratio))


def _reading(ratio: float) -> tuple[str, str]:
    if ratio <= _AS_GOOD:
        return "ok", "The newest model suits this plant as well as the best one did."
    if ratio <= _WORSE:
        return "warn", f"The newest model is {number(ratio)} times as far off here as the best one: worth watching."
    told = f"The newest model is {number(ratio)} times as far off here as the best one was: the plant has changed, or "
    return "bad", told + "the others pull the model away. Compare the rounds, and consider a roll back."
