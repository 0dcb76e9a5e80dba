"""Can the plant reach the coordinator: name, route, TLS, answer, clock, version. Each needs the one before it."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import importlib.metadata
import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import FileTrouble, InvalidConfig
from shared.preflight.verdict import TookTooLong, Verdict, fail, ok, skip, warn, within

NAMES = ("name", "route", "tls", "server", "clock", "version")
AHEAD_S, BEHIND_S = 5.0, 300.0
"""What Flower 1.41 accepts of a SuperNode's clock: signed times, always on (from its source)."""

VERSION_HEADER = "x-crossplant-version"
"""Of the gateway's answer to `GET /health`."""
REFUSED_HEADER = "x-crossplant-refused"
"""Of an answer in the place of a TLS alert: nginx lets everybody in and refuses in HTTP. Its `$ssl_client_verify`."""

_WARN_DAYS = 30
_TIME = "Set the clock of this machine (NTP); if it is right, tell the operator."
_VERIFY = {
    9: ("the server's certificate is not valid yet", _TIME),
    10: ("the server's certificate has lapsed", "Tell the operator: `crossplant provision renew FED_DIR server`."),
    62: ("the server's certificate is for another name", "Use a name that it bears, or let the operator add this one."),
    64: (
        "the server's certificate is for another address",
        "Use one that it bears, or let the operator add this one.",
    ),
}
_OTHER_CA = ("the server's certificate is of another authority", "Install the newest kit, and check `superlink`.")
_NO_TLS = "Is there a TLS server at `superlink`? If so, it may refuse this plant: ask the operator."
_SILENT = "the server took the connection and does not answer."
_ALERTS = {
    "REVOKED": ("this plant's certificate is revoked", "Ask the operator why; `provision site list` shows it there."),
    "EXPIRED": ("this plant's certificate has lapsed", "Ask the operator for a new kit."),
    "UNKNOWN_CA": ("the server does not know who issued this plant's certificate", "Ask the operator for a new kit."),
    "CERTIFICATE_REQUIRED": (
        "the server asks for this plant's certificate",
        'Set client_certificate = "client.crt" and client_key = "client.key" in plant.toml.',
    ),
    "BAD_CERTIFICATE": ("the server does not take this plant's certificate", "Ask the operator for a new kit."),
}


@dataclass(frozen=True)
class Peer:
    """Where to dial, and with which files.

    Attributes:
        host, port: as the plant dials.
        roots: authorities to trust; None without TLS.
        certificate, key: what the plant shows, if anything.
        name: the name to expect in the certificate; None: `host`.
    """

    host: str
    port: int
    roots: Path | None
    certificate: Path | None = None
    key: Path | None = None
    name: str | None = None


def parse_address(address: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        InvalidConfig: it is not `host:port`.

    Example:
        >>> parse_address("fl.example.org:9443"), parse_address("[::1]:9443")
        (('fl.example.org', 9443), ('::1', 9443))
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", address)
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise InvalidConfig(f"superlink = {address[:80]!r} is not host:port.", "Write it as in the operator's kit.")
    return match[1] or match[2], int(match[3])


def reach(peer: Peer, patience_s: float = 4.0) -> list[Verdict]:
    """Dial the coordinator as the plant will.

    Args:
        peer: whom.
        patience_s: for each step; an unreachable server is one failure after some seconds.
    """
    found: list[Verdict] = []
    for verdict in _steps(peer, patience_s):
        found.append(verdict)
        if verdict.status == "fail":
            break
    seen = {one.name for one in found}
    return found + [skip(name, "not checked: the step before it failed") for name in NAMES if name not in seen]


def _steps(peer: Peer, patience_s: float) -> Iterator[Verdict]:
    named = _resolve(peer, patience_s)
    yield named
    connected = _connect(peer, patience_s)
    if isinstance(connected, Verdict):
        yield connected
        return
    with connected:
        yield ok("route", f"port {peer.port} of {connected.getpeername()[0]} answers")
        try:
            yield from within(2 * patience_s, lambda: list(_talk(peer, connected)))
        except TookTooLong:
            yield fail("server", _SILENT, "Tell the operator.")


def _resolve(peer: Peer, patience_s: float) -> Verdict:
    mend = "Check `superlink` in plant.toml and this machine's name server (or its hosts file)."
    try:
        found = within(patience_s, lambda: socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM))
    except TookTooLong:
        return fail("name", f"the look-up of {peer.host} took longer than {patience_s:g} s.", mend)
    except (OSError, UnicodeError) as error:
        return fail("name", f"{peer.host} has no address: {getattr(error, 'strerror', None) or error}.", mend)
    return ok("name", f"{peer.host} is {', '.join(sorted({str(one[4][0]) for one in found}))}")


def _connect(peer: Peer, patience_s: float) -> socket.socket | Verdict:
    mend = f"Let this machine connect out to TCP port {peer.port} (firewall, route), and check that the server runs."
    try:
        return within(2 * patience_s, lambda: socket.create_connection((peer.host, peer.port), timeout=patience_s))
    except (TookTooLong, TimeoutError):
        return fail("route", f"{peer.host}:{peer.port} does not answer within {patience_s:g} s.", mend)
    except OSError as error:
        return fail("route", f"{peer.host}:{peer.port}: {error.strerror or error}.", mend)


def _talk(peer: Peer, connected: socket.socket) -> Iterator[Verdict]:
    if peer.roots is None:
        yield warn("tls", "no root_certificates: the connection is not protected.", 'Set root_certificates = "ca.crt".')
        yield from _ask(peer, connected)
        return
    try:
        started = time.monotonic()
        with client_context(peer).wrap_socket(connected, server_hostname=peer.name or peer.host) as secured:
            yield _shown(secured)
            _listen(secured, max(0.3, 2 * (time.monotonic() - started)))
            yield from _ask(peer, secured)
    except ssl.SSLError as error:
        yield refusal(error) or fail("tls", f"the handshake failed: {error.reason or error}.", _NO_TLS)
    except OSError as error:
        yield fail("tls", f"the connection broke off: {error.strerror or error}.", _NO_TLS)


def client_context(peer: Peer) -> ssl.SSLContext:
    """As Flower 1.41 makes it (`ProtobufClient.from_server_address`), with the plant's own certificate.

    Raises:
        FileTrouble: a file is missing, damaged, or the certificate is not for the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=peer.roots)
        if peer.certificate is not None and peer.key is not None:
            context.load_cert_chain(peer.certificate, peer.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise FileTrouble(f"the certificates cannot be loaded: {error}.", "Install the kit again.") from error
    return context


def _shown(secured: ssl.SSLSocket) -> Verdict:
    ends = str((secured.getpeercert() or {}).get("notAfter", ""))
    days = int((ssl.cert_time_to_seconds(ends) - time.time()) // 86400)
    says = f"{secured.version()}, the server's certificate has {days} days left"
    if days < _WARN_DAYS:
        return warn("tls", f"{says}.", "Tell the operator: `crossplant provision renew FED_DIR server`.")
    return ok("tls", says)


def _listen(secured: ssl.SSLSocket, patience_s: float) -> None:
    """Hear the server's refusal before anything is sent: a request that crosses it would turn it into a reset.

    Raises:
        ssl.SSLError: with TLS 1.3 the server judges the plant's certificate after the handshake, and says so here.
    """
    usual = secured.gettimeout()
    secured.settimeout(patience_s)
    with contextlib.suppress(TimeoutError):
        secured.recv(1)
    secured.settimeout(usual)


def refusal(error: ssl.SSLError | None) -> Verdict | None:
    """Why one side does not take the other's certificate; None when it is about anything else.

    With TLS 1.3 the server judges the plant's after the handshake, in an alert.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        says, mend = _VERIFY.get(error.verify_code, _OTHER_CA)
        return fail("tls", f"{says} ({error.verify_message}).", mend)
    reason = "" if error is None else str(getattr(error, "reason", None) or error).upper()
    for word, (says, mend) in _ALERTS.items():
        if word in reason:
            return fail("server", f"{says}.", mend)
    return None


def refused_in_http(told: str | None) -> Verdict | None:
    """The same from a proxy that refuses in its answer.

    Args:
        told: the answer's `REFUSED_HEADER`: `NONE`, or `FAILED:` and OpenSSL's reason; None: it has none.

    Example:
        >>> refused_in_http("FAILED:certificate revoked").says
        "this plant's certificate is revoked."
    """
    if told is None or told == "SUCCESS":
        return None
    words = {"NONE": "CERTIFICATE_REQUIRED", "revoked": "REVOKED", "expired": "EXPIRED", "issuer": "UNKNOWN_CA"}
    says, mend = _ALERTS[next((alert for word, alert in words.items() if word in told), "BAD_CERTIFICATE")]
    return fail("server", f"{says}.", mend)


def refuses(verdict: Verdict) -> bool:
    """Whether a verdict is `refusal`'s: it stays as it is until somebody changes a file."""
    known = [says for says, _ in (*_ALERTS.values(), *_VERIFY.values(), _OTHER_CA)]
    return verdict.status == "fail" and verdict.says.startswith(tuple(known))


def asks_for_certificate(verdict: Verdict) -> bool:
    """Whether a gateway refused a caller that showed none: to the operator, it is well."""
    return verdict.status == "fail" and verdict.says.startswith(_ALERTS["CERTIFICATE_REQUIRED"][0])


def _ask(peer: Peer, connection: socket.socket) -> Iterator[Verdict]:
    """`GET /health`, and the time that the answer bears."""
    host = f"[{peer.host}]" if ":" in peer.host else peer.host
    started = time.time()
    connection.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    reply = http.client.HTTPResponse(connection)
    try:
        reply.begin()
    except TimeoutError:
        yield fail("server", _SILENT, "Tell the operator.")
        return
    except ConnectionError as error:
        yield fail("server", f"the server hung up ({type(error).__name__}).", _NO_TLS)
        return
    except http.client.HTTPException as error:
        yield fail("server", f"the answer is no HTTP ({type(error).__name__}).", "Check host and port of `superlink`.")
        return
    here = (started + time.time()) / 2
    if (refused := refused_in_http(reply.getheader(REFUSED_HEADER))) is not None:
        yield refused
    elif reply.status == 200:
        yield ok("server", "the coordinator is well")
    elif reply.status in (502, 503, 504):
        yield fail(
            "server", f"the gateway answers, the coordinator behind it does not ({reply.status}).", "Tell the operator."
        )
    else:
        yield fail("server", f"GET /health is answered by {reply.status}.", "Check host and port of `superlink`.")
    yield judge_clock(reply.getheader("Date"), here)
    yield judge_version(reply.getheader(VERSION_HEADER))


def judge_clock(date: str | None, here_s: float) -> Verdict:
    """The time of this machine beside the server's, which counts whole seconds.

    Args:
        date: the `Date` of an HTTP answer.
        here_s: seconds since 1970 on this machine at that moment.
    """
    try:
        there = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return skip("clock", "the server tells no time")
    ahead = here_s - there - 0.5
    says = f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server"
    if ahead > AHEAD_S or ahead < -BEHIND_S:
        return fail(
            "clock", f"{says}; Flower takes {AHEAD_S:g} s ahead, {BEHIND_S:g} s behind.", "Set the clock (NTP)."
        )
    if abs(ahead) > 2:
        return warn("clock", f"{says}.", "Keep the clock by NTP.")
    return ok("clock", "this machine's clock agrees with the server's")


def judge_version(theirs: str | None, ours: str | None = None) -> Verdict:
    """The coordinator's version beside this plant's.

    Args:
        theirs: as the gateway tells it; None when it does not.
        ours: None: what is installed here.
    """
    if theirs is None or not re.fullmatch(r"\d+\.\d+[0-9A-Za-z.+-]{0,30}", theirs):
        return skip("version", "the server tells no version")
    here = ours or importlib.metadata.version("crossplant")
    if here == theirs:
        return ok("version", f"crossplant {here}, as at the coordinator")
    says, mend = f"crossplant {here} here, {theirs} at the coordinator.", f"pip install crossplant=={theirs}"
    alike = here.split(".")[:2] == theirs.split(".")[:2]
    return warn("version", says, mend) if alike else fail("version", says, mend)
