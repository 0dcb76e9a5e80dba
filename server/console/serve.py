"""Serving the console: where it listens, by which names, under which certificate, until it is told to end."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import uvicorn
from cryptography import x509
from fastapi import FastAPI

from server.console.events import stop
from server.console.settings import LOOPBACK
from server.run.patience import Lines, Protocol
from shared.errors import FileTrouble, InvalidConfig
from shared.service_errors import PortTaken

_ELSEWHERE = (
    "Give --tls-cert and --tls-key; or let a proxy end TLS and name its address with --behind-proxy; "
    "or leave --host out and reach it through `ssh -L`."
)
LINES = Lines(head_s=15.0, idle_s=15.0, head=32 * 2**10, connections=500, an_address=200)
"""What callers may hold; a browser opens six, and one for each page that follows a run."""


@dataclass(frozen=True)
class Listening:
    """Where the console listens.

    Attributes:
        host, port: to bind; port 0: any that is free.
        cert, key: PEM files of its own TLS; both, or neither.
        proxies: addresses or networks of the proxies that end TLS in front of it.
        names: further names by which it may be asked for.
    """

    host: str
    port: int
    cert: Path | None = None
    key: Path | None = None
    proxies: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def secure(self) -> bool:
        """Whether browsers reach it through TLS."""
        return self.cert is not None or bool(self.proxies)

    def checked(self) -> Listening:
        """Itself.

        Raises:
            InvalidConfig: it would be reached without TLS from elsewhere; or half a certificate, or no address.
        """
        if (self.cert is None) != (self.key is None):
            raise InvalidConfig("--tls-cert and --tls-key belong together.", "Give both, or neither.")
        if not is_loopback(self.host) and not self.secure:
            raise InvalidConfig(f"passwords would cross the network in clear to {self.host}.", _ELSEWHERE)
        for proxy in self.proxies:
            _check_network(proxy)
        if self.cert is not None and self.key is not None:
            _check_pair(self.cert, self.key)
        return self

    def hosts(self) -> frozenset[str]:
        """Names by which the console may be asked for."""
        own = {f"[{self.host}]" if ":" in self.host else self.host, *self.names}
        if self.cert is not None:
            own |= set(names_of(self.cert))
        return LOOPBACK | {name.lower() for name in own}

    def url(self, port: int) -> str:
        """What to type into a browser on this machine."""
        shown = "localhost" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104 - what was asked for
        return f"{'https' if self.cert else 'http'}://{f'[{shown}]' if ':' in shown else shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_network(text: str) -> None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidConfig(f"--behind-proxy {text[:60]!r} is no address.", "Give an address or a network.") from error
    if network.prefixlen == 0:
        raise InvalidConfig(f"--behind-proxy {text} would believe everybody.", "Name the proxy's own address.")


def _check_pair(cert: Path, key: Path) -> None:
    def locked() -> str:
        raise InvalidConfig(f"the key {key} is locked with a passphrase.", "Give one that is not, and guard its file.")

    for file in (cert, key):
        if not file.is_file():
            raise FileTrouble(f"{file} is not a file.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, locked)
    except (ssl.SSLError, OSError) as error:
        cause = f"{cert} and {key} are no certificate with its key: {error.strerror or error}."
        raise InvalidConfig(cause, "Both are PEM files, the certificate with its chain.") from error


def names_of(cert: Path) -> list[str]:
    """The names that a certificate is for."""
    try:
        leaf = x509.load_pem_x509_certificate(cert.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *(f"[{a}]" if a.version == 6 else str(a) for a in addresses)]


def bound(listening: Listening) -> socket.socket:
    """A socket that listens.

    Raises:
        PortTaken: somebody listens there already, or this user may not.
        InvalidConfig: there is no such address here.
    """
    try:
        found = socket.getaddrinfo(listening.host, listening.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=128)
    except socket.gaierror as error:
        raise InvalidConfig(
            f"--host {listening.host[:80]!r} is no address of this machine.", "Leave it out."
        ) from error
    except OSError as error:
        cause = f"{listening.host} port {listening.port} cannot be listened on: {error.strerror}."
        raise PortTaken(cause) from error


class _Server(uvicorn.Server):
    """Ends at SIGTERM and SIGINT with exit code 0: to be told to end is no failure."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {sign: signal.signal(sign, self.handle_exit) for sign in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        stop(self.config.app)  # live pages let go of their line by themselves
        super().handle_exit(sig, frame)


def serve(app: FastAPI, listening: Listening, listener: socket.socket, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: the console.
        listening: how.
        listener: `bound`.
        say: gets lines for the log.
    """
    _log_to(say)
    _Server(configured(app, listening)).run(sockets=[listener])


def configured(app: FastAPI, listening: Listening, lines: Lines = LINES) -> uvicorn.Config:
    """How uvicorn serves the console.

    Args:
        app: the console.
        listening: how.
        lines: what callers may hold; all who come through a proxy share its address.
    """
    proxies = list(listening.proxies)
    held = replace(lines, an_address=lines.connections) if proxies else lines
    return uvicorn.Config(
        app,
        http=type("_Patient", (Protocol,), {"lines": held}),  # httptools would take headers without an end
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or "",
        ssl_certfile=listening.cert,
        ssl_keyfile=listening.key,
        limit_concurrency=lines.connections,
        timeout_keep_alive=int(lines.idle_s),
        timeout_graceful_shutdown=1,  # live pages hold their line for ever; they come back by themselves
        h11_max_incomplete_event_size=lines.head,
    )


class _Lines(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


def _log_to(say: Callable[[str], None]) -> None:
    handler = _Lines(say)
    for name in ("uvicorn.error", "server.console"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_worth_a_line)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """That live pages were cut at the end is what was asked for."""
    return "timeout graceful shutdown" not in record.getMessage() and not record.exc_info
