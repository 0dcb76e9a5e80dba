"""One writer a store: an advisory lock that a kill releases."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from server.store.models import file_errors
from shared.errors import StoreBusy

_held: set[int] = set()


def _forget_in_child() -> None:
    # A forked worker shares the lock's open file; it must not keep the run locked after its parent was killed.
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; its content names the holder.

    Raises:
        StoreBusy: another process, or another part of this one, holds it.
        StoreError: the lock file cannot be written.
    """
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(descriptor)
    try:
        _take(descriptor, path)
        yield
    finally:
        if descriptor in _held:  # not in a forked child, which closed its copy already
            _held.discard(descriptor)
            os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        raise StoreBusy(f"process {holder or 'unknown'} is writing {path.parent}.") from error
    with file_errors(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
