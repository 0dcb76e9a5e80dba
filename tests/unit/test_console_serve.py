"""What a caller may hold of the console's server: headers without an end, lines without a request."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from server.console.serve import LINES, Listening, bound, configured
from server.run.patience import Lines
from tests.support.console import site

ASKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT = dataclasses.replace(LINES, head_s=0.3, idle_s=1.0)


@contextmanager
def serving(folder: Path, lines: Lines, *proxies: str) -> Iterator[int]:
    """The console's port."""
    listening = Listening("127.0.0.1", 0, proxies=proxies)
    with bound(listening) as listener:
        server = uvicorn.Server(configured(site(folder).app, listening, lines))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def line(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def told(caller: socket.socket, text: bytes = b"") -> bytes:
    """What the server says to it; empty when it hangs up."""
    try:
        caller.sendall(text)
        return caller.recv(12)
    except (ConnectionError, BrokenPipeError):
        return b""


def test_headers_that_do_not_end_are_cut_off(tmp_path: Path) -> None:
    with serving(tmp_path, LINES) as port, line(port) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * LINES.head)
        assert told(caller, b"x" * LINES.head) in (b"HTTP/1.1 400", b"")
        with line(port) as other:
            assert told(other, ASKED) == b"HTTP/1.1 200"


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost:", ASKED + b"GET"])
def test_who_does_not_finish_to_ask_is_hung_up_on(begun: bytes, tmp_path: Path) -> None:
    with serving(tmp_path, SHORT) as port, line(port) as caller:
        caller.sendall(begun)
        began, heard = time.monotonic(), b"?"
        while heard:
            try:
                heard = caller.recv(65536)
            except ConnectionError:
                heard = b""
        assert 0.2 < time.monotonic() - began < 4


def test_one_address_cannot_hold_every_line(tmp_path: Path) -> None:
    few = dataclasses.replace(LINES, connections=8, an_address=4)
    with serving(tmp_path, few) as port:
        callers = [line(port) for _ in range(6)]
        assert [told(caller, ASKED) for caller in callers] == [b"HTTP/1.1 200"] * 4 + [b""] * 2
        for caller in callers:
            caller.close()


def test_those_behind_a_proxy_share_its_address(tmp_path: Path) -> None:
    few = dataclasses.replace(LINES, connections=8, an_address=2)
    with serving(tmp_path, few, "127.0.0.1") as port:
        callers = [line(port) for _ in range(4)]
        assert [told(caller, ASKED) for caller in callers] == [b"HTTP/1.1 200"] * 4
        for caller in callers:
            caller.close()
