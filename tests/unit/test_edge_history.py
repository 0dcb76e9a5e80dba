"""The history keeps alarms whole, thins scores, stays within its size, and never stops scoring."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.edge.sinks.base import SinkSettings, open_sink
from client.edge.sinks.history import Book, History, HistoryOptions, read_records, read_scores
from shared.errors import FileTrouble, InvalidConfig

DAY = 86_400.0


@dataclass
class Told:
    told: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return self.told


def score(at: float, value: float | str = 1.0, **more: Any) -> dict[str, Any]:
    return {"type": "score", "time": at, "score": value, "threshold": 2.0, "bundle": "ab", "anomalous": [], **more}


def alarm(at: float, text: str = "") -> dict[str, Any]:
    return {"type": "alarm", "time": at, "state": "active", "text": text}


def book(path: Path, **options: float) -> Book:
    return Book(path, HistoryOptions(**options))


def run(path: Path, told: list[dict[str, Any]], during: Callable[[History], None] = lambda sink: None) -> History:
    sink = open_sink(SinkSettings(str(path), path.parent))
    assert isinstance(sink, History)

    async def test() -> None:
        await sink.start()
        for one in told:
            sink.put(Told(one))
        during(sink)
        await sink.close(5.0)

    asyncio.run(test())
    return sink


def test_what_was_put_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    sink = run(path, [score(1.0, 3.0, anomalous=["federated"], guard=0.5), score(2.0, "inf"), alarm(1.5), alarm(2.5)])
    assert sink.standing().delivered == 4
    assert [one["time"] for one in read_records(path, ["alarm"])] == [2.5, 1.5]
    assert read_records(path, ["fault"]) == []
    first, second = read_scores(path)
    assert (first["score"], first["anomalous"], first["guard"]) == (3.0, 1, 0.5)
    assert second["score"] == float("inf")


def test_old_scores_are_thinned_to_the_highest_of_a_minute_and_alarms_are_not(tmp_path: Path) -> None:
    path, made = tmp_path / "h.sqlite", book(tmp_path / "h.sqlite", whole_hours=1.0)
    begin = 1_700_000_040.0
    made.write([score(begin + k, float(k % 61)) for k in range(7200)])
    made.write([alarm(begin + k) for k in range(100)])
    for _ in range(3):
        made.clean()
    made.close()
    found = read_scores(path, most=10_000)
    old = [one for one in found if one["count"] > 1]
    assert 59 <= len(old) <= 60
    assert sum(one["count"] for one in found) == 7200
    assert max(one["score"] for one in old) == 60.0
    assert len(read_records(path)) == 100


def test_what_is_older_than_the_days_goes(tmp_path: Path) -> None:
    path, made = tmp_path / "h.sqlite", book(tmp_path / "h.sqlite", days=2.0)
    made.write([alarm(DAY), score(DAY), alarm(5 * DAY), score(5 * DAY)])
    made.clean()
    made.close()
    assert [one["time"] for one in read_records(path)] == [5 * DAY]
    assert [one["time"] for one in read_scores(path)] == [5 * DAY]


def test_beyond_its_size_the_oldest_scores_go_first(tmp_path: Path) -> None:
    path, made = tmp_path / "h.sqlite", book(tmp_path / "h.sqlite", most_mb=1.0)
    made.write([alarm(float(k), "x" * 500) for k in range(500)])
    made.write([score(float(k)) for k in range(40_000)])
    made.clean()
    made.close()
    assert path.stat().st_size < 1.3 * 2**20
    assert len(read_records(path)) == 500
    scores = read_scores(path, most=10**6)
    assert 0 < len(scores) < 40_000
    assert scores[-1]["time"] == 39_999.0


def test_many_scores_are_read_as_the_highest_of_each_stretch(tmp_path: Path) -> None:
    path, made = tmp_path / "h.sqlite", book(tmp_path / "h.sqlite")
    made.write([score(float(k), 9.0 if k == 5000 else 1.0) for k in range(10_000)])
    made.close()
    found = read_scores(path, most=100)
    assert len(found) <= 101
    assert max(one["score"] for one in found) == 9.0


def test_a_locked_file_never_stops_scoring(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    run(path, [alarm(1.0)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    def during(sink: History) -> None:
        begun = time.perf_counter()
        for k in range(1000):
            sink.put(Told(score(float(k))))
        assert time.perf_counter() - begun < 0.5
        other.execute("COMMIT")
        other.close()

    assert run(path, [alarm(2.0)], during).standing().dropped == 0
    assert len(read_scores(path)) == 1000


def test_without_room_the_oldest_in_memory_makes_way_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.edge.sinks.history._IN_MEMORY", 10)
    (tmp_path / "h.sqlite").mkdir()
    sink = run(tmp_path / "h.sqlite", [alarm(float(k)) for k in range(25)])
    assert sink.standing().dropped == 25
    assert sink.standing().delivered == 0


def test_a_file_that_is_no_history_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"junk" * 1000)
    run(path, [alarm(1.0)])
    assert len(read_records(path)) == 1
    assert (tmp_path / "h.sqlite.broken").read_bytes() == b"junk" * 1000


def test_readers_are_told_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="no history"):
        read_records(tmp_path / "none.sqlite")
    (tmp_path / "junk.sqlite").write_bytes(b"junk" * 1000)
    with pytest.raises(FileTrouble):
        read_scores(tmp_path / "junk.sqlite")
    with pytest.raises(FileTrouble):
        open_sink(SinkSettings(str(tmp_path / "none" / "h.sqlite"), tmp_path))
    with pytest.raises(InvalidConfig, match="days"):
        open_sink(SinkSettings(str(tmp_path / "h.sqlite"), tmp_path, options={"days": "-1"}))


def test_a_record_that_is_no_text_does_not_end_the_history(tmp_path: Path) -> None:
    notice = {"type": "notice", "time": 1.5, "kind": "columns", "text": "no tag is called \ud800"}
    sink = run(tmp_path / "h.sqlite", [score(1.0), notice, score(2.0)])
    assert sink.standing().delivered == 3
    assert [one["text"] for one in read_records(tmp_path / "h.sqlite", ["notice"])] == ["no tag is called ?"]
