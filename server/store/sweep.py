"""Removes model files that nothing needs any more, while a writer may be at work.

A writer puts its files first and commits its round afterwards, and a file that is there already it only marks by its
time. So a file that was marked lately is never removed; and one is renamed before it is looked at for the last time,
that no mark is missed in between.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.store.models import MODEL, MOMENTS, OPTIMIZER, file_errors

ORPHAN_S = 3600.0
"""How old a file must be that no round ever named: its writer may be about to."""
WRITER_S = 600.0
"""The same of one that a pruned round named, while somebody writes the store."""

_NAME = re.compile(rf"([0-9a-f]{{64}})(?:{'|'.join(re.escape(suffix) for suffix in (MODEL, OPTIMIZER, MOMENTS))})")
_GONE, _STAGED = ".gone", ".tmp"


@dataclass(frozen=True)
class Needs:
    """Which files are needed.

    Attributes:
        needed: digests that rounds, settings and orders name.
        known: those that pruned rounds named.
        own: whether the folder belongs to this store alone, so that what nobody names may go.
        alone: whether nobody writes the store.
    """

    needed: Collection[str]
    known: Collection[str]
    own: bool
    alone: bool

    def grace_s(self, digest: str) -> float | None:
        """How old a file must be to go; None: it stays."""
        if digest in self.needed:
            return None
        if digest in self.known:
            return 0.0 if self.alone else WRITER_S
        return ORPHAN_S if self.own else None


@dataclass(frozen=True)
class Swept:
    """What went: files and their bytes; and how many were too young."""

    files: int
    bytes: int
    later: int


def sweep(folders: Iterable[Path], needs: Needs) -> Swept:
    """Remove what may go.

    Raises:
        StoreError: a folder cannot be written.
    """
    files = size = later = 0
    for folder in folders:
        with file_errors(folder):
            _mend(folder, needs)
            for path, grace_s in _idle(folder, needs):
                went = _remove(path, grace_s)
                files, size, later = files + (went is not None), size + (went or 0), later + (went is None)
    return Swept(files, size, later)


def sweepable(folders: Iterable[Path], needs: Needs) -> Swept:
    """What `sweep` would remove."""
    files = size = later = 0
    for folder in folders:
        with file_errors(folder):
            for path, grace_s in _idle(folder, needs):
                status = path.stat()
                young = time.time() - status.st_mtime < grace_s
                files, size, later = files + (not young), size + (0 if young else status.st_size), later + young
    return Swept(files, size, later)


def digest_in(name: str) -> str | None:
    """The digest in a file's name; None: it is no model file's.

    Example:
        >>> digest_in("notes.txt") is None
        True
    """
    found = _NAME.fullmatch(name)
    return None if found is None else found[1]


def _idle(folder: Path, needs: Needs) -> Iterator[tuple[Path, float]]:
    """Files that nothing needs, and how old each must be."""
    for path in _files(folder):
        digest = digest_in(path.name)
        grace_s = None if digest is None else needs.grace_s(digest)
        if grace_s is not None:
            yield path, grace_s


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:  # no model yet
        return []


def _remove(path: Path, grace_s: float) -> int | None:
    """Take a file away; its bytes, None where a writer marked it lately."""
    aside = path.with_name(f".{path.name}{_GONE}")
    try:
        path.replace(aside)
        status = aside.stat()
        if grace_s and time.time() - status.st_mtime < grace_s:
            aside.replace(path)
            return None
        aside.unlink()
    except FileNotFoundError:  # another prune was faster
        return None
    return status.st_size


def _mend(folder: Path, needs: Needs) -> None:
    """Finish what a kill left: a file that was set aside, or half written."""
    for path in _files(folder):
        name, suffix = path.name[1:], path.suffix
        original = path.with_name(name.removesuffix(suffix))
        digest = digest_in(original.name)
        if not path.name.startswith(".") or digest is None or suffix not in (_GONE, _STAGED):
            continue
        with suppress(FileNotFoundError):
            if suffix == _GONE and digest in needs.needed and not original.exists():
                path.replace(original)
            elif suffix == _GONE or time.time() - path.stat().st_mtime > ORPHAN_S:
                path.unlink()
