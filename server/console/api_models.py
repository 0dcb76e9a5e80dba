"""What the HTTP API answers and takes. Names that plants chose are text of any kind; a figure that is none is null."""

from __future__ import annotations

import math
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from server.console.context import Role
from server.store.registry import LONGEST_WHY

T = TypeVar("T")
LARGEST = 2**63 - 1
"""Of a whole number in the store."""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 7.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Figure = Annotated[float | None, BeforeValidator(_finite)]
Figures = dict[str, Figure]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Number = Annotated[int, Field(ge=1, le=LARGEST), BeforeValidator(_whole)]


class Told(BaseModel):
    """Parent of all answers: read from the values that the store gives."""

    model_config = ConfigDict(from_attributes=True)


class Page(Told, Generic[T]):
    """Rows, the newest first."""

    items: list[T]
    next: int | None = Field(description="Give it as `before` for the rows after these; null: there are none.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What happened, in a sentence.")
    code: str = Field(description="Stable code of the error, such as CP-403.", pattern=r"^CP-\d{3}$")
    cure: str = Field(description="What to do about it.")


class Me(Told):
    """Who is asking."""

    name: str
    role: Role
    csrf: str = Field(description="Token that a session's changes carry as X-CSRF-Token; empty for a bearer token.")
    read_only: bool = Field(description="Nobody changes anything through this console.")


class Run(Told):
    """A run in a list."""

    name: str
    created: str
    status: str
    config_digest: str
    rounds: Count
    note: str


class _Round(Told):
    """What a round tells of itself wherever it is shown."""

    number: int
    phase: str
    label: str
    status: str
    reason: str | None
    started: str
    seconds: Figure
    model: str | None
    metrics: Figures
    timings: Figures
    bytes: Count


class Round(_Round):
    """A round in a list."""

    asked: Count
    accepted: Count
    joined: Count


class Order(Told):
    """What an operator wants plants to score by."""

    id: int
    run: str
    action: str
    target: int | None
    model: str | None
    made: str
    who: str
    why: str
    state: str
    round: int | None


class RunDetail(Run):
    """A run."""

    phases: dict[str, Count]
    statuses: dict[str, Count]
    metrics: list[str] = Field(description="Names for `series` over all plants.")
    plant_metrics: list[str] = Field(description="Names for `series` of one plant.")
    newest: Round | None
    order: Order | None = Field(description="The order that holds; null: each newest model goes out.")


class Part(Told):
    """A plant's part in one round."""

    plant: str
    accepted: bool
    reason: str | None
    examples: int | None
    metrics: Figures
    timings: Figures
    bytes_down: Count
    bytes_up: Count
    seconds: Figure


class ClustersTold(Told):
    """The clusters after a round, one entry each."""

    mass: list[Figure]
    displacement: list[Figure]
    active: list[bool]
    effective: Figure
    plants: list[int]


class RoundDetail(_Round):
    """A round with all its plants."""

    run: str
    config: str
    updates: list[Part]
    clusters: ClustersTold | None


class Series(Told):
    """A curve over rounds."""

    metric: str
    plant: str | None
    numbers: list[int]
    values: list[Figure]


class Plant(Told):
    """A plant of a run."""

    plant: str
    rounds: Count
    accepted: Count
    bytes_down: Count
    bytes_up: Count
    last_round: int
    last_reason: str | None
    seen_round: int | None
    seen: str | None
    live_round: int | None
    live_model: str | None


class Attempt(Told):
    """A plant's part in one round, in a list."""

    number: int
    started: str
    accepted: bool
    reason: str | None
    metrics: Figures
    seconds: Figure


class PlantDetail(Plant):
    """A plant with its rounds."""

    attempts: Page[Attempt]


class Side(Told):
    """One of the two rounds of a comparison."""

    number: int
    phase: str
    label: str
    model: str | None


class Difference(Told):
    """A figure of two rounds; `difference` is b - a."""

    a: Figure
    b: Figure
    difference: Figure


class Apart(Told):
    """How far weights are apart (L2)."""

    distance: Figure
    relative: Figure
    cosine: Figure


class TensorApart(Apart):
    """The same of one tensor."""

    name: str


class CentroidsApart(Told):
    """How far each centroid moved, in radii of the latent cloud."""

    displacement: list[Figure]
    largest: Figure


class Comparison(Told):
    """Two rounds, their plants and their models side by side."""

    run: str
    a: Side
    b: Side
    metrics: dict[str, Difference]
    plants: dict[str, dict[str, Difference]]
    weights: Apart | None
    tensors: list[TensorApart]
    unmatched: list[str]
    centroids: CentroidsApart | None


class Candidate(Told):
    """A model as each plant measured it."""

    number: int
    model: str
    values: Figures


class Matrix(Told):
    """The newest models on every plant, the newest first."""

    metric: str
    items: list[Candidate]


class Plants(Told):
    """All plants of a run, by name."""

    items: list[Plant]


class AuditEntry(Told):
    """An entry of the audit log."""

    seq: int
    at: str
    who: str
    role: str
    action: str
    target: str
    detail: dict[str, Any]
    previous: str
    digest: str


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    why: str = Field(min_length=1, max_length=LONGEST_WHY, description="For those who read the audit log.")


class Promote(_Asked):
    """Have plants score by a round's model."""

    action: Literal["promote"]
    number: Number = Field(description="Of the round.")


class Rollback(_Asked):
    """Have plants score by an earlier model again."""

    action: Literal["rollback"]
    number: Number | None = Field(None, description="Of the round; null: what was before the present.")


class Follow(_Asked):
    """Let each newest model go out again."""

    action: Literal["follow"]


Wanted = Annotated[Promote | Rollback | Follow, Field(discriminator="action")]
"""The body of an order."""
