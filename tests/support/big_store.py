"""A store of many rounds and plants, quickly: rows as a long run leaves them, inserted in bulk.

`python -m tests.support.big_store DIR --rounds 10000 --plants 50` makes one to look at.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, text
from sqlalchemy.orm import Session

from server.rounds import Member, RunState, Status
from server.store import totals
from server.store.codec import STATE
from server.store.rows import StoredState
from server.store.store import RoundStore
from server.store.tables import Base, RoundRow, UpdateRow
from shared.config import RunConfig
from shared.model import TensorSpec
from shared.schema import SensorSchema

RUN = "long"
_BEGAN = datetime(2024, 5, 1, tzinfo=UTC)
_CLUSTERS = 8
_DIGEST = RunConfig().digest
_BATCH = 200  # rounds
_MEASURES = ("train", "calibrate")
_WHY_NOT = (
    "late: its reply came 31.2 s after the round was closed",
    "norm: update norm 9.31 exceeds the cap of 5.0",
    "refused by the plant: CP-603 the budget of this quarter is spent",
    "NaN: 3 values of head.bias",
    "schema: sends 50 tags, the federation expects 51; missing LIT301",
)


def plant_names(count: int) -> list[str]:
    """Names of plants, in order."""
    return [f"plant-{index:04}" for index in range(count)]


def fill(store: RoundStore, rounds: int, plants: int, run: str = RUN, models: Sequence[str] = ()) -> None:
    """Enter a run of so many rounds.

    Args:
        store: to enter it in.
        rounds, plants: how many.
        run: its name.
        models: digests of models that are in the store, for the last rounds; those of the others have no file.
    """
    store.start_run(run, RunConfig())
    chance = random.Random(7)
    names, figures = plant_names(plants), _Figures(chance)
    state = json.dumps(STATE.encode(StoredState, _state(run, names)))
    with store.session(writes=True) as session:
        for first in range(1, rounds + 1, _BATCH):
            numbers = range(first, min(first + _BATCH, rounds + 1))
            made = [_round(run, n, rounds, state, chance) for n in numbers]
            _insert(session, RoundRow, [row | _model(row["number"], rounds, models) for row in made])
            _insert(
                session, UpdateRow, [_part(run, n, rounds, name, figures, chance) for n in numbers for name in names]
            )
        totals.rebuild(session, run)


def _model(number: int, rounds: int, models: Sequence[str]) -> dict[str, str]:
    back = rounds - number
    return {"model": models[-1 - back]} if back < len(models) else {}


def _insert(session: Session, table: type[Base], rows: list[dict[str, Any]]) -> None:
    """By the driver itself, with JSON as text: SQLAlchemy would take most of the time."""
    connection, name, columns = session.connection(), table.__tablename__, ", ".join(rows[0])
    if connection.dialect.name == "sqlite":
        statement = f"INSERT INTO {name} ({columns}) VALUES ({', '.join('?' * len(rows[0]))})"
        connection.exec_driver_sql(statement, [tuple(row.values()) for row in rows])
        return
    kinds = {column.name: isinstance(column.type, JSON) for column in table.__table__.columns}
    values = ", ".join(f"CAST(:{c} AS JSON)" if kinds[c] else f":{c}" for c in rows[0])
    connection.execute(text(f"INSERT INTO {name} ({columns}) VALUES ({values})"), rows)


def _model(number: int, rounds: int, models: Sequence[str]) -> dict[str, str]:
    back = rounds - number
    return {"model": models[-1 - back]} if back < len(models) else {}


class _Figures:
    """Figures of plants as JSON, by what the round does: some hundred of each kind, which repeat."""

    def __init__(self, chance: random.Random) -> None:
        def made(label: str) -> str:
            found = _metrics(label, 0.4 + 0.6 * chance.random(), chance)
            return json.dumps(found | ({"cosine": chance.random()} if found else {}))

        self._metrics = {label: [made(label) for _ in range(400)] for label in ("train", "refresh")}
        self._timings = [
            json.dumps({"train": 50 + chance.random(), "evaluate": chance.random(), "transfer": chance.random()})
            for _ in range(400)
        ]

    def of(self, label: str, chance: random.Random) -> tuple[str, str]:
        """Metrics and timings."""
        kind = "train" if label.startswith(_MEASURES) else "refresh"
        return chance.choice(self._metrics[kind]), chance.choice(self._timings)


def _state(run: str, names: list[str]) -> StoredState:
    """As large as a real one: every member, every tensor, every tag."""
    members = tuple(Member(name, 12_000, 400, 1 / len(names)) for name in names)
    manifest = tuple(TensorSpec(f"encoder.layers.{i}.weight", (64, 51), 0.1) for i in range(24))
    schema = SensorSchema(tags=tuple(f"T{i:03}" for i in range(51)), period_s=1.0)
    state = RunState(run, _DIGEST, members=members, schema=schema, manifest=manifest)
    return StoredState.of(state, None)


def _round(run: str, number: int, rounds: int, state: str, chance: random.Random) -> dict[str, Any]:
    phase, label = _step(number, rounds)
    model = None if number == 1 else hashlib.sha256(f"{run} {number}".encode()).hexdigest()
    skipped = chance.random() < 0.01
    loss = 0.4 + 0.6 * math.exp(-number / 1500) + 0.01 * chance.random()
    return {
        "run": run,
        "number": number,
        "phase": phase,
        "label": label,
        "status": (Status.SKIPPED if skipped else Status.COMMITTED).value,
        "reason": "23 of 50 plants counted, the quorum is 25" if skipped else None,
        "started": (_BEGAN + timedelta(seconds=90 * number)).isoformat(timespec="milliseconds"),
        "seconds": 85.0 + chance.random(),
        "metrics": json.dumps(_metrics(label, loss, chance)),
        "clusters": json.dumps(_clusters(chance)) if phase in ("cluster", "joint") else None,
        "model": model,
        "config": _DIGEST,
        "timings": json.dumps({"wait": 80.0 + chance.random(), "aggregate": chance.random()}),
        "state": state,
        "optimizer": None,
    }


def _step(number: int, rounds: int) -> tuple[str, str]:
    if number == 1:
        return "describe", "describe"
    if number == rounds:
        return "calibrate", "calibrate"
    if number <= max(2, rounds // 5):
        return "pretrain", f"train {number - 1}/{rounds // 5}"
    if number <= rounds // 5 + 14:
        return "cluster", f"seed {number}/14"
    if number % 5:
        return "joint", f"train {number}/{rounds}"
    return "joint", f"calibrate {number}" if number % 10 else "refresh 1/1"


def _metrics(label: str, loss: float, chance: random.Random) -> dict[str, float]:
    if not label.startswith(_MEASURES):
        return {}
    names = ("train_loss", "holdout_loss", "cluster_loss", "update_norm", "auprc", "false_alarms_day")
    return {name: loss * (1 + 0.05 * index) + 0.01 * chance.random() for index, name in enumerate(names)}


def _clusters(chance: random.Random) -> dict[str, Any]:
    return {
        "mass": [chance.random() for _ in range(_CLUSTERS)],
        "displacement": [0.1 * chance.random() for _ in range(_CLUSTERS)],
        "active": [True] * _CLUSTERS,
        "effective": 6.0 + chance.random(),
        "plants": [chance.randrange(50) for _ in range(_CLUSTERS)],
    }


def _part(run: str, number: int, rounds: int, name: str, figures: _Figures, chance: random.Random) -> dict[str, Any]:
    accepted = chance.random() > 0.03
    metrics, timings = figures.of(_step(number, rounds)[1], chance) if accepted else ("{}", "{}")
    return {
        "run": run,
        "number": number,
        "plant": name,
        "accepted": accepted,
        "reason": None if accepted else chance.choice(_WHY_NOT),
        "metrics": metrics,
        "examples": 12_000,
        "bytes_down": 886_412,
        "bytes_up": 886_412 if accepted else 0,
        "seconds": 60.0 + 20 * chance.random(),
        "timings": timings,
    }


def sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """Files of a store with their sizes."""
    yield from ((path.name, path.stat().st_size) for path in sorted(folder.iterdir()) if path.is_file())


def main() -> None:
    """Make one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--plants", type=int, default=50)
    asked = parser.parse_args()
    begin = time.perf_counter()
    with RoundStore.create(str(asked.folder)) as store:
        fill(store, asked.rounds, asked.plants)
    print(json.dumps({"seconds": round(time.perf_counter() - begin, 1), **dict(sizes(asked.folder))}))


if __name__ == "__main__":
    main()
