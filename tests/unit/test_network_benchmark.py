"""What `benchmarks.network` reads out of stamps, memory maps and CPU times; and the stamps themselves."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.network import by_plant, rounds
from benchmarks.network_ours import STAMPS
from benchmarks.plant_memory import alone_mb, pss_mb
from benchmarks.process_tree import Watch
from benchmarks.processes import ROOT

PLANT = (
    *("node got", "task started", "node stored", "task read", "agent asked", "agent began", "agent ended"),
    *("agent heard", "node found", "node sent"),
)


def stamps(count: int) -> Iterator[tuple[float, str, str]]:
    """Rounds of 10 s with two plants, the second one a second behind."""
    for number in range(count):
        begin = 10.0 * number
        yield begin, "/server", "server began"
        yield begin + 0.5, "/server", "server sent"
        for behind, place in enumerate(("/a/home", "/b/home")):
            for step, station in enumerate(PLANT):
                yield begin + 1 + behind + 0.1 * step, place, station
            yield begin + 3, "/server", "server heard"


def test_the_describe_round_the_warm_up_and_what_follows_the_measured_rounds_are_left_out() -> None:
    found = list(rounds(sorted(stamps(6)), 3))
    assert [end for _, end in found] == [30.0, 40.0, 50.0]
    assert all(min(when for when, *_ in inside) == end - 10 for inside, end in found)
    with pytest.raises(RuntimeError, match="stamps of 5 rounds, 6 are needed"):
        list(rounds(sorted(stamps(5)), 3))


def test_each_plant_has_its_own_stations_and_the_servers() -> None:
    first, second = by_plant(sorted(stamps(1)))
    assert second["node got"] - first["node got"] == pytest.approx(1.0)
    assert first["server sent"] == second["server sent"] == 0.5


def test_a_station_that_a_new_flower_no_longer_passes_is_an_error() -> None:
    cut = [stamp for stamp in stamps(1) if stamp[2] != "task read" or stamp[1] != "/b/home"]
    with pytest.raises(RuntimeError, match=r"/b/home left no stamp of \['task read'\]"):
        by_plant(cut)
    with pytest.raises(RuntimeError, match="no plant"):
        by_plant([])


def test_a_process_leaves_stamps_where_it_is_told_to_and_none_otherwise(tmp_path: Path) -> None:
    """The wrapped function is the relay's real one; no agent listens, so it fails after it was asked."""
    code = (
        "from client.agent.wire import ask\nfrom shared.wire.envelope import Packet\nfrom pathlib import Path\n"
        "try:\n    ask(Path('nobody.sock'), Packet(), 1.0)\nexcept Exception as e:\n    print(type(e).__name__)\n"
    )
    path = f"{ROOT / 'benchmarks' / 'stamps'}:{ROOT}"
    for told in (True, False):
        folder = tmp_path / str(told)
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": path, **({STAMPS: str(folder)} if told else {})}
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "AgentUnreachable"
        lines = [json.loads(line) for file in folder.iterdir() for line in file.read_text().splitlines()]
        assert [(place, station) for _, place, station in lines] == [(str(tmp_path), "agent asked")] * told
        assert all(0 <= time.monotonic() - when < 60 for when, *_ in lines)


def test_pages_of_a_file_count_once_for_a_group_and_own_pages_for_each(tmp_path: Path) -> None:
    """Two processes that map one file of 40 MB, and 20 MB of their own each."""
    (tmp_path / "shared").write_bytes(os.urandom(40_000_000))
    code = (
        "import mmap, sys\nfile = open('shared', 'rb')\nwhole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "sum(whole[i] for i in range(0, len(whole), 4096))\nown = bytearray(20_000_000)\n"
        "own[::4096] = b'x' * len(own[::4096])\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    assert mmap.PAGESIZE <= 65536
    command = [sys.executable, "-S", "-E", "-c", code]
    both = [subprocess.Popen(command, cwd=tmp_path, stdin=-1, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        assert all(p.stdout is not None and p.stdout.readline() for p in both)
        one, group = alone_mb([both[0].pid]), alone_mb(p.pid for p in both)
        assert 60 <= one <= 90
        assert 20 <= group - one <= 32
        assert 40 <= pss_mb(both[0].pid) <= one
    finally:
        for process in both:
            process.communicate(b"")
    assert pss_mb(both[0].pid) == 0.0
    assert alone_mb([both[0].pid]) == 0.0


def test_cpu_seconds_between_two_looks_are_divided_by_time() -> None:
    watch = Watch(lambda: [os.getpid()])
    watch._spent = [(0.0, 10.0), (10.0, 15.0), (20.0, 35.0)]
    assert watch.cpu_s(0.0, 10.0) == pytest.approx(5.0)
    assert watch.cpu_s(8.0, 12.0) == pytest.approx(1.0 + 4.0)
    assert watch.cpu_s(15.0, 99.0) == pytest.approx(10.0)


def test_a_look_sees_the_time_of_children_that_are_gone() -> None:
    watch = Watch(lambda: [os.getpid()])
    watch.look()
    subprocess.run([sys.executable, "-S", "-E", "-c", "sum(range(20_000_000))"], check=True)
    watch.look()
    (begin, _), (end, _) = watch._spent
    assert watch.cpu_s(begin, end) >= 0.1
