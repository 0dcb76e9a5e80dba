"""What every live source does: a task that connects for ever with a growing pause, and a bounded queue."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from client.edge.options import Pause, one_line
from client.edge.records import Notice, Sample
from client.edge.sources.assemble import Assembler, Grumbler

_MOST = 10_000  # rows and notices that wait for a slow engine
_CANCEL_AGAIN_S = 5.0
_AGAIN_S = 600.0  # the same trouble is told again after this


class Lost(Exception):
    """The other side is gone, or never answered: connect again."""


class Live(ABC):
    """Base of the sources that hold a connection. A subclass gives `_session`.

    Args:
        name: of the other side, for people.
        assembler: makes rows.
        pause: between two attempts.
        forget: whether the other side tells every value again after a connection was lost.
        tick_s: how often rows are looked for when nothing comes.

    Attributes:
        assembler, refused: with their counts.
        dropped: rows that a slow engine did not fetch in time.
        connections: attempts to connect so far.
        standing: whether there is a session now.
    """

    def __init__(self, name: str, assembler: Assembler, pause: Pause, forget: bool, tick_s: float) -> None:
        self.assembler, self.refused = assembler, Grumbler()
        self.dropped = self.connections = 0
        self._name, self._pause, self._forget, self._tick_s = name, pause, forget, tick_s
        self._slow = Grumbler()
        self._queue: deque[Sample | Notice] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._told, self._told_at = "", 0.0
        self.standing = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._for_ever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._task is not None and not self._task.done():
            self._task.cancel()  # Again and again: before Python 3.12, `wait_for` can swallow a cancellation.
            await asyncio.wait([self._task], timeout=_CANCEL_AGAIN_S)

    async def __aiter__(self) -> AsyncIterator[Sample | Notice]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            self._filled.clear()
            await self._filled.wait()

    @abstractmethod
    async def _session(self) -> None:
        """Connect, call `_up`, feed the assembler and `_flush` until the other side is lost.

        Raises:
            Exception: any: its text is told, and a fresh session begins.
        """

    def _words(self, error: Exception) -> str:
        """What an error of a session means, for a person."""
        return one_line(error)

    async def _for_ever(self) -> None:
        while True:
            self.connections += 1
            try:
                await self._session()
                self._down("the connection was closed")
            except Exception as error:  # Whatever a library raises for what a plant does: tell it, and try again.
                self._down(self._words(error))
            await asyncio.sleep(self._pause.next())

    def _up(self) -> None:
        """The session stands."""
        self._pause.reset()
        self.standing = True
        if self._told:
            self.assembler.tell("reconnected", f"{self._name} answers again")
        self._told = ""
        self._flush()

    def _down(self, why: str) -> None:
        self.standing = False
        self._flush()
        self.assembler.pause(self._forget)
        now = time.monotonic()
        if why != self._told or now - self._told_at > _AGAIN_S:
            self._told, self._told_at = why, now
            self.assembler.tell("disconnected", f"{self._name}: {why}")
        self._flush()

    def _refuse(self, reason: str) -> None:
        """Something came that is no reading."""
        text = self.refused.refuse(time.monotonic(), reason)
        if text:
            self.assembler.tell("rejected", f"{self._name}: {text}")

    def _flush(self) -> None:
        """Hand over what is due."""
        now = time.monotonic()
        for one in self.assembler.drain(now):
            if len(self._queue) >= _MOST:
                self._queue.popleft()
                self.dropped += 1
                text = self._slow.refuse(now, "the engine is too slow: the oldest rows are left out")
                if text:
                    self._queue.append(Notice(one.time, "overflow", text))
            self._queue.append(one)
        if self._queue:
            self._filled.set()
