"""What `server.store.reading` shows: plain and frozen values. Names in them come from plants and are hostile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.store.rows import RunInfo


@dataclass(frozen=True)
class RoundLine:
    """A round in a list.

    Attributes:
        number, phase, label, status, reason, started, seconds, model, metrics, timings: as in `RoundRecord`.
        asked: plants in its cohort, without those that joined.
        accepted: how many of them counted.
        joined: how many joined beside it.
        bytes: payload in both directions.
    """

    number: int
    phase: str
    label: str
    status: str
    reason: str | None
    started: str
    seconds: float | None
    model: str | None
    metrics: Mapping[str, float | None]
    timings: Mapping[str, float | None]
    asked: int
    accepted: int
    joined: int
    bytes: int


@dataclass(frozen=True)
class PlantLine:
    """A plant of a run in a list; the fields are those of `server.store.tables.PlantRow`, without the run."""

    plant: str
    rounds: int
    accepted: int
    bytes_down: int
    bytes_up: int
    last_round: int
    last_reason: str | None
    seen_round: int | None
    seen: str | None
    live_round: int | None
    live_model: str | None


@dataclass(frozen=True)
class Attempt:
    """A plant's part in one round, in a list.

    Attributes:
        number: of the round; the rest is as in `PlantReport`, `started` as in `RoundRecord`.
    """

    number: int
    started: str
    accepted: bool
    reason: str | None
    metrics: Mapping[str, float | None]
    seconds: float | None


@dataclass(frozen=True)
class Series:
    """A curve over rounds, thinned evenly.

    Attributes:
        metric: what.
        plant: whose; None: over all plants.
        numbers: rounds, ascending.
        values: None where the round has no such figure.
    """

    metric: str
    plant: str | None
    numbers: tuple[int, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Candidate:
    """A global model as every plant measured it.

    Attributes:
        number: of the round that made it (the plants measured it in a later one).
        model: digest.
        values: by plant, the metric on its own held-out normal data; plants that did not measure it are missing.
    """

    number: int
    model: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class RunPage:
    """A run with what its page tells.

    Attributes:
        info: the run.
        phases: rounds by phase, in the order of the phases.
        statuses: rounds by status.
        metrics: names of figures over all plants in the newest rounds, sorted.
        plant_metrics: names of figures of single plants in the newest rounds, sorted.
        newest: the last finished round.
    """

    info: RunInfo
    phases: Mapping[str, int]
    statuses: Mapping[str, int]
    metrics: tuple[str, ...]
    plant_metrics: tuple[str, ...]
    newest: RoundLine | None
