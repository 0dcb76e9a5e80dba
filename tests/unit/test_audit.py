"""The audit log: a chain in which every change shows, and nothing is answered that is not on the disk."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from client.agent import audit
from client.agent.audit import AuditLog, Mark, files, lines, verify
from client.agent.policy import Policy
from shared.errors import AuditBroken
from shared.wire.frame import decode_frame, encode_frame
from tests.support import agents
from tests.unit.test_policy import guard


def written(folder: Path, count: int = 6, most_bytes: int = 2**20) -> Path:
    log = AuditLog(folder, most_bytes)
    for number in range(count):
        log.append({"run": "r", "round": number})
    log.close()
    return folder


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def test_a_chain_holds_over_restarts_and_files(tmp_path: Path) -> None:
    written(tmp_path, 6, most_bytes=400)
    written(tmp_path, 5, most_bytes=400)
    assert len(files(tmp_path)) > 3
    assert max(path.stat().st_size for path in files(tmp_path)) <= 400
    mark = verify(tmp_path)
    assert mark.number == 11
    entries = [json.loads(line) for _, line in lines(tmp_path)]
    assert [entry["n"] for entry in entries] == list(range(1, 12))
    assert entries[0]["before"] == audit.GENESIS
    assert AuditLog(tmp_path).mark == mark


def test_an_empty_log_holds(tmp_path: Path) -> None:
    AuditLog(tmp_path / "a").close()
    assert verify(tmp_path / "a") == verify(tmp_path / "missing") == Mark()


TAMPERINGS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a value": lambda rows: [rows[0], rows[1].replace(b'"round":1', b'"round":7'), *rows[2:]],
    "a value of the newest line": lambda rows: [*rows[:-1], rows[-1].replace(b'"round":5', b'"round":7')],
    "a line less": lambda rows: [*rows[:2], *rows[3:]],
    "the first line less": lambda rows: rows[1:],
    "the newest line less": lambda rows: rows[:-1],
    "the newest two less": lambda rows: rows[:-2],
    "a line twice": lambda rows: [*rows[:3], rows[2], *rows[3:]],
    "two lines exchanged": lambda rows: [rows[0], rows[2], rows[1], *rows[3:]],
    "no JSON": lambda rows: [*rows[:2], b"\x00\n", *rows[2:]],
    "no object": lambda rows: [*rows[:2], b"[]\n", *rows[2:]],
    "all of it": lambda rows: [],
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_shows(name: str, tmp_path: Path) -> None:
    edit(written(tmp_path) / audit.NEWEST, TAMPERINGS[name])
    with pytest.raises(AuditBroken):
        verify(tmp_path)


def test_a_removed_file_shows(tmp_path: Path) -> None:
    written(tmp_path, 6, most_bytes=400)
    files(tmp_path)[1].unlink()
    with pytest.raises(AuditBroken):
        verify(tmp_path)


@pytest.mark.parametrize("name", [name for name in TAMPERINGS if "newest" in name or name == "all of it"])
def test_an_agent_does_not_go_on_after_a_false_end(name: str, tmp_path: Path) -> None:
    edit(written(tmp_path) / audit.NEWEST, TAMPERINGS[name])
    with pytest.raises(AuditBroken):
        AuditLog(tmp_path)


def test_a_line_that_a_crash_tore_is_dropped_and_the_dropping_logged(tmp_path: Path) -> None:
    with (written(tmp_path) / audit.NEWEST).open("ab") as file:
        file.write(b'{"n":7,"time"')
    verify(tmp_path)  # it was never answered
    AuditLog(tmp_path).close()
    assert json.loads(list(lines(tmp_path))[-1][1])["torn_bytes"] == 13
    assert verify(tmp_path).number == 7


@pytest.mark.parametrize("head", [b'{"n": 1e999, "digest": "x"}', b"[" * 100_000, b'{"n": "one", "digest": "x"}', b""])
def test_a_head_that_is_none_is_an_error_in_words(tmp_path: Path, head: bytes) -> None:
    AuditLog(tmp_path).close()
    (tmp_path / audit.HEAD).write_bytes(head)
    for use in (verify, AuditLog):
        with pytest.raises(AuditBroken, match="cannot be read"):
            use(tmp_path)


def test_a_crash_between_line_and_head_loses_nothing(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append({"run": "r"})
    head = (tmp_path / audit.HEAD).read_bytes()
    log.append({"run": "r"})
    log.close()
    (tmp_path / audit.HEAD).write_bytes(head)
    log = AuditLog(tmp_path)
    log.append({"run": "r"})
    log.close()
    assert verify(tmp_path).number == 3


# ---- disk full -------------------------------------------------------------------------------------------------------


def full_after(count: int) -> Callable[[int, bytes], int]:
    """A disk with room for so many more bytes."""
    room, write = [count], os.write

    def limited(file: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(file, data[: room[0]])
        room[0] -= done
        return done

    return limited


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_line_that_does_not_fit_is_taken_back(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(written(tmp_path))
    before = (tmp_path / audit.NEWEST).read_bytes()
    monkeypatch.setattr(os, "write", full_after(room))
    with pytest.raises(AuditBroken, match="No space left"):
        log.append({"run": "r"})
    monkeypatch.undo()
    assert (tmp_path / audit.NEWEST).read_bytes() == before
    log.append({"run": "r"})  # there is room again
    log.close()
    assert verify(tmp_path).number == 7


def test_a_head_that_does_not_fit_takes_the_line_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(written(tmp_path))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audit, "replace_file", full)
    with pytest.raises(AuditBroken):
        log.append({"run": "r"})
    monkeypatch.undo()
    log.append({"run": "r"})
    log.close()
    assert verify(tmp_path).number == 7


def test_a_log_that_can_neither_write_nor_mend_answers_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(written(tmp_path))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", full_after(20))
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(AuditBroken):
        log.append({"run": "r"})
    monkeypatch.undo()
    with pytest.raises(AuditBroken, match="neither be written nor mended"):
        log.check()
    with pytest.raises(AuditBroken, match="neither be written nor mended"):
        log.append({"run": "r"})
    log.close()


def test_what_cannot_be_logged_is_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, log = guard(tmp_path, Policy())
    monkeypatch.setattr(os, "write", full_after(10))
    reply = decode_frame(keeper.handle(encode_frame(agents.describe())))
    monkeypatch.undo()
    assert reply.texts["refused"] == "CP-605 AuditBroken"
    assert "schema" not in reply.texts
    assert "refused" not in decode_frame(keeper.handle(encode_frame(agents.describe()))).texts
    log.close()
    assert verify(tmp_path / "audit").number == 1


def test_a_disk_that_is_nearly_full_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, log = guard(tmp_path, Policy())
    monkeypatch.setattr(audit, "_ROOM", 2**62)
    reply = decode_frame(keeper.handle(encode_frame(agents.train())))
    log.close()
    assert reply.texts["refused"] == "CP-605 AuditBroken"
    assert not (tmp_path / "ledger.json").exists()  # nothing was begun
