"""Where a round store is: a folder with `rounds.sqlite` and `models/` in it, or a database URL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from shared.errors import InvalidConfig, StoreNotFound, StoreUnreadable

DATABASE = "rounds.sqlite"
MODELS = "models"
_URL_CURE = "Write it like `postgresql+psycopg://user@host/database` or `sqlite:////folder/rounds.sqlite`."


@dataclass(frozen=True)
class Place:
    """A parsed --store.

    Attributes:
        shown: what to call it in messages; a password is masked.
        url: the database.
        file: SQLite's file; None for a database server.
        folder: the store folder; None when a URL was given.
    """

    shown: str
    url: URL
    file: Path | None
    folder: Path | None


def parse_place(location: str) -> Place:
    """Read a --store.

    Raises:
        StoreNotFound: it is empty.
        StoreUnreadable: it looks like a URL, and is none.

    Example:
        >>> parse_place("/runs/a").file
        PosixPath('/runs/a/rounds.sqlite')
    """
    if not location.strip():
        raise StoreNotFound("the place of the store is empty.")
    if "://" in location:
        return _parse_url(location)
    folder = Path(location).absolute()
    file = folder / DATABASE
    return Place(location, URL.create("sqlite", database=str(file)), file, folder)


def _parse_url(location: str) -> Place:
    try:
        url = make_url(location)
    except (ArgumentError, ValueError) as error:
        raise StoreUnreadable("the store's URL is not a database URL.", _URL_CURE) from error
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() != "sqlite":
        return Place(shown, url, None, None)
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:") or url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise StoreUnreadable(f"{shown} does not name an SQLite file.", _URL_CURE)
    return Place(shown, url, Path(name).absolute(), None)


def require_file(place: Place) -> None:
    """Check that there is something to read, without touching it.

    Raises:
        StoreNotFound: no folder, no file, or an empty one.
        StoreUnreadable: it may not be looked at.
    """
    if place.file is None:
        return
    try:
        present = place.file.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreNotFound(f"{place.shown} holds no round store ({_missing(place.file)}).") from error
    except OSError as error:
        raise StoreUnreadable(f"cannot look into {place.shown}: {error.strerror}.", "Check its permissions.") from error
    if not place.file.is_file():
        raise StoreUnreadable(f"{place.file} is not a file.", "Give the folder that holds `rounds.sqlite`.")
    if present.st_size == 0:
        raise StoreNotFound(f"the round store at {place.shown} is empty.")


def _missing(file: Path) -> str:
    if not file.parent.exists():
        return "there is no such folder"
    return f"there is no {file.name} in it" if file.parent.is_dir() else "that is a file, not a folder"


def models_folder(place: Place, models_dir: Path | None) -> Path:
    """Where a store to be made keeps its models.

    Raises:
        InvalidConfig: `models_dir` is missing beside a URL, or contradicts the store folder.
    """
    own = None if place.folder is None else place.folder / MODELS
    wanted = None if models_dir is None else models_dir.absolute()
    if own is None and wanted is None:
        raise InvalidConfig(f"a store at {place.shown} needs a folder for its model files.", "Give one.")
    if own is not None and wanted not in (None, own):
        raise InvalidConfig(
            f"the store folder {place.shown} keeps its models in {own}.", "Leave the models folder out."
        )
    return own or wanted or Path()
