"""Federations on disk in a blink, and TLS servers on loopback that speak with their certificates."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import formatdate
from pathlib import Path

from cryptography.x509 import load_der_x509_certificate

from server.provision.change import approve
from server.provision.federation import create, opened
from server.provision.kit import build_kit
from shared.pki.certificates import common_name, utc_now
from shared.pki.install import install
from shared.pki.kit import write_kit
from shared.pki.request import new_site, read_request
from shared.preflight.verdict import Verdict

HOSTS = ["localhost", "127.0.0.1"]
NOW, DAY = utc_now(), timedelta(days=1)
SECRET = b"PRIVATE KEY"
"""What every private key in PEM says of itself."""


def mode(path: Path) -> int:
    """A file's rights."""
    return stat.S_IMODE(path.stat().st_mode)


def make(tmp: Path, now: datetime, name: str = "water") -> Path:
    """A federation's folder."""
    return create(tmp / name, name, HOSTS, 9443, now).folder


def take_in(folder: Path, name: str, now: datetime) -> Path:
    """A plant with its own folder beside the federation's: keys, approval, kit, installed."""
    home = folder.parent / f"at-{name}"
    new_site(name, home)
    with opened(folder) as federation:
        approve(federation, read_request(home), now)
    return give_kit(folder, name, now)


def give_kit(folder: Path, name: str, now: datetime) -> Path:
    """Write a new kit for a plant, and install it there."""
    home, kit = folder.parent / f"at-{name}", folder.parent / f"{name}-{len(list(folder.parent.glob('*.zip')))}.zip"
    with opened(folder) as federation:
        write_kit(kit, build_kit(federation, federation.site(name), now))
    install(kit, home, now)
    return home


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder; locks do not count."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def server_side(folder: Path, revoked: bool = True) -> ssl.SSLContext:
    """A gateway that asks for certificates, as strict as OpenSSL can be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server/server.crt", folder / "server/server.key")
    context.load_verify_locations(folder / "ca/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    if revoked:
        context.load_verify_locations(folder / "ca/revoked.pem")
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context


def client_side(home: Path, own: bool = True) -> ssl.SSLContext:
    """A plant, as strict as OpenSSL can be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(home / "ca.crt")
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    if own:
        context.load_cert_chain(home / "client.crt", home / "client.key")
    return context


@dataclass
class Served:
    """What a loopback server saw.

    Attributes:
        port: where it listens.
        peers: common names of the plants that it let in.
        refusals: reasons of those that it did not.
    """

    port: int
    peers: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def healthy_answer(clock_s: float = 0.0, status: str = "200 OK") -> Callable[[], bytes]:
    """A gateway's answer of our version, whose clock is so many seconds ahead of ours."""
    import time
    from importlib.metadata import version

    def answer() -> bytes:
        date = formatdate(time.time() + clock_s, usegmt=True)
        own = f"Date: {date}\r\nX-Crossplant-Version: {version('crossplant')}"
        return f"HTTP/1.1 {status}\r\n{own}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()

    return answer


@contextlib.contextmanager
def served(context: ssl.SSLContext | None, answer: Callable[[], bytes] | None = None) -> Iterator[Served]:
    """Answer every connection on a free loopback port until the block ends; `answer` None: say nothing, and hold on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        seen = Served(listening.getsockname()[1])
        over = threading.Event()
        listening.settimeout(0.05)
        thread = threading.Thread(target=_serve, args=(listening, context, answer or _silent(over), seen, over))
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join(10)
            assert not thread.is_alive()


def _silent(over: threading.Event) -> Callable[[], bytes]:
    def wait() -> bytes:
        over.wait(10)
        return b""

    return wait


def _serve(listening: socket.socket, context: ssl.SSLContext | None, answer: Callable[[], bytes], seen: Served,
           over: threading.Event) -> None:  # fmt: skip
    while not over.is_set():
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(5)
            _one(connection, context, answer, seen)


def _one(connection: socket.socket, context: ssl.SSLContext | None, answer: Callable[[], bytes], seen: Served) -> None:
    try:
        if context is None:
            connection.recv(4096)
            return connection.sendall(answer())
        with context.wrap_socket(connection, server_side=True) as secured:
            shown = secured.getpeercert(binary_form=True)
            if shown is not None:
                seen.peers.append(common_name(load_der_x509_certificate(shown)))
            secured.recv(4096)
            return secured.sendall(answer())
    except ssl.SSLCertVerificationError as error:
        seen.refusals.append(error.verify_message)
    except OSError as error:
        seen.refusals.append(str(error))


def call(context: ssl.SSLContext, port: int, host: str = "localhost") -> bytes:
    """One request; the first bytes of the answer.

    Raises:
        OSError: one side refused the other.
    """
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        return secured.recv(4096)


def said(verdicts: Iterable[Verdict], name: str, status: str = "") -> str:
    """What the verdicts of a name (and a status) say, with their cures."""
    return " / ".join(f"{one.says} {one.mend}" for one in verdicts if one.name == name and status in ("", one.status))


def failed(verdicts: Iterable[Verdict]) -> list[str]:
    return [one.name for one in verdicts if one.status == "fail"]


def nobody() -> int:
    """A loopback port that nobody listens on, below those that the system gives out: it stays nobody's."""
    while True:
        port = secrets.randbelow(20_000) + 10_000  # not `random`: Hypothesis gives every process the same seed
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
