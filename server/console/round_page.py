"""One round: who took part, why others did not count, where the time went, what became of the clusters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.console.asked import whole
from server.console.context import Console, User, console_of, user_of
from server.console.figures import LONGEST
from server.console.standing import settings_of
from server.console.templating import render
from server.rounds import ClusterReport, PlantReport, RoundRecord
from server.store.registry import LONGEST_WHY
from server.store.retention import pruned_on
from shared.config import PrivacyConfig

router = APIRouter(include_in_schema=False)
COLUMNS, MORE = ("holdout_loss", "train_loss", "update_norm", "update_cosine", "clipped", "epsilon"), 6
"""Figures of the cohort's table that come first, and how many others there may be."""


@dataclass(frozen=True)
class Part:
    """A part of a round's duration.

    Attributes:
        name, help: for people.
        kind: which colour.
        seconds: how long.
        start, width: in percent of the whole.
    """

    name: str
    help: str
    kind: str
    seconds: float
    start: float = 0.0
    width: float = 0.0


@dataclass(frozen=True)
class Spot:
    """A cluster in the map.

    Attributes:
        number: of the cluster, from 0.
        mass: share of the segments.
        displacement: how far the refresh moved it, in radii of the latent cloud; None where it is not known.
        active: whether it counts.
        plants: how many populate it; None where it was not counted.
        x, r: place and radius in the drawing.
    """

    number: int
    mass: float | None
    displacement: float | None
    active: bool
    plants: int | None
    x: float
    r: float


@router.get("/runs/{run}/rounds/{number}")
def show(request: Request, run: str, number: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """One round."""
    console = console_of(request)
    record = console.reader.round(run, whole(number, "round"))
    last = console.reader.rounds(run, limit=1)
    return render(
        request,
        "round.html",
        run=run,
        record=record,
        pruned=pruned_on(console.store, run, record.number) if record.model else None,
        last=last[0].number if last else record.number,
        parts=durations(record),
        spots=spots(record.clusters) if record.clusters else (),
        reach=_reach(record.clusters) if record.clusters else 0.0,
        privacy=_privacy(console, run),
        columns=columns(record),
        computing=computing,
        transfer=transfer,
        longest=LONGEST_WHY,
    )


def _privacy(console: Console, run: str) -> PrivacyConfig | None:
    found = settings_of(console, run)
    return found.recipe.privacy if found is not None and found.recipe.privacy.on else None


def columns(record: RoundRecord) -> tuple[str, ...]:
    """Figures that at least one plant told, the usual ones first; not all, of plants that tell a thousand."""
    told = {name for plant in record.plants for name in plant.metrics if len(name) <= LONGEST}
    first = [name for name in COLUMNS if name in told]
    return (*first, *sorted(told - set(COLUMNS))[:MORE])


def computing(plant: PlantReport) -> float:
    """Seconds that a plant says it worked, as far as it says so."""
    return sum(value for value in plant.timings.values() if math.isfinite(value) and value > 0)


def transfer(plant: PlantReport) -> float | None:
    """Seconds between asking a plant and its reply in which it did not work; None where it says nothing of its work."""
    return max(0.0, plant.seconds - computing(plant)) if plant.timings and math.isfinite(plant.seconds) else None


def durations(record: RoundRecord) -> tuple[Part, ...]:
    """Where a round's time went: the plant that took longest splits the wait for replies.

    The parts add up to the round's duration; what no part explains comes last.
    """
    known = {name: value for name, value in record.timings.items() if math.isfinite(value) and value > 0}
    slowest = max((p for p in record.plants if p.accepted), key=lambda p: p.seconds, default=None)
    worked, sent = (0.0, 0.0) if slowest is None else (computing(slowest), transfer(slowest) or 0.0)
    wait = known.get("wait", 0.0)
    worked = min(worked, wait)
    sent = min(sent, wait - worked)
    whose = "" if slowest is None else f"of {slowest.plant[:60]}, the slowest plant that counted"
    parts = [
        Part("Connecting", "until enough plants were there", "connect", known.get("muster", 0.0)),
        Part("Training and measuring", f"at the plant; {whose}", "train", worked),
        Part("Transfer", f"its other seconds, on the wire or waiting its turn; {whose}", "transfer", sent),
        Part("Waiting", "for replies that came later, or not at all", "wait", wait - worked - sent),
        Part("Aggregation", "at the server", "aggregate", known.get("aggregate", 0.0)),
    ]
    rest = record.seconds - sum(part.seconds for part in parts) if math.isfinite(record.seconds) else 0.0
    parts.append(Part("Other", "checks and the store", "other", max(0.0, rest)))
    return tuple(_placed(part for part in parts if part.seconds > 0))


def _placed(parts: Iterable[Part]) -> Iterable[Part]:
    found = list(parts)
    whole_s, start = sum(part.seconds for part in found), 0.0
    for part in found:
        width = 100 * part.seconds / whole_s
        yield Part(part.name, part.help, part.kind, part.seconds, round(start, 3), round(width, 3))
        start += width


def spots(report: ClusterReport) -> tuple[Spot, ...]:
    """Clusters as circles: their area is the mass, their place the displacement."""
    reach = _reach(report)
    plants: tuple[int | None, ...] = report.plants or (None,) * len(report.mass)
    rows = zip(report.mass, report.displacement, report.active, plants, strict=False)
    return tuple(
        Spot(
            k,
            _finite(mass),
            _finite(moved),
            active,
            count,
            round(40 + 720 * (_finite(moved) or 0.0) / reach, 1),
            round(4 + 34 * math.sqrt(min(1.0, max(0.0, _finite(mass) or 0.0))), 1),
        )
        for k, (mass, moved, active, count) in enumerate(rows)
    )


def _reach(report: ClusterReport) -> float:
    """Displacement at the right end of the map, in radii."""
    return max([1e-9, *(value for value in report.displacement if math.isfinite(value))])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
