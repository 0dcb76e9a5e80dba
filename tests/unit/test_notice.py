"""For whom a round waits reaches the operator while it waits: `server run`, `server status`, `rounds list`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from server.app import _watcher
from server.channel import Observer, Silent
from server.notice import WAITS, Noticed, Waits, read_waits
from server.phases import Step
from server.run.place import Endpoint, ServerPlace
from server.run.superlink import executor
from shared.alone import alone
from tests.support.command import crossplant_here
from tests.support.stores import filled
from tests.unit.test_server_keeper import Desk, desk

__all__ = ["desk"]

ANY: Any = None


def over(watcher: Observer, event: str) -> None:
    {
        "started": lambda: watcher.round_started(8, cast(Step, ANY), 2),
        "finished": lambda: watcher.round_finished(ANY),
    }[event]()


def test_it_is_told_in_words(tmp_path: Path) -> None:
    Noticed(tmp_path / "waits", "trial", lambda: 1000.0).round_waits(7, ["north", "south"], 12.0, 290.0)
    found = read_waits(tmp_path / "waits", 1005.0)
    assert found is not None
    assert found.words(1005.0) == "run trial: round 7 waits for north, south (17 s; deadline in 285 s)"
    assert (tmp_path / "waits").stat().st_mode & 0o777 == 0o600


def test_of_many_plants_some_are_named(tmp_path: Path) -> None:
    Noticed(tmp_path / "waits", "trial", lambda: 0.0).round_waits(7, [f"p{n}" for n in range(200)], 12.0, 290.0)
    found = read_waits(tmp_path / "waits", 0.0)
    assert found is not None
    assert "p9 and 190 more (" in found.words(0.0)


@pytest.mark.parametrize("event", ["started", "finished"])
def test_it_is_over_when_the_round_is(tmp_path: Path, event: str) -> None:
    path = tmp_path / "waits"
    watcher = Noticed(path, "trial")
    watcher.round_waits(7, ["north"], 12.0, 290.0)
    assert read_waits(path, time.time()) is not None
    over(watcher, event)
    assert not path.exists()


def test_what_a_process_that_was_killed_left_does_not_hold_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "waits"
    Noticed(path, "trial", lambda: 0.0).round_waits(7, ["north"], 12.0, 290.0)
    assert read_waits(path, 289.0) is not None
    assert read_waits(path, 291.0) is None
    Noticed(path, "trial")
    assert not path.exists()


def test_a_disk_that_refuses_ends_no_round(tmp_path: Path) -> None:
    watcher = Noticed(tmp_path / "no" / "folder" / "waits", "trial")
    watcher.round_waits(7, ["north"], 12.0, 290.0)
    watcher.reply_received("north")
    over(watcher, "finished")


WHOLE = {"run": "a", "round": 7, "plants": ["north"], "more": 0, "since": 0.0, "until": 1e12, "told": 0.0}


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000]
    + [json.dumps(WHOLE | change).encode() for change in ({"plants": 3}, {"until": "x"}, {"round": None})]
    + [json.dumps(WHOLE | {name: value}).encode() for name in ("since", "until") for value in (1e999, float("nan"))],
)  # fmt: skip
def test_a_damaged_file_is_none(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "waits").write_bytes(damaged)
    assert read_waits(tmp_path / "waits", 1.0) is None


def test_a_serverapp_on_a_network_writes_where_the_server_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ServerPlace.of(tmp_path)
    monkeypatch.delenv(WAITS, raising=False)
    assert isinstance(_watcher("trial"), Silent)
    given = executor(place, Endpoint("127.0.0.1:1", None, 1, 1), str(tmp_path)).environment
    monkeypatch.setenv(WAITS, given[WAITS])
    place.prepare()
    _watcher("trial").round_waits(7, ["north"], 12.0, 290.0)
    assert read_waits(place.waits, time.time()) is not None


def test_the_running_server_says_it_once_each_time_it_is_told(desk: Desk) -> None:
    place = desk.keeper._settings.place
    for waited in (12.0, 24.0):
        Noticed(place.waits, "trial").round_waits(7, ["north", "south"], waited, 300.0 - waited)
        desk.look()
        desk.look()
    assert len(desk.said) == 2
    assert desk.said[0].startswith("run trial: round 7 waits for north, south (12 s; deadline in 2")
    Noticed(place.waits, "trial")
    desk.look()
    assert len(desk.said) == 2


@pytest.fixture
def waiting(fed: Path) -> Callable[[list[str]], ServerPlace]:
    def wait(plants: list[str]) -> ServerPlace:
        place = ServerPlace.of(fed)
        place.prepare()
        Noticed(place.waits, "a").round_waits(4, plants, 12.0, 290.0)
        return place

    return wait


def test_status_says_who_serves_what_runs_and_for_whom_a_round_waits(
    waiting: Callable[[list[str]], ServerPlace],
) -> None:
    place = waiting(["north\x1b[31m"])
    (place.runs / "a.json").write_text("{}")
    asked = ("server", "status", "--federation", place.root)
    refused = crossplant_here(*asked)
    assert (refused.returncode, refused.stderr.split()[0]) == (1, "CP-806")
    with alone(place.lock, "the federation"):
        place.write_endpoint(Endpoint("127.0.0.1:1", None, 9443, 17))
        done = crossplant_here(*asked)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["The coordinator serves plants on port 9443, process 17.", "Runs under way: a."]
    assert lines[2].startswith("run a: round 4 waits for north")
    assert "\x1b" not in done.stdout


def test_rounds_list_ends_with_it(waiting: Callable[[list[str]], ServerPlace]) -> None:
    place = waiting(["north"])
    filled(place.root)
    done = crossplant_here("rounds", "list", "--store", place.root)
    assert done.stdout.splitlines()[-1].startswith("run a: round 4 waits for north (1")
    Noticed(place.waits, "another").round_waits(4, ["north"], 12.0, 290.0)
    assert "waits for" not in crossplant_here("rounds", "list", "--store", place.root).stdout


def test_nobody_named_is_no_gap_in_the_sentence() -> None:
    assert "waits for plants to connect (" in Waits("a", 1, (), 0, 0.0, 9.0, 0.0).words(1.0)
