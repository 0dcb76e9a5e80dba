"""Copies a run into MLflow, for those who have one: its settings, and what was measured over all plants in each round.

Models stay here: `crossplant rounds export` takes one out. Nothing of a single plant is sent.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from server.rounds import RoundRecord
from server.store.rows import RunInfo, RunStatus
from server.store.store import RoundStore
from server.store.words import finite
from shared.errors import MissingExtra, StoreError
from shared.layers import flatten

_ID, _LAST = "crossplant.id", "crossplant.rounds"
_ENDED = {RunStatus.FINISHED: "FINISHED", RunStatus.FAILED: "FAILED", RunStatus.INTERRUPTED: "KILLED"}
_BATCH, _LONGEST = 500, 500
_ODD = re.compile(r"[^\w./ -]")


@dataclass(frozen=True)
class Exported:
    """A run in MLflow: its id there, and how many rounds are new to it."""

    id: str
    rounds: int


def export_run(store: RoundStore, run: str, uri: str, experiment: str = "crossplant") -> Exported:
    """Enter a run, or what is new of it since it was last exported.

    Args:
        store: opened.
        run: which.
        uri: MLflow's tracking URI.
        experiment: its name there; made when it is missing.

    Raises:
        MissingExtra: `mlflow-skinny` is not installed.
        RoundNotFound: no such run.
        StoreError: MLflow cannot be reached, or refuses.
    """
    info, config, records = store.run(run), store.config(run), store.rounds(run)
    client, errors = _client(uri)
    try:
        id_, done = _entry(client, experiment, info)
        params = [] if done else [_param(name, value) for name, value in flatten(config.model_dump(mode="json"))]
        _log(client, id_, params, [one for record in records if record.number > done for one in _metrics(record)])
        for name, value in _tags(info).items():
            client.set_tag(id_, name, value)
        if info.status in _ENDED:
            client.set_terminated(id_, _ENDED[info.status])
    except errors as error:
        raise _refused(uri, error) from error
    return Exported(id_, max(0, info.rounds - done))


def _client(uri: str) -> tuple[Any, tuple[type[Exception], ...]]:
    if not uri.strip():
        raise StoreError("the place of MLflow is empty.", "Give --uri, such as `http://host:5000`.")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # like Flower's and Ray's
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        cure = "Install it with `pip install 'crossplant[mlflow]'`."
        raise MissingExtra(
            "the export to MLflow needs the package 'mlflow-skinny', which is not installed.", cure
        ) from error
    try:
        return MlflowClient(tracking_uri=uri), (MlflowException, OSError)
    except (MlflowException, OSError) as error:
        raise _refused(uri, error) from error


def _entry(client: Any, experiment: str, info: RunInfo) -> tuple[str, int]:
    """The run's id in MLflow, and up to which round it is there."""
    own = hashlib.sha256(f"{info.name}\0{info.created}".encode()).hexdigest()[:32]
    found = client.get_experiment_by_name(experiment)
    place = client.create_experiment(experiment) if found is None else found.experiment_id
    known = client.search_runs([place], f"tags.`{_ID}` = '{own}'", max_results=1)
    if known:
        done = known[0].data.tags.get(_LAST, "0")
        return str(known[0].info.run_id), int(done) if done.isdecimal() else 0
    return str(client.create_run(place, run_name=_text(info.name), tags={_ID: own}).info.run_id), 0


def _log(client: Any, id_: str, params: list[Any], metrics: list[Any]) -> None:
    for start in range(0, len(params), 50):
        client.log_batch(id_, params=params[start : start + 50])
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(id_, metrics=metrics[start : start + _BATCH])


def _param(name: str, value: Any) -> Any:
    from mlflow.entities import Param

    return Param(_ODD.sub("_", name), str(value)[:_LONGEST])


def _metrics(record: RoundRecord) -> Iterator[Any]:
    """The figures of a round, by its number as MLflow's step."""
    from mlflow.entities import Metric

    told = {**record.metrics, "plants": float(len(record.accepted)), "seconds": record.seconds}
    told["bytes"] = float(record.bytes_total)
    at = _milliseconds(record.started)
    for name, value in told.items():
        if (known := finite(value)) is not None:
            yield Metric(_ODD.sub("_", name)[:_LONGEST], known, at, record.number)


def _milliseconds(started: str) -> int:
    try:
        return max(0, int(datetime.fromisoformat(started).timestamp() * 1000))
    except (ValueError, OverflowError):
        return int(datetime.now(UTC).timestamp() * 1000)


def _tags(info: RunInfo) -> dict[str, str]:
    """The number of rounds last: what is there when the export is cut off is sent again."""
    return {
        "crossplant.run": _text(info.name),
        "crossplant.status": info.status.value,
        "crossplant.config": info.config_digest,
        "crossplant.note": _text(info.note),
        _LAST: str(info.rounds),
    }


def _text(value: str) -> str:
    return value[:_LONGEST]


def _refused(uri: str, error: Exception) -> StoreError:
    told = " ".join(str(error).replace(uri, _shown(uri)).split())[:300]
    return StoreError(f"MLflow at {_shown(uri)} refuses: {told}.", "Check --uri, and that the server can be reached.")


def _shown(uri: str) -> str:
    """A URI without its password."""
    try:
        return make_url(uri).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "the place given"
