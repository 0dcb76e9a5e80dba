"""The console over a PostgreSQL: what it says of its address, what no column can hold, a server that goes and comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.console.app import create_app
from server.console.roles import Role
from server.console.settings import ConsoleSettings
from server.store.store import RoundStore
from tests.support.command import start
from tests.support.console import PATIENT, Site
from tests.support.postgres import Postgres, needs_postgres, postgres
from tests.support.stores import CONFIG, record, state

pytestmark = needs_postgres
SECRET = "very-secret-word"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as made:
        yield made


@pytest.fixture
def url(server: Postgres, tmp_path: Path) -> str:
    made = server.database()
    store = RoundStore.create(made, tmp_path / "models")
    store.start_run("a", CONFIG)
    for number in (1, 2, 3):
        after = state("a", number)
        store.commit(record(after), after)
    return made


def site(url: str) -> Site:
    settings = ConsoleSettings(limits=PATIENT)
    app = create_app(url, settings)
    return Site(app, app.state.console.store, settings)


def test_the_password_in_the_stores_address_is_told_to_nobody(url: str) -> None:
    process = start("console", "--port", "0", "--store", url.replace("@", f":{SECRET}@", 1))
    assert process.stderr is not None
    said = [process.stderr.readline() for _ in range(4)]
    try:
        page = httpx.get(said[3].strip(), follow_redirects=False)
        assert page.status_code == 303
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=20)
    assert said[0].startswith("The console of postgresql+psycopg://crossplant:***@")
    assert SECRET not in "".join(said) + rest


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
TEXTS = ("%00", "a%00b", "%F0%9F%92%A9", "%ED%A0%80", "x" * 9000, "%E2%80%AE")


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
def test_what_no_column_can_hold_is_found_nowhere(text: str, url: str) -> None:
    browser = site(url).browser(Role.ADMIN)
    for page in (
        "/runs/{}",
        "/runs/a/plants/{}",
        "/runs/a?plant={}&before={}",
        "/runs/a/matrix?metric={}",
        "/runs/a/compare?a={}",
        "/runs/{}/registry",
        "/runs/{}/rounds/1/export",
        "/events/{}",
        "/api/v1/runs/{}",
        "/api/v1/runs/a/plants/{}",
        "/api/v1/runs/a/series?metric={}",
        "/api/v1/runs/a/series?metric=x&plant={}",
        "/api/v1/runs/a/matrix?metric={}",
        "/login?next={}&once={}",
        "/login/oidc/callback?state={}",
    ):
        assert browser.get(page.replace("{}", text)).status_code < 500, page
    for action in ("promote", "rollback", "follow", "prune"):
        own, given = "number=3&keep=1&why=x", f"number={text}&keep={text}&to={text}&why={text}"
        assert browser.post(f"/runs/{text}/{action}", content=own, headers=FORM).status_code == 404, action
        assert browser.post(f"/runs/a/{action}", content=given, headers=FORM).status_code < 500, action
    for change in ("add", "role", "password", "disable", "token", text):
        given = f"name={text}&role={text}&password=a+long+sentence+{text}"
        assert browser.post(f"/accounts/{change}", content=given, headers=FORM).status_code < 500, change
    for order in (rb'{"action":"promote","number":3,"why":"\u0000"}', rb'{"action":"rollback","why":"\udfff"}'):
        for run in ("a", text):
            answer = browser.post(f"/api/v1/runs/{run}/orders", content=order, headers=JSON)
            assert answer.status_code < 500, (run, order)


def test_a_server_that_goes_is_told_and_pages_come_back_with_it(tmp_path: Path) -> None:
    with postgres() as server:
        store = RoundStore.create(server.database(), tmp_path / "models")
        store.start_run("a", CONFIG)
        place = site(store.place.url.render_as_string(hide_password=False))
        browser = place.browser(Role.OPERATOR)
        assert browser.get("/runs/a").status_code == 200
        server.stop()
        for page in ("/", "/runs/a", "/api/v1/runs", "/healthz"):
            answer = browser.get(page)
            assert answer.status_code == 503, page
            assert str(server.folder) not in answer.text
        server.start()
        assert browser.get("/runs/a").status_code == 200
        assert browser.get("/api/v1/me").status_code == 200
