"""A page of a run's rounds, quickly: what `crossplant rounds list` and `watch` show.

SQLAlchemy's mapper, NumPy and the settings take longer to import than 10,000 rounds to page through, so a store's
SQLite file is read by the standard library's own driver. The same statements run on any other database; and whatever
goes wrong with the file is left to `RoundStore`, which says it in our words.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.store.lines import Line, Refusal, RunLine
from shared.errors import StoreUnreadable

MOST = 500
"""Rounds in a page of JSON, unless more are asked for."""

KNOWN = ("0001", "0002")
"""Versions that are read here (`server.store.migrate`; a test holds them together)."""

_JOINED = "joined:"  # server.rounds.JOINED; a test holds them together
_FILE = "rounds.sqlite"  # server.store.place.DATABASE
_BUSY_S = 10.0
_END = 2**63 - 1

_RUNS = """SELECT name, created, status, note, (SELECT MAX(number) FROM rounds WHERE run = name) AS rounds
FROM runs ORDER BY ordinal DESC LIMIT :most"""
_RUN = """SELECT name, created, status, note, (SELECT MAX(number) FROM rounds WHERE run = name) AS rounds
FROM runs WHERE name = :run"""
_ROUNDS = """SELECT number, phase, label, status, reason, started, seconds, metrics, model,
CASE WHEN CAST(state AS TEXT) LIKE '{{"pruned"%' THEN CAST(state AS TEXT) END AS pruned
FROM rounds WHERE run = :run AND number > :after AND number < :before{status} ORDER BY number DESC LIMIT :most"""
_PLANTS = """SELECT number, plant, accepted, reason, bytes_down + bytes_up AS bytes FROM updates
WHERE run = :run AND number >= :first AND number <= :last ORDER BY number, plant"""

Rows = Callable[[str, Mapping[str, Any]], Sequence[tuple[Any, ...]]]


@dataclass(frozen=True)
class Wanted:
    """Which rounds of a run.

    Attributes:
        last: the newest so many; None: all.
        after, before: only those with higher, lower numbers.
        status: only those that ended so.
    """

    last: int | None = MOST
    after: int = 0
    before: int = _END
    status: str | None = None


@dataclass(frozen=True)
class Page:
    """Rounds of a run, ascending.

    Attributes:
        run: whose.
        lines: the rounds.
        older: whether the run has more that were wanted, before these.
    """

    run: RunLine
    lines: tuple[Line, ...]
    older: bool


def look(location: str, run: str | None, wanted: Wanted) -> Page:
    """A page of the newest run, or of a named one.

    Raises:
        StoreNotFound: there is no store.
        RoundNotFound: there is no such run, or none at all.
        StoreUnreadable: it cannot be read.
    """
    file = _file(location)
    if file is not None:
        try:
            with _lean(file) as rows:
                page = _page(rows, run, wanted)
        except (sqlite3.Error, OSError):
            page = None
        if page is not None:
            return page
    return _slowly(location, run, wanted)


def runs(location: str, most: int) -> list[RunLine]:
    """The newest runs, the newest first.

    Raises:
        StoreNotFound: there is no store.
        StoreUnreadable: it cannot be read.
    """
    file = _file(location)
    if file is not None:
        try:
            with _lean(file) as rows:
                return [_run_line(row) for row in rows(_RUNS, {"most": min(most, _END)})]
        except (sqlite3.Error, OSError):
            pass
    from server.store.store import RoundStore

    return [
        _run_line(row) for row in _by_sqlalchemy(RoundStore.open(location, look=True))(_RUNS, {"most": min(most, _END)})
    ]


def _slowly(location: str, run: str | None, wanted: Wanted) -> Page:
    from server.store.store import RoundStore

    store = RoundStore.open(location, look=True)
    name = store.newest_run() if run is None else store.run(run).name
    page = _page(_by_sqlalchemy(store), name, wanted)
    if page is None:
        raise StoreUnreadable(f"run {name!r} went away while it was read.")
    return page


# ---- two ways to ask ----


def _file(location: str) -> Path | None:
    """The file of a store's folder that can be read as any other; None: `RoundStore` knows what to do."""
    if "://" in location or not location.strip():
        return None
    file = Path(location).absolute() / _FILE
    whole = file.is_file() and os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    return file if whole else None


@contextmanager
def _lean(file: Path) -> Iterator[Rows]:
    uri = f"{file.as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("BEGIN")
        _check_version(connection)
        yield lambda statement, values: connection.execute(statement, values).fetchall()


def _check_version(connection: sqlite3.Connection) -> None:
    """A store of a version that is unknown here, or with a damaged one, is left to `RoundStore`."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        found = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}
        if not found <= set(KNOWN) or len(found) > 1:
            raise sqlite3.DatabaseError("another version")


def _by_sqlalchemy(store: Any) -> Rows:
    from sqlalchemy import text

    def rows(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with store.session() as session:
            return [tuple(row) for row in session.execute(text(statement), dict(values))]

    return rows


# ---- reading ----


def _page(rows: Rows, run: str | None, wanted: Wanted) -> Page | None:
    found = rows(_RUNS, {"most": 1}) if run is None else rows(_RUN, {"run": run})
    if not found:
        return None
    info = _run_line(found[0])
    most = _END if wanted.last is None else min(wanted.last + 1, _END)
    values = {"run": info.name, "after": wanted.after, "before": min(wanted.before, _END), "most": most}
    status = "" if wanted.status is None else " AND status = :status"
    values |= {} if wanted.status is None else {"status": wanted.status}
    rounds = rows(_ROUNDS.format(status=status), values)
    older = wanted.last is not None and len(rounds) > wanted.last
    return Page(info, tuple(_lines(rows, info.name, rounds[: wanted.last][::-1])), older)


def _lines(rows: Rows, run: str, rounds: Sequence[Sequence[Any]]) -> Iterator[Line]:
    plants: dict[int, list[tuple[Any, ...]]] = {}
    for first, last in _spans([row[0] for row in rounds]):
        for number, *plant in rows(_PLANTS, {"run": run, "first": first, "last": last}):
            plants.setdefault(number, []).append(tuple(plant))
    for row in rounds:
        try:
            yield _line(run, row, plants.get(row[0], []))
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError, KeyError) as error:
            raise StoreUnreadable(f"round {str(row[0])[:20]} of run {run!r} holds values that are none.") from error


def _spans(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of numbers that follow each other."""
    ends = [i for i in range(len(numbers)) if i + 1 == len(numbers) or numbers[i + 1] != numbers[i] + 1]
    for before, end in zip([-1, *ends], ends, strict=False):
        yield numbers[before + 1], numbers[end]


def _line(run: str, row: Sequence[Any], plants: Sequence[tuple[Any, ...]]) -> Line:
    number, phase, label, status, reason, started, seconds, metrics, model, pruned = row
    told = {str(name): _float(value) for name, value in _json(metrics).items()}
    accepted = tuple(_text(name) for name, counted, *_ in plants if counted)
    others = [Refusal(_text(name), _maybe(why)) for name, counted, why, _ in plants if not counted]
    joined = [one for one in others if (one.reason or "").startswith(_JOINED)]
    return Line(
        run, _whole(number), _text(phase), _text(label), _text(status), _maybe(reason), _text(started),
        _float(seconds), _maybe(model), told, accepted, tuple(one for one in others if one not in joined),
        tuple(one.plant for one in joined), sum(_whole(moved) for *_, moved in plants),
        None if pruned is None else _text(_json(pruned)["pruned"]),
    )  # fmt: skip


def _run_line(row: Sequence[Any]) -> RunLine:
    try:
        name, created, status, note = map(_text, row[:4])
        return RunLine(name, created, status, note, 0 if row[4] is None else _whole(row[4]))
    except TypeError as error:
        raise StoreUnreadable(f"run {str(row[0])[:80]!r} holds values that are none.") from error


def _json(value: Any) -> dict[str, Any]:
    """A column of JSON: some drivers parse it."""
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise TypeError
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _maybe(value: Any) -> str | None:
    return None if value is None else _text(value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _float(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)
