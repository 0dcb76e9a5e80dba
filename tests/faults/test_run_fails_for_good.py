"""A run that cannot go on becomes final, its reason in the store; what passes by itself is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.run.control import Standing
from server.run.place import ServerPlace
from server.run.runs import MOST_ATTEMPTS, Submission, ask_again
from server.store.rows import RunStatus
from server.store.store import RoundStore
from shared.errors import DiskFull, RoundNotFound
from tests.support.command import crossplant_here
from tests.unit.test_network_runs import Desk

WHY = "CP-404 ModelCorrupt: models/ab.safetensors was changed. Restore it."


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(ServerPlace.of(tmp_path))


def fail(desk: Desk, why: str) -> None:
    """Flower says that the ServerApp of the newest submission ended."""
    carrier = len(desk.control.started)
    desk.control.standings[carrier] = Standing("finished", "failed", f"ServerApp failed with exception: {why}")


def failed(desk: Desk) -> None:
    desk.look()
    fail(desk, WHY)
    desk.look()


def test_the_reason_is_in_the_store_and_in_rounds_list(desk: Desk) -> None:
    failed(desk)
    with RoundStore.open(desk.store) as store:
        assert (store.run("r").status, store.run("r").note) == (RunStatus.FAILED, WHY)
    listed = crossplant_here("rounds", "list", "--store", desk.store)
    assert f"Run r failed: {WHY}" in listed.stdout
    assert '"note": "CP-404' in crossplant_here("rounds", "list", "--store", desk.store, "--json").stdout


def test_a_mended_run_is_resumed_with_the_plants_that_it_had(desk: Desk) -> None:
    failed(desk)
    ask_again(desk.place, desk.store, "r")
    assert desk.status() is RunStatus.RUNNING
    desk.look()
    assert desk.control.started[-1] == {"run": "r"}
    assert Submission.read(desk.place.runs / "r.json").roster == ("north", "south")
    with pytest.raises(RoundNotFound, match="no run 'r' has failed"):
        ask_again(desk.place, desk.store, "r")


@pytest.mark.parametrize("name", ["other", "../r", ""])
def test_what_did_not_fail_is_not_resumed(desk: Desk, name: str) -> None:
    failed(desk)
    with pytest.raises(RoundNotFound, match="has failed here"):
        ask_again(desk.place, desk.store, name)


def test_a_full_disk_is_waited_out_however_long_it_takes(desk: Desk) -> None:
    now = 0.0
    desk.reaper._clock = lambda: now
    desk.look()
    for _ in range(30):
        fail(desk, str(DiskFull("no space is left to write models.")))
        for _ in range(4):
            now += 4.0
            desk.look()
    assert desk.status() is RunStatus.RUNNING
    assert len(desk.control.started) == 31
    assert [line.split(" (")[1][:15] for line in desk.said] == ["CP-406 DiskFull"], "it is said once"


def test_pauses_between_attempts_grow(desk: Desk) -> None:
    """Twenty attempts take a quarter of an hour: what ails the server may be mended by then."""
    now = 0.0
    desk.reaper._clock = lambda: now
    while desk.status() is RunStatus.RUNNING:
        desk.look()
        fail(desk, "the disk answers late.")
        now += 20.0
    assert len(desk.control.started) == MOST_ATTEMPTS
    assert 800 < now < 1600


def test_nothing_is_started_that_could_not_be_remembered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("server.run.runs.replace_file", full)
        with pytest.raises(OSError, match="No space"):
            desk.look()
    assert desk.control.started == []
    desk.look()
    assert len(desk.control.started) == 1
