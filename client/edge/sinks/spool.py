"""A bounded spool on disk, and what every sink that delivers to somebody else has in common.

One SQLite file a sink, write-ahead log, rows in order. A record gets an id when it is written, and is deleted when the
other side has it: a process that dies in between delivers it again under the same id, so that a receiver that
remembers ids sees it once. Beyond the cap the oldest records make room, and are counted. A disk that is full costs
nothing but safety: records then wait in memory, bounded, until there is room. A file that is none any more is set
aside under another name.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from client.edge.options import Pause, one_line
from client.edge.records import Record
from client.edge.sinks.base import Delivery, SinkSettings, encoded

_IN_MEMORY = 10_000  # records that wait for the disk
_AT_ONCE = 500  # records of one transaction
_RETRY_S = 5.0  # before a disk that refused is tried again

_TABLES = """
CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT OR IGNORE INTO facts VALUES ('dropped', 0), ('bytes', 0);
"""

Found = TypeVar("Found")


class Spool:
    """Records on disk, oldest first. One thread at a time.

    Args:
        path: of the file; its folder is made.
        most_bytes: of records; the oldest are dropped beyond it.

    Attributes:
        name: of this spool, random, kept in the file: ids are NAME-NUMBER, and never used twice.
        waiting, dropped: records in it, and ever dropped from it.

    Raises:
        OSError, sqlite3.Error: the folder or the file cannot be made.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path, self._most = path, most_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # Locked, full, not ours to open: the file is sound.
            self._close()
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{path}{end}").replace(f"{path}.broken{end}")
            self._open()

    def _open(self) -> None:
        self._base = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=NORMAL")  # A kill loses nothing; a power cut the last moments.
        self._base.execute("PRAGMA cache_size=-256")
        self._base.execute("PRAGMA journal_size_limit=1048576")
        self._base.executescript(_TABLES)
        self._base.execute("INSERT OR IGNORE INTO facts VALUES ('name', ?)", (uuid.uuid4().hex[:12],))
        facts = dict(self._base.execute("SELECT name, value FROM facts"))
        count, size = self._base.execute("SELECT count(*), coalesce(sum(size), 0) FROM waiting").fetchone()
        self.name, self.dropped, self.waiting, self._bytes = str(facts["name"]), int(facts["dropped"]), count, size

    def append(self, bodies: Sequence[bytes]) -> None:
        """Write records, all or none of them; the oldest make room.

        Raises:
            sqlite3.Error: the disk refuses; nothing was written.
        """
        count, size, dropped = self.waiting, self._bytes, self.dropped
        with self._transaction():
            self._base.executemany(
                "INSERT INTO waiting (size, body) VALUES (?, ?)", [(len(body), body) for body in bodies]
            )
            count, size = count + len(bodies), size + sum(len(body) for body in bodies)
            while size > self._most and count > 1:
                number, length = self._base.execute("SELECT id, size FROM waiting ORDER BY id LIMIT 1").fetchone()
                self._base.execute("DELETE FROM waiting WHERE id = ?", (number,))
                count, size, dropped = count - 1, size - length, dropped + 1
            if dropped != self.dropped:
                self._base.execute("UPDATE facts SET value = ? WHERE name = 'dropped'", (dropped,))
        self.waiting, self._bytes, self.dropped = count, size, dropped

    def oldest(self, most: int = 1, after: int = 0) -> list[tuple[int, bytes]]:
        """The oldest records with their numbers, of those with a higher one than `after`."""
        query = "SELECT id, body FROM waiting WHERE id > ? ORDER BY id LIMIT ?"
        return list(self._base.execute(query, (after, most)))

    def key(self, number: int) -> str:
        """A record's id towards the other side."""
        return f"{self.name}-{number}"

    def delete(self, number: int, dropped: bool = False) -> None:
        """A record was delivered, or is given up (`dropped`); deleting twice does nothing."""
        with self._transaction():
            found = self._base.execute("DELETE FROM waiting WHERE id = ? RETURNING size", (number,)).fetchone()
            if found and dropped:
                self._base.execute("UPDATE facts SET value = value + 1 WHERE name = 'dropped'")
        if found:
            self.waiting, self._bytes = self.waiting - 1, self._bytes - found[0]
            self.dropped += dropped

    def close(self) -> None:
        """Close the file; records stay."""
        self._close()

    def _close(self) -> None:
        base = getattr(self, "_base", None)
        if base is not None:
            with suppress(sqlite3.Error):
                base.close()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._base)


class _Transaction:
    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base

    def __enter__(self) -> None:
        self._base.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            try:
                self._base.execute("COMMIT")
                return
            except sqlite3.Error:
                self._undo()
                raise
        self._undo()

    def _undo(self) -> None:
        with suppress(sqlite3.Error):
            self._base.execute("ROLLBACK")


def spool_path(settings: SinkSettings, kind: str) -> Path:
    """A file for each location: two webhooks share a state folder, not their records.

    Example:
        >>> spool_path(SinkSettings("https://a/", Path("state")), "webhook").as_posix()
        'state/webhook-ab986404.sqlite'
    """
    return settings.state / f"{kind}-{hashlib.sha256(settings.location.encode()).hexdigest()[:8]}.sqlite"


class GivenUp(Exception):
    """The other side has a record and will never take it: sending it again is of no use."""


class Delivering(ABC):
    """Base of the sinks that deliver one record after the other. A subclass gives `_deliver`.

    Args:
        name: of the sink.
        types: of records that it takes.
        spool: where its spool is.
        most_bytes: of the spool.
        pause: between two attempts.
    """

    def __init__(self, name: str, types: frozenset[str], spool: Path, most_bytes: int, pause: Pause) -> None:
        self.name, self._types, self._pause = name, types, pause
        self._path, self._most = spool, most_bytes
        self._memory: deque[bytes] = deque()
        self._delivered = self._lost = 0
        self._troubles = {"disk": "", "delivery": ""}
        self._spool: Spool | None = None
        self._done = 0  # number of the newest record that is done with
        self._kept: deque[tuple[int, bool]] = deque()  # done with, but on the disk still; whether it was given up
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._came, self._stored = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to write and to deliver; what an earlier process left is delivered first."""
        self._tasks = [asyncio.create_task(self._store()), asyncio.create_task(self._send())]

    def put(self, record: Record) -> None:
        """Take a record."""
        told = record.as_json()
        if told["type"] not in self._types:
            return
        if len(self._memory) >= _IN_MEMORY:
            self._memory.popleft()
            self._lost += 1
        self._memory.append(encoded(told))
        self._came.set()

    def standing(self) -> Delivery:
        """How it stands; `dropped` counts what the spool dropped in earlier processes too."""
        waiting, dropped = (self._spool.waiting, self._spool.dropped) if self._spool else (0, 0)
        trouble = "; ".join(text for text in self._troubles.values() if text)
        return Delivery(self._delivered, self._lost + dropped, waiting + len(self._memory), trouble)

    async def close(self, timeout_s: float) -> None:
        """Write everything down, and deliver what can be delivered in that time."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_s
        while loop.time() < ends and self._tasks and (self._memory or (self._spool and self._spool.waiting)):
            if self._troubles["delivery"] and not self._memory:
                break
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._release()
        if self._spool is not None:
            await self._forget()
            with suppress(sqlite3.Error, OSError):
                if self._memory:
                    await self._on_disk(lambda: self._opened().append(list(self._memory)))
                    self._memory.clear()
            await self._on_disk(self._opened().close)
        self._lost += len(self._memory)
        self._disk.shutdown(wait=False)

    @abstractmethod
    async def _deliver(self, key: str, body: bytes) -> None:
        """Hand one record to the other side; return when it has it.

        Raises:
            GivenUp: it will never take it.
            Exception: any other: its text is told, and it is tried again later.
        """

    @abstractmethod
    async def _release(self) -> None:
        """Let go of connections."""

    def _words(self, error: Exception) -> str:
        return one_line(error)

    def _opened(self) -> Spool:
        if self._spool is None:
            self._spool = Spool(self._path, self._most)
        return self._spool

    async def _on_disk(self, what: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._disk, what)

    async def _store(self) -> None:
        """From memory to disk; what the disk refuses stays in memory."""
        while True:
            try:
                await self._on_disk(self._opened)
                while self._memory:
                    batch = [self._memory[k] for k in range(min(_AT_ONCE, len(self._memory)))]
                    lost = self._lost
                    await self._on_disk(lambda batch=batch: self._opened().append(batch))  # type: ignore[misc]
                    for _ in range(len(batch) - (self._lost - lost)):  # Some may have made room meanwhile.
                        self._memory.popleft()
                self._troubles["disk"] = ""
                self._stored.set()
                self._came.clear()
                await self._came.wait()
            except (sqlite3.Error, OSError) as error:
                self._troubles["disk"] = f"{self._path}: {one_line(error)}; records wait in memory"
                await asyncio.sleep(_RETRY_S)

    async def _send(self) -> None:
        """From disk to the other side, oldest first; what is done with is not sent again when the disk keeps it."""
        while True:
            try:
                await self._forget()
                found = await self._on_disk(lambda: self._spool.oldest(1, self._done) if self._spool else [])
                if not found:
                    self._stored.clear()
                    async with asyncio.timeout(_RETRY_S if self._kept else None):
                        await self._stored.wait()
                    continue
                number, body = found[0]
                await self._attempt(number, body)
            except TimeoutError:
                continue
            except (sqlite3.Error, OSError) as error:
                self._troubles["disk"] = f"{self._path}: {one_line(error)}"
                await asyncio.sleep(_RETRY_S)

    async def _attempt(self, number: int, body: bytes) -> None:
        spool = self._opened()
        try:
            await self._deliver(spool.key(number), body)
        except GivenUp as error:
            self._troubles["delivery"] = one_line(error)
            self._settled(number, True)
        except Exception as error:  # Whatever the network does: tell it, wait, try again.
            self._troubles["delivery"] = self._words(error)
            await asyncio.sleep(self._pause.next())
        else:
            self._troubles["delivery"] = ""
            self._pause.reset()
            self._delivered += 1
            self._settled(number, False)

    def _settled(self, number: int, dropped: bool) -> None:
        """The other side has a record, or never will: it goes from the disk when the disk lets it."""
        self._done = number
        self._kept.append((number, dropped))

    async def _forget(self) -> None:
        """Take what is done with from the disk; a disk that refuses is asked again later."""
        while self._kept:
            number, dropped = self._kept[0]
            try:
                await self._on_disk(lambda: self._opened().delete(number, dropped))  # noqa: B023 (awaited at once)
            except (sqlite3.Error, OSError) as error:
                self._troubles["disk"] = f"{self._path}: {one_line(error)}"
                return
            self._kept.popleft()
