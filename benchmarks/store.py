"""The round store: committing a round of 50 plants, and listing a run of 1,000 rounds."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import noop
from benchmarks.federation import RUN, new_store, settings
from benchmarks.figures import Figure, median
from benchmarks.processes import child, tail
from server.rounds import Member, Phase, PlantReport, RoundRecord, RunState, Status
from server.store.store import RoundStore
from shared.model import GlobalModel, initial_weights
from shared.schema import SensorSchema

PLANTS = 50
LIMIT_S = 0.05
_PATIENCE_S = 120.0


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """A commit writes a model file of 0.9 MB and one transaction; beside it, the least that both can cost here."""
    count, fresh = (100, 10) if quick else (1_000, 40)
    with RoundStore.open(new_store(scratch / "store", settings(1))) as store:
        state = _state()
        commits, floor = [], []
        for number in range(1, count + 1):
            new_model = number <= fresh
            state = replace(state, finished=number, model=_moved(state.model, number) if new_model else state.model)
            seconds = _seconds(partial(store.commit, _record(state), state))
            if new_model:
                commits.append(seconds)
                floor.append(_seconds(partial(_bare, scratch, state.model)))
        reading = [_seconds(lambda: store.rounds(RUN)) for _ in range(3)]
    beyond = [whole - bare for whole, bare in zip(commits, floor, strict=True)]
    listing = [_list(scratch / f"list{i}", scratch / "store") for i in range(3)]
    help_s = [_command(scratch / f"help{i}", "--help") for i in range(3)]
    return [
        median(f"commit of {PLANTS} plants beyond the bare writes", beyond, "s", LIMIT_S, "a limit of our own"),
        median("  commit of a round with a new model", commits, "s"),
        median("  bare writes: the file and one row, both synced", floor, "s"),
        median(f"`rounds list --json`, {count} rounds of {PLANTS} plants", listing, "s", note="a process of its own"),
        median("  `crossplant --help`, a process of its own", help_s, "s"),
        median("  reading them in a process at work", reading, "s"),
    ]


def _state() -> RunState:
    manifest = noop.manifest()
    names = [f"plant-{i:05d}" for i in range(PLANTS)]
    return RunState(
        RUN,
        settings(1).digest,
        model=GlobalModel(initial_weights(manifest, 0)),
        members=tuple(Member(name, noop.EXAMPLES, 22, 1.0 / PLANTS) for name in names),
        schema=SensorSchema(tags=tuple(f"T{i:02d}" for i in range(noop.DIM)), period_s=1.0),
        manifest=manifest,
    )


def _moved(model: GlobalModel | None, number: int) -> GlobalModel:
    assert model is not None
    return GlobalModel({name: value + np.float32(1e-3 * number) for name, value in model.weights.items()})


def _record(state: RunState) -> RoundRecord:
    metrics = {"train_loss": 0.5, "cluster_loss": 0.1, "holdout_loss": 0.6, "update_norm": 1.2}
    timings = {"evaluate": 0.1, "cluster": 0.0, "train": 1.0}
    reports = (
        PlantReport(m.plant, True, None, metrics, m.examples, 886_000, 886_000, 1.1, timings) for m in state.members
    )
    return RoundRecord(
        run=RUN,
        number=state.finished,
        phase=Phase.PRETRAIN,
        label=f"train {state.finished}",
        status=Status.COMMITTED,
        reason=None,
        started="2024-05-01T10:00:00.000+00:00",
        seconds=55.0,
        plants=tuple(reports),
        metrics=metrics,
        clusters=None,
        model=None if state.model is None else state.model.digest,
        config=state.config_digest,
        timings={"wait": 54.0, "aggregate": 0.1},
    )


def _bare(scratch: Path, model: GlobalModel | None) -> None:
    """What no store could do without: the model's bytes on the disk, and one durable row."""
    assert model is not None
    with (scratch / "bare").open("wb") as file:
        file.write(model.file_bytes)
        file.flush()
        os.fsync(file.fileno())
    connection = sqlite3.connect(scratch / "bare.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS row (text)")
        connection.execute("INSERT INTO row VALUES ('x')")
    finally:
        connection.close()


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _list(folder: Path, store: Path) -> float:
    return _command(folder, "rounds", "list", "--store", str(store), "--json")


def _command(folder: Path, *arguments: str) -> float:
    """Wall seconds of one `crossplant` command."""
    begin = time.perf_counter()
    with child(["-c", "from shared.cli import main; main()", *arguments], folder) as process:
        if process.wait(_PATIENCE_S):
            raise RuntimeError(f"crossplant {' '.join(arguments)} failed:\n{tail(folder)}")
        return time.perf_counter() - begin
