"""A backup that somebody tampered with: refused in words, and nothing of it is left."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from server.store.archive import FORMAT, MANIFEST
from server.store.backup import back_up
from server.store.models import MODEL
from server.store.restore import restore
from server.store.store import RoundStore
from shared.errors import CrossplantError, StoreUnreadable
from tests.support.stores import filled, model
from tests.unit.test_backup import rows_tar as rows_tar

Members = list[tuple[tarfile.TarInfo, bytes]]


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def rewritten(source: Path, to: Path, change: Callable[[Members], Members]) -> Path:
    with tarfile.open(source) as tar:
        members = [(info, (tar.extractfile(info) or io.BytesIO()).read()) for info in tar]
    with tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in change(members):
            tar.addfile(info, io.BytesIO(data))
    return to


def remade(
    change: Callable[[dict[str, Any]], None], *more: tuple[tarfile.TarInfo, bytes]
) -> Callable[[Members], Members]:
    """The manifest changed, and members added."""

    def apply(members: Members) -> Members:
        found = json.loads(members[0][1])
        change(found)
        return [member(MANIFEST, json.dumps(found).encode()), *members[1:], *more]

    return apply


def named(name: str, data: bytes = b"x") -> Callable[[dict[str, Any]], None]:
    item = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return lambda manifest: manifest["files"].update({name: item})


def swapped(name: str, **fields: Any) -> Callable[[Members], Members]:
    """One member of another kind."""

    def apply(members: Members) -> Members:
        changed = [m for m in members if m[0].name != name]
        ((info, data),) = [m for m in members if m[0].name == name]
        for field, value in fields.items():
            setattr(info, field, value)
        return [*changed, (info, data)]

    return apply


MODEL_3 = f"models/{model(3).digest}{MODEL}"
ZEROS = f"models/{'0' * 64}{MODEL}"
UNTOLD = remade(lambda manifest: manifest["files"].pop("rounds.sqlite"))
HOSTILE: dict[str, Callable[[Members], Members]] = {
    "a name outside": remade(named("../out"), member("../out", b"x")),
    "an absolute name": remade(named("/tmp/out"), member("/tmp/out", b"x")),
    "a name outside, unannounced": lambda m: [*m, member("models/../../out", b"x")],
    "a file beside the models": remade(named("models/x.py"), member("models/x.py", b"x")),
    "a file twice": lambda m: [*m, m[-1]],
    "a link": swapped(MODEL_3, type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
    "a hard link": swapped(MODEL_3, type=tarfile.LNKTYPE, linkname="rounds.sqlite", size=0),
    "a device": swapped(MODEL_3, type=tarfile.CHRTYPE, size=0),
    "a pipe": swapped(MODEL_3, type=tarfile.FIFOTYPE, size=0),
    "a folder": lambda m: [*m, member("models", type=tarfile.DIRTYPE)],
    "a sparse file": swapped(MODEL_3, pax_headers={"GNU.sparse.size": "999999999999", "GNU.sparse.map": "0,1"}),
    "a missing file": lambda m: m[:-1],
    "another content": lambda m: [*m[:-1], (m[-1][0], b"y" * m[-1][0].size)],
    "another name than its content": remade(named(ZEROS), member(ZEROS, b"x")),
    "another size": remade(lambda f: f["files"][MODEL_3].update(bytes=10**15)),
    "no manifest": lambda m: m[1:],
    "the manifest last": lambda m: [*m[1:], m[0]],
    "a manifest that is a list": lambda m: [member(MANIFEST, b"[]"), *m[1:]],
    "a manifest that is deep": lambda m: [member(MANIFEST, b"[" * 100_000), *m[1:]],
    "a negative size": remade(lambda f: f["files"][MODEL_3].update(bytes=-1)),
    "another format": remade(lambda f: f.update(format=FORMAT + 1)),
    "another source": remade(lambda f: f.update(source="oracle")),
    "no database": lambda m: [x for x in UNTOLD(m) if x[0].name != "rounds.sqlite"],
    "rows beside a database": remade(named("rows/runs.jsonl"), member("rows/runs.jsonl", b"x")),
    "nothing": lambda m: [],
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_backup_is_refused_and_nothing_is_left(tmp_path: Path, what: str) -> None:
    with filled(tmp_path / "s") as store:
        back_up(store, tmp_path / "b.tar")
    there = tmp_path / "there"
    there.mkdir()
    hostile = rewritten(tmp_path / "b.tar", tmp_path / "h.tar", HOSTILE[what])
    for target in (there / "r", there):
        with pytest.raises(StoreUnreadable) as caught:
            restore(hostile, str(target))
        assert str(caught.value).isprintable()
    assert list(there.iterdir()) == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "data", [b"", b"x" * 2000, b"\x1f\x8b" + b"\0" * 600, b"\0" * 10240], ids=["empty", "text", "gzip", "zeros"]
)
def test_what_is_no_tar_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(data)
    with pytest.raises(StoreUnreadable, match="no whole backup"):
        restore(tmp_path / "b.tar", str(tmp_path / "r"))
    assert [p.name for p in tmp_path.iterdir()] == ["b.tar"]


def test_a_backup_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        back_up(store, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    for cut in range(0, len(whole) - 12_000, len(whole) // 23):
        (tmp_path / "c.tar").write_bytes(whole[:cut])
        with pytest.raises(StoreUnreadable, match="no whole backup"):
            restore(tmp_path / "c.tar", str(tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def put_database(change: Callable[[sqlite3.Connection], object], folder: Path) -> Callable[[Members], Members]:
    def apply(members: Members) -> Members:
        path = folder / "changed.sqlite"
        path.write_bytes(next(data for info, data in members if info.name == "rounds.sqlite"))
        with closing(sqlite3.connect(path)) as connection, connection:
            change(connection)
        data = path.read_bytes()
        others = [m for m in members if m[0].name != "rounds.sqlite"]
        return remade(named("rounds.sqlite", data), member("rounds.sqlite", data))(others)

    return apply


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON rounds BEGIN DELETE FROM updates; END",
        "CREATE VIEW v AS SELECT load_extension('x')",
        "CREATE TABLE more (x)",
        "DROP TABLE rounds",
        "ALTER TABLE rounds RENAME COLUMN status TO state2",
        "UPDATE alembic_version SET version_num = '9999'",
    ],
)
def test_a_database_that_is_no_round_store_is_refused(tmp_path: Path, sql: str) -> None:
    with filled(tmp_path / "s") as store:
        back_up(store, tmp_path / "b.tar")
    change = put_database(lambda c: c.execute(sql), tmp_path)
    hostile = rewritten(tmp_path / "b.tar", tmp_path / "h.tar", change)
    with pytest.raises(CrossplantError):
        restore(hostile, str(tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def test_a_guard_of_the_audit_log_that_guards_nothing_is_refused(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        back_up(store, tmp_path / "b.tar")

    def weaken(connection: sqlite3.Connection) -> None:
        name, table = connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'").fetchone()
        connection.execute(f"DROP TRIGGER {name}")
        connection.execute(f"CREATE TRIGGER {name} BEFORE DELETE ON {table} BEGIN SELECT 1; END")

    hostile = rewritten(tmp_path / "b.tar", tmp_path / "h.tar", put_database(weaken, tmp_path))
    with pytest.raises(StoreUnreadable, match="which no round store has"):
        restore(hostile, str(tmp_path / "r"))


def signatures(line: str) -> Callable[[Members], Members]:
    """Another row of signatures."""
    name, data = "rows/signatures.jsonl", line.encode()

    def apply(members: Members) -> Members:
        return remade(named(name, data), member(name, data))([m for m in members if m[0].name != name])

    return apply


ROW = '{"run": "a", "text": "x", "made": "y"}'


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "null", ROW.replace('"text": "x", ', ""), ROW.replace("}", ', "more": 1}')),
        *(ROW.replace('"y"', "null"), ROW.replace('"y"', "NaN"), ROW.replace('"y"', "3"), "[" * 50_000),
        ROW.replace('"a"', '"no such run"'),
    ],
)
def test_hostile_rows_are_refused(rows_tar: Path, tmp_path: Path, line: str) -> None:
    hostile = rewritten(rows_tar, tmp_path / "h.tar", signatures(line))
    with pytest.raises(CrossplantError):
        restore(hostile, str(tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def test_a_row_that_fits_is_taken(rows_tar: Path, tmp_path: Path) -> None:
    restore(rewritten(rows_tar, tmp_path / "h.tar", signatures(ROW)), str(tmp_path / "r"))
    assert RoundStore.open(str(tmp_path / "r")).signature("a") == "x"
