"""Files that hold the old content or the new one, whatever is switched off in between: the one place that does it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file so that readers see the old content or the new one, and it is on the disk afterwards.

    The scratch file's name is always the same for the same file: a killed writer leaves nothing that grows. Two writers
    at the same time are the caller's to keep apart.

    Args:
        path: the file; its folder exists.
        data: its content.
        mode: its rights from the first byte on, whatever the umask; None: as for any new file.

    Raises:
        OSError: the disk refuses; the file is what it was.
    """
    scratch = path.with_name(f".{path.name}.new")
    try:
        scratch.unlink(missing_ok=True)  # A killed writer's, or a link that somebody laid there.
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        scratch.replace(path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: it cannot be opened.
    """
    if os.name != "nt":  # Windows opens no folders, and syncs their names by itself.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
