"""Copies a round store into one file while it is written, and makes a store of that file again.

A database in SQLite is copied by SQLite itself, in one piece that no writer disturbs; of any other the rows are read
in one transaction. Model files come after it: those that the copy needs are never changed, and none is removed without
the database having been changed before, so a copy that lacks one is made anew.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from server.store import archive
from server.store.archive import LEFT_OUT, Manifest, item_of, model_file, row_file
from server.store.database import connect, database_errors
from server.store.dump import write_rows
from server.store.models import file_errors
from server.store.place import DATABASE, Place, parse_place
from server.store.references import named_digests, required_files
from server.store.retention import model_folders
from server.store.store import RoundStore
from server.store.sweep import digest_in
from shared.disk import sync_folder
from shared.errors import FileTrouble

_TRIES = 3
_PRUNES = 10  # that may come between a copy and its being read


@dataclass(frozen=True)
class BackedUp:
    """A backup that was made.

    Attributes:
        file: where it is.
        bytes: of what it holds.
        models: model files in it.
        missing: model files that a round needs and that the store lost, or that are damaged.
    """

    file: Path
    bytes: int
    models: int
    missing: tuple[str, ...]


def back_up(store: RoundStore, to: Path) -> BackedUp:
    """Write a store to a file that does not exist yet; it appears when it is whole.

    Raises:
        FileTrouble: the file exists, or its folder does not.
        StoreUnreadable: the store cannot be read.
        StoreError: the file cannot be written.
    """
    to = to.absolute()
    if to.exists() or not to.parent.is_dir():
        cause = f"{to} exists already." if to.exists() else f"there is no folder {to.parent}."
        raise FileTrouble(cause, "Choose another --to.")
    with file_errors(to), tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as scratch:
        manifest = _written(store, Path(scratch), Path(scratch) / "whole")
        _give_name(Path(scratch) / "whole", to)
    models = sum(name.startswith(model_file("")) for name in manifest.files)
    return BackedUp(to, manifest.bytes, models, manifest.missing)


def _written(store: RoundStore, scratch: Path, whole: Path) -> Manifest:
    """The file, complete on the disk. A model that is pruned before it is read is needed no more: begin anew."""
    for _ in range(_PRUNES):
        with suppress(FileNotFoundError), tempfile.TemporaryDirectory(dir=scratch) as place:
            return _written_once(store, Path(place), whole)
    return _written_once(store, scratch, whole)


def _written_once(store: RoundStore, scratch: Path, whole: Path) -> Manifest:
    manifest, places = _copied(store, scratch)
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as out:
        archive.write(out, manifest, places)
        out.flush()
        os.fsync(descriptor)
    return manifest


def _give_name(whole: Path, to: Path) -> None:
    """Give the file its name, unless somebody else took it meanwhile."""
    try:
        os.link(whole, to)
    except FileExistsError as error:
        raise FileTrouble(f"{to} exists already.", "Choose another --to.") from error
    except OSError:  # a file system without links
        whole.replace(to)
    sync_folder(to.parent)


def _copied(store: RoundStore, scratch: Path) -> tuple[Manifest, Mapping[str, Path]]:
    """The database, copied, and what model files belong to it."""
    for attempt in range(_TRIES):
        database, needed, required = _database(store, scratch / str(attempt))
        models, damaged = _models(model_folders(store), needed)
        missing = sorted((required - models.keys()) | (damaged & required))
        if not missing:
            break
    places = database | {model_file(name): path for name, path in sorted(models.items())}
    files = {name: item_of(path) for name, path in places.items()}
    source = "sqlite" if store.place.file is not None else "rows"
    return Manifest(datetime.now(UTC).isoformat(timespec="seconds"), source, files, tuple(missing)), places


def _models(folders: list[Path], needed: frozenset[str]) -> tuple[dict[str, Path], frozenset[str]]:
    """The files that are needed and whole, by name; and names of damaged ones."""
    found: dict[str, Path] = {}
    damaged: set[str] = set()
    for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        digest = digest_in(path.name)
        if digest not in needed:
            continue
        try:
            whole = item_of(path).sha256 == digest
        except FileNotFoundError:  # pruned since: the next copy does not need it
            continue
        if whole:
            found[path.name] = path
        else:
            damaged.add(path.name)
    return found, frozenset(damaged - found.keys())


# ---- the database ----


def _database(store: RoundStore, folder: Path) -> tuple[dict[str, Path], frozenset[str], frozenset[str]]:
    """Its files by name, with the digests that it names and the model files that it requires."""
    folder.mkdir()
    if store.place.file is None:
        with store.session() as session:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            files = {row_file(name): path for name, path in write_rows(session, folder).items()}
            return files, named_digests(session).needed, required_files(session)
    copy = folder / DATABASE
    _snapshot(store.place, copy)
    with _engine(copy) as engine, Session(engine) as session:
        return {DATABASE: copy}, named_digests(session).needed, required_files(session)


def _snapshot(place: Place, copy: Path) -> None:
    engine = connect(place, look=True)
    with (
        database_errors(place),
        closing(engine.raw_connection()) as source,
        closing(sqlite3.connect(copy, isolation_level=None)) as target,
    ):
        raw = source.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
        target.execute("PRAGMA secure_delete=ON")
        there = {name for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in sorted(there & LEFT_OUT):
            target.execute(f"DELETE FROM {table}")  # noqa: S608  one of our own names


@contextmanager
def _engine(file: Path) -> Iterator[Engine]:
    place = parse_place(f"sqlite:///{file}")
    with database_errors(place):
        yield connect(place)
