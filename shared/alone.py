"""One process a folder: an advisory lock that ends with its process, however that ends, and names who holds it.

with alone(home / "run.lock", "plant north"):
    ...
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import FileTrouble
from shared.service_errors import AlreadyRunning

_PATIENCE_S = 1.0
"""Somebody who only asks (`held`) has the lock for an instant."""


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Be the only process that serves `what` while the block runs.

    Args:
        path: the lock file; its folder exists.
        what: for people.

    Raises:
        AlreadyRunning: another process, or another part of this one, does.
        FileTrouble: the file cannot be opened.
    """
    handle = _open(path)
    try:
        if not _taken(handle, fcntl.LOCK_EX, _PATIENCE_S):
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
            raise AlreadyRunning(f"process {holder or 'unknown'} serves {what} already ({path.parent}).")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    except OSError as error:
        raise FileTrouble(f"{path}: {error.strerror}.") from error
    finally:
        os.close(handle)


def held(path: Path) -> bool:
    """Whether a living process holds the lock: a file that says so may be a dead one's."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _taken(handle, fcntl.LOCK_SH, 0.0)
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise FileTrouble(f"{path}: {error.strerror}.") from error


def _taken(handle: int, kind: int, longest_s: float) -> bool:
    ends = time.monotonic() + longest_s
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends:
                return False
            time.sleep(0.05)
        else:
            return True
