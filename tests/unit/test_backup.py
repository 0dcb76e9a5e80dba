"""`crossplant store backup` and `restore`: all of a store, from and into any database, and nothing else from a file."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from server.store import archive, backup
from server.store.auditlog import Actor
from server.store.backup import back_up
from server.store.check import check
from server.store.locking import exclusive
from server.store.models import MODEL
from server.store.registry import Registry
from server.store.restore import restore
from server.store.retention import Policy, prune
from server.store.store import RoundStore
from server.store_cli import store_app
from shared.errors import (
    CrossplantError,
    FileTrouble,
    InvalidConfig,
    RunDirectoryInUse,
    StoreBusy,
    StoreNotFound,
)
from tests.support.old_store import released
from tests.support.stores import CONFIG, filled, model, record, state

ME = Actor("os:me", "shell")


def full(folder: Path) -> RoundStore:
    """A store with two runs, an order, an audit log, and a pruned round."""
    store = filled(folder, 6, adam=True)
    store.start_run("b", CONFIG, note="empty", signature="signed")
    Registry(store).promote("a", 2, ME, "the best so far")
    prune(store, Policy(keep=3), ME)
    return store


def contents(store: RoundStore) -> dict[str, list[Any]]:
    """All rows but where the models are."""
    from server.store import dump

    with store.session() as session:
        rows = {name: list(dump.read_table(session, name)) for name in archive.tables()}
    return rows | {"runs": [{**row, "models_dir": ""} for row in rows["runs"]]}


def call(*words: str) -> str:
    result = CliRunner().invoke(store_app, list(words))
    if isinstance(result.exception, CrossplantError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


# ---- there and back ----


def test_what_was_backed_up_is_restored(tmp_path: Path) -> None:
    store = full(tmp_path / "s")
    done = back_up(store, tmp_path / "b.tar")
    assert (done.models, done.missing) == (8, ())
    assert stat.S_IMODE((tmp_path / "b.tar").stat().st_mode) == 0o600
    told = restore(tmp_path / "b.tar", str(tmp_path / "new/r"))
    assert (told.runs, told.rounds, told.models, told.missing, told.broken) == (2, 6, 8, (), None)
    again = RoundStore.open(str(tmp_path / "new/r"))
    assert contents(again) == contents(store)
    assert again.run("a").models_dir == tmp_path / "new/r/models"
    assert check(again).whole
    assert check(again).unneeded == 0
    latest = again.latest_state("a")
    assert latest is not None
    assert latest.optimizer.step == 6
    again.commit(record(state("a", 7)), state("a", 7))
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["r"]
    assert sorted(p.name for p in (tmp_path / "new/r").iterdir()) == ["models", "rounds.sqlite"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "new", "s"]


def test_a_federation_gets_its_store_back_beside_its_other_files(tmp_path: Path) -> None:
    back_up(full(tmp_path / "s"), tmp_path / "b.tar")
    (tmp_path / "fed/models").mkdir(parents=True)
    (tmp_path / "fed/federation.toml").write_text("mine")
    (tmp_path / f"fed/models/{model(6).digest}{MODEL}").write_bytes(b"damaged: that is why")
    restore(tmp_path / "b.tar", str(tmp_path / "fed"))
    assert check(RoundStore.open(str(tmp_path / "fed"))).whole
    assert (tmp_path / "fed/federation.toml").read_text() == "mine"
    assert sorted(p.name for p in (tmp_path / "fed").iterdir()) == [
        ".lock", "federation.toml", "models", "rounds.sqlite",
    ]  # fmt: skip


def test_rows_go_into_another_database_and_back(tmp_path: Path) -> None:
    """As with PostgreSQL: here the other database is SQLite's too, with its models elsewhere."""
    store = full(tmp_path / "s")
    back_up(store, tmp_path / "b.tar")
    url = f"sqlite:///{tmp_path}/x.sqlite"
    told = restore(tmp_path / "b.tar", url, tmp_path / "m")
    assert (told.runs, told.rounds) == (2, 6)
    other = RoundStore.open(url)
    assert contents(other) == contents(store)
    assert other.run("a").models_dir == tmp_path / "m"
    assert check(other).whole
    Registry(other).promote("a", 5, ME, "orders are counted on")
    with pytest.raises(RunDirectoryInUse, match=r"x\.sqlite"):
        restore(tmp_path / "b.tar", url, tmp_path / "m")


@pytest.fixture
def rows_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backup in rows, as of PostgreSQL."""
    from server.store import dump
    from server.store.references import named_digests, required_files

    store = full(tmp_path / "s")
    place = dataclasses.replace(store.place, file=None)

    def rows(store: RoundStore, folder: Path) -> Any:
        folder.mkdir()
        with store.session() as session:
            files = {archive.row_file(n): p for n, p in dump.write_rows(session, folder).items()}
            return files, named_digests(session).needed, required_files(session)

    with monkeypatch.context() as patch:
        patch.setattr(backup, "_database", rows)
        patch.setattr(store, "_place", place)
        back_up(store, tmp_path / "rows.tar")
    return tmp_path / "rows.tar"


def test_a_backup_in_rows_becomes_a_folder(rows_tar: Path, tmp_path: Path) -> None:
    told = restore(rows_tar, str(tmp_path / "r"))
    assert (told.runs, told.rounds, told.broken) == (2, 6, None)
    again = RoundStore.open(str(tmp_path / "r"))
    assert contents(again) == contents(RoundStore.open(str(tmp_path / "s")))
    assert check(again).whole
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["models", "rounds.sqlite"]


def test_an_older_store_is_backed_up_and_restored_as_it_is(tmp_path: Path) -> None:
    released(tmp_path / "old")
    back_up(RoundStore.open(str(tmp_path / "old")), tmp_path / "b.tar")
    assert restore(tmp_path / "b.tar", str(tmp_path / "r")).rounds == 3
    assert RoundStore.open(str(tmp_path / "r")).round("a", 3).number == 3
    assert "version none" in call("migrate", "--store", str(tmp_path / "r"))
    assert "already" in call("migrate", "--store", str(tmp_path / "r"))
    assert restore(tmp_path / "b.tar", f"sqlite:///{tmp_path}/x.sqlite", tmp_path / "m").rounds == 3


def test_logins_are_in_no_backup(tmp_path: Path) -> None:
    store = full(tmp_path / "s")
    token = "5" * 64
    with closing(sqlite3.connect(tmp_path / "s/rounds.sqlite")) as connection, connection:
        connection.execute("INSERT INTO accounts VALUES ('a', 'admin', 'hash', NULL, '', '', 0)")
        connection.execute("INSERT INTO sessions VALUES (?, 'a', 'c', '', '', '')", (token,))
    back_up(store, tmp_path / "b.tar")
    assert token.encode() not in (tmp_path / "b.tar").read_bytes()
    assert b"hash" in (tmp_path / "b.tar").read_bytes()


def test_a_store_is_backed_up_while_a_run_writes_and_another_prunes(tmp_path: Path) -> None:
    store, stop = filled(tmp_path / "s", 4, adam=True), threading.Event()

    def write() -> None:
        number = 5
        while not stop.is_set():
            after = state("a", number, adam=True)
            store.commit(record(after), after)
            if number % 4 == 0:
                prune(store, Policy(keep=3), ME)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(4):
            back_up(RoundStore.open(str(tmp_path / "s")), tmp_path / f"{number}.tar")
    finally:
        stop.set()
        writer.join()
    for number in range(4):
        told = restore(tmp_path / f"{number}.tar", str(tmp_path / f"r{number}"))
        again = RoundStore.open(str(tmp_path / f"r{number}"))
        assert told.missing == ()
        assert check(again).whole
        assert again.latest_state("a") is not None


def test_a_model_that_the_store_lost_is_named_and_the_rest_is_saved(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    lost = tmp_path / f"s/models/{model(2).digest}{MODEL}"
    lost.write_bytes(b"cut")
    text = call("backup", "--store", str(tmp_path / "s"), "--to", str(tmp_path / "b.tar"))
    assert f"Not in it, for the store lost them:\n  {lost.name}\n" in text
    assert restore(tmp_path / "b.tar", str(tmp_path / "r")).missing == (lost.name,)
    assert not check(RoundStore.open(str(tmp_path / "r"))).whole
    assert store.model("a", 3).digest == model(3).digest


def test_a_backup_overwrites_nothing_and_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "s")
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(FileTrouble, match="exists already"):
        back_up(store, tmp_path / "b.tar")
    with pytest.raises(FileTrouble, match="no folder"):
        back_up(store, tmp_path / "none/b.tar")
    with pytest.raises(StoreNotFound):
        call("backup", "--store", str(tmp_path / "none"), "--to", str(tmp_path / "c.tar"))
    monkeypatch.setattr(archive, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CrossplantError, match="no space is left"):
        back_up(store, tmp_path / "c.tar")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "s"]
    assert (tmp_path / "b.tar").read_text() == "mine"


def test_a_restore_overwrites_no_store(tmp_path: Path) -> None:
    back_up(filled(tmp_path / "s"), tmp_path / "b.tar")
    with pytest.raises(RunDirectoryInUse, match=r"rounds\.sqlite"):
        restore(tmp_path / "b.tar", str(tmp_path / "s"))
    (tmp_path / "log").mkdir()
    (tmp_path / "log/rounds.sqlite-wal").write_bytes(b"")
    with pytest.raises(RunDirectoryInUse, match=r"rounds\.sqlite-wal"):
        restore(tmp_path / "b.tar", str(tmp_path / "log"))
    (tmp_path / "held").mkdir()
    with exclusive(tmp_path / "held/.lock"), pytest.raises(StoreBusy):
        restore(tmp_path / "b.tar", str(tmp_path / "held"))
    assert sorted(p.name for p in (tmp_path / "held").iterdir()) == [".lock"]
    with pytest.raises(InvalidConfig, match="--models"):
        restore(tmp_path / "b.tar", str(tmp_path / "r"), tmp_path / "m")
    with pytest.raises(InvalidConfig, match="--models"):
        restore(tmp_path / "b.tar", f"sqlite:///{tmp_path}/x.sqlite")
    with pytest.raises(FileTrouble, match="no file"):
        restore(tmp_path / "none.tar", str(tmp_path / "r"))
    assert not (tmp_path / "r").exists()


# ---- check ----


def test_check_names_what_is_missing_and_what_was_changed(tmp_path: Path) -> None:
    store = full(tmp_path / "s")
    whole = json.loads(call("check", "--store", str(tmp_path / "s"), "--json"))
    assert (whole["whole"], whole["files"], whole["missing"], whole["audit_entries"]) == (True, 8, [], 2)
    (tmp_path / f"s/models/{model(5).digest}{MODEL}").unlink()
    (tmp_path / f"s/models/{model(6).digest}{MODEL}").write_bytes(b"changed")
    found = check(store)
    assert (found.missing, found.damaged) == ((f"{model(5).digest}{MODEL}",), (f"{model(6).digest}{MODEL}",))
    result = CliRunner().invoke(store_app, ["check", "--store", str(tmp_path / "s")])
    assert result.exit_code == 1
    assert f"missing: {model(5).digest}{MODEL}" in result.stdout
    assert f"damaged: {model(6).digest}{MODEL}" in result.stdout


def test_the_names_of_the_commands_are_fixed() -> None:
    import typer

    group = typer.main.get_command(store_app)
    options = {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }
    common = ["--json", "--store"]
    assert options == {
        "backup": [*common, "--to"],
        "restore": ["--json", "--models", "--store"],
        "check": common,
        "migrate": common,
        "export-mlflow": ["--experiment", "--json", "--store", "--uri"],
    }
