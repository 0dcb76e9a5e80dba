"""The page's server without a browser: who may ask what, and what is shown when things are missing or damaged."""

from __future__ import annotations

import http.client
import json
import math
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from client.edge.alarm_files import ORDERS, AlarmFiles
from client.edge.page.history import History
from client.edge.page.server import KEY, Page, kept_key
from client.edge.page.view import View
from client.edge.state import REQUEST, SEEN, Event, Refusal, State, write_standing, write_state
from shared.errors import FileTrouble

FIRST, SECOND = "a" * 64, "b" * 64


@dataclass
class Asked:
    """A running page, and a way to ask it anything."""

    page: Page
    folder: Path

    def ask(
        self, path: str, method: str = "GET", body: Any = None, change: dict[str, str | None] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """As the page's own script asks; `change` replaces headers, None leaves one out."""
        port = self.page.server_port
        headers: dict[str, str | None] = {
            "Host": f"127.0.0.1:{port}", "Cookie": f"crossplant-page-{port}={self.page.key}",
            "Origin": f"http://127.0.0.1:{port}", "X-Token": self.page.token, "Content-Type": "application/json",
            **(change or {}),
        }  # fmt: skip
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(data)), **(change or {})}.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        status, _, data = self.ask(path)
        assert status == 200, data
        return json.loads(data)

    @property
    def orders(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_bytes()) for path in sorted((self.folder / ORDERS).glob("*.json"))]


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    AlarmFiles(tmp_path)
    page = Page(View(tmp_path, History(tmp_path / "history.sqlite")))
    serving = threading.Thread(target=page.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    yield Asked(page, tmp_path)
    page.shutdown()
    serving.join()
    page.server_close()


def history(path: Path, scores: list[tuple[float, float]]) -> None:
    """A history as the sink writes it."""
    from client.edge.sinks.history import Book, HistoryOptions

    book = Book(path, HistoryOptions())
    told = [
        {"type": "score", "time": t, "score": s, "threshold": 1.0, "guard": None, "guard_threshold": None,
         "shadow": None, "mode": 0, "anomalous": ["federated"] if s > 1 else [], "bundle": "a"}
        for t, s in scores
    ]  # fmt: skip
    told.append({"type": "fault", "time": 5.0, "tag": "LIT101", "kind": "stuck", "state": "active", "text": "x"})
    told.append({"type": "fault", "time": 5.0, "tag": "FIT101", "kind": "stuck", "state": "active", "text": "x"})
    told.append({"type": "fault", "time": 6.0, "tag": "FIT101", "kind": "stuck", "state": "cleared", "text": "x"})
    book.write(told)
    book.close()


# ---- who may ask ---------------------------------------------------------------------------------------------------


def test_key_opens_the_page_once_and_becomes_a_cookie(asked: Asked) -> None:
    status, headers, _ = asked.ask(f"/?key={asked.page.key}", change={"Cookie": None})
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    status, headers, data = asked.ask("/", change={"Cookie": headers["set-cookie"].split(";")[0]})
    assert status == 200
    assert asked.page.token.encode() in data
    assert asked.page.key.encode() not in data


@pytest.mark.parametrize("path", ["/", "/api/state", "/api/scores"])
@pytest.mark.parametrize("cookie", [None, "", "crossplant-page-1=x", "x"])
def test_without_the_key_nothing_is_shown(asked: Asked, path: str, cookie: str | None) -> None:
    assert asked.ask(path, change={"Cookie": cookie})[0] == 403


def test_wrong_key_is_refused(asked: Asked) -> None:
    assert asked.ask("/?key=wrong", change={"Cookie": None})[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "", None, "[::1]"])
@pytest.mark.parametrize("path", ["/", "/api/state", "/page.js"])
def test_other_host_is_refused_against_dns_rebinding(asked: Asked, host: str | None, path: str) -> None:
    assert asked.ask(path, change={"Host": host})[0] == 421


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Origin": None}, 403), ({"Origin": "null"}, 403), ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403), ({"X-Token": None}, 403), ({"X-Token": "x"}, 403),
        ({"Cookie": None}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415), ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Length": "99999"}, 413), ({"Content-Length": "-1"}, 413), ({"Content-Length": "x"}, 413),
    ],
)  # fmt: skip
def test_order_that_is_not_the_pages_own_is_refused(asked: Asked, change: dict[str, str | None], status: int) -> None:
    body = {"id": "a-1", "by": "ann"}
    assert asked.ask("/api/ack", "POST", body, change)[0] == status
    assert asked.orders == []


@pytest.mark.parametrize("path", ["/page.js", "/page.css", "/", "/api/state"])
def test_every_answer_forbids_scripts_from_elsewhere(asked: Asked, path: str) -> None:
    _, headers, data = asked.ask(path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert b"https://" not in data


def test_page_has_no_inline_script_style_or_other_host(asked: Asked) -> None:
    _, _, data = asked.ask("/")
    text = data.decode()
    assert text.count("<script") == text.count('<script src="/page.js"') == 1
    assert "style=" not in text
    assert "onclick" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_only_this_machine_is_listened_to(asked: Asked) -> None:
    assert asked.page.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("path", ["/etc/passwd", "/../page.key", "/page.key", "/static/page.html", "//x", "/%2e%2e/x"])
def test_nothing_else_is_served(asked: Asked, path: str) -> None:
    assert asked.ask(path)[0] == 404


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G" * 70_000,
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)  # fmt: skip
def test_broken_request_does_not_stop_the_server(asked: Asked, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", asked.page.server_port), 5) as line:
        line.sendall(raw)
        line.shutdown(socket.SHUT_WR)
        while line.recv(4096):
            pass
    assert asked.ask("/api/state")[0] == 200


def test_silent_browser_does_not_hold_the_others(asked: Asked) -> None:
    with socket.create_connection(("127.0.0.1", asked.page.server_port), 5):
        assert asked.ask("/api/state")[0] == 200


# ---- orders --------------------------------------------------------------------------------------------------------


def test_orders_lie_in_the_state_folder(asked: Asked) -> None:
    assert asked.ask("/api/ack", "POST", {"id": "a-1", "by": " ann ", "note": ""})[0] == 200
    assert asked.ask("/api/shelve", "POST", {"tag": "LIT301", "by": "ann", "note": "cleaning", "seconds": 60})[0] == 200
    assert asked.ask("/api/unshelve", "POST", {"tag": "LIT301", "by": "ann"})[0] == 200
    kinds = [(order["type"], order.get("id") or order.get("tag"), order["by"]) for order in asked.orders]
    assert kinds == [("ack", "a-1", "ann"), ("shelve", "LIT301", "ann"), ("unshelve", "LIT301", "ann")]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/ack", {}), ("/api/ack", {"id": 5, "by": "ann"}), ("/api/ack", {"id": "a", "by": ""}),
        ("/api/ack", {"id": "a", "by": "x" * 101}), ("/api/ack", {"id": "a", "by": "an\x1b[31mn"}),
        ("/api/shelve", {"tag": "T", "by": "ann", "note": "n"}), ("/api/ack", []), ("/api/ack", b"{"),
        ("/api/shelve", {"tag": "T", "by": "ann", "note": "n", "seconds": 1e9}),
        ("/api/shelve", {"tag": "T", "by": "ann", "note": "n", "seconds": True}),
        ("/api/shelve", {"tag": "T", "by": "ann", "note": "n", "seconds": -1}),
        ("/api/shelve", b'{"tag": "T", "by": "ann", "note": "n", "seconds": NaN}'),
        ("/api/shelve", {"tag": "T", "by": "ann", "note": "", "seconds": 60}),
        ("/api/ack", b"[" * 4000),
    ],
)  # fmt: skip
def test_order_that_is_none_is_refused_and_leaves_nothing(asked: Asked, path: str, body: Any) -> None:
    status, _, data = asked.ask(path, "POST", body)
    assert status == 400, data
    assert json.loads(data)["error"]
    assert asked.orders == []


def test_rollback_leaves_a_request_for_the_one_before(asked: Asked) -> None:
    assert asked.ask("/api/rollback", "POST", {})[0] == 409  # No scorer has written here.
    write_state(asked.folder, State(site="north", current=SECOND, previous=FIRST))
    status, _, data = asked.ask("/api/rollback", "POST", {"to": FIRST})
    assert status == 200, data
    assert json.loads((asked.folder / REQUEST).read_bytes())["to"] == FIRST


@pytest.mark.parametrize("to", ["../../etc", "aaaa", "z" * 64, 5])
def test_rollback_to_something_that_is_no_digest_is_refused(asked: Asked, to: Any) -> None:
    write_state(asked.folder, State(site="north", current=SECOND, previous=FIRST))
    assert asked.ask("/api/rollback", "POST", {"to": to})[0] in (400, 409)
    assert not (asked.folder / REQUEST).exists()


# ---- what is shown -------------------------------------------------------------------------------------------------


def test_empty_folder_shows_that_there_is_nothing_yet(asked: Asked) -> None:
    found = asked.json("/api/state")
    assert found["alarms"]["standing"] == "normal"
    assert "nothing yet" in found["models"]["trouble"]
    assert asked.json("/api/scores") == []


def test_chart_gets_the_newest_scores_in_order_with_infinite_ones_as_text(asked: Asked) -> None:
    history(asked.folder / "history.sqlite", [(1.0, 0.5), (2.0, math.inf), (3.0, 0.7)])
    points = asked.json("/api/scores?most=2")
    assert [point[:3] for point in points] == [[2.0, "inf", 1.0], [3.0, 0.7, 1.0]]
    assert [point[5] for point in points] == [True, False]
    assert [point[0] for point in asked.json("/api/scores?since=2.5")] == [3.0]


@pytest.mark.parametrize("query", ["most=x", "since=nan", "most=inf", "since=1e99"])
def test_question_that_is_none_is_refused(asked: Asked, query: str) -> None:
    assert asked.ask(f"/api/scores?{query}")[0] == 400


def test_faults_that_are_over_are_not_shown(asked: Asked) -> None:
    history(asked.folder / "history.sqlite", [])
    assert [fault["tag"] for fault in asked.json("/api/state")["faults"]] == ["LIT101"]


def test_models_trial_and_link_are_shown(asked: Asked) -> None:
    event = Event(time=1.0, what="refused", digest=SECOND, told="why")
    refusal = Refusal(digest=SECOND, stamp="", why="why", time=1.0)
    state = State(site="north", current=FIRST, shadow=SECOND, uncalibrated="too few windows")
    state = state.with_event(event).refusing(refusal)
    write_state(asked.folder, structs.replace(state))
    trial = {"role": "shadow", "bundle": SECOND, "windows": 5, "wanted": 9, "checks": []}
    link = {"state": "lost", "since": 5.0, "told": "no answer"}
    write_standing(asked.folder, {"trial": trial, "link": link, "score": None})
    found = asked.json("/api/state")
    assert found["models"]["current"]["digest"] == FIRST
    assert found["models"]["uncalibrated"] == "too few windows"
    assert found["models"]["trial"]["windows"] == 5
    assert found["models"]["events"][0]["told"] == "why"
    assert found["link"]["state"] == "lost"


@pytest.mark.parametrize("name", ["swap.json", "standing.json", "alarms.json", "history.sqlite"])
@pytest.mark.parametrize("data", [b"", b"{", b"\xff" * 50, b"[1]", b"{}"])
def test_damaged_file_hides_only_its_own_part(asked: Asked, name: str, data: bytes) -> None:
    (asked.folder / name).write_bytes(data)
    assert asked.json("/api/state")["now"] > 0
    assert asked.json("/api/scores") == []


def test_scorer_learns_that_somebody_looks(asked: Asked) -> None:
    asked.json("/api/state")
    assert (asked.folder / SEEN).exists()


def test_locked_history_is_waited_for_a_second_only(asked: Asked) -> None:
    history(asked.folder / "history.sqlite", [(1.0, 0.5)])
    lock = sqlite3.connect(asked.folder / "history.sqlite", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        assert asked.ask("/api/scores")[0] == 200
    finally:
        lock.close()


# ---- the process ---------------------------------------------------------------------------------------------------


def test_key_is_the_owners_and_stays(tmp_path: Path) -> None:
    first = kept_key(tmp_path / KEY)
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600
    assert kept_key(tmp_path / KEY) == first
    (tmp_path / KEY).write_text("short")
    assert kept_key(tmp_path / KEY) not in ("short", first)


def test_taken_port_is_said(asked: Asked) -> None:
    with pytest.raises(FileTrouble, match=f"port {asked.page.server_port}"):
        Page(asked.page.view, asked.page.server_port)


def test_page_imports_no_torch_and_ends_on_sigterm(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from client.edge.page.cli import page\n"
        f"page(Path({str(tmp_path)!r}), 0, None)\n"
        "print(sorted({'torch', 'flwr', 'opacus', 'pydantic', 'onnxruntime'} & set(sys.modules)))\n"
    )
    command, pipe = [sys.executable, "-c", script], subprocess.PIPE
    with subprocess.Popen(command, text=True, stdout=pipe, stderr=pipe) as child:
        assert child.stderr is not None
        assert "open http://127.0.0.1:" in child.stderr.readline()
        child.terminate()
        told, _ = child.communicate(timeout=60)
    assert (told.strip(), child.returncode) == ("[]", 0)


@pytest.mark.parametrize("path", ["/?" + "&".join(f"a{k}=1" for k in range(20)), "http://[x"])
def test_address_that_is_none_is_refused(asked: Asked, path: str) -> None:
    assert asked.ask(path)[0] == 400


def test_request_that_comes_byte_by_byte_is_cut_off(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.edge.page.server._WHOLE_S", 0.2)
    with socket.create_connection(("127.0.0.1", asked.page.server_port), 5) as line:
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began < 10 and not select.select([line], [], [], 0.02)[0]:
                line.sendall(b"G")
        assert time.monotonic() - began < 5
    assert asked.ask("/api/state")[0] == 200


def test_many_silent_browsers_take_no_more_than_their_share(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.edge.page.server._MOST_OPEN", 8)
    asked.page.socket.listen(64)  # or the kernel lets some of them try again after seconds
    before = threading.active_count()
    lines = [socket.create_connection(("127.0.0.1", asked.page.server_port), 5) for _ in range(60)]
    try:
        assert asked.ask("/api/state")[0] == 200
        ends = time.monotonic() + 10
        while threading.active_count() > before + 8 and time.monotonic() < ends:
            time.sleep(0.02)
        assert threading.active_count() <= before + 8
    finally:
        for line in lines:
            line.close()
