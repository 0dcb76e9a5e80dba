"""Backups between PostgreSQL and a folder, there and back: the rows, the models, the chain of the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.store import glance
from server.store.auditlog import Actor
from server.store.backup import back_up
from server.store.check import check
from server.store.glance import Wanted, look
from server.store.registry import Registry
from server.store.restore import restore
from server.store.retention import Policy, prune
from server.store.store import RoundStore
from shared.errors import RunDirectoryInUse
from tests.support.postgres import Postgres, needs_postgres, postgres
from tests.unit.test_backup import contents, full

pytestmark = needs_postgres
ME = Actor("os:me", "shell")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as started:
        yield started


def test_a_folder_moves_into_postgresql_and_back(server: Postgres, tmp_path: Path) -> None:
    store, url = full(tmp_path / "s"), server.database()
    back_up(store, tmp_path / "b.tar")
    told = restore(tmp_path / "b.tar", url, tmp_path / "m")
    assert (told.runs, told.rounds, told.models, told.broken) == (2, 6, 8, None)
    there = RoundStore.open(url)
    assert contents(there) == contents(store)
    assert check(there).whole
    assert Registry(there).promote("a", 5, ME, "its number follows the restored ones").id == 2
    assert look(url, None, Wanted()).lines == look(str(tmp_path / "s"), None, Wanted()).lines
    assert [run.name for run in glance.runs(url, 9)] == ["b", "a"]
    back_up(there, tmp_path / "rows.tar")
    told = restore(tmp_path / "rows.tar", str(tmp_path / "r"))
    assert (told.rounds, told.missing, told.broken) == (6, (), None)
    assert contents(RoundStore.open(str(tmp_path / "r"))) == contents(there)
    assert check(RoundStore.open(str(tmp_path / "r"))).whole
    with pytest.raises(RunDirectoryInUse, match="runs already"):
        restore(tmp_path / "rows.tar", url, tmp_path / "m")


def test_old_rounds_are_pruned_in_postgresql_too(server: Postgres, tmp_path: Path) -> None:
    url = server.database()
    back_up(full(tmp_path / "s"), tmp_path / "b.tar")
    restore(tmp_path / "b.tar", url, tmp_path / "m")
    there = RoundStore.open(url)
    there.finish_run("a", "finished")
    found = prune(there, Policy(keep=1), ME)
    assert dict(found.rounds) == {"a": (4, 5)}
    lines = look(url, "a", Wanted(status="committed")).lines
    assert [line.number for line in lines if line.pruned] == [1, 3, 4, 5]
    assert check(there).whole
    assert there.latest_state("a") is not None
    assert there.model("a", 2).digest == Registry(there).orders("a")[0].model
