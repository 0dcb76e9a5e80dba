"""JSON lines in and out: what hostile lines do, and what a slow, full or absent reader does."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.edge.records import Notice, Record, Sample
from client.edge.sinks.base import SinkSettings, open_sink, open_sinks
from client.edge.sinks.lines import Lines as Sink
from client.edge.sources.lines import LineParser, Lines
from shared.errors import FileTrouble, InvalidConfig, UnknownName
from shared.schema import SensorSchema
from tests.support.edge import scored

SCHEMA = SensorSchema(tags=("LIT101", "FIT101", "P101"), period_s=1.0)
GOOD = b'{"time": 60, "LIT101": 1, "FIT101": 2, "P101": 3}'


def parsed(*lines: bytes) -> tuple[list[Sample], list[Notice]]:
    parser = LineParser(SCHEMA)
    items = [item for line in lines for item in parser.feed(line)]
    return [x for x in items if isinstance(x, Sample)], [x for x in items if isinstance(x, Notice)]


# ---- source ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        b'{"time": "1970-01-01T00:01:00Z", "values": {"P101": 3, "LIT101": 1.0, "FIT101": 2}}',
        b'\xef\xbb\xbf{"time": "60", "LIT101": 1, "FIT101": 2, "P101": 3, "other": "text"}\r',
    ],
)
def test_both_forms_give_the_same_sample(line: bytes) -> None:
    ((sample,), _) = parsed(line)
    assert (sample.time, sample.values_D.tolist()) == (60.0, [1.0, 2.0, 3.0])


HOSTILE = {
    "no JSON": b"LIT101=3",
    "no object": b"[1, 2, 3]",
    "a number": b"3",
    "no UTF-8": b'{"LIT101": "\xff"}',
    "nested": b"[" * 100_000,
    "nested object": b'{"LIT101": ' * 50_000,
    "wrong type": b'{"LIT101": "high", "FIT101": 1, "P101": 1}',
    "a list": b'{"LIT101": [1], "FIT101": 1, "P101": 1}',
    "huge integer": b'{"LIT101": ' + b"9" * 400 + b', "FIT101": 1, "P101": 1}',
    "too many digits": b'{"LIT101": ' + b"9" * 10_000 + b', "FIT101": 1, "P101": 1}',
    "twice": b'{"LIT101": 1, "LIT101": 2, "FIT101": 1, "P101": 1}',
    "time twice": b'{"time": 1, "time": 2, "LIT101": 1, "FIT101": 1, "P101": 1}',
    "no tag": b'{"time": 1}',
    "one of three": b'{"time": 1, "LIT101": 2}',
    "no time": b'{"time": "soon", "LIT101": 1, "FIT101": 1, "P101": 1}',
    "time of a wrong type": b'{"time": [1], "LIT101": 1, "FIT101": 1, "P101": 1}',
    "a time that is true": b'{"time": true, "LIT101": 1, "FIT101": 1, "P101": 1}',
    "time before all": b'{"time": -5, "LIT101": 1, "FIT101": 1, "P101": 1}',
    "time NaN": b'{"time": NaN, "LIT101": 1, "FIT101": 1, "P101": 1}',
    "values beside": b'{"time": 1, "values": {"LIT101": 1, "FIT101": 1, "P101": 1}, "P101": 2}',
    "values no object": b'{"time": 1, "values": [1, 2, 3]}',
    "a zero byte": b'\x00{"time": 1}',
    "many names": b"{" + b",".join(b'"c%d": 1' % i for i in range(100_000)) + b"}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_is_rejected_with_a_reason_and_the_next_one_is_read(name: str) -> None:
    samples, notices = parsed(HOSTILE[name], GOOD)
    assert len(samples) == 1
    assert [notice.kind for notice in notices] == ["rejected"]
    assert notices[0].text.startswith("line 1: ")
    assert len(notices[0].text) < 400


def test_missing_readings_are_missing() -> None:
    samples, notices = parsed(b'{"time": 1, "LIT101": null, "FIT101": NaN, "P101": 1e999}', b'{"LIT101": 1, "P101": 1}')
    assert not np.isfinite(samples[0].values_D).any()
    assert np.isnan(samples[1].values_D).tolist() == [False, True, False]
    assert [notice.kind for notice in notices] == ["columns", "gap"]  # The time of arrival is decades later.


def test_rejections_are_counted_and_told_once_in_a_while() -> None:
    parser = LineParser(SCHEMA)
    notices = [item for _ in range(1000) for item in parser.feed(b"junk")]
    assert len(notices) == 1
    assert "1000 rejected" in parser.ended().text


def test_time_that_stands_still_is_told_and_every_sample_counts() -> None:
    samples, notices = parsed(*[GOOD] * 50)
    assert len(samples) == 50
    assert [notice.kind for notice in notices] == ["clock"]


def read(data: bytes, pipe: bool) -> list[Sample | Notice]:
    async def run(descriptor: int) -> list[Sample | Notice]:
        async with Lines(SCHEMA, descriptor) as source:
            return [item async for item in source]

    if pipe:
        out, into = os.pipe()
        child = os.fork()
        if not child:
            os.close(out)
            with os.fdopen(into, "wb") as file:
                file.write(data)
            os._exit(0)
        os.close(into)
    else:
        out = os.memfd_create("lines")
        os.write(out, data)
        os.lseek(out, 0, os.SEEK_SET)
    try:
        return asyncio.run(run(out))
    finally:
        os.close(out)
        if pipe:
            os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("pipe", [True, False])
def test_a_pipe_and_a_file_are_read_to_their_end_whatever_the_pieces(pipe: bool) -> None:
    data = GOOD + b"\n\n" + b"x" * (2 * 2**20) + b"\n" + GOOD  # No newline at the end.
    found = read(data, pipe)
    assert [type(item).__name__ for item in found] == ["Sample", "Notice", "Notice", "Sample", "Notice"]
    kinds = [item.kind for item in found if isinstance(item, Notice)]
    assert kinds == ["rejected", "clock", "ended"]


# ---- sink ------------------------------------------------------------------------------------------------------------


def put(sink: Sink, *records: Record) -> None:
    async def run() -> None:
        await sink.start()
        for record in records:
            sink.put(record)
        await sink.close(0.3)

    asyncio.run(run())


def file_sink(path: Path, **options: str) -> Sink:
    found = open_sink(SinkSettings(str(path), path.parent, options=options))
    assert isinstance(found, Sink)
    return found


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_records_are_appended_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for number in range(2):
        sink = file_sink(path)
        put(sink, scored(number), Notice(1.0, "gap", "a\nb \u2028"))
        assert sink.standing().delivered == 2
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [one["type"] for one in found] == ["score", "notice"] * 2
    assert found[1]["text"] == "a\nb \u2028"


def test_only_the_types_asked_for_are_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = open_sink(SinkSettings(str(path), tmp_path, frozenset({"notice"})))
    put(sink, scored(), Notice(1.0, "gap", ""))  # type: ignore[arg-type]
    assert [json.loads(line)["type"] for line in path.read_text().splitlines()] == ["notice"]


def test_a_line_that_a_killed_process_left_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"type": "sc')
    put(file_sink(path), Notice(1.0, "gap", ""))
    assert len(path.read_text().splitlines()) == 2
    assert json.loads(path.read_text().splitlines()[1])["kind"] == "gap"


def test_a_full_disk_stops_nothing_and_what_waits_is_written_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "out.jsonl", os.write
    free = 100  # Half a line.

    def write(descriptor: int, data: bytes) -> int:
        nonlocal free
        if free <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(descriptor, data[:free])
        free -= count
        return count

    monkeypatch.setattr(os, "write", write)
    sink = file_sink(path)

    async def run() -> None:
        nonlocal free
        for number in range(10):
            sink.put(scored(number))
        assert sink.standing().trouble == "No space left on device"
        assert sink.standing().waiting == 10
        free = 10**6
        await sink.close(5)

    asyncio.run(run())
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == list(range(10))
    assert (sink.standing().delivered, sink.standing().dropped) == (10, 0)


def test_beyond_the_limit_the_oldest_go_first_and_are_counted(pipe: tuple[int, int]) -> None:
    out, into = pipe
    sink = Sink("-", into, most=50_000)
    put(sink, *(scored(number) for number in range(1000)))  # Nobody reads: the pipe takes 64 KiB.
    os.close(into)
    data = b""
    while piece := os.read(out, 2**16):
        data += piece
    numbers = [json.loads(line)["number"] for line in data.split(b"\n")[:-1]]
    assert numbers == sorted(numbers)
    standing = sink.standing()
    assert standing.delivered == len(numbers)
    assert standing.delivered + standing.dropped == 1000
    assert standing.dropped > 100


def test_a_reader_that_leaves_is_noticed_and_raises_nothing(pipe: tuple[int, int]) -> None:
    out, into = pipe
    sink = Sink("-", into)
    os.close(out)
    put(sink, *(scored(number) for number in range(3)))
    assert sink.closed
    assert sink.standing().dropped == 3


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble):
        file_sink(tmp_path / "no" / "out.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(FileTrouble):
        file_sink(tmp_path / "folder.jsonl")
    with pytest.raises(InvalidConfig, match="no option"):
        file_sink(tmp_path / "out.jsonl", colour="red")
    assert sys.stdout is not None


def test_a_sink_for_records_that_there_are_not_or_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    file = SinkSettings(str(tmp_path / "a.jsonl"), tmp_path)
    with pytest.raises(UnknownName, match=r"type of records for the sink .* 'alarms'.*Known: alarm, drift"):
        open_sink(replace(file, types=frozenset({"alarm", "alarms"})))
    with pytest.raises(InvalidConfig, match="is given twice"):
        open_sinks([file, file])
    with pytest.raises(UnknownName, match=r"Known: -, FILE.jsonl, FILE.sqlite, mqtt://\.\.\., .*opc.tcp://"):
        open_sink(replace(file, location="jsonl://a"))
    for sink in open_sinks([file, replace(file, state=tmp_path / "other")]):
        asyncio.run(sink.close(1.0))
