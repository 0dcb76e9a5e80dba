"""What gets to a route at all: by which name, from which page, how large, with which headers on the way back."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter
from starlette.responses import StreamingResponse

from server.console import headers
from server.console.roles import Role
from server.console.templating import asset
from tests.support.console import PATIENT, Browser, Site, served, site

ORDER = {"action": "promote", "number": 3, "why": "better"}
LINKED = re.compile(r'(?:src|href)="(/static/[^"]+)"')


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site(tmp_path_factory.mktemp("console"))


def order(browser: Browser, **parts: Any) -> httpx.Response:
    return browser.post("/api/v1/runs/a/orders", json=ORDER, **parts)


# ---- where a change comes from ----


@pytest.mark.parametrize("given", [None, "", "wrong", "ÿ"])
def test_a_change_without_the_sessions_token_is_refused(given: str | None, place: Site) -> None:
    browser = place.browser(Role.OPERATOR)
    del browser.headers["X-CSRF-Token"]
    parts: dict[str, Any] = {} if given is None else {"headers": {"X-CSRF-Token": given.encode("latin-1")}}
    answer = order(browser, **parts)
    assert (answer.status_code, answer.json()["code"]) == (403, "CP-808")
    assert "token of this session" in answer.json()["detail"]


def test_the_token_of_another_session_is_refused(place: Site) -> None:
    browser, other = place.browser(Role.OPERATOR), place.browser(Role.OPERATOR)
    assert order(browser, headers={"X-CSRF-Token": other.headers["X-CSRF-Token"]}).status_code == 403


def test_a_form_carries_the_token_in_a_field(place: Site) -> None:
    browser = place.browser(Role.VIEWER)
    token = browser.headers.pop("X-CSRF-Token")
    assert browser.post("/logout", data={"csrf": "wrong"}).status_code == 403
    assert browser.post("/logout", content=f"csrf={token}", headers={"Content-Type": "text/plain"}).status_code == 403
    assert browser.post("/logout", data={"csrf": token}).status_code == 303


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Origin": "https://localhost"},
        {"Origin": "http://[::"},
        {"Origin": "\x7f"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_a_change_from_another_sites_page_is_refused_even_with_the_token(header: dict[str, str], place: Site) -> None:
    browser = place.browser(Role.OPERATOR)
    assert order(browser, headers=header).status_code == 403
    assert place.browser().post("/login", data={"name": "a"}, headers=header).status_code == 403


@pytest.mark.parametrize("header", [{"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}, {}], ids=str)
def test_a_change_from_our_own_page_is_taken(header: dict[str, str], place: Site) -> None:
    assert order(place.browser(Role.OPERATOR), headers=header).status_code == 201


# ---- by which name ----


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost@evil",
        "[::1",
        "localhost:80@evil.example",
        "localhost:80/login?",
        "localhost:",
        "[::1]evil.example",
    ],
)
def test_a_console_that_is_asked_for_by_another_name_answers_nothing(host: str, place: Site) -> None:
    answer = place.browser(Role.VIEWER).get("/api/v1/runs", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8321", "127.0.0.1:1", "[::1]:8321"])
def test_it_is_known_by_the_names_of_this_machine(host: str, place: Site) -> None:
    assert place.browser(Role.VIEWER).get("/api/v1/runs", headers={"Host": host}).status_code == 200


def test_behind_tls_nothing_is_answered_in_clear(tmp_path: Path) -> None:
    place = site(tmp_path, secure=True)
    assert place.browser(Role.VIEWER).get("/api/v1/runs").status_code == 403
    over_tls = place.browser(Role.VIEWER, base="https://localhost").get("/api/v1/runs")
    assert over_tls.status_code == 200
    assert "max-age" in over_tls.headers["strict-transport-security"]


# ---- how large ----


def test_a_body_is_bounded_whether_or_not_it_says_its_size(place: Site) -> None:
    browser = place.browser(Role.OPERATOR)
    many = b"x" * (place.settings.limits.body + 1)

    async def parts() -> Any:
        for start in range(0, len(many), 1000):
            yield many[start : start + 1000]

    assert browser.post("/login", content=many).status_code == 413
    assert browser.post("/login", content=parts()).status_code == 413
    for size in ("-1", "x", "1e3", "9" * 400):
        assert browser.post("/login", content=b"", headers={"Content-Length": size}).status_code == 413


def test_a_body_that_does_not_arrive_is_not_waited_for(tmp_path: Path) -> None:
    place = site(tmp_path, limits=dataclasses.replace(PATIENT, body_s=0.05))

    async def slow() -> Any:
        yield b"name="
        await asyncio.sleep(5)
        yield b"ada"

    assert place.browser().post("/login", content=slow()).status_code == 408


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("application/json", b"{}", 415),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(99)), 422),
        ("application/x-www-form-urlencoded", b"name=%ff%fe", 422),
        ("application/x-www-form-urlencoded", b"name=\xff", 422),
    ],
)
def test_what_is_no_form_is_refused(kind: str, body: bytes, status: int, place: Site) -> None:
    assert place.browser().post("/login", content=body, headers={"Content-Type": kind}).status_code == status


# ---- on the way back ----


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/login", 200),
        ("GET", "/api/v1/runs", 200),
        ("GET", "/static/vendor/htmx-2.0.4.min.js", 200),
        ("GET", "/static/no-such", 404),
        ("GET", "/no-such", 404),
        ("GET", "/api/v1/runs/none", 404),
        ("PUT", "/", 405),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("POST", "/login", 415),
    ],
)
def test_every_answer_carries_the_secure_headers(method: str, path: str, status: int, place: Site) -> None:
    answer = place.browser(Role.OPERATOR).request(method, path)
    assert answer.status_code == status
    for name, value in headers.ALWAYS.items():
        assert answer.headers[name] == value
    assert "cache-control" in answer.headers
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    policy = headers.POLICY
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|\*|https?:", policy)


def test_pages_are_never_kept_by_caches(place: Site) -> None:
    browser = place.browser(Role.VIEWER)
    kept = [browser.get(path).headers["cache-control"] for path in ("/", "/api/v1/runs", "/static/no-such?v=1")]
    assert kept == ["no-store", "private, no-cache", "no-store"]


def test_a_file_is_kept_for_ever_by_the_digest_of_what_it_holds_and_else_not_at_all(place: Site) -> None:
    browser, own, other = place.browser(), asset("live.js"), asset("charts.js")
    plain, wrong = own.partition("?")[0], f"{own.partition('?')[0]}?{other.partition('?')[2]}"
    first = browser.get(own)
    again = browser.get(own, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code) == (200, 304)
    for answer in (first, again, browser.request("HEAD", own)):
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    for address in (plain, wrong, f"{plain}?v=", f"{own}0", f"{own}&x=1", f"{plain}?x={own.partition('=')[2]}"):
        answer = browser.get(address)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), address


def test_all_files_that_a_page_asks_for_are_kept(place: Site) -> None:
    browser = place.browser(Role.ADMIN)
    asked = {found for page in ("/", "/login", "/runs/a") for found in LINKED.findall(browser.get(page).text)}
    assert len(asked) > 4
    for address in asked:
        assert browser.get(address).headers["cache-control"].endswith("immutable"), address


@pytest.mark.parametrize("path", ["/", "/login", "/api/v1/runs", "/static/vendor/uplot-LICENSE", "/no-such"])
def test_head_is_answered_by_what_get_answers_without_a_body(path: str, place: Site) -> None:
    browser = place.browser(Role.VIEWER)
    got, head = browser.get(path), browser.request("HEAD", path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(("path", "allowed"), [("/api/v1/runs/a/orders", "GET, HEAD, POST"), ("/logout", "POST")])
def test_a_method_that_there_is_not_is_told_which_there_are(path: str, allowed: str, place: Site) -> None:
    for method in ("OPTIONS", "DELETE", "PATCH"):
        answer = place.browser(Role.OPERATOR).request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_another_sites_preflight_is_granted_nothing(place: Site) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = place.browser().request("OPTIONS", "/api/v1/runs/a/orders", headers=asked)
    assert answer.status_code == 401
    assert not [name for name in answer.headers if name.startswith("access-control")]


# ---- when something breaks ----


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Site:
    place = site(tmp_path_factory.mktemp("console"))
    router = APIRouter()

    @router.get("/break")
    def fail() -> None:
        raise RuntimeError("the password is swordfish")

    @router.get("/forever")
    async def forever() -> StreamingResponse:
        async def lines() -> Any:
            while True:
                yield b"data: x\n\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(lines(), media_type="text/event-stream")

    place.app.include_router(router)
    return place


def test_an_error_that_nobody_foresaw_tells_nothing(broken: Site, caplog: pytest.LogCaptureFixture) -> None:
    answer = broken.browser(Role.VIEWER).get("/break")
    assert (answer.status_code, answer.json()["code"]) == (500, "CP-000")
    assert "swordfish" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["content-security-policy"] == headers.POLICY
    assert "swordfish" in caplog.text, "its log says which"


def test_head_of_an_answer_without_an_end_ends(broken: Site) -> None:
    answer = broken.browser(Role.VIEWER).request("HEAD", "/forever")
    assert (answer.status_code, answer.content) == (200, b"")


def test_where_the_store_lies_is_not_told(place: Site) -> None:
    answer = place.browser(Role.VIEWER).get("/api/v1/runs/none")
    assert str(place.store.folder) not in answer.text
    assert "the store holds no run 'none'" in answer.text


def test_raw_requests_that_no_browser_sends_are_answered_without_harm(place: Site) -> None:
    ticket = place.log_in("viewer", Role.VIEWER)
    own = {"Cookie": f"{place.app.state.cookie}={ticket.token}"}
    with served(place.app) as url:
        for path in (
            "/static/../app.py",
            "/static/%2e%2e/app.py",
            "/static/..%2fapp.py",
            "//etc/passwd",
            "/%00",
            "/%ff",
            "/" + "a" * 9000,
        ):
            line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
            line.request("GET", path, headers=own)
            answer = line.getresponse()
            body = answer.read()
            assert answer.status in (303, 400, 404), (path, answer.status)
            assert b"create_app" not in body
            line.close()


# ---- scrapers ----


def test_metrics_are_for_this_machine_or_for_who_has_the_token(tmp_path: Path) -> None:
    here = site(tmp_path)
    assert here.browser().get("/metrics").status_code == 200
    assert here.browser(address="::1").get("/metrics").status_code == 200
    assert here.browser(address="10.0.0.1").get("/metrics").status_code == 401
    assert site(tmp_path, proxied=True).browser().get("/metrics").status_code == 401
    told = site(tmp_path, metrics_token="t" * 20)
    for header, status in (("", 401), ("Bearer x", 401), ("Basic " + "t" * 20, 401), ("Bearer " + "t" * 20, 200)):
        asked = told.browser(address="10.0.0.1").get("/metrics", headers={"Authorization": header, "Host": "10.0.0.9"})
        assert asked.status_code == status, header


def test_health_needs_no_login_and_tells_of_a_store_that_is_gone(tmp_path: Path) -> None:
    place = site(tmp_path)
    assert place.browser(address="10.0.0.1").get("/healthz", headers={"Host": "10.0.0.9"}).json() == {"status": "ok"}
    (tmp_path / "store" / "rounds.sqlite").rename(tmp_path / "gone")
    answer = place.browser().get("/healthz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert str(tmp_path) not in answer.text
