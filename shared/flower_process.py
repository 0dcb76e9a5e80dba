"""What every Flower process of ours is started with, and checked for; nothing here imports Flower."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from shared.errors import FileTrouble, InvalidConfig, MissingExtra
from shared.service_errors import PortTaken

LOOPBACK = "127.0.0.1"


def script(name: str) -> str:
    """Path of a console script that belongs to this Python, whatever PATH says.

    Raises:
        MissingExtra: it is not installed.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise MissingExtra(f"{name} is not installed beside {sys.executable}.")
    return str(path)


def environment(home: Path) -> dict[str, str]:
    """Variables of a Flower process: a home of its own, no telemetry, no update check, nothing installed at run time.

    Flower starts its task processes by name: the folder of this Python's scripts comes first in PATH.
    """
    home.mkdir(parents=True, exist_ok=True)
    scripts = str(Path(sys.executable).parent)
    return {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), LOOPBACK, "localhost"])),
        "PYTHONUNBUFFERED": "1",
    }


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(host: str, port: int) -> None:
    """See that something can listen there.

    Args:
        host: address; empty for all.
        port: 0 for any.

    Raises:
        PortTaken: somebody listens there already, or this user may not.
        InvalidConfig: the host is no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"another process listens on {host}:{port} already.") from error
        if error.errno == errno.EACCES:
            raise PortTaken(f"this user may not listen on port {port}.", "Choose a --port above 1023.") from error
        raise InvalidConfig(
            f"cannot listen on {host}: {error.strerror}.", "Give an address of this machine."
        ) from error


def check_secret(path: Path) -> None:
    """See that a private key is not readable by every user of the machine; Flower does not look.

    Raises:
        FileTrouble: it is, or it cannot be read by this one.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IRWXO:
        raise FileTrouble(f"every user of this machine may read {path} (mode {mode:o}).", f"chmod 600 {path}")
    if not os.access(path, os.R_OK):
        raise FileTrouble(f"this user may not read {path} (mode {mode:o}).", f"chown {os.geteuid()} {path}")


def healthy(url: str, root: Path | None = None, any_name: bool = False) -> Callable[[], bool]:
    """Whether `GET url` answers 200, as a question that can be asked again and again.

    Args:
        url: http or https.
        root: certificates to trust; needed with https.
        any_name: the certificate may be for other names than the one in the URL: those that plants dial.
    """

    def ask() -> bool:
        context = None if root is None else ssl.create_default_context(cafile=str(root))
        if context is not None:
            context.check_hostname = not any_name
        handlers = [] if context is None else [urllib.request.HTTPSHandler(context=context)]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)
        try:
            with opener.open(url, timeout=2.0) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError, ValueError):
            return False

    return ask


def listening(host: str, port: int, root: Path | None = None) -> Callable[[], bool]:
    """Whether somebody takes connections on a port, as a question that can be asked again and again.

    Args:
        host, port: whom to dial.
        root: given, it must show a certificate of these authorities, for whatever names.
    """

    def ask() -> bool:
        try:
            with socket.create_connection((host, port), timeout=2.0) as plain:
                if root is None:
                    return True
                context = ssl.create_default_context(cafile=str(root))
                context.check_hostname = False
                with context.wrap_socket(plain):
                    return True
        except (OSError, ValueError):
            return False

    return ask
