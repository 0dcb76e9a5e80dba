"""Live pages: server-sent events that say when something of a run changed, and for whom its round waits.

    event: changed     data: `Reader.version`; the page asks for its live part again
    event: waiting     data: a line of text, empty when nobody is waited for; the page shows it as text

The store is looked at once a second, in a thread. A stream ends with its browser, with the server, and after ten
minutes: the browser opens it again, and shows anew who it is.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from server.console.context import Console, User, console_of, user_of
from server.console.figures import visible
from server.console.problems import Denied
from server.console.standing import waits_of
from server.notice import Waits
from shared.errors import StoreError

router = APIRouter(include_in_schema=False)
EVERY_S, HEARTBEAT_S, LASTS_S = 1.0, 15.0, 600.0
WORDS_S = 5.0
"""How often the line of who is waited for is told anew: it counts seconds."""
PER_SESSION, PER_USER, MOST = 8, 64, 256
"""Open streams of one session, of one user's sessions, and of all."""


@dataclass
class Streams:
    """The open streams of a console.

    Attributes:
        stopping: whether the server is about to end; streams end within a second.
        open: how many each session has, by user and session.
    """

    stopping: bool = False
    open: Counter[tuple[str, str]] = field(default_factory=Counter)

    def enter(self, user: str, session: str) -> None:
        """Open one.

        Raises:
            Denied: there are too many.
        """
        own = sum(count for (name, _), count in self.open.items() if name == user)
        if self.open[user, session] >= PER_SESSION or own >= PER_USER or self.open.total() >= MOST:
            raise Denied(429, "Too many pages follow a run at the same time.", "Close some of them.")
        self.open[user, session] += 1

    def leave(self, user: str, session: str) -> None:
        """Close one."""
        self.open[user, session] -= 1
        if self.open[user, session] <= 0:
            del self.open[user, session]


def streams_of(request: Request) -> Streams:
    """The streams of a request's console."""
    state = request.app.state
    if not hasattr(state, "streams"):
        state.streams = Streams()
    found: Streams = state.streams
    return found


def stop(app: object) -> None:
    """Have the streams of a console end: its server is about to."""
    streams = getattr(getattr(app, "state", None), "streams", None)
    if isinstance(streams, Streams):
        streams.stopping = True


@router.get("/events/{run}")
async def follow(request: Request, run: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """Follow a run."""
    console, streams = console_of(request), streams_of(request)
    await run_in_threadpool(console.reader.version, run)  # no such run: an answer, not a stream
    seen = request.headers.get("last-event-id") or request.query_params.get("since", "")
    told = _Stream(
        _events(request, console, run, seen[:64], streams),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    streams.enter(user.name, user.csrf)
    told.over = partial(streams.leave, user.name, user.csrf)
    return told


class _Stream(StreamingResponse):
    """An answer that says when it is over, also when nobody ever read of it: an asker of HEAD, or one who left."""

    over: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.over()


async def _events(request: Request, console: Console, run: str, seen: str, streams: Streams) -> AsyncIterator[str]:
    ends, beat, words_due = time.monotonic() + LASTS_S, time.monotonic(), 0.0
    known: tuple[str, object] | None = (seen, None) if seen else None
    line = ""
    yield "retry: 2000\n\n"
    while time.monotonic() < ends and not streams.stopping and not await request.is_disconnected():
        now = time.monotonic()
        try:
            version, waits = await run_in_threadpool(_look, console, run)
        except StoreError:  # locked just now, or gone: the next look tells
            version, waits = ("" if known is None else known[0]), None
        key = (version, None if waits is None else (waits.round, waits.plants, waits.more))
        if key != known:
            known, words_due = key, 0.0
            yield event("changed", version, version)
        if now >= words_due and (told := "" if waits is None else waits.words(time.time())) != line:
            line, words_due = told, now + WORDS_S
            yield event("waiting", told)
        if now - beat >= HEARTBEAT_S:
            beat = now
            yield ": still here\n\n"
        await _pause(streams)


async def _pause(streams: Streams) -> None:
    """Until the next look, or the server's end."""
    due = time.monotonic() + EVERY_S
    while not streams.stopping and (left := due - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 0.2))


def _look(console: Console, run: str) -> tuple[str, Waits | None]:
    return console.reader.version(run), waits_of(console, run)


def event(name: str, data: str, number: str = "") -> str:
    r"""One event; its data is one line, whatever is in it.

    Example:
        >>> event("waiting", "run a" + chr(10) + "data: x")
        'event: waiting\ndata: run a[U+000A]data: x\n\n'
    """
    identity = f"id: {visible(number)}\n" if number else ""
    return f"event: {name}\n{identity}data: {visible(data)}\n\n"
