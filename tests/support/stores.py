"""Rounds to store: small, whole, and different from each other."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from server.rounds import ClusterReport, Member, OptimizerState, Phase, PlantReport, RoundRecord, RunState, Status
from server.store.store import RoundStore
from shared.config import RunConfig
from shared.model import Clusters, GlobalModel, TensorSpec
from shared.schema import SensorSchema

CONFIG = RunConfig()
MANIFEST = (TensorSpec("head.bias", (3,), 0.5), TensorSpec("head.weight", (3, 4), 0.1))
SCHEMA = SensorSchema(tags=("LIT101", "FIT101"), period_s=0.1)
NORTH = PlantReport("north", True, None, {"train_loss": 0.5, "holdout_loss": 0.7}, 120, 900, 800, 1.5, {"train": 1.25})
SOUTH = PlantReport("south", False, "NaN: 3 values of head.bias", {}, 80, 900, 800, 1.0)
REPORT = ClusterReport(mass=(0.75, 0.25), displacement=(0.1, float("nan")), active=(True, False), effective=1.75)


def model(seed: int, clusters: bool = True) -> GlobalModel:
    rng = np.random.default_rng(seed)
    weights = {spec.name: rng.normal(size=spec.shape).astype(np.float32) for spec in MANIFEST}
    centroids = rng.normal(size=(2, 3)).astype(np.float32)
    frequency = np.asarray([0.75, 0.25], np.float32)
    found = Clusters(centroids, frequency, np.asarray([True, False]), np.asarray([0, 2]), 2.0)
    return GlobalModel(weights, found if clusters else None)


def state(run: str, number: int, adam: bool = False) -> RunState:
    """After the describe round, round `n` leaves model `n`."""
    moments = {spec.name: np.full(spec.shape, number, np.float32) for spec in MANIFEST}
    return RunState(
        run=run,
        config_digest=CONFIG.digest,
        finished=number,
        step=number,
        model=None if number == 1 else model(number),
        optimizer=OptimizerState(number, moments, moments) if adam else OptimizerState(),
        members=(Member("north", 120, 12, 2 / 3), Member("south", 80, 8, 1 / 3)),
        schema=SCHEMA,
        manifest=MANIFEST,
    )


def record(after: RunState, plants: tuple[PlantReport, ...] = (NORTH, SOUTH)) -> RoundRecord:
    return RoundRecord(
        run=after.run,
        number=after.finished,
        phase=Phase.JOINT,
        label=f"train {after.finished}/9",
        status=Status.COMMITTED,
        reason=None,
        started="2024-05-01T10:00:00.000+00:00",
        seconds=2.5,
        plants=plants,
        metrics={"train_loss": 0.5, "holdout_loss": 0.7 / after.finished},
        clusters=None if after.model is None else REPORT,
        model=None if after.model is None else after.model.digest,
        config=after.config_digest,
        timings={"wait": 2.0},
    )


def filled(folder: Path, rounds: int = 3, run: str = "a", adam: bool = False) -> RoundStore:
    """A store with one run of some rounds; a model from the second on."""
    store = RoundStore.create(str(folder))
    store.start_run(run, CONFIG)
    for number in range(1, rounds + 1):
        after = state(run, number, adam)
        store.commit(record(after), after)
    return store


def alter(folder: Path, statement: str) -> None:
    """Change a store's database without any of our code."""
    with closing(sqlite3.connect(folder / "rounds.sqlite", isolation_level=None)) as connection:
        connection.execute(statement)


def commit(
    store: RoundStore,
    number: int,
    plants: Sequence[PlantReport],
    seed: int | None,
    order: int | None = None,
    **fields: Any,
) -> RoundRecord:
    """Round `number` with the model of that seed."""
    after = dataclasses.replace(state("a", number), model=None if seed is None else model(seed))
    made = dataclasses.replace(record(after, tuple(plants)), **fields)
    store.commit(made, after, order)
    return made
