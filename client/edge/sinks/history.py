"""SQLite: what happened, for the page and `alarms list`. Scores are thinned with age, everything else is kept whole.

A thread of its own writes; scoring never waits for it. What a full disk or a locked file refuses waits in memory, the
oldest makes room and is counted. Readers open the file themselves, read-only (`read_scores`, `read_records`).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Meta

from client.edge.options import one_line, read_options
from client.edge.records import Record
from client.edge.sinks.base import Delivery, SinkSettings, encoded
from shared.artefact import Artefact
from shared.errors import FileTrouble

_IN_MEMORY = 100_000  # records that wait for the disk: a day of scores a second
_AT_ONCE = 2000
_CLEAN_S = 300.0  # between two looks at age and size
_RETRY_S = 5.0

_TABLES = """
CREATE TABLE IF NOT EXISTS scores (
    time REAL NOT NULL, score REAL, threshold REAL, guard REAL, guard_threshold REAL, shadow REAL, mode INTEGER,
    anomalous INTEGER NOT NULL, count INTEGER NOT NULL DEFAULT 1, bundle TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS scores_time ON scores (time);
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS records_time ON records (type, time);
"""
_SCORE = "INSERT INTO scores (time, score, threshold, guard, guard_threshold, shadow, mode, anomalous, bundle) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: E501
_THIN = """
INSERT INTO scores
SELECT min(time), max(score), min(threshold), max(guard), min(guard_threshold), max(shadow), mode, max(anomalous),
       sum(count), bundle
FROM scores WHERE time < :until AND count = 1 GROUP BY cast(time / 60 AS INTEGER), bundle HAVING count(*) > 1
"""
_THINNED = """
DELETE FROM scores WHERE time < :until AND count = 1 AND EXISTS (
    SELECT 1 FROM scores AS kept WHERE kept.count > 1 AND kept.bundle = scores.bundle
    AND cast(kept.time / 60 AS INTEGER) = cast(scores.time / 60 AS INTEGER)
    AND kept.time BETWEEN scores.time - 60 AND scores.time + 60)
"""

Positive = Annotated[float, Meta(gt=0)]
Found = TypeVar("Found")


class HistoryOptions(Artefact, frozen=True, kw_only=True):
    """Options of the history.

    Attributes:
        whole_hours: after them, scores are thinned to one a minute: the highest.
        days: after them, everything is deleted.
        most_mb: of the file; the oldest scores make room, then the oldest of the rest.
    """

    whole_hours: Positive = 24.0
    days: Positive = 365.0
    most_mb: Annotated[float, Meta(ge=1)] = 512.0


def open_history(settings: SinkSettings) -> History:
    """The sink for FILE.sqlite.

    Raises:
        InvalidConfig: an option.
        FileTrouble: the file's folder does not exist.
    """
    path = Path(settings.location)
    if not path.parent.is_dir():
        raise FileTrouble(f"{path.parent} is no folder.", "Make it, or give another place for the history.")
    return History(path, read_options(HistoryOptions, settings.options, "the history"), settings.types)


class Book:
    """The file, for the one thread that writes.

    Raises:
        sqlite3.Error: it cannot be opened; a file that is no database is set aside as FILE.broken.
    """

    def __init__(self, path: Path, options: HistoryOptions) -> None:
        self._path, self._options = path, options
        try:
            self._base = self._opened()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{path}{end}").replace(f"{path}.broken{end}")
            self._base = self._opened()

    def _opened(self) -> sqlite3.Connection:
        base = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            base.execute("PRAGMA auto_vacuum=INCREMENTAL")
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=NORMAL")
            base.execute("PRAGMA cache_size=-512")
            base.execute("PRAGMA journal_size_limit=4194304")
            base.executescript(_TABLES)
        except BaseException:
            base.close()
            raise
        return base

    def write(self, told: Iterable[dict[str, Any]]) -> None:
        """Records, all or none.

        Raises:
            sqlite3.Error: the disk refuses.
        """
        self._base.execute("BEGIN IMMEDIATE")
        try:
            for one in told:
                if one["type"] == "score":
                    self._base.execute(_SCORE, _score(one))
                else:
                    body = encoded(one).decode()
                    row = (float(one.get("time") or 0.0), one["type"], body)
                    self._base.execute("INSERT INTO records (time, type, body) VALUES (?, ?, ?)", row)
            self._base.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            raise

    def clean(self) -> None:
        """Thin and delete by age and size. Age is counted back from the newest score, not from our clock, which notices
        have: the plant of a recording lives in another year.
        """
        newest = self._base.execute(
            "SELECT coalesce((SELECT max(time) FROM scores), (SELECT max(time) FROM records))"
        ).fetchone()[0]
        if newest is None:
            return
        until = 60 * int((newest - 3600 * self._options.whole_hours) // 60)
        self._base.execute("BEGIN IMMEDIATE")
        try:
            self._base.execute(_THIN, {"until": until})
            self._base.execute(_THINNED, {"until": until})
            for table in ("scores", "records"):
                self._base.execute(f"DELETE FROM {table} WHERE time < ?", (newest - 86_400 * self._options.days,))  # noqa: S608
            self._base.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            raise
        self._shrink()

    def _shrink(self) -> None:
        most = int(self._options.most_mb * 2**20)
        for table in ("scores", "records"):
            while self._size() > most:
                found = self._base.execute(f"SELECT count(*), min(rowid) FROM {table}").fetchone()  # noqa: S608
                if not found[0]:
                    break
                part = max(1, found[0] // 10)
                oldest = f"SELECT rowid FROM {table} ORDER BY time LIMIT ?"  # noqa: S608
                self._base.execute(f"DELETE FROM {table} WHERE rowid IN ({oldest})", (part,))  # noqa: S608
        self._base.executescript("PRAGMA incremental_vacuum")  # `execute` would stop after one page

    def _size(self) -> int:
        pages, free, size = (
            self._base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def _score(one: dict[str, Any]) -> tuple[Any, ...]:
    names = ("score", "threshold", "guard", "guard_threshold", "shadow")
    models = one.get("anomalous") or ()
    anomalous = ("federated" in models) + 2 * ("guard" in models)
    numbers = (None if one.get(name) is None else float(one[name]) for name in names)
    return (one["time"], *numbers, one.get("mode"), anomalous, one.get("bundle") or "")


class History:
    """See the module."""

    name = "history"

    def __init__(self, path: Path, options: HistoryOptions, types: frozenset[str]) -> None:
        self._path, self._options, self._types = path, options, types
        self._memory: deque[dict[str, Any]] = deque()
        self._delivered = self._dropped = 0
        self._trouble = ""
        self._book: Book | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write())

    def put(self, record: Record) -> None:
        """Take a record."""
        told = record.as_json()
        if self._types and told["type"] not in self._types:
            return
        if len(self._memory) >= _IN_MEMORY:
            self._memory.popleft()
            self._dropped += 1
        self._memory.append(told)
        self._came.set()

    def standing(self) -> Delivery:
        """How it stands."""
        return Delivery(self._delivered, self._dropped, len(self._memory), self._trouble)

    async def close(self, timeout_s: float) -> None:
        """Write what is left."""
        ends = time.monotonic() + timeout_s
        while self._memory and not self._trouble and time.monotonic() < ends:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._memory:
            with suppress(sqlite3.Error, OSError):
                await self._batch()
        self._dropped += len(self._memory)
        self._memory.clear()
        if self._book is not None:
            await self._on_disk(self._book.close)
        self._disk.shutdown(wait=False)

    async def _on_disk(self, what: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._disk, what)

    def _opened(self) -> Book:
        if self._book is None:
            self._book = Book(self._path, self._options)
        return self._book

    async def _batch(self) -> None:
        batch = [self._memory[k] for k in range(min(_AT_ONCE, len(self._memory)))]
        dropped = self._dropped
        await self._on_disk(lambda: self._opened().write(batch))
        kept = len(batch) - (self._dropped - dropped)  # The rest made room for newer ones meanwhile, and is written.
        self._dropped -= len(batch) - max(0, kept)
        for _ in range(max(0, kept)):
            self._memory.popleft()
        self._delivered += len(batch)

    async def _write(self) -> None:
        cleaned = 0.0
        while True:
            try:
                if time.monotonic() - cleaned > _CLEAN_S:
                    await self._on_disk(lambda: self._opened().clean())
                    cleaned = time.monotonic()
                while self._memory:
                    await self._batch()
                self._trouble = ""
                self._came.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._came.wait(), _CLEAN_S)
                await asyncio.sleep(0.2)  # What comes together is written together.
            except (sqlite3.Error, OSError) as error:
                self._trouble = f"{self._path}: {one_line(error)}"
                await asyncio.sleep(_RETRY_S)


def _reader(path: Path) -> sqlite3.Connection:
    """The file for reading.

    Raises:
        FileTrouble: it is not there or is no history.
    """
    if not path.is_file():
        raise FileTrouble(f"there is no history at {path}.", "Score with `--sink FILE.sqlite` first.")
    try:
        base = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=1.0)
        base.execute("PRAGMA query_only=ON")
    except sqlite3.Error as error:
        raise FileTrouble(f"{path}: {one_line(error)}.") from error
    return base


def read_records(
    path: Path, types: Iterable[str] = (), since: float = 0.0, until: float = 1e12, most: int = 1000
) -> list[dict[str, Any]]:
    """Records other than scores, the newest first, as they were written.

    Raises:
        FileTrouble: no history there, or it cannot be read now.
    """
    wanted = tuple(types)
    marks = f"AND type IN ({', '.join('?' * len(wanted))})" if wanted else ""
    query = f"SELECT body FROM records WHERE time >= ? AND time <= ? {marks} ORDER BY time DESC, number DESC LIMIT ?"  # noqa: S608
    return [msgspec.json.decode(body) for (body,) in _read(path, query, (since, until, *wanted, most))]


def read_scores(path: Path, since: float = 0.0, until: float = 1e12, most: int = 2000) -> list[dict[str, Any]]:
    """Scores in order of time; if there are more than `most`, the highest of each of so many stretches.

    Raises:
        FileTrouble: no history there, or it cannot be read now.
    """
    names = ("time", "score", "threshold", "guard", "guard_threshold", "shadow", "mode", "anomalous", "count", "bundle")
    span = "SELECT min(time), max(time), count(*) FROM scores WHERE time >= ? AND time <= ?"
    first, last, count = _read(path, span, (since, until))[0]
    columns = ", ".join(names)
    if count <= most:
        query = f"SELECT {columns} FROM scores WHERE time >= ? AND time <= ? ORDER BY time"  # noqa: S608
        rows = _read(path, query, (since, until))
    else:
        width = max(1e-9, (last - first) / most * (1 + 1e-9))
        query = (
            f"SELECT time, max(score), {', '.join(names[2:])} FROM scores WHERE time >= ? AND time <= ? "  # noqa: S608
            "GROUP BY cast((time - ?) / ? AS INTEGER) ORDER BY time"
        )
        rows = _read(path, query, (since, until, first, width))
    return [dict(zip(names, row, strict=True)) for row in rows]


def _read(path: Path, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    try:
        with closing(_reader(path)) as base:
            return base.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise FileTrouble(f"{path}: {one_line(error)}.", "Try again; is it a history at all?") from error
