"""Which data sets a path holds: every loader is asked, each judges by content. The historian is asked last."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from client.ingest.base import Recognition, find, known
from client.ingest.peek import files_below

LAST = "historian"
"""It takes any table with times and numbers, so it only counts where nothing else is recognised."""

_FOLDERS = 40  # sub-folders that are looked into for a suggestion, at most
_FILES = 400  # a folder with more below it is none: looking through somebody's home would take minutes


def recognise(path: Path) -> tuple[Recognition, ...]:
    """What an existing path was found to be, in the order of the names; empty when no loader knows it.

    Raises:
        OSError: a file cannot be read, so that nobody can tell; taken for a plant's own export, the rest of a SWaT
            would be trained on with its attacks.
    """
    found = tuple(_asked(name, path) for name in known() if name != LAST)
    sure = tuple(one for one in found if one is not None)
    if sure or LAST not in known():
        return sure
    generic = _asked(LAST, path)
    return () if generic is None else (generic,)


def _asked(name: str, path: Path) -> Recognition | None:
    try:
        return find(name).recognise(path)
    except OSError:
        raise
    except Exception:  # A loader must raise nothing here; one that does must not keep the others from being asked.
        return None


def recognise_readable(path: Path) -> tuple[Recognition, ...]:
    """The same, empty where a file cannot be read."""
    try:
        return recognise(path)
    except OSError:
        return ()


def nearby(path: Path) -> Iterator[tuple[Path, Recognition]]:
    """Sub-folders down to two levels, else folders above, that are a data set: a path one level too high or too low."""
    below = _first_each(_sub_folders(path)) if path.is_dir() else []
    if below:
        yield from below
        return
    whole = path.resolve()
    for folder in filter(_small, list(whole.parents)[:2]):
        found = [one for one in recognise_readable(folder) if one.dataset != LAST and _holds(one, whole)]
        if found:
            yield from ((folder, one) for one in found)
            return


def _holds(found: Recognition, whole: Path) -> bool:
    """Whether some file of a data set lies at or below a path."""
    return any(file.path.resolve().is_relative_to(whole) for file in found.files)


def _first_each(folders: list[Path]) -> list[tuple[Path, Recognition]]:
    found = [(folder, one) for folder in folders for one in recognise_readable(folder) if one.dataset != LAST]
    taken: dict[tuple[str, str], tuple[Path, Recognition]] = {}
    for folder, one in found:
        taken.setdefault((one.dataset, one.version), (folder, one))
    return list(taken.values())


def _sub_folders(path: Path) -> list[Path]:
    first = _folders_in(path)
    both = [*first, *(inner for folder in first for inner in _folders_in(folder))]
    return [folder for folder in both[:_FOLDERS] if _small(folder)]


def _small(folder: Path) -> bool:
    return sum(1 for _ in islice(files_below(folder), _FILES + 1)) <= _FILES


def _folders_in(path: Path) -> list[Path]:
    try:
        inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        return [entry for entry in inside[:1_000] if entry.is_dir() and not entry.is_symlink()][:_FOLDERS]
    except OSError:
        return []
