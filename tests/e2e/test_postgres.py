"""A round store in PostgreSQL: what holds for SQLite holds there, against a real server."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text

from server.rounds import Phase, PlantReport
from server.store import database, migrate, totals
from server.store.auditlog import Actor, append, hold, verify
from server.store.reading import Reader
from server.store.registry import OrderState, Registry
from server.store.retention import Policy, prune
from server.store.store import RoundStore
from server.store.tables import Base, OrderRow, PlantRow, TallyRow
from shared.errors import RoundNotFound, StoreBusy, StoreError, StoreNotFound, StoreUnreadable
from tests.support.postgres import Postgres, needs_postgres, postgres
from tests.support.stores import CONFIG, NORTH, SOUTH, model, record, state

pytestmark = needs_postgres
ROOT = Path(__file__).resolve().parents[2]
ADA = Actor("ada", "operator")
YOUNGER = ("alembic_version", "sessions", "accounts", "audit", "orders", "plants", "tallies")
INDEXES = ("rounds_by_status", "rounds_by_model", "updates_by_plant")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def url(server: Postgres) -> str:
    return server.database()


def _filled(url: str, folder: Path, rounds: int = 3) -> RoundStore:
    store = RoundStore.create(url, folder / "models")
    store.start_run("a", CONFIG)
    for number in range(1, rounds + 1):
        after = state("a", number, adam=True)
        store.commit(record(after), after)
    return store


def _totals(store: RoundStore) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    with store.session() as session:
        plants = sorted(tuple(sorted(row.items())) for row in session.execute(select(PlantRow.__table__)).mappings())
        derived = sorted(tuple(sorted(row.items())) for row in totals.derive_plants(session, "a"))
        tallies = sorted(map(tuple, session.execute(select(TallyRow.__table__))))
        return plants, derived, tallies, sorted(map(tuple, session.execute(totals.derive_tallies("a"))))


def _rows(store: RoundStore) -> list[Any]:
    queries = [f"SELECT row_to_json(t)::text FROM {name} t ORDER BY 1" for name in ("runs", "rounds", "updates")]
    with store.session() as session:
        return [list(session.scalars(text(query))) for query in queries]


def test_what_was_committed_is_read_back_and_the_run_goes_on(url: str, tmp_path: Path) -> None:
    _filled(url, tmp_path)
    store = RoundStore.open(url)
    assert repr(store.round("a", 3)) == repr(record(state("a", 3)))  # NaN is not equal to itself
    latest = store.latest_state("a")
    assert latest is not None
    assert latest.model is not None
    assert (latest.finished, latest.model.digest) == (3, model(3).digest)
    assert np.array_equal(latest.optimizer.first["head.bias"], np.full(3, 3, np.float32))
    wild = PlantReport(
        "we\ud800st", False, "NaN\0", {"loss": float("inf"), "\ud800\0": 1.0}, 10**30, seconds=float("nan")
    )
    after = state("a", 4)
    with store.lock():
        store.commit(record(after, (NORTH, SOUTH, wild)), after)
    read = store.round("a", 4).plants[2]
    assert (read.plant, read.reason, read.examples) == ("we\\ud800st", "NaN\\x00", 2**63 - 1)
    with pytest.raises(StoreError, match="is stored already"):
        store.commit(record(after), after)
    kept, derived, tallies, told = _totals(store)
    assert (kept, tallies) == (derived, told)
    assert len(kept) == 3


def test_pages_read_as_they_do_from_sqlite(url: str, tmp_path: Path) -> None:
    mine = _filled(url, tmp_path, rounds=5)
    lite = RoundStore.create(str(tmp_path / "lite"))
    lite.start_run("a", CONFIG)
    for number in range(1, 6):
        lite.commit(record(state("a", number)), state("a", number))
    found = []
    for store in (mine, lite):
        order = Registry(store).promote("a", 2, ADA, "best on north")
        told = dataclasses.replace(record(state("a", 6)), phase=Phase.CALIBRATE, label=order.label)
        store.commit(told, state("a", 6), order.id)
        read = Reader(store)
        page = read.page("a")
        found.append(
            (
                *(read.rounds("a", before=6, limit=3), read.rounds("a", status="failed"), read.plants("a")),
                *(read.attempts("a", "south", refused=True, limit=2), read.series("a", "holdout_loss", points=3)),
                *(read.series("a", "train_loss", "north"), read.matrix("a"), page.phases, page.statuses, page.newest),
                *(page.metrics, page.plant_metrics, repr(read.round("a", 6))),
            )
        )
    assert found[0] == found[1]
    assert Reader(mine).plant("a", "north").live_model == model(2).digest
    for name in ("\0", "\ud800", "x" * 10_000):
        with pytest.raises(RoundNotFound):
            Reader(mine).page(name)
    assert Reader(mine).rounds("a", before=2**80, status="\0") == []


def test_a_fresh_store_is_what_the_migrations_make(url: str, tmp_path: Path) -> None:
    store = RoundStore.create(url, tmp_path)
    with store.session() as session:
        assert migrate.version(session.connection()) == migrate.HEAD
        assert compare_metadata(MigrationContext.configure(session.connection()), Base.metadata) == []


def test_an_old_store_is_upgraded_and_keeps_its_rows(url: str, tmp_path: Path) -> None:
    store = _filled(url, tmp_path)
    before, totals_before = _rows(store), _totals(store)
    with store.session(writes=True) as session:
        for name in YOUNGER:
            session.execute(text(f"DROP TABLE {name}"))
        for name in INDEXES:
            session.execute(text(f"DROP INDEX {name}"))
    assert [line.rounds for line in Reader(RoundStore.open(url)).plants("a")] == [3, 3]
    again = RoundStore.create(url, tmp_path / "models")
    assert (_rows(again), _totals(again)) == (before, totals_before)
    with again.session() as session:
        assert compare_metadata(MigrationContext.configure(session.connection()), Base.metadata) == []
        assert migrate.version(session.connection()) == migrate.HEAD


def test_an_upgrade_that_fails_leaves_the_old_store(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _filled(url, tmp_path)
    with store.session(writes=True) as session:
        for name in YOUNGER:
            session.execute(text(f"DROP TABLE {name}"))
        session.execute(text("CREATE TABLE sessions (of_another_program text)"))  # the last that would be made
    for _ in range(2):
        with pytest.raises(StoreUnreadable, match="has no column"):
            RoundStore.create(url, tmp_path)
    with store.session(writes=True) as session:
        session.execute(text("DROP TABLE sessions"))
        session.execute(text("CREATE VIEW accounts AS SELECT 1 AS name"))  # fails in the middle of it
    with pytest.raises(StoreError):
        RoundStore.create(url, tmp_path)
    with store.session() as session:
        assert not session.scalar(text("SELECT to_regclass('tallies') IS NOT NULL"))
        assert migrate.version(session.connection()) is None


def test_a_store_of_a_newer_version_is_refused(url: str, tmp_path: Path) -> None:
    store = _filled(url, tmp_path)
    with store.session(writes=True) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0009'"))
    for attempt in (RoundStore.open, lambda place: RoundStore.create(place, tmp_path)):
        with pytest.raises(StoreUnreadable, match="knows none after"):
            attempt(url)


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'x'", "DELETE FROM audit", "TRUNCATE audit"])
def test_the_database_refuses_to_change_the_audit_log(url: str, tmp_path: Path, statement: str) -> None:
    store = RoundStore.create(url, tmp_path)
    with store.session(writes=True) as session:
        append(session, ADA, "promote", "run a", {"why": "one"})
    with pytest.raises(StoreError, match="only ever added to"), store.session(writes=True) as session:
        session.execute(text(statement))
    with store.session() as session:
        assert (verify(session).entries, verify(session).broken) == (1, None)


def test_an_empty_database_and_one_that_is_not_there(server: Postgres, url: str) -> None:
    with pytest.raises(StoreNotFound, match="is empty"):
        RoundStore.open(url)
    with pytest.raises(StoreUnreadable, match="does not exist") as caught:
        RoundStore.open(url.replace("/store", "/none").replace("crossplant@", "crossplant:secret@"))
    assert "secret" not in str(caught.value)


# ---- at once, held up, killed, gone ----


def _at_once(count: int, work: Any) -> list[Any]:
    """What each of some threads got or raised, all let go together."""
    gate, ends = threading.Barrier(count), [None] * count

    def one(index: int) -> None:
        gate.wait(10)
        try:
            ends[index] = work(index)
        except StoreError as error:
            ends[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return ends


def test_of_writers_that_commit_at_once_one_wins(url: str, tmp_path: Path) -> None:
    store = _filled(url, tmp_path)
    ends = _at_once(4, lambda _: RoundStore.open(url).commit(record(state("a", 4)), state("a", 4)))
    assert sum(end is None for end in ends) == 1
    assert all(end is None or isinstance(end, StoreError) for end in ends)
    assert [r.number for r in store.rounds("a")] == [1, 2, 3, 4]
    kept, derived, tallies, told = _totals(store)
    assert (kept, tallies) == (derived, told)


def test_of_orders_that_are_given_at_once_one_is_open_and_the_others_are_replaced(url: str, tmp_path: Path) -> None:
    store = _filled(url, tmp_path, rounds=4)
    for _ in range(3):
        ends = _at_once(4, lambda i: Registry(RoundStore.open(url)).promote("a", 2 + i % 3, ADA, "why"))
        assert not [end for end in ends if isinstance(end, StoreError)]
        newest, *others = Registry(store).orders("a")
        assert newest.state is OrderState.OPEN
        assert {order.state for order in others} == {OrderState.REPLACED}


def test_a_prune_waits_for_an_order_and_keeps_its_model(url: str, tmp_path: Path) -> None:
    store = _filled(url, tmp_path, rounds=9)
    store.finish_run("a", "finished")
    with store.session(writes=True) as session:  # an order as it is made: it looks, and is not there for others yet
        hold(session)
        other = threading.Thread(target=prune, args=(RoundStore.open(url), Policy(keep=1), ADA))
        other.start()
        other.join(1.0)
        row = OrderRow(run="a", action="promote", target=4, model=model(4).digest, made="", who="ada", why="why")
        row.state = "open"
        session.add(row)
    other.join(30)
    assert store.model("a", 4).digest == model(4).digest
    with pytest.raises(RoundNotFound, match="pruned"):
        store.model("a", 3)


def test_a_store_that_several_make_at_once_is_made_once(url: str, tmp_path: Path) -> None:
    assert not [end for end in _at_once(4, lambda _: RoundStore.create(url, tmp_path) and None) if end is not None]
    with RoundStore.open(url).session() as session:
        assert session.scalars(text("SELECT version_num FROM alembic_version")).all() == [migrate.HEAD]


def test_entries_that_are_made_at_once_are_chained(url: str, tmp_path: Path) -> None:
    store = RoundStore.create(url, tmp_path)

    def enter(index: int) -> None:
        with store.session(writes=True) as session:
            append(session, ADA, "promote", f"run {index}", {"why": "at once"})

    assert _at_once(8, enter) == [None] * 8
    with store.session() as session:
        assert (verify(session).entries, verify(session).broken) == (8, None)


def test_a_program_that_holds_the_tables_is_waited_for_and_named(
    server: Postgres, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, after = _filled(url, tmp_path), state("a", 4)
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    with server.connect(url.split("/")[3].split("?")[0]) as other, other.transaction():
        other.execute("LOCK TABLE updates IN EXCLUSIVE MODE")
        with pytest.raises(StoreBusy, match="held up by another process"):
            store.commit(record(after), after)
        assert len(RoundStore.open(url).rounds("a")) == 3  # readers are not held up
    store.commit(record(after), after)
    assert Reader(store).plant("a", "north").rounds == 4


COMMITTER = """
import sys
from server.store.store import RoundStore
from tests.support.stores import record, state

store = RoundStore.open(sys.argv[1])
with store.lock():
    last = store.latest_state("a")
    number = last.finished if last else 0
    while True:
        number += 1
        after = state("a", number, adam=True)
        store.commit(record(after), after)
        print("committed", flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_rounds(url: str, tmp_path: Path) -> None:
    store = RoundStore.create(url, tmp_path / "models")
    store.start_run("a", CONFIG)
    for commits in (1, 3):
        words = [sys.executable, "-c", COMMITTER, url]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            try:
                assert child.stdout is not None
                assert [child.stdout.readline() for _ in range(commits)] == ["committed\n"] * commits
            finally:
                child.kill()
        assert child.returncode == -signal.SIGKILL
        numbers = [r.number for r in store.rounds("a")]
        assert numbers == list(range(1, len(numbers) + 1))
        latest = store.latest_state("a")
        assert latest is not None
        assert latest.finished == len(numbers) >= commits
        kept, derived, tallies, told = _totals(store)
        assert (kept, tallies) == (derived, told)


def test_a_server_that_is_gone_is_one_clear_error_and_the_run_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with postgres() as own:
        url = own.database()
        store = _filled(url, tmp_path)
        reader = Reader(RoundStore.open(url, look=True))  # keeps its connections
        assert len(reader.rounds("a")) == 3
        own.stop()
        looks = (lambda: store.rounds("a"), lambda: store.commit(record(state("a", 4)), state("a", 4)), reader.runs)
        for look in looks:
            with pytest.raises(StoreUnreadable, match="Check the URL") as caught:
                look()
            assert "\n" not in str(caught.value)
        own.start()
        store.commit(record(state("a", 4)), state("a", 4))
        assert len(store.rounds("a")) == len(reader.rounds("a")) == 4
