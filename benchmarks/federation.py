"""Runs of no-op plants: settings, a store for them, and the in-process engine with the no-op in the client's place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

from server.phases import Step
from server.rounds import Phase, RoundRecord
from server.store.store import RoundStore
from shared.config import RunConfig
from shared.config import build as build_config

RUN = "bench"


def settings(pretrain: int, workers: int = 1, **training: object) -> RunConfig:
    """Default settings: some pretrain rounds, then the shortest plan that there is."""
    clustering = {"seed_steps": 1, "refine_steps": 1}
    layer = {
        "rounds": {"pretrain": pretrain, "joint": 0},
        "engine": {"workers": workers, "threads": 1, "device": "cpu"},
        "recipe": {"clustering": clustering, "training": training, "lag": {"on": False}},
    }
    return build_config({"benchmark": layer})[0]


def new_store(folder: Path, config: RunConfig) -> str:
    """A store with one run entered; returns its location."""
    with RoundStore.create(str(folder)) as store:
        store.start_run(RUN, config)
    return str(folder)


class Watch:
    """Times every round, from the end of the one before to the end of its commit; `between` runs untimed after each.

    Attributes:
        rounds: each finished round with its wall and process CPU seconds.
    """

    def __init__(self, between: Callable[[RoundRecord], None] = lambda record: None) -> None:
        self.rounds: list[tuple[RoundRecord, float, float]] = []
        self._between = between
        self._mark()

    def _mark(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def round_started(self, number: int, step: Step, plants: int) -> None: ...

    def round_waits(self, number: int, plants: Sequence[str], waited_s: float, left_s: float) -> None: ...

    def reply_received(self, plant: str) -> None: ...

    def round_finished(self, record: RoundRecord) -> None:
        self.rounds.append((record, time.perf_counter() - self._wall, time.process_time() - self._cpu))
        self._between(record)
        self._mark()

    def pretrain(self, plants: int) -> list[tuple[RoundRecord, float, float]]:
        """The pretrain rounds after the first, which warms up; every plant must have counted in each."""
        found = [timed for timed in self.rounds if timed[0].phase is Phase.PRETRAIN]
        short = [record.number for record, _, _ in found if len(record.accepted) != plants]
        if short or not found:
            raise RuntimeError(f"not every plant counted in rounds {short}: the figures would mean nothing")
        return found[1:]


def run_no_op(folder: Path, plants: int, pretrain: int, watch: Watch, workers: int = 1) -> None:
    """Carry a run of no-op plants to its end on the in-process engine."""
    from benchmarks import noop
    from simulations import engines

    config = settings(pretrain, workers)
    job = engines.Job(new_store(folder, config), RUN, folder, plants, config.engine)
    with mock.patch.object(engines, "client_app", noop.app):
        engines.carry(job, watch)
