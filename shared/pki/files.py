"""Small files that must never be half there: bounded reads, atomic writes, several files changed as one.

A `Change` is a journal: its files are written beside the folder's own, then one rename makes the change certain, and
whoever opens the folder next carries out what a crash left undone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared import disk
from shared.disk import sync_folder
from shared.errors import FileTrouble

MOST_BYTES = 1 << 20
"""No key, certificate or settings file is larger."""

PRIVATE, PUBLIC, SCRIPT = 0o600, 0o644, 0o755
_PENDING, _STAGING, _LOCK = ".pending", ".staging-", ".lock"


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """A small file's content.

    Raises:
        FileTrouble: it is missing, no plain file, too large or unreadable.
    """
    try:
        if path.exists() and not path.is_file():
            raise FileTrouble(f"{path} is not a plain file.")
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except FileNotFoundError as error:
        raise FileTrouble(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:
        raise FileTrouble(f"cannot read {path}: {_reason(error)}.") from error
    if len(data) > most:
        raise FileTrouble(f"{path} is larger than {most} bytes, which no such file is.")
    return data


def read_table(path: Path) -> dict[str, Any]:
    """A small TOML file.

    Raises:
        FileTrouble: it cannot be read, or is no TOML.
    """
    return parse_table(read_bytes(path), str(path))


def parse_table(data: bytes, where: str) -> dict[str, Any]:
    """TOML from bytes.

    Raises:
        FileTrouble: it is none.
    """
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # Broken UTF-8 or TOML, or numbers of thousands of digits.
        raise FileTrouble(f"{where} is not valid TOML: {str(error)[:200]}.", "Correct the file.") from error


def quoted(text: str) -> str:
    """A TOML string, with its quotes.

    Example:
        >>> quoted("a b")
        '"a b"'
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_new(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Write a file that nobody else may have made, with its final rights from the first byte on, and sync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)  # Whatever the umask was.
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)


def replace_file(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Write a file so that a reader sees the old content or the new.

    Raises:
        FileTrouble: the disk refuses.
    """
    try:
        disk.replace_file(path, data, mode)
    except OSError as error:
        raise FileTrouble(f"cannot write {path}: {_reason(error)}.") from error


@contextlib.contextmanager
def new_folder(folder: Path, mode: int = 0o700) -> Iterator[Path]:
    """A folder to fill, which takes its place when the block ends well and leaves no trace otherwise.

    Raises:
        FileTrouble: the place holds something already, or the disk refuses.
    """
    final = folder.absolute()
    _refuse_used(final, folder)
    scratch: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{final.name[:80]}.", dir=final.parent))
        yield scratch
        scratch.chmod(mode)
        _sync_tree(scratch)
        os.rename(scratch, final)  # Onto nothing or an empty folder; anything else refuses.
        sync_folder(final.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            _refuse_used(final, folder)
        raise FileTrouble(f"cannot make {folder}: {_reason(error)}.") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _refuse_used(final: Path, shown: Path) -> None:
    try:
        used = final.exists() and (not final.is_dir() or any(final.iterdir()))
    except OSError as error:
        raise FileTrouble(f"cannot look into {shown}: {_reason(error)}.") from error
    if used:
        raise FileTrouble(f"{shown} already holds something.", "Choose another folder.")


class Change:
    """Several files of one folder, replaced as one: `write` each, then `commit`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staged = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))

    def write(self, name: str, data: bytes, mode: int = PUBLIC) -> None:
        """Stage a file; `name` is relative to the folder."""
        path = self._staged / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_new(path, data, mode)

    def commit(self) -> None:
        """Make the change certain, then carry it out."""
        _sync_tree(self._staged)
        os.rename(self._staged, self._folder / _PENDING)
        sync_folder(self._folder)
        _carry_out(self._folder)

    def drop(self) -> None:
        """Forget what was staged and not committed."""
        shutil.rmtree(self._staged, ignore_errors=True)


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[Change]:
    """A change of a folder that is held: committed when the block ends well, else dropped.

    Raises:
        FileTrouble: the disk refuses.
    """
    try:
        change = Change(folder)
    except OSError as error:
        raise FileTrouble(f"cannot write into {folder}: {_reason(error)}.") from error
    try:
        yield change
        change.commit()
    except OSError as error:
        raise FileTrouble(f"cannot write into {folder}: {_reason(error)}.") from error
    finally:
        change.drop()


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else changes the folder meanwhile; a change that a crash interrupted is finished first.

    Raises:
        FileTrouble: the folder does not exist, another command holds it, or the disk refuses.
    """
    if not folder.is_dir():
        raise FileTrouble(f"the folder {folder} does not exist.")
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, PRIVATE)
    except OSError as error:
        raise FileTrouble(f"cannot write into {folder}: {_reason(error)}.") from error
    try:
        _lock(descriptor, folder)
        _carry_out(folder)
        for leftover in folder.glob(f"{_STAGING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise FileTrouble(f"another command is changing {folder}.", "Wait for it to end.") from error


def _carry_out(folder: Path) -> None:
    """Move the files of a committed change to their places. Doing it twice does no harm."""
    pending = folder / _PENDING
    if not pending.is_dir():
        return
    for path in sorted(pending.rglob("*")):
        if path.is_file():
            place = folder / path.relative_to(pending)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
            sync_folder(place.parent)
    shutil.rmtree(pending)
    sync_folder(folder)


def _sync_tree(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
