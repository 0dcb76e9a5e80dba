"""Requests that no well-behaved client sends: cut short, of another protocol, with two credentials at once."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from server.console import accounts
from server.console.context import User, needs
from server.console.gate import Gate
from server.console.problems import Denied
from server.console.roles import Role
from tests.support.console import NOBODY, Site, site

USER = User("ann", Role.ADMIN, "token")
ORDER = {"action": "promote", "number": 3, "why": "better"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site(tmp_path_factory.mktemp("console"))


def asked(place: Site, scope: dict[str, Any], *messages: Message, inside: Any = None) -> list[Message]:
    """What the gate, or the whole application, says to a client that sends these messages and no more."""
    coming, said = list(messages), list[Message]()

    async def receive() -> Message:
        assert coming, "it asks for more than there is"
        return coming.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message)

    own = place.app.state
    app = place.app if inside is None else Gate(inside, own.access, place.settings, own.cookie)
    asyncio.run(app(scope, receive, send))
    return said


def post(path: str, size: int) -> dict[str, Any]:
    headers = {"host": "localhost", "content-type": "application/x-www-form-urlencoded", "content-length": str(size)}
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 50000),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_that_ends_with_its_connection_is_not_taken_for_a_whole_one(place: Site) -> None:
    start, *_ = asked(place, post("/login", 99), part(b"name=ada&password=a+lo", True), {"type": "http.disconnect"})
    assert start["status"] == 400


@pytest.mark.parametrize(("over", "status"), [(0, 401), (1, 413)])
def test_a_body_may_be_as_large_as_the_limit(over: int, status: int, place: Site) -> None:
    most = place.settings.limits.body
    body = b"name=ada&password=".ljust(most + over, b"x")
    told = place.browser().post("/login", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert told.status_code == status

    async def untold() -> Any:
        yield body[:10]
        yield body[10:]

    sent = place.browser().post(
        "/login", content=untold(), headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert sent.status_code == status


def test_what_comes_after_the_body_reaches_the_route(place: Site) -> None:
    """An answer without an end, such as events, is told that way that nobody listens any more."""
    heard = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        heard.extend([await receive(), await receive()])

    asked(place, post("/login", 3), part(b"a", True), part(b"=1", False), {"type": "http.disconnect"}, inside=route)
    assert heard == [part(b"a=1", False), {"type": "http.disconnect"}]


def test_a_websocket_is_closed_before_anything_looks_at_it(place: Site) -> None:
    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(scope)

    scope = {**post("/", 0), "type": "websocket", "scheme": "ws"}
    assert asked(place, scope, {"type": "websocket.connect"}, inside=route) == [
        {"type": "websocket.close", "code": 1008}
    ]


@pytest.mark.parametrize("bearer", ["x", "cpt_x", "cpt_" + "0" * 43])
def test_a_session_beside_a_bearer_token_that_does_not_hold_is_nobody(bearer: str, place: Site) -> None:
    """With such a token the change needs neither our page nor the session's token: another site could make it."""
    browser = place.browser(Role.OPERATOR)
    del browser.headers["X-CSRF-Token"]
    browser.headers["Authorization"] = f"Bearer {bearer}"
    assert browser.get("/api/v1/me").status_code == 401
    assert browser.post("/api/v1/runs/a/orders", json=ORDER).status_code == 401


def test_a_session_beside_a_bearer_token_that_holds_is_the_program(place: Site) -> None:
    with place.store.session(writes=True) as session:
        token = accounts.add_token(session, NOBODY, "board", Role.VIEWER)
    browser = place.browser(Role.ADMIN)
    browser.headers["Authorization"] = f"Bearer {token}"
    assert browser.get("/api/v1/me").json()["name"] == "board"
    assert browser.post("/api/v1/runs/a/orders", json=ORDER).status_code == 403


@pytest.mark.parametrize(("method", "refused"), [("POST", True), ("GET", False)])
def test_a_route_of_a_read_only_console_refuses_a_change_though_the_gate_let_it_in(
    method: str, refused: bool, tmp_path: Path
) -> None:
    place = site(tmp_path, read_only=True)
    request = Request({**post("/", 0), "method": method, "app": place.app, "state": {"user": USER}})
    with pytest.raises(Denied, match="read-only") if refused else nullcontext():
        assert needs(Role.ADMIN)(request) == USER


def test_a_route_refuses_nobody_and_a_lesser_role_though_the_gate_let_them_in(place: Site) -> None:
    for user, status in ((None, 401), (replace(USER, role=Role.OPERATOR), 403)):
        request = Request({**post("/", 0), "method": "GET", "app": place.app, "state": {"user": user}})
        with pytest.raises(Denied) as denied:
            needs(Role.ADMIN)(request)
        assert denied.value.status == status
