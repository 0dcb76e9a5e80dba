"""The round store: what goes in comes out, and what goes wrong leaves what was there."""

from __future__ import annotations

import dataclasses
import errno
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from server.rounds import PlantReport, RoundRecord, RunState, Status
from server.store import database
from server.store.models import ModelFiles
from server.store.rows import RunStatus, StoredState
from server.store.store import RoundStore
from server.store.views import interruptions
from shared.errors import (
    InvalidConfig,
    ModelCorrupt,
    RoundNotFound,
    StoreBusy,
    StoreError,
    StoreNotFound,
    StoreUnreadable,
)
from tests.support.stores import CONFIG, NORTH, SOUTH, filled, model, record, state


def _same(a: RunState, b: RunState) -> bool:
    def bare(s: RunState) -> RunState:
        return dataclasses.replace(s, model=None, optimizer=type(s.optimizer)())

    moments = [(o.step, {k: v.tobytes() for k, v in o.first.items()}) for o in (a.optimizer, b.optimizer)]
    digests = [s.model and s.model.digest for s in (a, b)]
    return bare(a) == bare(b) and moments[0] == moments[1] and digests[0] == digests[1]


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    filled(tmp_path / "store", adam=True)
    store = RoundStore.open(str(tmp_path / "store"))
    assert [r.number for r in store.rounds("a")] == [1, 2, 3]
    written, read = record(state("a", 3)), store.round("a", 3)
    assert repr(read) == repr(written)  # NaN is not equal to itself
    assert store.config("a") == CONFIG
    assert store.model("a", 3).digest == model(3).digest
    latest = store.latest_state("a")
    assert latest is not None
    assert _same(latest, state("a", 3, adam=True))
    assert _same(store.state_at("a", 1), state("a", 1, adam=True))


def test_the_stored_state_keeps_every_field_of_the_state() -> None:
    assert [f.name for f in dataclasses.fields(StoredState)] == [f.name for f in dataclasses.fields(RunState)]


def test_runs_are_listed_in_the_order_they_were_started(tmp_path: Path) -> None:
    store = filled(tmp_path, run="z")
    store.start_run("a", CONFIG, note="again")
    assert [(r.name, r.rounds, r.note) for r in store.runs()] == [("z", 3, ""), ("a", 0, "again")]
    assert store.newest_run() == "a"
    assert store.latest_state("a") is None
    assert store.rounds("a") == []


def test_a_run_is_running_until_said_otherwise_and_again_when_resumed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.runs()[0].status is RunStatus.RUNNING
    store.finish_run("a", "interrupted")
    assert store.runs()[0].status is RunStatus.INTERRUPTED
    after = state("a", 4)
    store.commit(record(after), after)
    assert store.runs()[0].status is RunStatus.RUNNING


def test_a_store_at_rest_is_one_database_file_and_its_models(tmp_path: Path) -> None:
    filled(tmp_path / "s").rounds("a")
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["models", "rounds.sqlite"]
    assert {p.name for p in (tmp_path / "s/models").iterdir()} == {f"{model(n).digest}.safetensors" for n in (2, 3)}
    with sqlite3.connect(tmp_path / "s/rounds.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_moved_store_finds_its_models(tmp_path: Path) -> None:
    filled(tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "elsewhere")
    assert RoundStore.open(str(tmp_path / "elsewhere")).model("a", 2).digest == model(2).digest


def test_a_store_behind_a_url_remembers_its_models_folder(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/db/x.sqlite"
    with pytest.raises(InvalidConfig, match="needs a folder"):
        RoundStore.create(url)
    assert not (tmp_path / "db").exists()
    store = RoundStore.create(url, tmp_path / "weights")
    store.start_run("a", CONFIG)
    for number in (1, 2):
        store.commit(record(state("a", number)), state("a", number))
    again = RoundStore.open(url)
    assert again.model("a", 2).digest == model(2).digest
    assert again.runs()[0].models_dir == tmp_path / "weights"
    with again.lock():
        assert (tmp_path / "weights/.lock").read_text() == f"{os.getpid()}\n"


def test_numbers_that_json_lacks_become_nan_and_hostile_text_is_kept_visible(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=1)
    wild = PlantReport("we\ud800st", False, "NaN\0", {"loss": float("inf")}, 10**30, seconds=float("nan"))
    after = state("a", 2)
    store.commit(record(after, (NORTH, wild)), after)
    read = store.round("a", 2).plants[1]
    assert (read.plant, read.reason, read.examples) == ("we\\ud800st", "NaN\\x00", 2**63 - 1)
    assert np.isnan(read.metrics["loss"])
    assert np.isnan(read.seconds)


def test_a_signature_is_kept_with_its_run_and_can_be_replaced(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.signature("a") == ""
    store.start_run("b", CONFIG, signature="v1.first")
    with RoundStore.open(str(tmp_path)) as again:
        assert (again.signature("a"), again.signature("b")) == ("", "v1.first")
        again.sign_run("b", "v1.second")
        again.sign_run("a", "v1.late")
    assert (store.signature("a"), store.signature("b")) == ("v1.late", "v1.second")
    with pytest.raises(RoundNotFound):
        store.signature("c")
    with pytest.raises(RoundNotFound):
        store.sign_run("c", "v1.x")
    with pytest.raises(StoreError, match="already"):
        store.start_run("b", CONFIG, signature="v1.third")
    assert store.signature("b") == "v1.second"


def test_a_store_that_is_older_than_signatures_opens_as_it_is_and_gets_them_when_it_is_written(tmp_path: Path) -> None:
    filled(tmp_path)
    connection = sqlite3.connect(tmp_path / "rounds.sqlite")
    connection.execute("DROP TABLE signatures")
    connection.close()
    before = (tmp_path / "rounds.sqlite").read_bytes()
    with RoundStore.open(str(tmp_path)) as old:
        assert (old.signature("a"), len(old.rounds("a"))) == ("", 3)
    assert (tmp_path / "rounds.sqlite").read_bytes() == before
    with RoundStore.open(str(tmp_path)) as old:
        after = state("a", 4)
        old.commit(record(after), after)  # what goes on needs no signature
    with RoundStore.create(str(tmp_path)) as new:
        new.start_run("b", CONFIG, signature="v1.x")
        assert (new.signature("a"), new.signature("b"), len(new.rounds("a"))) == ("", "v1.x", 4)


def test_the_list_says_why_the_plants_of_a_failed_round_did_not_count() -> None:
    refusing = dataclasses.replace(SOUTH, reason="refused by the plant: CP-603 signer")
    failed = dataclasses.replace(record(state("a", 1), (NORTH, refusing)), status=Status.FAILED, reason="1 of 2")
    assert interruptions([failed]) == ["Round 1 failed: 1 of 2", "  south: refused by the plant: CP-603 signer"]
    many = tuple(dataclasses.replace(refusing, plant=f"p{number:02}") for number in range(12))
    listed = interruptions([dataclasses.replace(failed, plants=many)])
    assert (len(listed), listed[-1]) == (12, "  and 2 more: `crossplant rounds show 1`")
    assert interruptions([dataclasses.replace(failed, status=Status.COMMITTED)]) == ["Round 1 committed: 1 of 2"]
    assert interruptions([record(state("a", 1))]) == []
    words = [dataclasses.replace(failed, status=Status.COMMITTED, number=number) for number in (2, 5, 6)]
    assert interruptions(words) == ["Rounds 2, 5 to 6 committed: 1 of 2"]
    assert len(interruptions([failed, dataclasses.replace(failed, number=2)])) == 4


# ---- what must change nothing ----


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _altered(after: RunState, **changes: object) -> tuple[RoundRecord, RunState]:
    return dataclasses.replace(record(after), **changes), after  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((record(state("a", 3)), state("a", 3)), "is stored already"),
        ((record(state("a", 5)), state("a", 5)), "does not follow round 3"),
        ((record(state("b", 1)), state("b", 1)), "holds no run 'b'"),
        (_altered(state("a", 4), number=5), "does not fit its state: number"),
        (_altered(state("a", 4), model=None), "does not fit its state: model"),
        (_altered(state("a", 4), config="x"), "does not fit its state: configuration"),
    ],
)
def test_a_round_that_does_not_follow_changes_nothing(
    tmp_path: Path, pair: tuple[RoundRecord, RunState], words: str
) -> None:
    store = filled(tmp_path)
    before = _snapshot(tmp_path)
    with pytest.raises(StoreError, match=words):
        store.commit(*pair)
    assert _snapshot(tmp_path) == before


def test_a_plant_that_appears_twice_is_refused_whole(tmp_path: Path) -> None:
    store = filled(tmp_path)
    after = state("a", 4)
    with pytest.raises(StoreError):
        store.commit(record(after, (NORTH, NORTH)), after)
    assert len(store.rounds("a")) == 3


def test_a_run_of_the_same_name_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with pytest.raises(StoreError, match="holds a run 'a' already"):
        store.start_run("a", CONFIG)


def test_a_full_disk_leaves_the_last_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path)
    before = _snapshot(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"no space is left .* the last committed round is intact"):
        store.commit(record(state("a", 4)), state("a", 4))
    assert _snapshot(tmp_path) == before


def test_a_full_database_leaves_the_last_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path)
    real = database._open_sqlite

    def small(file: Path, create: bool, look: bool) -> sqlite3.Connection:
        connection = real(file, create, look)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    monkeypatch.setattr(database, "_open_sqlite", small)
    cramped = RoundStore.open(str(tmp_path))
    crowd = tuple(PlantReport(f"plant-{i:04}", False, "late: " + "x" * 200) for i in range(300))
    with pytest.raises(StoreError, match="no space is left"):
        cramped.commit(record(state("a", 4), crowd), state("a", 4))
    assert len(store.rounds("a")) == 3


# ---- what is not there, or is something else ----


def test_reading_creates_nothing(tmp_path: Path) -> None:
    for location in (tmp_path / "none", tmp_path):
        with pytest.raises(StoreNotFound):
            RoundStore.open(str(location))
    with pytest.raises(StoreNotFound):
        RoundStore.open(f"sqlite:///{tmp_path}/none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_store_on_a_medium_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path)
    before = _snapshot(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert len(RoundStore.open(str(tmp_path)).rounds("a")) == 3
    with pytest.raises(StoreUnreadable, match="readonly"):
        RoundStore.open(str(tmp_path)).finish_run("a", "failed")
    assert _snapshot(tmp_path) == before
    monkeypatch.undo()
    with store.session():  # a log is there while somebody has it open
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert len(RoundStore.open(str(tmp_path)).rounds("a")) == 3


def test_an_empty_database_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "rounds.sqlite").touch()
    with pytest.raises(StoreNotFound, match="is empty"):
        RoundStore.open(str(tmp_path))
    with sqlite3.connect(tmp_path / "rounds.sqlite") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    with pytest.raises(StoreNotFound, match="is empty"):
        RoundStore.open(str(tmp_path))


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(StoreNotFound, match="a file, not a folder"):
        RoundStore.open(str(tmp_path / "f"))
    with pytest.raises(StoreError, match="cannot write"):
        RoundStore.create(str(tmp_path / "f"))
    with pytest.raises(StoreError, match="cannot look into"):
        RoundStore.open("x" * 5000)


def test_a_database_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "rounds.sqlite") as connection:
        connection.execute("CREATE TABLE songs (name)")
    connection.close()
    with pytest.raises(StoreUnreadable, match="without the table"):
        RoundStore.open(str(tmp_path))
    with sqlite3.connect(tmp_path / "rounds.sqlite") as connection:
        connection.execute("CREATE TABLE runs (name)")
    connection.close()
    with pytest.raises(StoreUnreadable, match="has no column"):
        RoundStore.create(str(tmp_path))


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "rounds.sqlite").write_text("not a database, but long enough to look at " * 40)
    for attempt in (RoundStore.open, RoundStore.create):
        with pytest.raises(StoreUnreadable, match="file is not a database"):
            attempt(str(tmp_path))


@pytest.mark.parametrize(
    "location",
    [
        "nonsense://host/x",
        "://",
        "postgresql://host:port/x",
        "postgresql+nosuchdriver://user:secret@host/x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:////tmp/x",
    ],
)
def test_an_address_that_leads_nowhere(location: str) -> None:
    with pytest.raises(StoreUnreadable) as caught:
        RoundStore.open(location)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_empty_place_is_not_the_working_folder() -> None:
    with pytest.raises(StoreNotFound):
        RoundStore.open("")


def test_a_folder_keeps_its_models_itself(tmp_path: Path) -> None:
    RoundStore.create(str(tmp_path), tmp_path / "models")
    with pytest.raises(InvalidConfig, match="keeps its models"):
        RoundStore.create(str(tmp_path), tmp_path / "others")


def test_rounds_and_runs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RoundNotFound, match="no run yet"):
        RoundStore.create(str(tmp_path)).newest_run()
    store = filled(tmp_path)
    for number in (0, -1, 4, 2**64):
        with pytest.raises(RoundNotFound, match="Its rounds are 1 to 3"):
            store.round("a", number)
    with pytest.raises(RoundNotFound, match="holds no run 'b'"):
        store.rounds("b")
    with pytest.raises(RoundNotFound, match="has no model"):
        store.model("a", 1)


@pytest.mark.parametrize(
    "column", ["metrics = '[1]'", "metrics = '{'", "phase = 'bogus'", "clusters = '{\"mass\": []}'"]
)
def test_a_row_that_was_tampered_with(tmp_path: Path, column: str) -> None:
    store = filled(tmp_path)
    with sqlite3.connect(tmp_path / "rounds.sqlite") as connection:
        connection.execute(f"UPDATE rounds SET {column} WHERE number = 2")
    connection.close()
    with pytest.raises(StoreUnreadable):
        store.round("a", 2)
    assert store.round("a", 3).number == 3


# ---- one writer ----


def test_only_one_writer_at_a_time(tmp_path: Path) -> None:
    one, other = filled(tmp_path), RoundStore.open(str(tmp_path))
    with one.lock():
        with pytest.raises(StoreBusy, match=f"process {os.getpid()} is writing"), other.lock():
            pass
        assert len(other.rounds("a")) == 3
    with other.lock():
        pass


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    store = filled(tmp_path)
    ready, go = os.pipe(), os.pipe()
    with store.lock():
        child = os.fork()
        if child == 0:  # outlives the lock's block
            os.write(ready[1], b".")
            os.read(go[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
    try:
        with store.lock():
            pass
    finally:
        os.write(go[1], b".")
        os.waitpid(child, 0)
        for descriptor in (*ready, *go):
            os.close(descriptor)


# ---- model files ----


def test_a_damaged_model_file_is_written_anew(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models")
    digest = files.put(model(1))
    path = files.path(digest)
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(ModelCorrupt):
        files.get(digest)
    assert files.put(model(1)) == digest
    assert files.get(digest).digest == digest


def test_a_digest_from_the_database_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ModelCorrupt, match="not a model digest"):
        ModelFiles(tmp_path).get("../../etc/passwd")
