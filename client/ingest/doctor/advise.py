"""What to tell somebody whose path is no data set: what it is instead, and where one may be."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from client.ingest.doctor.damage import broken, foreign, table_trouble
from client.ingest.doctor.findings import Finding, Kind, shown
from client.ingest.doctor.recognise import nearby
from client.ingest.historian.loader import LOOKED_AT, SUFFIXES, refusal
from client.ingest.peek import files_below

_LOOKED_AT = 200  # files of a folder
_NAMED = 5


def advise(path: Path) -> Iterator[Finding]:
    """Findings about an existing path that no loader recognises; at least one, the first an error.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_dir() and not path.is_file():
        yield _error(path, "is neither a file nor a folder", "Give the folder or file that holds the recording.")
    elif path.is_file():
        yield _about(path) or _error(path, "is nothing that is known here", "Give one of the data sets listed below.")
        yield from elsewhere(path)
    else:
        yield from _folder(path)


def _about(path: Path, closely: bool = True) -> Finding | None:
    """What is wrong with a file; `closely`: in the historian's words, which takes any table of times and numbers."""
    told = foreign(path) or broken(path) or table_trouble(path)
    if not closely or (told is not None and told.kind != "load"):
        return told
    refused = refusal(path)
    return told if refused is None else _error(path, refused.cause.rstrip("."), refused.cure, "load")


def _folder(path: Path) -> Iterator[Finding]:
    files = list(islice(files_below(path), _LOOKED_AT))
    near = tuple(elsewhere(path))
    if near:
        yield _error(path, "is not the data set itself, but near it", "Give the folder that is named below.")
        yield from near
        return
    if not files:
        what = "is a folder without files" if any(path.iterdir()) else "is an empty folder"
        yield _error(path, what, "Put the data set's files there, or give another path.")
        return
    many = "one file" if len(files) == 1 else f"{len(files)} files" + (" or more" if len(files) == _LOOKED_AT else "")
    yield _error(path, f"is a folder of {many}, none known here", "See what they are below.")
    yield from _kinds(files)


def _kinds(files: list[Path]) -> Iterator[Finding]:
    """One finding for each sort of trouble, with the first few files that show it."""
    told = [finding for at, file in enumerate(files) if (finding := _readable(file, at < LOOKED_AT)) is not None]
    for (what, action), count in Counter((finding.what, finding.action) for finding in told).most_common(_NAMED):
        first = next(finding for finding in told if (finding.what, finding.action) == (what, action))
        yield first.model_copy(update={"count": count})


def _readable(file: Path, closely: bool) -> Finding | None:
    try:
        return _about(file, closely and file.suffix.lower() in SUFFIXES)
    except OSError as error:
        return _error(file, f"cannot be read: {error.strerror or type(error).__name__}", "Check its permissions.")


def elsewhere(path: Path) -> Iterator[Finding]:
    """Data sets one or two folders below or above: the path may have been one level off."""
    for folder, found in islice(nearby(path), _NAMED):
        yield Finding(
            severity="note",
            kind="path",
            where=shown(folder),
            what=f"is {found.dataset}: {found.version}",
            action=f"crossplant data check {shlex.quote(shown(folder))}",
        )


def _error(path: Path, what: str, action: str, kind: Kind = "path") -> Finding:
    return Finding(severity="error", kind=kind, where=shown(path), what=what, action=action)
