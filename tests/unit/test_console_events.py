"""Server-sent events of a run, over a real connection."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from server.console import events
from server.console.events import PER_SESSION, PER_USER, Streams
from server.console.problems import Denied
from server.notice import Waits
from server.run.place import ServerPlace
from server.store.store import RoundStore
from tests.support.console import served
from tests.support.console_runs import Visitor, commit, console, rich


class Stream:
    """Lines of an open stream, read in the background."""

    def __init__(self, response: httpx.Response) -> None:
        self.lines: list[str] = []
        self.ended = threading.Event()
        self._response = response
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for line in self._response.iter_lines():
                self.lines.append(line)
        except (httpx.HTTPError, httpx.StreamError):
            pass
        self.ended.set()

    def data(self, name: str) -> list[str]:
        """The data of all events of a name."""
        lines = list(self.lines)
        found = [i for i, line in enumerate(lines) if line == f"event: {name}"]
        following = (lines[i + 1 : i + 3] for i in found)
        return [line.removeprefix("data: ") for part in following for line in part if line.startswith("data: ")]

    def wait_for(self, name: str, count: int, seconds: float = 15) -> list[str]:
        """Wait until there are so many events of a name."""
        end = time.monotonic() + seconds
        while len(self.data(name)) < count:
            assert time.monotonic() < end, self.lines
            time.sleep(0.02)
        return self.data(name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVERY_S", 0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rich(tmp_path / "store", 3)
    return tmp_path / "store"


@contextmanager
def follow(address: str, visitor: Visitor, run: str = "a", **headers: str) -> Iterator[Stream]:
    with (
        httpx.Client(cookies=visitor.cookies, timeout=20) as client,
        client.stream("GET", f"{address}/events/{run}", headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)
        with suppress(OSError):  # as a browser goes: a thread still reads
            response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def test_a_round_that_is_committed_elsewhere_is_told(folder: Path) -> None:
    app = console(folder)
    visitor = Visitor(app).log_in()
    with served(app) as address, follow(address, visitor) as stream:
        [first] = stream.wait_for("changed", 1)
        commit(RoundStore.open(str(folder)), 4)
        assert stream.wait_for("changed", 2)[1] != first


def test_whoever_comes_back_with_what_it_saw_hears_only_what_is_new(folder: Path) -> None:
    app = console(folder)
    version = app.state.console.reader.version("a")
    with served(app) as address, follow(address, Visitor(app).log_in(), **{"last-event-id": version}) as stream:
        time.sleep(0.3)
        assert stream.data("changed") == []
        commit(RoundStore.open(str(folder)), 4)
        assert len(stream.wait_for("changed", 1)) == 1


def waiting(folder: Path, *plants: str) -> None:
    place = ServerPlace.of(folder)
    place.prepare()
    now = time.time()
    place.waits.write_text(json.dumps(asdict(Waits("a", 4, plants, 0, now - 5, now + 60, now))))


def test_the_plants_that_are_waited_for_are_told_in_one_line_whatever_they_are_called(folder: Path) -> None:
    (folder / "federation.toml").write_text("")
    waiting(folder, "north", "a\n\nevent: changed\ndata: forged")
    app = console(folder)
    with served(app) as address, follow(address, Visitor(app).log_in()) as stream:
        [told] = stream.wait_for("waiting", 1)
        assert told.startswith("run a: round 4 waits for north, a[U+000A]")
        assert "forged" in told
        stream.wait_for("changed", 1)
        assert "forged" not in stream.data("changed")[0]
        ServerPlace.of(folder).waits.unlink()
        assert stream.wait_for("waiting", 2)[1] == ""
        assert len(stream.wait_for("changed", 2)) == 2


def test_a_stream_ends_when_the_server_is_about_to(folder: Path) -> None:
    app = console(folder)
    with served(app) as address, follow(address, Visitor(app).log_in()) as stream:
        stream.wait_for("changed", 1)
        app.state.streams.stopping = True
        assert stream.ended.wait(5)


def drained(app: FastAPI) -> None:
    end = time.monotonic() + 10
    while app.state.streams.open:
        assert time.monotonic() < end, "a stream is left"
        time.sleep(0.02)


def test_a_browser_that_goes_away_leaves_no_stream_behind(folder: Path) -> None:
    app = console(folder)
    with served(app) as address:
        with follow(address, Visitor(app).log_in()) as stream:
            stream.wait_for("changed", 1)
            assert app.state.streams.open.total() == 1
        drained(app)


def test_whoever_asks_for_the_head_alone_leaves_no_stream_behind(folder: Path) -> None:
    app = console(folder)
    visitor = Visitor(app).log_in()
    with served(app) as address, httpx.Client(cookies=visitor.cookies) as client:
        for _ in range(PER_SESSION + 2):
            assert client.head(f"{address}/events/a").status_code == 200
            drained(app)


def test_nobody_follows_without_a_login_nor_a_run_that_is_not_there(folder: Path) -> None:
    app = console(folder)
    assert Visitor(app).get("/events/a").status_code == 401
    assert Visitor(app).log_in().get("/events/zz").status_code == 404


def test_a_session_has_so_many_streams_and_no_more() -> None:
    streams = Streams()
    for _ in range(PER_SESSION):
        streams.enter("ann", "1")
    with pytest.raises(Denied) as refused:
        streams.enter("ann", "1")
    assert refused.value.status == 429
    streams.enter("ann", "2")
    streams.leave("ann", "1")
    streams.enter("ann", "1")


def test_one_user_leaves_streams_to_the_others_however_often_they_log_in() -> None:
    streams = Streams()
    for session in range(PER_USER // PER_SESSION):
        for _ in range(PER_SESSION):
            streams.enter("ann", str(session))
    with pytest.raises(Denied):
        streams.enter("ann", "another")
    streams.enter("olaf", "1")
    streams.leave("ann", "0")
    streams.enter("ann", "another")


def test_a_store_that_is_locked_for_a_moment_ends_no_stream(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.errors import StoreBusy

    app = console(folder)
    real: Any = events._look
    calls = iter(range(10**6))

    def look(*arguments: Any) -> Any:
        if next(calls) in (1, 2):
            raise StoreBusy("locked.")
        return real(*arguments)

    monkeypatch.setattr(events, "_look", look)
    with served(app) as address, follow(address, Visitor(app).log_in()) as stream:
        stream.wait_for("changed", 1)
        commit(RoundStore.open(str(folder)), 4)
        assert len(stream.wait_for("changed", 2)) == 2
