"""Reads all of a round store and says what is not whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from server.store import auditlog
from server.store.archive import item_of
from server.store.database import has_table
from server.store.references import named_digests, required_files
from server.store.retention import model_folders
from server.store.store import RoundStore
from server.store.sweep import digest_in
from server.store.tables import AuditRow


@dataclass(frozen=True)
class Checked:
    """What a store is like.

    Attributes:
        database: `ok`, or what is wrong with it.
        files, bytes: model files that are needed and whole.
        missing, damaged: names of those that are needed and not there, or not what their name says.
        unneeded: how many no round names any more.
        entries: of the audit log.
        broken: number of the first that does not fit; None when all do.
    """

    database: str
    files: int
    bytes: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    unneeded: int
    entries: int
    broken: int | None

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return self.database == "ok" and not self.missing and not self.damaged and self.broken is None


def check(store: RoundStore) -> Checked:
    """Check a store.

    Raises:
        StoreUnreadable: it cannot be read at all.
    """
    folders = model_folders(store)
    with store.session() as session:
        database, verdict = _database(session), _audit(session)
        needed, required = named_digests(session).needed, required_files(session)
    found = {path.name: path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    files = {name: path for name, path in found.items() if digest_in(name) is not None}
    idle = [name for name in files if digest_in(name) not in needed]
    sizes, damaged = _sizes({name: path for name, path in files.items() if name not in idle})
    missing = tuple(sorted(required - files.keys()))
    return Checked(
        database, len(sizes), sum(sizes.values()), missing, damaged, len(idle), verdict.entries, verdict.broken
    )


def _sizes(files: dict[str, Path]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Bytes of whole files by name, and names of the others."""
    sizes: dict[str, int] = {}
    damaged: list[str] = []
    for name, path in sorted(files.items()):
        try:
            item = item_of(path)
        except FileNotFoundError:  # pruned just now
            continue
        except OSError:
            damaged.append(name)
            continue
        if item.sha256 == digest_in(name):
            sizes[name] = item.bytes
        else:
            damaged.append(name)
    return sizes, tuple(damaged)


def _database(session: Session) -> str:
    if session.get_bind().dialect.name != "sqlite":
        return "ok"
    return str(session.connection().exec_driver_sql("PRAGMA integrity_check(1)").scalar_one())


def _audit(session: Session) -> auditlog.Verdict:
    there = has_table(session.connection(), AuditRow.__tablename__)
    return auditlog.verify(session) if there else auditlog.Verdict(0, auditlog.FIRST, None)
