"""Records as JSON lines, to standard output (`-`) or to FILE.jsonl, which is appended to.

`put` writes at once where that does not block, so that a record leaves in the moment it is made; what a slow reader or
a full disk does not take waits in memory, up to a limit. Beyond it the oldest records go first and are counted. A line
that a killed process left half-written is ended before the next one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
import sys
from collections import deque
from pathlib import Path

from client.edge.options import read_options
from client.edge.records import Record
from client.edge.sinks.base import Delivery, Sink, SinkSettings, encoded
from shared.artefact import Artefact
from shared.errors import FileTrouble

_ATOMIC = 4096  # bytes that a pipe that is ready takes without blocking (PIPE_BUF on Linux; POSIX promises 512)
_AGAIN_S = 0.05
_MOST = 8 * 2**20  # bytes that wait


class LinesOptions(Artefact, frozen=True, kw_only=True):
    """There are none."""


def open_lines(settings: SinkSettings) -> Sink:
    """Standard output, or a file.

    Raises:
        FileTrouble: the file cannot be opened for writing.
        InvalidConfig: an option.
    """
    read_options(LinesOptions, settings.options, settings.location)
    if settings.location == "-":
        if sys.stdout is None or sys.stdout.name == os.devnull:  # As `shared.cli.open_missing_streams` opens it.
            raise FileTrouble("standard output is closed.", "Leave it open, or give --sink FILE.jsonl.")
        sys.stdout.flush()
        return Lines("-", sys.stdout.fileno(), settings.types)
    return Lines(settings.location, _opened(Path(settings.location)), settings.types, owned=True)


class Lines:
    """Writes to a file descriptor.

    Args:
        name: told to people.
        descriptor: a file, a pipe, a socket or a terminal.
        types: of records that are taken; empty: all.
        owned: close the descriptor at the end.
        most: bytes that may wait.

    Attributes:
        closed: the reader went away; nothing more is taken.
    """

    def __init__(
        self, name: str, descriptor: int, types: frozenset[str] = frozenset(), owned: bool = False, most: int = _MOST
    ) -> None:
        self.name, self.closed = name, False
        self._descriptor, self._types, self._owned, self._most = descriptor, types, owned, most
        self._waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._lines: deque[bytes] = deque()
        self._size = self._begun = 0  # bytes that wait; bytes of the first line that are written
        self._delivered = self._dropped = 0
        self._trouble = ""
        self._again: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Nothing to connect to."""

    def put(self, record: Record) -> None:
        """Take a record."""
        found = record.as_json()
        if self._types and found["type"] not in self._types:
            return
        if self.closed:
            self._dropped += 1
            return
        self._lines.append(encoded(found) + b"\n")
        self._size += len(self._lines[-1])
        if self._again is None:
            self._write()
        self._shorten()

    def standing(self) -> Delivery:
        """How it stands."""
        return Delivery(self._delivered, self._dropped, len(self._lines), self._trouble)

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._lines)

    async def room(self) -> None:
        """Wait until what waits is less than half of what may: for sources that can wait themselves."""
        while 2 * self._size > self._most and not self.closed:
            await asyncio.sleep(_AGAIN_S)

    async def close(self, timeout_s: float) -> None:
        """Write what can be written in that time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._lines and not self.closed:
                    self._write()
                    await asyncio.sleep(_AGAIN_S if self._lines else 0)
        except TimeoutError:
            pass
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._dropped += len(self._lines)
        self._lines.clear()
        if self._owned:
            os.close(self._descriptor)
            self._owned = False

    def _write(self) -> None:
        """Write what does not block."""
        self._again = None
        try:
            while self._lines and self._ready():
                self._wrote(os.write(self._descriptor, self._lines[0][self._begun : self._begun + _ATOMIC]))
        except OSError as error:
            self._failed(error)
        if self._lines and not self.closed:
            self._later()

    def _wrote(self, count: int) -> None:
        self._begun += count
        self._trouble = ""
        if self._begun == len(self._lines[0]):
            self._size -= len(self._lines.popleft())
            self._begun = 0
            self._delivered += 1

    def _ready(self) -> bool:
        if not self._waits or not hasattr(select, "poll"):  # Windows writes and may block.
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))

    def _later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # Not in a loop: the next record or the end tries again.
            return
        self._again = loop.call_later(_AGAIN_S, self._write)

    def _failed(self, error: OSError) -> None:
        if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
            self.closed = True
            self._dropped += len(self._lines)
            self._lines.clear()
            self._size = 0
        self._trouble = error.strerror or str(error)

    def _shorten(self) -> None:
        """Drop the oldest lines beyond the limit, but not one that is begun."""
        while self._size > self._most and len(self._lines) > 1 + bool(self._begun):
            at = 1 if self._begun else 0
            self._size -= len(self._lines[at])
            del self._lines[at]
            self._dropped += 1


def _opened(path: Path) -> int:
    """A file to append to, at the beginning of a line."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o644)
    except (OSError, ValueError) as error:
        raise FileTrouble(f"{path}: {getattr(error, 'strerror', None) or error}.") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileTrouble(f"{path} is no file.")
        if found.st_size and os.pread(descriptor, 1, found.st_size - 1) != b"\n":
            os.write(descriptor, b"\n")
    except OSError as error:
        os.close(descriptor)
        raise FileTrouble(f"{path}: {error.strerror or error}.") from error
    except FileTrouble:
        os.close(descriptor)
        raise
    return descriptor
