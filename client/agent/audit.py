"""The plant's audit log: one JSON line a request, written and on the disk before anything is answered.

`audit.jsonl` is the newest file, `audit-LASTLINE.jsonl` are older ones, kept for ever. Every line holds its number and
the SHA-256 of the line before it, over all files; `head.json` holds number and digest of the newest line. So a line
that was changed, removed or put in shows, and so does a missing end, unless somebody rewrites all that follows: note
the digest that `crossplant client audit --verify` prints elsewhere, and that shows too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.disk import replace_file, sync_folder
from shared.errors import AuditBroken

GENESIS = "0" * 64
NEWEST, HEAD = "audit.jsonl", "head.json"

_ROOM = 2**20  # bytes that must be free before a request is looked at


@dataclass(frozen=True)
class Mark:
    """A place in the chain: a line's number, from 1, and its digest."""

    number: int = 0
    digest: str = GENESIS


class AuditLog:
    """The log of one plant, open for writing; one process has it.

    Args:
        folder: made when missing, for the agent's user only.
        most_bytes: of one file.

    Raises:
        AuditBroken: the end of the log is not what was written last, or the folder cannot be used.
    """

    def __init__(self, folder: Path, most_bytes: int = 16 * 2**20) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._lock = threading.Lock()
        self._broken = ""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            torn = _drop_torn_line(folder / NEWEST)
            self._mark = _end(folder)
            self._file = self._open()
        except OSError as error:
            raise AuditBroken(f"cannot use the audit log {folder}: {error.strerror}.", "Check its rights.") from error
        if torn:
            self.append({"event": "mended", "torn_bytes": torn})

    @property
    def mark(self) -> Mark:
        """The newest line."""
        return self._mark

    def check(self) -> None:
        """Make sure that there is room for what will have to be logged.

        Raises:
            AuditBroken: there is none.
        """
        if self._broken:
            raise AuditBroken(self._broken)
        if shutil.disk_usage(self._folder).free < _ROOM:
            raise AuditBroken(f"less than {_ROOM:,} bytes are free for the audit log.", "Free some space.")

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one line; when this returns it is on the disk.

        Raises:
            AuditBroken: it could not be written, and nothing of it was.
        """
        with self._lock:
            number = self._mark.number + 1
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            if self._broken:
                raise AuditBroken(self._broken)
            body = {"n": number, "time": now, **entry, "before": self._mark.digest}
            line = json.dumps(body, separators=(",", ":")).encode("ascii")
            try:
                self._rotate(len(line))
                self._write(line, Mark(number, digest_of(line)))
            except OSError as error:
                raise AuditBroken(f"cannot write the audit log: {error.strerror}.", "Free some space.") from error

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._folder / NEWEST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _write(self, line: bytes, mark: Mark) -> None:
        """Line and head, or neither."""
        size = os.fstat(self._file).st_size
        try:
            _write_all(self._file, line + b"\n")
            os.fsync(self._file)
            head = {"n": mark.number, "digest": mark.digest}
            replace_file(self._folder / HEAD, json.dumps(head).encode())
        except OSError:
            self._take_back(size)
            raise
        self._mark = mark

    def _take_back(self, size: int) -> None:
        try:
            os.ftruncate(self._file, size)
        except OSError as error:  # what a line that hangs in the air would do to the chain, nobody must find out
            self._broken = f"the audit log could neither be written nor mended: {error.strerror}."

    def _rotate(self, coming: int) -> None:
        size = os.fstat(self._file).st_size
        if size == 0 or size + coming < self._most_bytes:
            return
        older = self._folder / f"audit-{self._mark.number:012d}.jsonl"
        os.rename(self._folder / NEWEST, older)
        try:
            fresh = self._open()
        except OSError:
            os.rename(older, self._folder / NEWEST)
            raise
        os.close(self._file)
        self._file = fresh
        sync_folder(self._folder)


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def digest_of(line: bytes) -> str:
    """Digest of a line without its end."""
    return hashlib.sha256(line).hexdigest()


def files(folder: Path) -> list[Path]:
    """The log's files, oldest first."""
    newest = folder / NEWEST
    return [*sorted(folder.glob("audit-*.jsonl")), *([newest] if newest.exists() else [])]


def lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every whole line with its place, `FILE:NUMBER`, oldest first."""
    for path in files(folder):
        with path.open("rb") as file:
            for at, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield f"{path.name}:{at}", line[:-1]


def verify(folder: Path) -> Mark:
    """Check the whole chain; the newest line.

    Raises:
        AuditBroken: a line was changed, removed or put in; its place is named.
    """
    head, mark, seen = _head(folder), Mark(), False
    for place, line in lines(folder):
        mark = _next(place, line, mark)
        seen = seen or mark == head
    if head.number and not seen:
        raise AuditBroken(f"{folder}: line {head.number:,}, the newest that was written, is missing or changed.")
    return mark


def _next(place: str, line: bytes, before: Mark) -> Mark:
    entry = _entry(place, line)
    if entry.get("n") != before.number + 1 or entry.get("before") != before.digest:
        raise AuditBroken(f"{place}: this line does not follow line {before.number:,}: one of the two was changed.")
    return Mark(before.number + 1, digest_of(line))


def _entry(place: str, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AuditBroken(f"{place}: this line is no JSON.") from error
    if type(entry) is not dict:
        raise AuditBroken(f"{place}: this line is no entry.")
    return entry


def _head(folder: Path) -> Mark:
    try:
        found = json.loads((folder / HEAD).read_bytes())
        return Mark(int(found["n"]), str(found["digest"]))
    except FileNotFoundError:
        return Mark()
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise AuditBroken(f"{folder / HEAD} cannot be read.") from error


def _end(folder: Path) -> Mark:
    """The newest line, which must be the one that the head names or, after a power cut, the one that follows it."""
    head, last = _head(folder), b""
    for path in reversed(files(folder)):
        last = _last_line(path)
        if last:
            break
    entry = _entry(str(folder / NEWEST), last) if last else {"n": 0}
    mark = Mark(entry.get("n", -1), digest_of(last)) if last else Mark()
    if mark == head or (entry.get("n") == head.number + 1 and entry.get("before") == head.digest):
        return mark
    raise AuditBroken(f"{folder}: the log does not end with line {head.number:,}, the newest that was written.")


def _last_line(path: Path, longest: int = 2**20) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - longest))
        return file.read().rstrip(b"\n").rpartition(b"\n")[2]


def _drop_torn_line(path: Path) -> int:
    """Remove what a crash left of a line that was never finished, and so never answered; its bytes."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    torn = len(data) - (data.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, len(data) - torn)
    return torn
