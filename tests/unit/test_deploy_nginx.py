"""A real nginx with our configuration before something that answers everything: it passes what the gateway passes."""

from __future__ import annotations

import importlib.metadata
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from server.run.gateway import FLEET, allowed
from server.run.place import ServerPlace
from server.run.superlink import make_private_files
from shared.flower_process import free_port
from tests.support.deploy import DEPLOY
from tests.unit.test_gateway import HIDDEN

WHOLE = """\
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


class Everything(BaseHTTPRequestHandler):
    """A SuperLink that has nothing to hide."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"reached"
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name
        """Say nothing."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> ServerPlace:
    place = ServerPlace.of(tmp_path_factory.mktemp("nginx"))
    place.prepare()
    make_private_files(place)
    place.certificate.parent.mkdir()
    shutil.copy(place.loopback_key, place.key)
    shutil.copy(place.loopback_certificate, place.certificate)
    return place


@pytest.fixture(scope="module")
def superlink(place: ServerPlace) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Everything) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place.loopback_certificate, place.loopback_key)
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def port(place: ServerPlace, superlink: int) -> Iterator[int]:
    """Where nginx listens."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed (Debian: package nginx-light)")
    given, port = (DEPLOY / "nginx.conf").read_text(encoding="utf-8"), free_port()
    given = given.replace("SUPERLINK_PORT", str(superlink)).replace("listen 9443", f"listen 127.0.0.1:{port}")
    (place.root / "site.conf").write_text(given.replace("FEDERATION", str(place.root)), encoding="utf-8")
    (place.root / "nginx.conf").write_text(WHOLE.format(folder=place.root), encoding="utf-8")
    command = [found, "-e", str(place.root / "error.log"), "-c", str(place.root / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(process, place, port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)


def wait_for(process: subprocess.Popen[str], place: ServerPlace, port: int) -> None:
    for _ in range(100):
        assert process.poll() is None, process.communicate()[1]
        try:
            ask(place, port, "GET", "/health")
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nginx does not answer")


def ask(place: ServerPlace, port: int, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    context = ssl.create_default_context(cafile=str(place.loopback_certificate))
    connection = HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)  # as it is written, dots and escapes included
        connection.putheader("content-length", "0")
        connection.endheaders()
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", sorted(FLEET))
def test_the_fleet_passes(place: ServerPlace, port: int, path: str) -> None:
    assert ask(place, port, "POST", path)[::2] == (200, b"reached")


@pytest.mark.parametrize(("method", "path"), HIDDEN)
def test_everything_else_does_not_reach_the_superlink(place: ServerPlace, port: int, method: str, path: str) -> None:
    status, _, body = ask(place, port, method, path)
    assert b"reached" not in body
    assert 400 <= status < 500
    assert not allowed(method, path.encode())


def test_health_tells_the_time_and_the_version(place: ServerPlace, port: int) -> None:
    status, headers, body = ask(place, port, "GET", "/health")
    assert (status, body) == (200, b"reached")
    assert headers["date"]
    assert headers["x-crossplant-version"] == importlib.metadata.version("crossplant")
    assert headers["server"] == "nginx"  # without its version
