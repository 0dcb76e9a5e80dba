"""The spool loses nothing over an outage, drops the oldest beyond its cap, survives kill -9 and a full disk."""

import asyncio
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.edge.options import Pause
from client.edge.sinks.spool import Delivering, GivenUp, Spool

MOST = 2**20


@dataclass
class Told:
    number: int
    kind: str = "alarm"

    def as_json(self) -> dict[str, Any]:
        return {"type": self.kind, "number": self.number, "text": "x" * 50}


class To(Delivering):
    """Delivers into a list, while `there`."""

    def __init__(self, path: Path, most: int = MOST) -> None:
        super().__init__("to", frozenset({"alarm"}), path, most, Pause(0.01, 0.02))
        self.there, self.got = True, list[tuple[str, bytes]]()
        self.unwanted = b"nothing like it"

    async def _deliver(self, key: str, body: bytes) -> None:
        if not self.there:
            raise OSError("nobody there")
        if self.unwanted in body:
            raise GivenUp("not wanted")
        self.got.append((key, body))

    async def _release(self) -> None:
        """It holds nothing open."""


async def settled(sink: To, waiting: int = 0) -> None:
    async with asyncio.timeout(10):
        while sink._spool is None or sink.standing().waiting != waiting or sink._memory:
            await asyncio.sleep(0.005)


def test_what_is_written_comes_out_in_order_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s.sqlite", MOST)
    spool.append([b"a", b"b", b"c"])
    found = spool.oldest(9)
    assert [body for _, body in found] == [b"a", b"b", b"c"]
    assert len({spool.key(number) for number, _ in found}) == 3
    for number, _ in found:
        spool.delete(number)
        spool.delete(number)
    assert (spool.waiting, spool.dropped, spool.oldest()) == (0, 0, [])
    spool.close()


def test_beyond_the_cap_the_oldest_goes_first_and_is_counted_for_good(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    spool = Spool(path, 1000)
    for k in range(30):
        spool.append([b"%03d" % k + b"x" * 97])
    assert (spool.waiting, spool.dropped) == (10, 20)
    assert [body[:3] for _, body in spool.oldest(99)] == [b"%03d" % k for k in range(20, 30)]
    spool.close()
    again = Spool(path, 1000)
    assert (again.waiting, again.dropped, again.name) == (10, 20, spool.name)
    again.close()


def test_ids_are_never_used_twice(tmp_path: Path) -> None:
    seen = set()
    for _ in range(3):
        spool = Spool(tmp_path / "s.sqlite", MOST)
        spool.append([b"a"])
        number = spool.oldest()[0][0]
        assert number not in seen
        seen.add(number)
        spool.delete(number)
        spool.close()


def test_a_file_that_is_no_spool_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"no database at all" * 100)
    spool = Spool(path, MOST)
    spool.append([b"a"])
    assert spool.waiting == 1
    assert (tmp_path / "s.sqlite.broken").exists()
    spool.close()


WRITER = """
import sys
from pathlib import Path
from client.edge.sinks.spool import Spool
spool = Spool(Path(sys.argv[1]), 2**30)
for k in range(10**9):
    spool.append([b"%d" % k])
    print(k, flush=True)
"""


def test_kill_9_loses_nothing_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(200):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().split()
        process.wait(10)
    last = int(told[-1]) if told and told[-1] else 199
    spool = Spool(path, 2**30)
    bodies = [body for _, body in spool.oldest(10**6)]
    assert bodies[: last + 1] == [b"%d" % k for k in range(last + 1)]
    spool.close()


@pytest.fixture
def full_disk() -> Any:
    """No file of this process may grow beyond 64 KB: what a full disk looks like to SQLite."""
    old, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, old[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, old)
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_writes_all_or_nothing(tmp_path: Path, full_disk: Any) -> None:
    spool = Spool(tmp_path / "s.sqlite", 2**30)
    with pytest.raises(sqlite3.Error):
        spool.append([b"x" * 1000] * 1000)
    assert (spool.waiting, spool.oldest()) == (0, [])
    full_disk()
    spool.append([b"x" * 1000] * 1000)
    assert spool.waiting == 1000
    spool.close()


def test_a_day_without_the_other_side_loses_nothing(tmp_path: Path) -> None:
    """1,440 records, one a minute, a new process in the middle of the outage."""

    async def test() -> None:
        sink = To(tmp_path / "s.sqlite")
        sink.there = False
        await sink.start()
        for k in range(1440):
            sink.put(Told(k))
        await settled(sink, 1440)
        async with asyncio.timeout(10):
            while "nobody there" not in sink.standing().trouble:
                await asyncio.sleep(0.005)
        await sink.close(1.0)
        again = To(tmp_path / "s.sqlite")
        await again.start()
        await settled(again)
        assert [b'"number":%d,' % k in body for k, (_, body) in enumerate(again.got)] == [True] * 1440
        assert len({key for key, _ in again.got}) == 1440
        assert again.standing().delivered == 1440
        assert again.standing().dropped == 0
        await again.close(1.0)

    asyncio.run(test())


def test_a_record_that_nobody_wants_is_dropped_and_the_next_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        sink = To(tmp_path / "s.sqlite")
        sink.unwanted = b'"number":1,'
        await sink.start()
        for k in range(3):
            sink.put(Told(k))
        sink.put(Told(9, "score"))
        await settled(sink)
        assert len(sink.got) == 2
        assert (sink.standing().delivered, sink.standing().dropped) == (2, 1)
        await sink.close(1.0)

    asyncio.run(test())


def test_what_came_just_before_the_end_is_on_disk(tmp_path: Path) -> None:
    async def test() -> None:
        sink = To(tmp_path / "s.sqlite")
        sink.there = False
        await sink.start()
        for k in range(50):
            sink.put(Told(k))
        await sink.close(2.0)
        assert sink.standing().dropped == 0

    asyncio.run(test())
    spool = Spool(tmp_path / "s.sqlite", MOST)
    assert spool.waiting == 50
    spool.close()


def test_without_a_disk_records_wait_in_memory_and_put_never_blocks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def test() -> None:
        sink = To(tmp_path / "file" / "s.sqlite")
        await sink.start()
        begun = time.perf_counter()
        for k in range(10_050):
            sink.put(Told(k))
        assert time.perf_counter() - begun < 2
        await asyncio.sleep(0.1)
        standing = sink.standing()
        assert (standing.waiting, standing.dropped) == (10_000, 50)
        assert "memory" in standing.trouble
        await sink.close(0.1)
        assert sink.standing().dropped == 10_050

    asyncio.run(test())


def test_a_disk_that_keeps_a_delivered_record_does_not_have_it_delivered_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.edge.sinks.spool._RETRY_S", 0.02)
    refused = [True]
    delete = Spool.delete

    def refusing(self: Spool, number: int, dropped: bool = False) -> None:
        if refused[0]:
            raise sqlite3.OperationalError("database or disk is full")
        delete(self, number, dropped)

    monkeypatch.setattr(Spool, "delete", refusing)

    async def test() -> None:
        sink = To(tmp_path / "s.sqlite")
        await sink.start()
        for number in range(3):
            sink.put(Told(number))
        async with asyncio.timeout(10):
            while len(sink.got) < 3:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)  # Long enough for ten more attempts.
        assert len({key for key, _ in sink.got}) == len(sink.got) == 3
        assert "disk is full" in sink.standing().trouble
        refused[0] = False
        await settled(sink)
        assert sink.standing().delivered == 3
        await sink.close(1.0)
        assert len(sink.got) == 3

    asyncio.run(test())


def test_a_record_that_is_no_text_is_delivered_and_not_lost(tmp_path: Path) -> None:
    class Torn(Told):
        def as_json(self) -> dict[str, Any]:
            return {"type": "alarm", "text": "\ud800"}

    async def test() -> None:
        sink = To(tmp_path / "s.sqlite")
        await sink.start()
        sink.put(Torn(0))
        await sink.close(5.0)
        assert [body for _, body in sink.got] == [b'{"type":"alarm","text":"?"}']

    asyncio.run(test())
