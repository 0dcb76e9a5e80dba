"""Ctrl-C waits for the database: a transaction ends and its connection is closed, then the interrupt is raised.

An interrupt in the middle of SQLAlchemy's own housekeeping would be printed with a traceback, or lost where Python
calls a finalizer. A second Ctrl-C does not wait, for a database may be slow to answer: nor is that one printed.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from sqlalchemy.pool import NullPool


class InterruptsHeld:
    """Holds the first Ctrl-C back while a block runs, and raises it as `KeyboardInterrupt` at the block's end.

    Whoever handles SIGINT in another way keeps it, and so does a block in another: the outer one holds for both.

    with InterruptsHeld():
        session.commit()
    """

    def __init__(self) -> None:
        self._holds = False
        self._came = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()  # no other thread is interrupted
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._holds = True
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            signal.default_int_handler(number, frame)
        self._came = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._holds:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._came and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt


def _worth_a_line(record: logging.LogRecord) -> bool:
    """SQLAlchemy logs what ends the closing of a connection, then raises it: an interrupt is told once, by us."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or isinstance(error, Exception)


logging.getLogger(f"{NullPool.__module__}.{NullPool.__qualname__}").addFilter(_worth_a_line)
