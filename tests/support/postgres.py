"""A PostgreSQL server for tests: its own folder and Unix socket, no port, ended by its own process id.

It refuses to run as root, so where the tests do, it belongs to `postgres` or `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

_USER = "crossplant"


def _folder() -> Path | None:
    """Where Debian keeps the programs of the newest version, or where they are on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    program = found[-1] if found else shutil.which("initdb")
    return None if program is None else Path(program).resolve().parent


PROGRAMS = _folder()
needs_postgres = pytest.mark.skipif(PROGRAMS is None, reason="needs the Debian package `postgresql`")


def _owner() -> dict[str, Any]:
    """Who runs it, for `subprocess`."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is neither `postgres` nor `nobody`")


@dataclass
class Postgres:
    """A server.

    Attributes:
        folder: of its files and its socket; only its owner may enter.
    """

    folder: Path
    owner: dict[str, Any]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    made: int = 0

    def start(self) -> None:
        """Serve; the same data every time."""
        words = ["-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            program = [_program("postgres"), *words, "-c", "max_connections=50", "-c", "shared_buffers=32MB"]
            self.process = subprocess.Popen(
                program, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.owner
            )
        ends = time.monotonic() + 30
        while True:
            with contextlib.suppress(psycopg.OperationalError), self.connect():
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < ends
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, and every connection with it."""
        if self.process is None:
            return
        words = [_program("pg_ctl"), "stop", "-D", self.folder / "data", "-m", "fast", "-w", "-t", "20"]
        subprocess.run(words, cwd=self.folder, capture_output=True, check=False, **self.owner)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait(5)
        self.process = None

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection without any of our code between."""
        return psycopg.connect(host=str(self.folder), user=_USER, dbname=database, autocommit=True, connect_timeout=5)

    def database(self) -> str:
        """The URL of a new database."""
        self.made += 1
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE store{self.made}")
        return f"postgresql+psycopg://{_USER}@/store{self.made}?host={self.folder}"


def _program(name: str) -> Path:
    assert PROGRAMS is not None
    return PROGRAMS / name


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A server until the block ends."""
    owner = _owner()
    folder = Path(tempfile.mkdtemp(prefix="cp-pg-", dir="/tmp"))  # a socket's path may have 107 characters
    server = Postgres(folder, owner)
    try:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        words = [_program("initdb"), "-D", folder / "data", "-U", _USER, "--auth=trust", "--no-sync", "-E", "UTF8"]
        told = subprocess.run([*words, "--locale=C"], cwd=folder, capture_output=True, text=True, check=False, **owner)
        assert told.returncode == 0, told.stderr
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
