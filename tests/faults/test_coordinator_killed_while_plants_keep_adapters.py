"""The coordinator dies when plants have trained already, and asks them again: adapters at the plants lead to the same
models, bit for bit, whether the agents lived on or were killed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from client.agent.adapters import RUNS
from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.rounds import RoundRecord, RunState
from shared.config import RunConfig
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request
from tests.support import differ
from tests.support.plants import Loopback, Memory

RUN = differ.config(rounds={"pretrain": 2, "joint": 2, "wire": "int8"})


class Killed(Exception):
    pass


@dataclass
class Dying(Memory):
    """A journal whose process is killed before it commits a round."""

    at: int = 0

    def commit(self, record: RoundRecord, state: RunState) -> None:
        if record.number == self.at:
            raise Killed
        super().commit(record, state)


def agents(home: Path | None = None) -> list[PlantAgent]:
    return [PlantAgent(site, home) for site in differ.sites()]


def conduct(there: list[PlantAgent], journal: Memory, state: RunState | None = None, run: RunConfig = RUN) -> RunState:
    return Coordinator(run, Loopback(there), journal).run(state or RunState("test", run.digest))


@cache
def undisturbed() -> RunState:
    return conduct(agents(), Memory())


def labels() -> list[str]:
    journal = Memory()
    conduct(agents(), journal)
    return [record.label for record in journal.records]


@pytest.mark.parametrize("at", [3, 4, 14, 16], ids=["second train", "centre", "refresh", "last train"])
@pytest.mark.parametrize("again", [False, True], ids=["agents live", "agents are killed too"])
def test_the_run_ends_with_the_same_model(at: int, again: bool, tmp_path: Path) -> None:
    there, journal = agents(tmp_path), Dying(at=at)
    with pytest.raises(Killed):
        conduct(there, journal)
    ended = conduct(agents(tmp_path) if again else there, Memory(), journal.states[-1])
    due = undisturbed()
    assert ended.model is not None
    assert due.model is not None
    assert ended.model.digest == due.model.digest


def test_a_request_that_comes_again_has_the_same_answer(tmp_path: Path) -> None:
    journal, there = Memory(), agents(tmp_path)
    conduct(there, journal)
    state = journal.states[1]
    request = Request(Kind.TRAIN, "other", 2, RUN.recipe, state.model.digest, state.model)  # type: ignore[union-attr]
    first, second = (there[0].handle(encode_request(request)) for _ in range(2))
    afresh = agents(tmp_path)[0].handle(encode_request(request))
    assert first.arrays == second.arrays == afresh.arrays


def test_a_run_that_comes_between_costs_nothing(tmp_path: Path) -> None:
    run = differ.config(rounds={"pretrain": 2, "joint": 2})  # of rounding, only the latest run's is kept
    there, journal = agents(tmp_path), Dying(at=14)
    with pytest.raises(Killed):
        conduct(there, journal, run=run)
    conduct(there, Memory(), RunState("another", run.digest), run)
    ended, due = conduct(there, Memory(), journal.states[-1], run), conduct(agents(), Memory(), run=run)
    assert ended.model is not None
    assert due.model is not None
    assert ended.model.digest == due.model.digest


def test_adapters_of_the_latest_runs_are_kept(tmp_path: Path) -> None:
    run, there = differ.config(rounds={"pretrain": 1, "joint": 0}), agents(tmp_path)
    for number in range(RUNS + 2):
        conduct(there, Memory(), RunState(f"run {number}", run.digest), run)
    assert len(list((tmp_path / "north.adapters").iterdir())) == RUNS


def test_an_adapter_is_lost_with_its_file_and_the_plant_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there, journal = agents(tmp_path), Dying(at=14)
    with pytest.raises(Killed):
        conduct(there, journal)
    (kept,) = (tmp_path / "north.adapters").iterdir()
    kept.write_bytes(b"cut short")
    ended = conduct(agents(tmp_path), Memory(), journal.states[-1])
    assert ended.model is not None
    assert "the plant's adapter kept in" in caplog.text
