"""Several made plants in one folder, as `crossplant data make` leaves them: each in a sub-folder of its own.

They wear the layout of SWaT or WADI, yet are other plants: published figures and attack lists are not theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from client.ingest.base import Recognition, natural_key
from shared.series import SiteData

MARK, HEADER = "events.csv", b"id,start,end,target,kind,size,first_row,end_row"
"""What the twin leaves beside a plant's files: the list of what was done to it."""
VERSION = "made by the twin, in the layout of"


def is_made(folder: Path) -> bool:
    """Whether a folder holds one plant made by the twin."""
    try:
        with (folder / MARK).open("rb") as file:
            return file.read(len(HEADER)) == HEADER
    except OSError:
        return False


def made_plants(path: Path) -> tuple[Path, ...]:
    """The sub-folders that hold a made plant each, in natural order; none when `path` is something else."""
    try:
        inside = [entry for entry in path.iterdir() if entry.is_dir() and is_made(entry)] if path.is_dir() else []
    except OSError:
        return ()
    return tuple(sorted(inside, key=lambda entry: natural_key(entry.name)))


def load_each(path: Path, load: Callable[[Path], tuple[SiteData, ...]]) -> tuple[SiteData, ...]:
    """One site a made plant, named like its folder; where there are none, what `load` makes of the path itself."""
    plants = made_plants(path)
    if not plants:
        return load(path)
    return tuple(_named(site, folder.name) for folder in plants for site in load(folder))


def _named(site: SiteData, name: str) -> SiteData:
    """A site under its plant's name, its notes too."""
    notes = (replace(note, where=note.where.replace(site.name, name, 1)) for note in site.repairs)
    return replace(site, name=name, repairs=tuple(notes))


def marked(found: Recognition | None, path: Path) -> Recognition | None:
    """A recognition whose version says so when the plants were made; what single plants lack is for them to say."""
    folder = path if path.is_dir() else path.parent
    if found is None or not (is_made(folder) or made_plants(path)):
        return found
    return replace(found, version=f"{VERSION} {found.version}")


def was_made(found: Recognition) -> bool:
    """Whether published figures do not apply."""
    return found.version.startswith(VERSION)
