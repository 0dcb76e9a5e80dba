"""Mosquitto on a free loopback port for tests: started, stopped, restarted and frozen by its own process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.pki import nobody

PROGRAM = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
needs_mosquitto = pytest.mark.skipif(PROGRAM is None, reason="needs the Debian package `mosquitto`")


@dataclass
class Mosquitto:
    """A broker.

    Attributes:
        port, folder: where it listens, and where its files are.
        lines: of its configuration, besides the port.
    """

    port: int
    folder: Path
    lines: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Serve; the same port every time."""
        told = (f"listener {self.port} 127.0.0.1", f"user {_owner()}", "persistence false", *self.lines)
        (self.folder / "mosquitto.conf").write_text("\n".join(told) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            assert PROGRAM is not None
            self.process = subprocess.Popen(
                [PROGRAM, "-c", str(self.folder / "mosquitto.conf")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        ends = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
            assert time.monotonic() < ends
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
            self.process = None


def _owner() -> str:
    """Mosquitto gives up root's rights otherwise, and cannot read the tests' files then."""
    return "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")


def password_file(folder: Path, **users: str) -> Path:
    """A password file as Mosquitto's own program writes it."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs the Debian package `mosquitto`")
    path = folder / "passwords"
    path.write_text("".join(f"{user}:{word}\n" for user, word in users.items()))
    path.chmod(0o600)
    subprocess.run([program, "-U", str(path)], check=True, capture_output=True)
    return path


@contextlib.contextmanager
def broker(folder: Path, *lines: str) -> Iterator[Mosquitto]:
    """A broker until the block ends; without `lines`, everybody may do everything."""
    folder.mkdir(exist_ok=True)
    running = Mosquitto(nobody(), folder, lines or ("allow_anonymous true",))
    running.start()
    try:
        yield running
    finally:
        running.stop()
