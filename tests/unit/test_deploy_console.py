"""A real nginx before something that answers like the console: TLS, no header of the visitor's own, events at once."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from server.provision.federation import SERVER_CERT, SERVER_KEY
from shared.flower_process import free_port
from tests.support.deploy import DEPLOY, PORTS
from tests.support.pki import NOW, make
from tests.unit.test_deploy_nginx import WHOLE


@dataclass
class Console:
    """Something in the console's place.

    Attributes:
        heard: headers of the last request.
        go: the event stream's second line waits for it.
    """

    heard: dict[str, str] = field(default_factory=dict)
    go: threading.Event = field(default_factory=threading.Event)


def serve(console: Console) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            console.heard = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(200)
            stream = self.path.startswith("/events/")
            self.send_header("content-type", "text/event-stream" if stream else "text/plain")
            self.end_headers()
            self.wfile.write(b"event: changed\n\n" if stream else b"reached")
            self.wfile.flush()
            if stream and console.go.wait(20):
                self.wfile.write(b"event: waiting\n\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name
            """Say nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture(scope="module")
def console() -> Iterator[tuple[Console, int]]:
    told = Console()
    with serve(told) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield told, server.server_address[1]
        told.go.set()
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def port(console: tuple[Console, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where nginx listens with deploy/nginx-console.conf, its names filled in."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed (Debian: package nginx-light)")
    folder, mine = make(tmp_path_factory.mktemp("console"), NOW), free_port()
    text = (DEPLOY / "nginx-console.conf").read_text(encoding="utf-8")
    for before, after in {
        "listen 443": f"listen 127.0.0.1:{mine}",
        "127.0.0.1:8321;": f"127.0.0.1:{console[1]};",
        "CONSOLE_CERTIFICATE": str(folder / SERVER_CERT),
        "CONSOLE_KEY": str(folder / SERVER_KEY),
        "CONSOLE_NAME": "localhost",
    }.items():
        assert before in text
        text = text.replace(before, after)
    (folder / "site.conf").write_text(text, encoding="utf-8")
    (folder / "nginx.conf").write_text(WHOLE.format(folder=folder), encoding="utf-8")
    command = [found, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _wait(folder, mine, process)
        yield mine
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _wait(folder: Path, port: int, process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise AssertionError(f"nginx ended: {process.communicate()[1]} {(folder / 'error.log').read_text()}")
        with socket.socket() as line:
            if line.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nginx does not answer")


@contextmanager
def ask(port: int, path: str, **headers: str) -> Iterator[HTTPResponse]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    line = HTTPSConnection("127.0.0.1", port, context=context, timeout=5)
    with closing(line):
        line.request("GET", path, headers={"Host": f"localhost:{port}", **headers})
        with closing(line.getresponse()) as answer:
            yield answer


def test_a_visitor_cannot_say_for_itself_where_it_comes_from(console: tuple[Console, int], port: int) -> None:
    told = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil",
        "Forwarded": "for=1",
    }
    with ask(port, "/runs", **told, Cookie="a=b", **{"X-CSRF-Token": "t"}) as answer:
        assert (answer.status, answer.read()) == (200, b"reached")
    heard = console[0].heard
    assert (heard["x-forwarded-for"], heard["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert not {"x-forwarded-host", "forwarded"} & set(heard)
    assert (heard["host"], heard["cookie"], heard["x-csrf-token"]) == (f"localhost:{port}", "a=b", "t")
    assert answer.getheader("strict-transport-security", "").startswith("max-age=")


def test_an_event_goes_out_before_the_next_one_is_there(console: tuple[Console, int], port: int) -> None:
    told = console[0]
    told.go.clear()
    with ask(port, "/events/r") as answer:
        assert answer.readline() == b"event: changed\n"  # the rest is not written yet
        told.go.set()
        assert answer.read() == b"\nevent: waiting\n\n"


def test_a_body_is_no_larger_than_the_console_takes(port: int) -> None:
    from server.console.settings import Limits

    assert Limits().body == 64 * 1024  # client_max_body_size 64k
    with ask(port, "/", **{"Content-Length": str(64 * 1024 + 1)}) as answer:
        assert answer.status == 413


def test_all_files_speak_of_the_port_that_the_console_has_by_itself() -> None:
    from server.console.settings import PORT

    assert PORTS["console"] == [f"127.0.0.1:{PORT}:{PORT}"]
    for name in ("nginx-console.conf", "systemd/crossplant-console.service", "prometheus/prometheus.yaml"):
        assert str(PORT) in (DEPLOY / name).read_text(encoding="utf-8"), name
