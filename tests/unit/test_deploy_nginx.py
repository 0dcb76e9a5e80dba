"""A real nginx with our configuration before something that answers everything: it passes what the gateway passes."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from server.provision.change import renew, revoke
from server.provision.federation import opened
from server.run.gateway import FLEET, LARGEST_BODY, LARGEST_CALL, OBJECT, allowed
from server.run.place import ServerPlace
from server.run.superlink import make_private_files
from shared.flower_process import free_port
from shared.preflight.network import REFUSED_HEADER, Peer, reach, refused_in_http
from tests.support.deploy import DEPLOY
from tests.support.pki import DAY, NOW, failed, make, said, take_in
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
    heard: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        body = b"reached"
        Everything.heard = {name.lower(): value for name, value in self.headers.items()}
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
    """A federation of three plants, of which west was revoked; south's certificate lapsed."""
    long_ago = NOW - 400 * DAY
    place = ServerPlace.of(make(tmp_path_factory.mktemp("nginx"), long_ago))
    take_in(place.root, "south", long_ago)
    for name in ("north", "west"):
        take_in(place.root, name, NOW)
    with opened(place.root) as federation:
        renew(federation, ["server"], NOW)
        revoke(federation, "west", NOW)
    place.prepare()
    make_private_files(place)
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
    """Where nginx listens, as it is installed."""
    with nginx(place, superlink, lambda text: text) as port:
        yield port


@pytest.fixture(scope="module")
def mutual(place: ServerPlace, superlink: int) -> Iterator[int]:
    """Where nginx listens that asks for certificates."""
    with nginx(place, superlink, lambda text: re.sub(r"# (?=ssl_)", "", text)) as port:
        yield port


@contextmanager
def nginx(place: ServerPlace, superlink: int, change: Callable[[str], str]) -> Iterator[int]:
    """An nginx with our configuration, changed."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed (Debian: package nginx-light)")
    given, port = change((DEPLOY / "nginx.conf").read_text(encoding="utf-8")), free_port()
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
            ask(place, port, "GET", "/health", "north")
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nginx does not answer")


def ask(place: ServerPlace, port: int, method: str, path: str, plant: str | None = None,
        headers: Mapping[str, str] | None = None, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    context = ssl.create_default_context(cafile=str(place.ca))
    if plant is not None:
        context.load_cert_chain(at(place, plant) / "client.crt", at(place, plant) / "client.key")
    connection = HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)  # as it is written, dots and escapes included
        for name, value in {"content-length": "0", **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def at(place: ServerPlace, plant: str) -> Path:
    """A plant's folder."""
    return place.root.parent / f"at-{plant}"


@pytest.mark.parametrize("path", sorted(FLEET))
def test_the_fleet_passes(place: ServerPlace, port: int, path: str) -> None:
    assert ask(place, port, "POST", path)[::2] == (200, b"reached")


@pytest.mark.parametrize(("method", "path"), HIDDEN)
def test_everything_else_does_not_reach_the_superlink(place: ServerPlace, port: int, method: str, path: str) -> None:
    status, _, body = ask(place, port, method, path)
    assert b"reached" not in body
    assert 400 <= status < 500
    assert not allowed(method, path.encode())


@pytest.mark.parametrize(("path", "largest"), [("/v1/fleet/push-messages", LARGEST_CALL), (OBJECT, LARGEST_BODY)])
def test_a_body_may_be_as_large_as_at_the_gateway(place: ServerPlace, port: int, path: str, largest: int) -> None:
    """Announced, and never sent: that is enough for a refusal."""
    assert ask(place, port, "POST", path, headers={"content-length": str(largest + 1)})[0] == 413
    sent = min(largest, 2**20)
    assert ask(place, port, "POST", path, headers={"content-length": str(sent)}, body=b"x" * sent)[0] == 200


def test_health_tells_the_time_and_the_version(place: ServerPlace, port: int) -> None:
    status, headers, body = ask(place, port, "GET", "/health")
    assert (status, body) == (200, b"reached")
    assert headers["date"]
    assert headers["x-crossplant-version"] == importlib.metadata.version("crossplant")
    assert headers["server"] == "nginx"  # without its version


def test_of_what_a_plant_sends_only_what_the_gateway_passes_arrives(place: ServerPlace, port: int) -> None:
    passed = {
        "content-type": "application/x-protobuf",
        "flwr-signature": "c2ln",
        "flwr-timestamp": "2026",
        "accept": "*/*",
    }
    others = {"x-flwr-client": "cli", "cookie": "a=b", "authorization": "Basic eA==", "x-forwarded-for": "192.0.2.1"}
    assert ask(place, port, "POST", "/v1/fleet/pull-messages", headers=passed | others)[0] == 200
    assert passed.items() <= Everything.heard.items()
    assert Everything.heard.keys() - passed.keys() <= {"host", "content-length"}


def test_a_plant_without_a_certificate_is_let_in_where_none_is_asked_for(place: ServerPlace, port: int) -> None:
    assert REFUSED_HEADER not in ask(place, port, "GET", "/health")[1]


def test_a_plants_certificate_lets_it_in(place: ServerPlace, mutual: int) -> None:
    status, headers, body = ask(place, mutual, "POST", "/v1/fleet/pull-messages", "north")
    assert (status, body) == (200, b"reached")
    assert REFUSED_HEADER not in headers
    assert ask(place, mutual, "POST", "/v1/control/start-run", "north")[0] == 404


@pytest.mark.parametrize(
    ("plant", "told", "says"),
    [
        (None, "NONE", "the server asks for this plant's certificate"),
        ("west", "FAILED:certificate revoked", "this plant's certificate is revoked"),
        ("south", "FAILED:certificate has expired", "this plant's certificate has lapsed"),
        ("strange", "FAILED:", "does not"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages", "/health", "/v1/control/start-run"])
def test_who_is_refused_hears_why_and_reaches_nothing(
    place: ServerPlace, mutual: int, stranger: None, path: str, plant: str | None, told: str, says: str
) -> None:
    status, headers, body = ask(place, mutual, "GET" if path == "/health" else "POST", path, plant)
    assert status == 401
    assert headers[REFUSED_HEADER].startswith(told)
    assert b"reached" not in body
    verdict = refused_in_http(headers[REFUSED_HEADER])
    assert verdict is not None
    assert says in verdict.says


@pytest.fixture(scope="module")
def stranger(place: ServerPlace, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A plant of another federation; its folder stands beside ours."""
    home = take_in(make(tmp_path_factory.mktemp("other"), NOW, "other"), "strange", NOW)
    shutil.copytree(home, at(place, "strange"))


def test_preflight_at_a_revoked_plant_says_so(place: ServerPlace, mutual: int) -> None:
    home = at(place, "west")
    found = reach(Peer("localhost", mutual, home / "ca.crt", home / "client.crt", home / "client.key"))
    assert failed(found) == ["server"]
    assert "this plant's certificate is revoked" in said(found, "server")
