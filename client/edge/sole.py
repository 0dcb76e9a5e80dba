"""One scorer a state folder: two would take each other's orders, alarms and copies of bundles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.service_errors import AlreadyRunning

LOCK = "scorer.lock"


@contextmanager
def sole(state: Path | None) -> Iterator[None]:
    """Be the only scorer of a state folder; the lock ends with the process, however that ends.

    Unlike `shared.alone` it lets a scorer begin on a full or read-only disk: where no file can be made, or the system
    has no such locks, nothing is locked.

    Args:
        state: the folder; None: there is nothing to share.

    Raises:
        AlreadyRunning: another scorer has it.
    """
    handle = None if state is None else _taken(state / LOCK)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _taken(path: Path) -> int | None:
    try:
        import fcntl

        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        os.close(handle)
        told = f"process {holder or 'unknown'} scores with {path.parent} already."
        raise AlreadyRunning(told, "Give each scorer a --state of its own, or stop the other one.") from None
    except OSError:  # A file system without locks.
        os.close(handle)
        return None
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle
