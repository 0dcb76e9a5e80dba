"""Makes a round store of what `crossplant store backup` wrote. Everything is checked before anything is in place."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.store import auditlog, dump
from server.store.archive import ROWS, Manifest, model_file, refused, tables, unpack
from server.store.database import connect, database_errors, has_table, store_tables
from server.store.locking import exclusive
from server.store.migrate import check, upgrade
from server.store.models import file_errors
from server.store.place import DATABASE, MODELS, Place, parse_place
from server.store.tables import AuditRow, RoundRow, RunRow
from shared.disk import sync_folder
from shared.errors import FileTrouble, InvalidConfig, RunDirectoryInUse

_CURE = "Restore into a folder without one, or move that away first."


@dataclass(frozen=True)
class Restored:
    """A store that was restored.

    Attributes:
        made: when the backup was made.
        runs, rounds, models: how many.
        missing: model files that the backup lacks, because the store had lost them.
        broken: number of the first entry of the audit log that does not fit; None when all do.
    """

    made: str
    runs: int
    rounds: int
    models: int
    missing: tuple[str, ...]
    broken: int | None


def restore(file: Path, location: str, models_dir: Path | None = None) -> Restored:
    """Make a store of a backup: whole, or not at all.

    Args:
        file: the backup.
        location: a folder without a store in it, or the URL of a database without runs.
        models_dir: with a URL, the folder for model files.

    Raises:
        FileTrouble: there is no such file.
        StoreUnreadable: it is damaged, or no backup.
        RunDirectoryInUse: there is a store already.
        InvalidConfig: a URL without a folder for models, or a folder with one.
        StoreError: the place cannot be written.
    """
    place = parse_place(location)
    if (place.folder is None) != (models_dir is not None):
        raise InvalidConfig("--models goes with a database URL, and with nothing else.", "Give both, or a folder.")
    if not file.is_file():
        raise FileTrouble(f"there is no file {file}.", "Give what `crossplant store backup` wrote.")
    target = place.folder or _absolute(models_dir)
    _refuse_store(place)
    with file_errors(target), _scratch(target) as scratch:
        manifest = unpack(file, scratch)
        if place.folder is not None:
            return _into_folder(file, manifest, scratch, place.folder)
        return _into_database(file, manifest, scratch, place, target)


def _absolute(folder: Path | None) -> Path:
    assert folder is not None
    return folder.absolute()


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder on the same file system as the target, which goes away whatever happens."""
    home = target if target.is_dir() else target.parent
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.restoring-", dir=home))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_store(place: Place) -> None:
    """A database's log without its database is refused too: it would be taken for the new one's."""
    if place.file is None:
        return
    for suffix in ("", "-wal", "-shm", "-journal"):
        there = Path(f"{place.file}{suffix}")
        if os.path.lexists(there):
            raise RunDirectoryInUse(f"{place.shown} holds {there.name} already.", _CURE)


# ---- into a folder ----


def _into_folder(file: Path, manifest: Manifest, scratch: Path, folder: Path) -> Restored:
    if manifest.source == "sqlite":
        _check_database(file, scratch / DATABASE)
        _settle(scratch, folder / MODELS)
    else:
        _fill(parse_place(str(scratch)), manifest, scratch, folder / MODELS)
        shutil.rmtree(scratch / ROWS)
    told = _told(manifest, parse_place(str(scratch)))
    (scratch / MODELS).mkdir(exist_ok=True)
    _publish(scratch, folder)
    return told


def _publish(scratch: Path, folder: Path) -> None:
    """Put what is whole in its place: the database last, for it is what makes a store."""
    if not folder.exists():
        sync_folder(scratch)
        scratch.rename(folder)
        return sync_folder(folder.parent)
    with exclusive(folder / ".lock"):
        _refuse_store(parse_place(str(folder)))
        _move_models(scratch, folder / MODELS)
        (scratch / DATABASE).replace(folder / DATABASE)
        return sync_folder(folder)


def _move_models(scratch: Path, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for path in sorted((scratch / MODELS).glob("*")):
        path.replace(to / path.name)
    sync_folder(to)


def _check_database(file: Path, database: Path) -> None:
    """Check that a database that somebody gave is a whole round store, and nothing else besides."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            (whole,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            odd = _schema(connection) - _our_schema(database.parent)
    except sqlite3.Error as error:
        raise refused(file, str(error)) from error
    if whole != "ok":
        raise refused(file, f"its database is damaged: {whole}")
    if odd:
        raise refused(file, f"its database holds the {' '.join(min(odd)[:2])}, which no round store has")
    place = parse_place(str(database.parent))
    with database_errors(place):
        check(connect(place), str(file))


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Tables by name, what runs by itself by its whole text."""
    query = "SELECT type, name, COALESCE(sql, '') FROM sqlite_master WHERE type != 'index'"
    return {(kind, name, "" if _plain(kind, sql) else sql) for kind, name, sql in connection.execute(query)}


def _plain(kind: str, sql: str) -> bool:
    return kind == "table" and "virtual" not in sql.lower()


def _our_schema(folder: Path) -> set[tuple[str, str, str]]:
    """What a fresh store has."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        engine = connect(parse_place(fresh), create=True)
        upgrade(engine, "a fresh store")
        with closing(sqlite3.connect(Path(fresh) / DATABASE)) as connection:
            return _schema(connection)


def _settle(scratch: Path, models: Path) -> None:
    """Write the folder of the models into the runs, and let the database stand by itself."""
    with closing(sqlite3.connect(scratch / DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("UPDATE runs SET models_dir = ?", (str(models),))


# ---- into another database ----


def _into_database(file: Path, manifest: Manifest, scratch: Path, place: Place, models: Path) -> Restored:
    if manifest.source == "sqlite":
        _check_database(file, scratch / DATABASE)
    _refuse_runs(place)
    with exclusive(models / ".lock"):
        _move_models(scratch, models)
        _fill(place, manifest, scratch, models)
    return _told(manifest, place)


def _refuse_runs(place: Place) -> None:
    engine = connect(place, create=place.file is not None)
    with database_errors(place):
        with engine.connect() as connection:
            full = has_table(connection, "runs") and connection.scalar(select(func.count()).select_from(RunRow))
        if full:
            raise RunDirectoryInUse(f"the database {place.shown} holds runs already.", _CURE)


def _fill(place: Place, manifest: Manifest, scratch: Path, models: Path) -> None:
    """Put the rows of a backup into a database, in one transaction."""
    _refuse_runs(place)
    engine = connect(place, create=place.file is not None)
    with database_errors(place):
        upgrade(engine, place.shown)
        with Session(engine.execution_options(writes=True)) as session, session.begin():
            if manifest.source == "rows":
                dump.load_rows(session, {name: dump.read_file(scratch, name) for name in tables()}, models)
                return
            with database_errors(place), Session(connect(parse_place(str(scratch)))) as old:
                there = store_tables(old.connection())
                rows = {name: dump.read_table(old, name) for name in tables() if name in there}
                dump.load_rows(session, rows, models)


# ---- what was restored ----


def _told(manifest: Manifest, place: Place) -> Restored:
    with database_errors(place), Session(connect(place)) as session:
        runs = session.scalar(select(func.count()).select_from(RunRow)) or 0
        rounds = session.scalar(select(func.count()).select_from(RoundRow)) or 0
        there = has_table(session.connection(), AuditRow.__tablename__)
        broken = auditlog.verify(session).broken if there else None
    models = sum(name.startswith(model_file("")) for name in manifest.files)
    return Restored(manifest.made, runs, rounds, models, manifest.missing, broken)
