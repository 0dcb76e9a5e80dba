"""How long the gateway keeps a line open and for how many, and what it tells those whom it turns away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from server.provision.change import revoke
from server.provision.federation import opened
from server.run import doorstep
from server.run.doorstep import Refusals, first_certificate, tls
from server.run.gateway import Gateway, Limits
from server.run.patience import Lines, Server, configured
from server.run.place import ServerPlace
from shared.preflight.network import Peer, reach
from shared.service_errors import PortTaken
from tests.support.pki import NOW, client_side, failed, make, said, take_in

_USUAL, _USUAL_LIMITS = Lines(), Limits()
HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"


@dataclass
class Listening:
    """A gateway in a thread.

    Attributes:
        port: where it listens.
        server: it.
    """

    port: int
    server: Server


@contextlib.contextmanager
def listening(
    lines: Lines = _USUAL, limits: Limits = _USUAL_LIMITS, context: ssl.SSLContext | None = None,
    superlink: Callable[[httpx.Request], httpx.Response] = lambda request: httpx.Response(200, content=b"well"),
) -> Iterator[Listening]:  # fmt: skip
    """The gateway on a free loopback port, before a SuperLink that is made up."""
    gateway = Gateway("http://superlink", None, limits)
    gateway._client = httpx.AsyncClient(base_url="http://superlink", transport=httpx.MockTransport(superlink))
    server = configured(gateway, "127.0.0.1", 0, context, lines)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        ends = time.monotonic() + 10
        while not server.started and time.monotonic() < ends:
            time.sleep(0.01)
        yield Listening(server.servers[0].sockets[0].getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def dial(there: Listening) -> socket.socket:
    return socket.create_connection(("127.0.0.1", there.port), timeout=5)


def ended(line: socket.socket) -> bool:
    """Whether the other side hung up."""
    try:
        return line.recv(4096) == b""
    except ConnectionError:
        return True


def ask(line: socket.socket, data: bytes = HEAD + b"\r\n") -> bytes:
    line.sendall(data)
    return line.recv(4096)


# ---- what it tells ----


def test_an_answer_bears_the_time_and_healths_the_version() -> None:
    with listening() as there:
        health = httpx.get(f"http://127.0.0.1:{there.port}/health")
        other = httpx.get(f"http://127.0.0.1:{there.port}/docs")
    assert health.headers["x-crossplant-version"] == version("crossplant")
    assert abs(parsedate_to_datetime(health.headers["date"]).timestamp() - time.time()) < 5
    assert other.status_code == 404
    assert set(other.headers) == {"connection", "date", "content-length"}


def test_preflight_compares_clock_and_version_with_the_gateways() -> None:
    with listening() as there:
        found = reach(Peer("127.0.0.1", there.port, None))
    assert {one.name: one.status for one in found if one.name in ("server", "clock", "version")} == {
        "server": "ok", "clock": "ok", "version": "ok",
    }  # fmt: skip


def test_only_headers_that_flower_needs_pass() -> None:
    seen: list[httpx.Request] = []

    def superlink(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers={"set-cookie": "a=b", "flwr-x": "y", "content-type": "t/t", "via": "z"})

    sent = {"x-forwarded-for": "9.9.9.9", "cookie": "a=b", "authorization": "Basic x", "flwr-signature": "s"}
    with listening(superlink=superlink) as there:
        reply = httpx.post(f"http://127.0.0.1:{there.port}/v1/fleet/pull-messages", content=b"x", headers=sent)
    assert set(reply.headers) == {"flwr-x", "content-type", "date", "content-length"}
    (passed,) = seen
    assert passed.headers["flwr-signature"] == "s"
    assert not {"x-forwarded-for", "cookie", "authorization"} & set(passed.headers)


# ---- how long, and for how many ----


def test_a_caller_that_says_nothing_is_cut() -> None:
    with listening(Lines(head_s=0.2)) as there, dial(there) as line:
        assert ended(line)


def test_a_caller_that_drips_its_headers_is_cut() -> None:
    with listening(Lines(head_s=0.4)) as there, dial(there) as line:
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(400):  # 20 seconds
                line.sendall(b"GET"[:1])
                time.sleep(0.05)
        assert time.monotonic() - started < 10
        assert ended(line)


def test_a_caller_that_drips_its_second_request_is_cut() -> None:
    with listening(Lines(head_s=0.3)) as there, dial(there) as line:
        assert ask(line).startswith(b"HTTP/1.1 200")
        line.sendall(b"G")
        assert ended(line)


def test_a_caller_that_takes_its_time_between_requests_is_not_cut() -> None:
    with listening(Lines(head_s=0.2, idle_s=5)) as there, dial(there) as line:
        for _ in range(3):
            assert ask(line).startswith(b"HTTP/1.1 200")
            time.sleep(0.4)


def test_a_line_ends_when_its_time_is_over_so_that_a_lapsed_certificate_is_seen() -> None:
    with listening(Lines(life_s=0.3)) as there, dial(there) as line:
        assert ask(line).startswith(b"HTTP/1.1 200")
        time.sleep(0.4)
        assert ask(line).startswith(b"HTTP/1.1 200")
        assert ended(line)


def test_a_body_that_drips_is_cut() -> None:
    with listening(limits=Limits(request_s=0.3)) as there, dial(there) as line:
        line.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1")
        assert line.recv(4096).startswith(b"HTTP/1.1 408")
        assert ended(line)


def test_headers_without_end_are_refused() -> None:
    with listening(Lines(head=4096)) as there, dial(there) as line:
        assert ask(line, HEAD + b"x: " + b"y" * 8192).startswith(b"HTTP/1.1 400")


def test_a_body_that_is_announced_too_large_is_refused_unread() -> None:
    with listening(limits=Limits(body=10)) as there, dial(there) as line:
        head = b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n"
        assert ask(line, head).startswith(b"HTTP/1.1 413")
        assert ended(line)


def test_a_refused_caller_cannot_go_on_sending() -> None:
    """What comes after a 404 would be read and thrown away for as long as it likes."""
    with listening() as there, dial(there) as line:
        assert ask(line, b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n").startswith(
            b"HTTP/1.1 404"
        )
        assert ended(line)


def test_pipelined_requests_are_answered_one_by_one() -> None:
    running, most = 0, 0

    def superlink(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        running -= 1
        return httpx.Response(200, content=b"well")

    with listening(superlink=superlink) as there, dial(there) as line:
        line.sendall((HEAD + b"\r\n") * 50)
        heard = b""
        while heard.count(b"HTTP/1.1 200") < 50:
            heard += line.recv(65536)
    assert most == 1


def test_what_is_under_way_is_bounded_and_given_back() -> None:
    limits = Limits(body=100, held=300)  # an address has half of it
    head = b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    with listening(limits=limits) as there, dial(there) as first, dial(there) as second:
        first.sendall(head + b"x" * 90)
        time.sleep(0.2)
        assert ask(second, head + b"x" * 100).startswith(b"HTTP/1.1 503")
        assert ask(first, b"x" * 10).startswith(b"HTTP/1.1 200")
        with dial(there) as third:
            assert ask(third, head + b"x" * 100).startswith(b"HTTP/1.1 200")


def test_one_address_cannot_take_every_line() -> None:
    with listening(Lines(an_address=2)) as there, dial(there) as one, dial(there) as two:
        assert ask(one).startswith(b"HTTP/1.1 200")
        assert ask(two).startswith(b"HTTP/1.1 200")
        with dial(there) as three:
            assert ended(three)
        one.close()
        time.sleep(0.2)
        with dial(there) as four:
            assert ask(four).startswith(b"HTTP/1.1 200")


def test_lines_are_counted_over_all_addresses() -> None:
    with listening(Lines(connections=1)) as there, dial(there) as one:
        assert ask(one).startswith(b"HTTP/1.1 200")
        with dial(there) as two:
            assert ended(two)


def test_a_handshake_that_is_never_begun_is_cut(fed: Path) -> None:
    place = ServerPlace.of(fed)
    context = tls(place.certificate, place.key)
    with listening(Lines(handshake_s=0.3), context=context) as there, dial(there) as line:
        assert ended(line)


def test_a_port_that_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = configured(Gateway("http://x", None), "127.0.0.1", taken.getsockname()[1], None)
        with pytest.raises(PortTaken, match="cannot be listened on"):
            asyncio.run(server.serve())


# ---- who is turned away, and what both sides hear of it ----


@contextlib.contextmanager
def asking(fed: Path, lines: list[str]) -> Iterator[Listening]:
    place = ServerPlace.of(fed)
    context = tls(place.certificate, place.key, place.ca, place.revoked, Refusals(lines.append))
    with listening(context=context) as there:
        yield there


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_revoked_plant_hears_why_and_the_log_names_it(fed: Path, newest: ssl.TLSVersion) -> None:
    """asyncio alone hangs up without sending OpenSSL's alert."""
    home, lines = take_in(fed, "north", NOW), list[str]()
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    context = client_side(home)
    context.maximum_version = newest
    with (
        asking(fed, lines) as there,
        dial(there) as line,
        pytest.raises(ssl.SSLError) as heard,
        context.wrap_socket(line, server_hostname="localhost") as secured,
    ):
        secured.recv(1)
    assert "REVOKED" in (heard.value.reason or "")
    assert len(lines) == 1
    assert "in the name of 'north'" in lines[0]
    assert lines[0].endswith("certificate revoked")


def test_a_plant_that_shows_none_hears_why_and_so_does_preflight(fed: Path) -> None:
    home, lines = take_in(fed, "north", NOW), list[str]()
    with asking(fed, lines) as there:
        found = reach(Peer("127.0.0.1", there.port, home / "ca.crt"))
    assert failed(found) == ["server"]
    assert "asks for this plant's certificate" in said(found, "server")
    assert lines == ["refused a caller that shows no certificate: peer did not return a certificate"]


def test_a_plant_of_another_authority_hears_why(tmp_path: Path, fed: Path) -> None:
    north, lines = take_in(fed, "north", NOW), list[str]()
    other = take_in(make(tmp_path, NOW, "other"), "else", NOW)
    with asking(fed, lines) as there:
        peer = Peer("127.0.0.1", there.port, north / "ca.crt", other / "client.crt", other / "client.key")
        found = reach(peer)
    assert "does not know who issued this plant's certificate" in said(found, "server")
    assert "in the name of 'else'" in lines[0]


def test_a_plant_that_is_let_in_is_no_line(fed: Path) -> None:
    home, lines = take_in(fed, "north", NOW), list[str]()
    with asking(fed, lines) as there:
        found = reach(Peer("127.0.0.1", there.port, home / "ca.crt", home / "client.crt", home / "client.key"))
    assert failed(found) == []
    assert lines == []


def test_rubbish_instead_of_a_handshake_is_no_line(fed: Path) -> None:
    lines = list[str]()
    with asking(fed, lines) as there, dial(there) as line:
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while not ended(line):
            pass
    assert lines == []


def test_the_same_refusal_is_said_once_a_minute() -> None:
    now, lines = [0.0], list[str]()
    refusals = Refusals(lines.append, lambda: now[0])
    for now[0] in (0.0, 1.0, 59.0, 61.0):
        refusals.tell(ssl.SSLError(1, "PEER_DID_NOT_RETURN_A_CERTIFICATE"), b"")
    assert len(lines) == 2


def test_refusals_take_no_more_than_their_memory(monkeypatch: pytest.MonkeyPatch, fed: Path) -> None:
    monkeypatch.setattr(doorstep, "_MOST_KNOWN", 3)
    lines = list[str]()
    refusals = Refusals(lines.append)
    for number in range(10):
        refusals.tell(ssl.SSLError(1, f"reason {number}"), b"")
    assert len(lines) == 10
    assert len(refusals._said) <= 3


@pytest.mark.parametrize("shown", [b"\x30\x82", b"rubbish", bytes(1000)])
def test_a_certificate_that_cannot_be_read_is_no_traceback(shown: bytes) -> None:
    lines = list[str]()
    Refusals(lines.append).tell(ssl.SSLError(1, "CERTIFICATE_X"), shown)
    assert "with a certificate that cannot be read" in lines[0]


@pytest.mark.parametrize("protocol", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_callers_certificate_is_found_in_its_message(fed: Path, protocol: ssl.TLSVersion) -> None:
    pem = (take_in(fed, "north", NOW) / "client.crt").read_bytes()
    der = load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    entry = len(der).to_bytes(3, "big") + der
    context = b"\x00" if protocol is ssl.TLSVersion.TLSv1_3 else b""
    message = b"\x0b\x00\x00\x00" + context + len(entry).to_bytes(3, "big") + entry + b"\x00\x00"
    assert first_certificate(protocol, message) == der
    for cut in range(len(message)):
        first_certificate(protocol, message[:cut])
