"""The API's answers: pages of rows, ETags, orders, and the client of the docs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.console import accounts
from server.console.roles import Role
from tests.conftest import REPOSITORY
from tests.support.console import NOBODY, Browser, Site, served, site
from tests.support.stores import record, state

RUN = "/api/v1/runs/a"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site(tmp_path_factory.mktemp("console"), rounds=7)


@pytest.fixture
def browser(place: Site) -> Browser:
    return place.browser(Role.OPERATOR)


def walk(browser: Browser, path: str, limit: int) -> list[Any]:
    """All rows, page by page."""
    rows, before = [], None
    for _ in range(100):
        page = browser.get(path, params={"limit": limit} | ({} if before is None else {"before": before})).json()
        rows += page["items"]
        before = page["next"]
        if before is None:
            return rows
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 500])
def test_pages_of_any_size_give_every_row_once_the_newest_first(limit: int, browser: Browser) -> None:
    assert [row["number"] for row in walk(browser, f"{RUN}/rounds", limit)] == [7, 6, 5, 4, 3, 2, 1]


def test_rounds_of_one_status_only(browser: Browser) -> None:
    assert len(browser.get(f"{RUN}/rounds?status=committed").json()["items"]) == 7
    assert browser.get(f"{RUN}/rounds?status=skipped").json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=x", "limit=1e2", "limit=-1", "before=0", "before=-1", "before=x",
        "before=9223372036854775808", "status=odd", "before=1%00", "limit=",
    ],
)  # fmt: skip
def test_bounds_are_held_and_the_first_that_is_not_is_named(query: str, browser: Browser) -> None:
    answer = browser.get(f"{RUN}/rounds?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    told = answer.json()
    assert told.keys() == {"type", "title", "status", "detail", "code", "cure"}
    assert told["detail"].startswith(f"query.{query.partition('=')[0]}: ")
    assert (told["status"], told["code"]) == (422, "CP-101")


@pytest.mark.parametrize(
    "path",
    ["/api/v1/runs/none", f"{RUN}/rounds/8", f"{RUN}/plants/none", f"{RUN}/compare?a=1&b=99", "/api/v1/none",
     f"{RUN}/series?metric=x&plant=none", "/api/v1/runs/none/orders", "/api/v1/runs/none/rounds", "/api/v1/"],
)  # fmt: skip
def test_what_there_is_not_is_a_problem_of_its_own(path: str, browser: Browser) -> None:
    answer = browser.get(path)
    assert answer.status_code == 404
    assert answer.json()["code"] in ("CP-403", "CP-102")
    assert answer.json()["cure"]


def test_what_has_not_changed_is_not_sent_again(tmp_path: Path) -> None:
    place = site(tmp_path)
    browser = place.browser(Role.OPERATOR)
    paths = ("/rounds", "/plants", "/series?metric=train_loss", "/matrix", "", "/orders", "/plants/north")
    tags = {path: browser.get(RUN + path).headers["etag"] for path in paths}
    assert len(set(tags.values())) == len(paths), "each address has its own"
    for path, tag in tags.items():
        for header in (tag, f'"other", {tag}', "*"):
            again = browser.get(RUN + path, headers={"If-None-Match": header})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert browser.get(RUN + path, headers={"If-None-Match": '"other"'}).status_code == 200
    after = state("a", 4)
    place.store.commit(record(after), after)
    for path, tag in tags.items():
        assert browser.get(RUN + path, headers={"If-None-Match": tag}).status_code == 200, path
    assert browser.get(f"{RUN}/rounds").json()["items"][0]["number"] == 4


def test_an_order_changes_the_etag_and_stands_in_the_log_with_who_and_why(tmp_path: Path) -> None:
    place = site(tmp_path)
    browser = place.browser(Role.OPERATOR, name="olga")
    tag, log = browser.get(RUN).headers["etag"], browser.get("/api/v1/audit").headers["etag"]
    made = browser.post(f"{RUN}/orders", json={"action": "promote", "number": 2, "why": "  best\non all "})
    assert made.status_code == 201, made.text
    assert {k: made.json()[k] for k in ("action", "target", "who", "why", "state")} == {
        "action": "promote", "target": 2, "who": "olga", "why": "best on all", "state": "open",
    }  # fmt: skip
    assert browser.get(RUN, headers={"If-None-Match": tag}).json()["order"] == made.json()
    entry = browser.get("/api/v1/audit", headers={"If-None-Match": log}).json()["items"][0]
    assert (entry["who"], entry["role"], entry["action"], entry["detail"]["why"]) == (
        "olga", "operator", "promote", "best on all",
    )  # fmt: skip
    assert len(walk(browser, f"{RUN}/orders", 1)) == 1


@pytest.mark.parametrize(
    "body",
    [
        {}, [], None, "x", {"action": "promote"}, {"action": "promote", "number": 0, "why": "x"},
        {"action": "spy", "why": "x"},
        {"action": "promote", "number": "2", "why": "x"}, {"action": "promote", "number": 2.5, "why": "x"},
        {"action": "promote", "number": True, "why": "x"}, {"action": "promote", "number": 2, "why": ""},
        {"action": "promote", "number": 2, "why": " \n "}, {"action": "promote", "number": 2, "why": "x" * 1001},
        {"action": "promote", "number": 2, "why": "a\x00b"}, {"action": "promote", "number": 2, "why": "\ud800"},
        {"action": "follow", "number": 2, "why": "x"}, {"action": "promote", "number": 2, "why": "x", "who": "eve"},
        {"action": "promote", "number": 2**63, "why": "x"},
    ],
    ids=lambda body: str(body)[:60],
)  # fmt: skip
def test_an_order_that_is_none_changes_nothing(body: Any, place: Site, browser: Browser) -> None:
    import json

    before = len(place.log())
    content = json.dumps(body)
    answer = browser.post(f"{RUN}/orders", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (422, 422), answer.text
    assert browser.get(f"{RUN}/orders").json()["items"] == []
    assert len(place.log()) == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 20000, b'{"a":1}' * 3])
def test_a_body_that_is_no_json_is_refused(content: bytes, browser: Browser) -> None:
    answer = browser.post(f"{RUN}/orders", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text


def test_json_under_another_name_is_no_order(browser: Browser) -> None:
    """A form of another site can send text/plain without asking first."""
    order = b'{"action": "promote", "number": 2, "why": "x"}'
    assert browser.post(f"{RUN}/orders", content=order, headers={"Content-Type": "text/plain"}).status_code == 422


def test_a_model_without_clusters_cannot_be_promoted(browser: Browser) -> None:
    answer = browser.post(f"{RUN}/orders", json={"action": "promote", "number": 1, "why": "x"})
    assert answer.status_code == 404
    assert answer.json()["cure"]


def test_the_description_tells_of_every_answer_and_of_how_to_log_in(browser: Browser) -> None:
    told = browser.get("/openapi.json").json()
    assert told["security"] == [{"session": []}, {"bearer": []}]
    assert told["components"]["securitySchemes"].keys() == {"session", "bearer"}
    assert sorted(told["paths"]) == [
        "/api/v1/audit", "/api/v1/me", "/api/v1/runs", "/api/v1/runs/{run}", "/api/v1/runs/{run}/compare",
        "/api/v1/runs/{run}/matrix", "/api/v1/runs/{run}/orders", "/api/v1/runs/{run}/plants",
        "/api/v1/runs/{run}/plants/{plant}", "/api/v1/runs/{run}/rounds", "/api/v1/runs/{run}/rounds/{number}",
        "/api/v1/runs/{run}/series",
    ]  # fmt: skip
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            assert {"401", "403", "404", "422", "429", "503"} <= operation["responses"].keys(), (method, path)
            for status, answer in operation["responses"].items():
                kinds = {"application/problem+json"} if int(status) >= 400 else {"application/json"}
                assert answer["content"].keys() == kinds, (method, path, status)


def test_the_paths_that_the_docs_name_are_those_that_there_are(browser: Browser) -> None:
    text = (REPOSITORY / "docs" / "console-api.md").read_text()
    named = {f"{method} /api/v1{path.partition('?')[0]}" for method, path in re.findall(r"`(GET|POST) (/[^`]+)`", text)}
    told = browser.get("/openapi.json").json()["paths"]
    assert named == {f"{method.upper()} {path}" for path, methods in told.items() for method in methods}


def test_the_client_of_the_docs_runs_as_it_stands(tmp_path: Path) -> None:
    place = site(tmp_path)
    with place.store.session(writes=True) as session:
        token = accounts.add_token(session, NOBODY, "board", Role.VIEWER)
    text = (REPOSITORY / "docs" / "console-api.md").read_text()
    program = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    with served(place.app) as url:
        environment = {**os.environ, "CONSOLE": url, "CONSOLE_TOKEN": token}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60, env=environment
        )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "a running rounds 3 with plants that did not count [3, 2, 1]",
        "   north 3 of 3 ",
        "   south 0 of 3 NaN: 3 values of head.bias",
    ]
