"""The beginning of a file, read within bounds: what loaders and the doctor recognise data sets by, not its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Form = Literal["text", "xlsx", "parquet", "npy", "archive", "binary", "empty"]

BYTES, LINES = 65_536, 40
_MARKS: tuple[tuple[bytes, Form], ...] = (
    (b"PAR1", "parquet"),
    (b"\x93NUMPY", "npy"),
    (b"\x1f\x8b", "archive"),
    (b"7z\xbc\xaf", "archive"),
    (b"Rar!", "archive"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ", "archive"),
)


@dataclass(frozen=True)
class Head:
    """What the first bytes of a file say.

    Attributes:
        path: the file.
        form: by content: text, xlsx, parquet, npy, an archive (zip, gzip, ...), other binary, or empty.
        lines: the first whole lines of a text file (at most `LINES`, of `BYTES` together), without line ends and
            byte-order mark; the last one may be cut when the file is one long line.
        size: bytes.
    """

    path: Path
    form: Form
    lines: tuple[str, ...]
    size: int


def peek(path: Path, most: int = BYTES) -> Head:
    """Read the beginning of a file, `most` bytes of it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(most) if size else b""  # what the system makes up on reading (/proc/kmsg) may never end
    form = _form(path, start)
    return Head(path, form, _lines(start, whole=size <= most) if form == "text" else (), size)


def _form(path: Path, start: bytes) -> Form:
    if not start:
        return "empty"
    for mark, form in _MARKS:
        if start.startswith(mark):
            return form
    if start.startswith(b"PK"):
        return "xlsx" if b"[Content_Types].xml" in start or b"xl/" in start or path.suffix == ".xlsx" else "archive"
    return "binary" if b"\x00" in start else "text"


def _lines(start: bytes, whole: bool) -> tuple[str, ...]:
    lines = start.decode("utf-8-sig", errors="replace").splitlines()
    if not whole and len(lines) > 1:
        lines = lines[:-1]
    return tuple(lines[:LINES])


def files_below(path: Path, depth: int = 4, most: int = 5_000) -> Iterator[Path]:
    """Regular files in a folder and below, in order of their names, without hidden ones and links to folders.

    A file gives itself.
    """
    if path.is_file():
        yield path
        return
    found = 0
    for root, folders, names in os.walk(path):
        below = len(Path(root).relative_to(path).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and below < depth)
        for name in sorted(names):
            if not name.startswith(".") and (file := Path(root) / name).is_file():
                yield file
                found += 1
                if found >= most:
                    return
