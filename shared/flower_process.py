"""What every Flower process of ours is started with; nothing here imports Flower."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from shared.errors import MissingExtra

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


def healthy(url: str, root: Path | None = None) -> Callable[[], bool]:
    """Whether `GET url` answers 200, as a question that can be asked again and again.

    Args:
        url: http or https.
        root: certificates to trust; needed with https.
    """

    def ask() -> bool:
        context = None if root is None else ssl.create_default_context(cafile=str(root))
        handlers = [] if context is None else [urllib.request.HTTPSHandler(context=context)]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)
        try:
            with opener.open(url, timeout=2.0) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError, ValueError):
            return False

    return ask
