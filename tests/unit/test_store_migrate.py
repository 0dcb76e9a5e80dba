"""Versions of the store: an older one is brought up to date whole or stays as it is, a newer one is refused."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect
from sqlalchemy.engine import Engine

from server.store import migrate
from server.store.auditlog import Actor, append, verify
from server.store.reading import Reader
from server.store.store import RoundStore
from server.store.tables import Base
from shared.errors import StoreError, StoreUnreadable
from tests.support.old_store import TABLES, released, rows
from tests.support.stores import CONFIG, filled, record, state

ROOT = Path(__file__).resolve().parents[2]


def _schema(store: RoundStore) -> dict[str, Any]:
    """Tables with their columns, keys and indexes, and the triggers."""
    with store.session() as session:
        found = inspect(session.connection())
        tables = {
            name: (
                [(c["name"], str(c["type"]), c["nullable"], c["primary_key"]) for c in found.get_columns(name)],
                sorted((i["name"] or "", tuple(i["column_names"])) for i in found.get_indexes(name)),
                sorted((tuple(k["constrained_columns"]), k["referred_table"]) for k in found.get_foreign_keys(name)),
                found.get_pk_constraint(name)["constrained_columns"],
                sorted(tuple(u["column_names"]) for u in found.get_unique_constraints(name)),
            )
            for name in found.get_table_names()
        }
        triggers = session.connection().exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        return tables | {"triggers": sorted(map(tuple, triggers.all()))}


def _version(file: Path) -> str | None:
    with closing(sqlite3.connect(file)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if "alembic_version" not in names:
            return None
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_a_fresh_store_is_of_the_newest_version_and_has_what_the_migrations_make(tmp_path: Path) -> None:
    assert [*ScriptDirectory(str(ROOT / "server/store/migrations")).get_heads()] == [migrate.HEAD]
    released(tmp_path / "old")
    fresh, upgraded = RoundStore.create(str(tmp_path / "fresh")), RoundStore.create(str(tmp_path / "old"))
    assert _version(tmp_path / "fresh/rounds.sqlite") == _version(tmp_path / "old/rounds.sqlite") == migrate.HEAD
    assert _schema(fresh) == _schema(upgraded)
    with upgraded.session() as session:
        context = MigrationContext.configure(session.connection())
        assert compare_metadata(context, Base.metadata) == []


def test_an_old_store_keeps_its_rows_bit_for_bit_and_gets_its_totals(tmp_path: Path) -> None:
    file = released(tmp_path / "old")
    before = rows(file)
    assert len(before["updates"]) == 6
    read = Reader(RoundStore.open(str(tmp_path / "old")))
    derived = (read.plants("a"), read.rounds("a"), read.page("a"))
    assert _version(file) is None
    store = RoundStore.create(str(tmp_path / "old"))
    assert rows(file) == before
    with store.session() as session:
        kept = {name: session.connection().exec_driver_sql(f"SELECT * FROM {name}").all() for name in ("tallies",)}
    assert [tuple(row) for row in kept["tallies"]] == [("a", n, 2, 1, 0, 3400) for n in (1, 2, 3)]
    again = Reader(store)
    assert (again.plants("a"), again.rounds("a"), again.page("a")) == derived
    assert [line.rounds for line in again.plants("a")] == [3, 3]
    after = state("a", 4)
    store.commit(record(after), after)
    assert [line.rounds for line in again.plants("a")] == [4, 4]


def test_looking_into_an_old_store_changes_nothing(tmp_path: Path) -> None:
    file = released(tmp_path)
    before = file.read_bytes()
    reader = Reader(RoundStore.open(str(tmp_path), look=True))
    assert [line.number for line in reader.rounds("a")] == [3, 2, 1]
    assert [(line.asked, line.accepted, line.bytes) for line in reader.rounds("a", limit=1)] == [(2, 1, 3400)]
    assert reader.plant("a", "north").seen_round == 3
    assert reader.version("a")
    assert file.read_bytes() == before


def test_an_old_store_goes_on_without_being_upgraded(tmp_path: Path) -> None:
    file = released(tmp_path)
    after = state("a", 4)
    RoundStore.open(str(tmp_path)).commit(record(after), after)
    assert _version(file) is None
    assert [line.rounds for line in Reader(RoundStore.create(str(tmp_path))).plants("a")] == [4, 4]


@pytest.mark.parametrize("word", ["0003", "x" * 32, "'; DROP TABLE runs"])
def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path, word: str) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "rounds.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [word])
    before = (tmp_path / "rounds.sqlite").read_bytes()
    for attempt in (RoundStore.open, RoundStore.create):
        with pytest.raises(StoreUnreadable, match=r"knows none after 0002\. Update crossplant"):
            attempt(str(tmp_path))
    assert (tmp_path / "rounds.sqlite").read_bytes() == before


def test_a_store_that_was_killed_while_it_was_upgraded_is_old_or_new(tmp_path: Path) -> None:
    released(tmp_path / "old")
    before, ends = rows(tmp_path / "old/rounds.sqlite"), []
    for statement in range(0, 400, 3):
        folder = tmp_path / f"{statement}"
        shutil.copytree(tmp_path / "old", folder)
        killed = _killed_before(statement, folder)
        ends.append(_version(folder / "rounds.sqlite"))
        assert rows(folder / "rounds.sqlite") == before
        assert len(RoundStore.open(str(folder)).rounds("a")) == 3
        if not killed:
            break
    assert ends[-1] == migrate.HEAD
    assert set(ends[:-1]) == {None}  # nothing of it counts before the end
    assert len(ends) > 5
    assert [p.rounds for p in Reader(RoundStore.create(str(tmp_path / "0"))).plants("a")] == [3, 3]


def _killed_before(statement: int, folder: Path) -> bool:
    child = os.fork()
    if child == 0:
        left = iter(range(statement))

        def die(*_: object) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            event.listen(Engine, "before_cursor_execute", die)
            RoundStore.create(str(folder))
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_alembic_is_imported_only_to_upgrade(tmp_path: Path) -> None:
    released(tmp_path / "old")
    code = (
        "import sys; from server.store.store import RoundStore; from server.store.reading import Reader\n"
        "RoundStore.create(sys.argv[1]); RoundStore.create(sys.argv[1]); store = RoundStore.open(sys.argv[2])\n"
        "Reader(store).page('a'); print('alembic' in sys.modules)\n"
        "RoundStore.create(sys.argv[2]); print('alembic' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "new", tmp_path / "old"], cwd=ROOT, check=True, capture_output=True
    )
    assert told.stdout.split() == [b"False", b"True"]


def test_the_migrations_are_where_the_package_is(tmp_path: Path) -> None:
    """As in an installed package, and in a folder whose name a configuration file would misread."""
    copy = tmp_path / "50% of %(here)s"
    for package in ("server", "shared"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    released(tmp_path / "old")
    code = "import sys; from server.store.store import RoundStore; RoundStore.create(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    subprocess.run([sys.executable, "-c", code, tmp_path / "old"], cwd=copy, env=environment, check=True)
    assert _version(tmp_path / "old/rounds.sqlite") == migrate.HEAD


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit WHERE seq = 2",
        "INSERT OR REPLACE INTO audit SELECT seq, at, 'x', role, action, target, detail, previous, digest FROM audit",
        "INSERT INTO audit SELECT * FROM audit WHERE true ON CONFLICT DO UPDATE SET who = 'nobody'",
    ],
)
@pytest.mark.parametrize("made", ["fresh", "upgraded"])
def test_the_database_refuses_to_change_the_audit_log(tmp_path: Path, made: str, statement: str) -> None:
    if made == "upgraded":
        released(tmp_path)
    store = RoundStore.create(str(tmp_path))
    with store.session(writes=True) as session:
        for why in ("one", "two"):
            append(session, Actor("ada", "operator"), "promote", "run a", {"why": why})
    with pytest.raises(StoreError, match="only ever added to"), store.session(writes=True) as session:
        session.connection().exec_driver_sql(statement)
    with store.session() as session:
        verdict = verify(session)
    assert (verdict.entries, verdict.broken) == (2, None)


def test_a_database_of_another_program_is_not_upgraded(tmp_path: Path) -> None:
    file = released(tmp_path)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE rounds DROP COLUMN timings")
    before = file.read_bytes()
    for attempt in (RoundStore.open, RoundStore.create):
        with pytest.raises(StoreUnreadable, match="has no column 'timings'"):
            attempt(str(tmp_path))
    assert file.read_bytes() == before


def test_the_released_tables_are_those_of_the_first_migration(tmp_path: Path) -> None:
    """The first migration finds them all in the stores that are out there; here it makes them itself."""
    released(tmp_path / "old")
    old = RoundStore.open(str(tmp_path / "old"))
    with RoundStore.create(str(tmp_path / "new")) as made, made.session(writes=True) as session:
        for name in inspect(session.connection()).get_table_names():
            session.connection().exec_driver_sql(f"DROP TABLE {name}")
        config = Config()
        config.set_main_option("script_location", str(ROOT / "server/store/migrations"))
        config.attributes["connection"] = session.connection()
        from alembic import command

        command.upgrade(config, "0001")
    found, wanted = _schema(made), _schema(old)
    assert {name: found[name] for name in TABLES} == {name: wanted[name] for name in TABLES}
    made.start_run("a", CONFIG)
