"""What people look at, in few and lean queries: pages of runs and rounds, curves, plants, the cross-plant matrix.

Everything is made for stores of 10,000 rounds with 50 plants each: nothing here reads all rounds of a run, and nothing
reads the states that rounds start from. Values are plain and frozen; names in them come from plants and are hostile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, get_type_hints

from sqlalchemy import Row
from sqlalchemy.orm import Session

from server.rounds import Phase, RoundRecord
from server.store import queries, totals
from server.store.codec import RECORDS, storable
from server.store.rows import RunInfo, read_info
from server.store.shown import Attempt, Candidate, PlantLine, RoundLine, RunPage, Series
from server.store.store import RoundStore
from server.store.words import finite
from shared.errors import RoundNotFound

__all__ = ["MOST", "Attempt", "Candidate", "PlantLine", "Reader", "RoundLine", "RunPage", "Series"]

T = TypeVar("T")
MOST = 500
"""Rows of a page at most."""
MOST_POINTS = 2_000
MOST_CANDIDATES = 100


class Reader:
    """Reads a round store for people. Every method raises what `RoundStore`'s methods raise.

    Args:
        store: opened with `look=True`.
    """

    def __init__(self, store: RoundStore) -> None:
        self._store = store

    def runs(self, before: int | None = None, limit: int = 50) -> list[tuple[int, RunInfo]]:
        """Runs with their ordinals, the newest first; only those with a lower ordinal than `before`."""
        with self._store.session() as session, queries.damage("the list of runs"):
            rows = queries.run_rows(session, before, _page(limit))
            return [(row.ordinal, read_info(row, row.rounds or 0)) for row in rows]

    def page(self, run: str) -> RunPage:
        """A run.

        Raises:
            RoundNotFound: no such run.
        """
        with self._of(run) as (session, row):
            newest = _lines(row.name, queries.line_rows(session, row.name, None, queries.NEWEST))
            last = newest[0].number if newest else 0
            phases, statuses = queries.counts(session, row.name)
            told = [line.number for line in newest if line.metrics] or [line.number for line in newest]
            return RunPage(
                info=read_info(row, last),
                phases={phase.value: phases[phase.value] for phase in Phase if phase.value in phases},
                statuses=statuses,
                metrics=queries.names(line.metrics for line in newest),
                plant_metrics=queries.plant_metrics(session, row.name, told[: queries.PLANT_NEWEST]),
                newest=newest[0] if newest else None,
            )

    def rounds(
        self, run: str, before: int | None = None, limit: int = 50, status: str | None = None
    ) -> list[RoundLine]:
        """Rounds, the newest first; only those with a lower number than `before`, or of one status.

        Raises:
            RoundNotFound: no such run.
        """
        with self._of(run) as (session, row):
            asked = None if status is None else storable(status)
            return _lines(row.name, queries.line_rows(session, row.name, before, _page(limit), asked))

    def round(self, run: str, number: int) -> RoundRecord:
        """One round, whole.

        Raises:
            RoundNotFound: no such run or round.
        """
        with self._of(run) as (session, row):
            found = queries.whole_round(session, row.name, number)
            if found is not None:
                return RECORDS.decode(RoundRecord, found, f"round {number} of run {run!r}")
        return self._store.round(run, number)  # says which rounds there are

    def series(self, run: str, metric: str, plant: str | None = None, points: int = 400) -> Series:
        """A figure over the run's rounds; a plant's over those that tell of it.

        Raises:
            RoundNotFound: no such run, or the plant was never in it.
        """
        return self.curves(run, (metric,), plant, points)[0]

    def curves(
        self, run: str, metrics: Sequence[str], plant: str | None = None, points: int = 400
    ) -> tuple[Series, ...]:
        """Several figures over the same rounds, for the price of one.

        Raises:
            RoundNotFound: no such run, or the plant was never in it.
        """
        with self._of(run) as (session, row):
            name = None if plant is None else storable(plant)
            rows = queries.metric_rows(session, row.name, name, max(1, min(points, MOST_POINTS)))
            if name is not None and not rows:
                raise _unknown(row.name, name)
            found = [(n, queries.figures(value, f"round {n} of run {row.name!r}", metrics)) for n, value in rows]
        numbers = tuple(n for n, _ in found)
        return tuple(Series(each, plant, numbers, tuple(told[each] for _, told in found)) for each in metrics)

    def plants(self, run: str) -> list[PlantLine]:
        """The plants of a run, by name.

        Raises:
            RoundNotFound: no such run.
        """
        with self._of(run) as (session, row):
            return sorted(map(_plant, totals.plants(session, row.name)), key=lambda line: line.plant)

    def plant(self, run: str, plant: str) -> PlantLine:
        """One of them.

        Raises:
            RoundNotFound: no such run, or the plant was never in it.
        """
        with self._of(run) as (session, row):
            found = totals.plants(session, row.name, storable(plant))
            if not found:
                raise _unknown(row.name, plant)
            return _plant(found[0])

    def attempts(
        self, run: str, plant: str, before: int | None = None, limit: int = 50, refused: bool = False
    ) -> list[Attempt]:
        """A plant's rounds, the newest first; with `refused` only those in which it did not count.

        Raises:
            RoundNotFound: no such run.
        """
        with self._of(run) as (session, row):
            rows = queries.attempt_rows(session, row.name, storable(plant), before, _page(limit), refused)
            return [_decoded(Attempt, dict(found._mapping), f"run {row.name!r}") for found in rows]

    def matrix(self, run: str, last: int = 20, metric: str = "holdout_loss") -> list[Candidate]:
        """The newest candidates on every plant, the newest first.

        Raises:
            RoundNotFound: no such run.
        """
        with self._of(run) as (session, row):
            models = queries.measured(session, row.name, max(1, min(last, MOST_CANDIDATES)), metric)
            made = queries.makers(session, row.name, models.values())
            values: dict[str, dict[str, float]] = {model: {} for model in models.values()}
            for part in queries.measurements(session, row.name, list(models)):
                value = queries.figures(part.metrics, f"round {part.number} of run {row.name!r}", (metric,))[metric]
                if value is not None:
                    values[models[part.number]][str(part.plant)] = value
        found = [Candidate(made.get(model, 0), model, by_plant) for model, by_plant in values.items() if by_plant]
        return sorted(found, key=lambda candidate: candidate.number, reverse=True)

    def version(self, run: str) -> str:
        """A word that changes whenever anything of the run does: a finished round, its status, an order. Cheap.

        Raises:
            RoundNotFound: no such run.
        """
        with self._of(run) as (session, row):
            parts = [row.name, row.ordinal, row.created, *queries.version_parts(session, row.name)]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]

    @contextmanager
    def _of(self, run: str) -> Iterator[tuple[Session, Row[*tuple[Any, ...]]]]:
        """A transaction, and the run's row without its settings."""
        with self._store.session() as session, queries.damage(f"run {run!r}"):
            row = queries.run_row(session, storable(run))
            if row is None:
                self._store.require(session, run)  # says which there are
            assert row is not None
            yield session, row


def _page(limit: int) -> int:
    return max(1, min(limit, MOST))


def _lines(run: str, rows: Iterable[dict[str, Any]]) -> list[RoundLine]:
    return [_decoded(RoundLine, row, f"round {row['number']} of run {run!r}") for row in rows]


def _plant(row: Mapping[str, Any]) -> PlantLine:
    return _decoded(PlantLine, row, f"plant {row['plant']!r}")


def _decoded(kind: type[T], row: Mapping[str, Any], where: str) -> T:
    """A value from a row's columns; figures that JSON lacks are None."""
    hints: dict[str, Any] = _hints_of(kind)  # type: ignore[arg-type]
    return kind(**{name: _column(name, hint, row[name], where) for name, hint in hints.items()})


def _column(name: str, hint: Any, value: Any, where: str) -> Any:
    if name in ("metrics", "timings"):
        return queries.figures(value, f"{where}, {name}")
    found = RECORDS.decode(hint, value, where)
    return finite(found) if name == "seconds" else found


@cache
def _hints_of(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _unknown(run: str, plant: str) -> RoundNotFound:
    return RoundNotFound(f"run {run!r} has no plant {plant!r}.", "Its page lists them.")
