"""A console over a real store, and browsers that are logged in to it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from server.console import accounts, sessions
from server.console.app import create_app
from server.console.events import stop
from server.console.opening import opened
from server.console.roles import Role
from server.console.settings import ConsoleSettings, Limits
from server.rounds import Phase
from server.store.auditlog import Actor, Entry, entries
from server.store.store import RoundStore
from tests.support.stores import CONFIG, NORTH, SOUTH, filled, record, state

HERE = "http://localhost"
NOBODY = Actor("os:test", "shell")
PATIENT = Limits(rate_per_s=1e6, burst=10**6)
"""Limits that a test does not meet."""
HOSTILE = (
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "'; DROP TABLE runs; --",
    "a/b?c=d&e#f",
    "%2e%2e%2f",
    "{{7*7}}",
    "\u202egnp.exe",
    'x" onmouseover="alert(1)',
)
"""Names that somebody may have given a run or a plant."""


@dataclass
class Clock:
    """A clock that a test moves."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **parts: float) -> None:
        self.now += timedelta(**parts)


class Browser:
    """Asks a console that runs in this process, and keeps its cookies; follows no redirect by itself."""

    def __init__(self, app: FastAPI, address: str = "127.0.0.1", base: str = HERE) -> None:
        transport = httpx.ASGITransport(app, client=(address, 50000))
        self._client = httpx.AsyncClient(transport=transport, base_url=base, timeout=30)
        self.cookies, self.headers = self._client.cookies, self._client.headers

    def request(self, method: str, url: str, **parts: Any) -> httpx.Response:
        return asyncio.run(self._client.request(method, url, **parts))

    def get(self, url: str, **parts: Any) -> httpx.Response:
        return self.request("GET", url, **parts)

    def post(self, url: str, **parts: Any) -> httpx.Response:
        return self.request("POST", url, **parts)


@dataclass
class Site:
    """One console and its store.

    Attributes:
        app: the application.
        store: what it shows.
        settings: how it was set up.
    """

    app: FastAPI
    store: RoundStore
    settings: ConsoleSettings

    def browser(self, role: Role | None = None, name: str = "", **parts: Any) -> Browser:
        """A browser; of somebody with a role, logged in."""
        client = Browser(self.app, **parts)
        if role is not None:
            name = name or role.value
            ticket = self.log_in(name, role)
            client.cookies.set(self.app.state.cookie, ticket.token)
            client.headers["X-CSRF-Token"] = ticket.csrf
        return client

    def log_in(self, name: str, role: Role) -> sessions.Ticket:
        """A session of an account, which is made when it is missing."""
        with self.store.session(writes=True) as session:
            if accounts.get(session, name) is None:
                accounts.add(session, NOBODY, name, role)
            return sessions.start(session, name, self.settings.now(), self.settings.longest)

    def log(self) -> list[Entry]:
        """The audit log, the newest entry first."""
        with self.store.session() as session:
            return entries(session, limit=500)


def site(folder: Path, rounds: int = 3, **settings: Any) -> Site:
    """A console over a store with one run."""
    location = str(folder / "store")
    if not (folder / "store").exists():
        filled(folder / "store", rounds)
    given = ConsoleSettings(**({"limits": PATIENT} | settings))
    app = create_app(location, given)
    return Site(app, opened(location, read_only=given.read_only), given)


def hostile_site(folder: Path) -> Site:
    """A console over a store whose run, plants and reasons bear names that want to be more than text."""
    store = filled(folder / "store", 3)
    for index, name in enumerate(HOSTILE):
        store.start_run(name, CONFIG, note=name)
        for number in (1, 2, 3):
            after = state(name, number)
            plants = (replace(NORTH, plant=name, metrics={name: 0.5}), replace(SOUTH, reason=name))
            told = replace(record(after, plants), label=name, reason=name, phase=Phase.JOINT, metrics={name: index})
            store.commit(told, after)
    return site(folder)


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The console behind a real server on loopback; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop(app)
        server.should_exit = True
        thread.join(10)
        listener.close()
