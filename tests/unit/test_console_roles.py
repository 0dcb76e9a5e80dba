"""Who may what, over every route that the application has: a new one is in these tests the day it is written."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import Mount

from server.console.gate import OPEN, OWN
from server.console.problems import every_route
from server.console.roles import Role
from tests.support.console import HOSTILE, Site, hostile_site, site

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "SPY")
CHANGING = ("POST", "PUT", "PATCH", "DELETE", "SPY")
VALUES = {"run": "a", "number": "3", "n": "3", "plant": "north", "change": "add", "path": "x"}
FORM = {"number": "3", "to": "2", "why": "a reason", "keep": "1", "name": "eve", "role": "admin"}
FORM |= {"password": "a long enough sentence", "action": "promote", "new": "a long enough sentence"}
BODIES = (
    (
        "application/x-www-form-urlencoded",
        "&".join(f"{name}={value}" for name, value in FORM.items()).replace(" ", "+"),
    ),
    ("application/json", json.dumps({"action": "promote", "number": 3, "why": "a reason"})),
    ("application/json", json.dumps({"action": "follow", "why": "a reason"})),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site(tmp_path_factory.mktemp("console"))


def paths(place: Site) -> list[str]:
    """An address of every route; and some of none."""
    found = {"/no-such", "/api/v1/no-such", "/static/vendor/uplot-LICENSE"}
    for route in every_route(place.app.routes):
        assert not isinstance(route, Mount) or route.path == "/static"
        found.add(re.sub(r"{(\w+)(?::\w+)?}", lambda part: VALUES[part[1]], getattr(route, "path", "")) or "/")
    return sorted(found - {"/static"})


def dump(place: Site) -> str:
    """All that the database holds but sessions, which a login and a logout change."""
    with sqlite3.connect(place.store.folder / "rounds.sqlite") as connection:
        lines = [line for line in connection.iterdump() if '"sessions"' not in line.partition("VALUES")[0]]
    files = sorted(str(file) for file in (place.store.folder / "models").iterdir())
    return "\n".join([*lines, *files])


def tries(place: Site, methods: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    for path in paths(place):
        for method in methods:
            for kind, body in BODIES if method in CHANGING else (("", ""),):
                yield method, path, kind, body


def test_anonymous_gets_nothing_from_any_route_by_any_method(place: Site) -> None:
    browser = place.browser()
    before = dump(place)
    for method, path, kind, body in tries(place, METHODS):
        if path in OPEN or path.startswith("/static/"):
            continue
        answer = browser.request(method, path, content=body, headers={"Content-Type": kind})
        told = (method, path, answer.status_code)
        assert answer.status_code in (303, 401), told
        assert answer.status_code == 401 or answer.headers["location"].startswith("/login?next="), told
        assert answer.status_code == 303 or answer.headers["content-type"] == "application/problem+json", told
        assert "north" not in answer.text, told
    assert dump(place) == before


def test_anonymous_changes_nothing_by_the_open_routes_either(place: Site) -> None:
    before = dump(place)
    for method, path, kind, body in tries(place, CHANGING):
        if path in OPEN and path != "/login":  # a refused login is told in the audit log
            place.browser().request(method, path, content=body, headers={"Content-Type": kind})
    assert dump(place) == before


def test_a_viewer_changes_nothing_by_any_route_or_method(place: Site) -> None:
    browser = place.browser(Role.VIEWER)
    before = dump(place)
    for method, path, kind, body in tries(place, CHANGING):
        if path in OWN or path.startswith("/static/"):
            continue
        answer = browser.request(method, path, content=body, headers={"Content-Type": kind})
        assert answer.status_code in (403, 404, 405), (method, path, answer.status_code)
        assert answer.status_code == 403 or path in OPEN, (method, path, answer.status_code)
    assert dump(place) == before


def test_looking_changes_nothing_whoever_looks(place: Site) -> None:
    browsers = {
        "GET": place.browser(Role.VIEWER),
        "HEAD": place.browser(Role.ADMIN),
        "OPTIONS": place.browser(Role.ADMIN),
    }
    before = dump(place)
    for asked, browser in browsers.items():
        for method, path, _, _ in tries(place, (asked,)):
            answer = browser.request("HEAD" if path.startswith("/events/") and method == "GET" else method, path)
            assert answer.status_code < 500, (method, path)
    assert dump(place) == before


def test_a_read_only_console_changes_nothing_for_an_admin(tmp_path: Path) -> None:
    from argon2 import PasswordHasher

    from server.console import accounts
    from tests.support.console import NOBODY

    writable = site(tmp_path)
    with writable.store.session(writes=True) as session:
        secret = PasswordHasher(1, 8, 1).hash("a long enough sentence")
        accounts.add(session, NOBODY, "root", Role.ADMIN, secret)
    place = site(tmp_path, read_only=True)
    before = dump(place)
    browser = place.browser()
    browser.post("/login", data={"name": "root", "password": "a long enough sentence"})
    me = browser.get("/api/v1/me").json()
    assert (me["role"], me["read_only"]) == ("admin", True)
    browser.headers["X-CSRF-Token"] = me["csrf"]
    for method, path, kind, body in tries(place, CHANGING):
        if path in OPEN or path == "/logout" or path.startswith("/static/"):
            continue
        answer = browser.request(method, path, content=body, headers={"Content-Type": kind})
        assert answer.status_code == 403, (method, path, answer.status_code)
    assert dump(place) == before


def test_an_operator_orders_models_and_does_not_touch_accounts(place: Site) -> None:
    browser = place.browser(Role.OPERATOR)
    made = browser.post("/api/v1/runs/a/orders", json={"action": "promote", "number": 3, "why": "a reason"})
    assert (made.status_code, made.json()["who"]) == (201, "operator")
    assert place.log()[0].who == "operator"
    for path in ("/accounts", "/accounts/add", "/accounts/role", "/accounts/token"):
        for method in ("GET", "POST"):
            answer = browser.request(method, path, content=BODIES[0][1], headers={"Content-Type": BODIES[0][0]})
            assert answer.status_code in (403, 405), (method, path)


def test_a_role_that_nobody_knows_lets_nobody_in(place: Site) -> None:
    browser = place.browser(Role.ADMIN, name="odd")
    with sqlite3.connect(place.store.folder / "rounds.sqlite") as connection:
        connection.execute("UPDATE accounts SET role = 'root' WHERE name = 'odd'")
    assert browser.get("/api/v1/me").status_code == 401


def test_hostile_names_of_runs_and_plants_are_text_on_every_page(tmp_path: Path) -> None:
    """Nothing that a plant or a run is called becomes markup, leaves its path, or is asked of the database."""
    from urllib.parse import quote

    place = hostile_site(tmp_path)
    browser = place.browser(Role.ADMIN)
    before = dump(place)
    patterns = sorted({getattr(route, "path", "") for route in every_route(place.app.routes)})
    for name in HOSTILE:
        values = VALUES | {"run": quote(name, safe=""), "plant": quote(name, safe="")}
        for pattern in patterns:
            if "{run}" not in pattern or pattern.startswith("/events"):
                continue
            path = re.sub(r"{(\w+)(?::\w+)?}", lambda part, values=values: values[part[1]], pattern)
            answer = browser.get(path, params={"a": "2", "b": "3", "metric": name, "plant": name})
            assert answer.status_code in (200, 404, 405, 409, 422), (path, answer.status_code, answer.text[:300])
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert "<script>alert" not in answer.text, path
                assert ' onmouseover="' not in answer.text, path
                assert "49" not in re.findall(r"{{7\*7}}|>49<", answer.text), path
    assert dump(place) == before
