"""Values to rows and back: what a round leaves behind, and the state with its arrays replaced by digests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Row

from server.rounds import Anchor, Best, Member, OptimizerState, Phase, PlantReport, RoundRecord, RunState
from server.store.codec import RECORDS, STATE
from server.store.models import ModelFiles
from server.store.tables import JsonObject, RoundRow, RunRow, SignatureRow, UpdateRow
from shared.errors import RoundNotFound, StoreError
from shared.model import TensorSpec
from shared.schema import SensorSchema

PRUNED = "pruned"
"""What stands in the place of a state that was pruned, with the date."""


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class RunInfo:
    """A run as the store lists it.

    Attributes:
        name: run name.
        created: ISO 8601, UTC.
        status: how it stands; `running` also after a kill.
        config_digest: `RunConfig.digest`.
        models_dir: absolute folder of its model files.
        rounds: number of finished rounds.
        note: free text; why it failed.
    """

    name: str
    created: str
    status: RunStatus
    config_digest: str
    models_dir: Path
    rounds: int
    note: str


@dataclass(frozen=True)
class StoredAnchor:
    """`Anchor` with digests where it has arrays."""

    round: int
    model: str
    optimizer: str | None
    losses: Mapping[str, float]


@dataclass(frozen=True)
class StoredBest:
    """`Best` with digests where it has arrays."""

    phase: Phase
    round: int
    model: str
    optimizer: str | None
    losses: Mapping[str, float]
    mark: Mapping[str, float]
    stalled: int


@dataclass(frozen=True)
class StoredState:
    """`RunState` with digests where it has arrays; field by field the same otherwise."""

    run: str
    config_digest: str
    finished: int
    step: int
    skips: int
    model: str | None
    optimizer: str | None
    members: tuple[Member, ...]
    schema: SensorSchema | None
    manifest: tuple[TensorSpec, ...]
    norms: tuple[float, ...] = ()
    anchor: StoredAnchor | None = None
    clip: float = 0.0
    moments: str | None = None
    best: StoredBest | None = None

    YOUNGER: ClassVar[frozenset[str]] = frozenset({"moments", "best"})  # what a state of an older version lacks

    @classmethod
    def of(
        cls,
        state: RunState,
        optimizer: str | None,
        anchor: str | None = None,
        moments: str | None = None,
        best: str | None = None,
    ) -> StoredState:
        """The storable form of `state`.

        Args:
            state: the state.
            optimizer: digest that its optimiser moments are kept under.
            anchor: the same for those of its anchor.
            moments: digest that the plants' lagged moments are kept under.
            best: digest that the optimiser moments of its phase's best model are kept under.
        """
        fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(RunState)}
        model, old = None if state.model is None else state.model.digest, state.anchor
        kept = None if old is None else StoredAnchor(old.round, old.model.digest, anchor, old.losses)
        found = None if state.best is None else _stored_best(state.best, best)
        arrays = {"model": model, "optimizer": optimizer, "anchor": kept, "moments": moments, "best": found}
        return cls(**fields | arrays)

    def load(self, models: ModelFiles) -> RunState:
        """The state with its arrays.

        Raises:
            ModelCorrupt: a file is missing or changed.
        """
        model = None if self.model is None else models.get(self.model)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        anchor = None if self.anchor is None else _load_anchor(self.anchor, models)
        arrays = {"model": model, "optimizer": _moments(self.optimizer, models), "anchor": anchor}
        lag = None if self.moments is None else models.get_moments(self.moments)
        best = None if self.best is None else _load_best(self.best, models)
        return RunState(**fields | arrays | {"moments": lag, "best": best})


def _load_anchor(stored: StoredAnchor, models: ModelFiles) -> Anchor:
    return Anchor(stored.round, models.get(stored.model), _moments(stored.optimizer, models), stored.losses)


def _stored_best(best: Best, optimizer: str | None) -> StoredBest:
    return StoredBest(best.phase, best.round, best.model.digest, optimizer, best.losses, best.mark, best.stalled)


def _load_best(stored: StoredBest, models: ModelFiles) -> Best:
    model, optimizer = models.get(stored.model), _moments(stored.optimizer, models)
    return Best(stored.phase, stored.round, model, optimizer, stored.losses, stored.mark, stored.stalled)


def _moments(digest: str | None, models: ModelFiles) -> OptimizerState:
    return OptimizerState() if digest is None else models.get_optimizer(digest)


def round_row(record: RoundRecord, state: StoredState) -> RoundRow:
    """The rows of one round."""
    fields = RECORDS.encode(RoundRecord, record)
    key = {"run": fields["run"], "number": fields["number"]}
    updates = [UpdateRow(**key, **plant) for plant in fields.pop("plants")]
    stored: JsonObject = STATE.encode(StoredState, state)
    return RoundRow(**fields, state=stored, optimizer=state.optimizer, updates=updates)


def read_record(row: RoundRow) -> RoundRecord:
    """The round that `round_row` wrote.

    Raises:
        StoreUnreadable: a column does not hold what it must.
    """
    fields = {f.name: getattr(row, f.name) for f in dataclasses.fields(RoundRecord) if f.name != "plants"}
    plants = [{f.name: getattr(u, f.name) for f in dataclasses.fields(PlantReport)} for u in row.updates]
    plants.sort(key=lambda plant: str(plant["plant"]))
    return RECORDS.decode(RoundRecord, fields | {"plants": plants}, f"round {row.number} of run {row.run!r}")


def read_state(row: RoundRow) -> StoredState:
    """The state after a round.

    Raises:
        RoundNotFound: it was pruned.
        StoreUnreadable: it does not have the shape of a state.
    """
    if (date := pruned(row.state)) is not None:
        raise gone(f"the state after round {row.number} of run {row.run!r}", date)
    return STATE.decode(StoredState, row.state, f"the state after round {row.number} of run {row.run!r}")


def pruned(state: JsonObject) -> str | None:
    """When a round was pruned (`server.store.retention`), ISO 8601; None: it was not."""
    found = state.get(PRUNED) if isinstance(state, dict) else None
    return None if found is None else str(found)


def gone(what: str, date: str) -> RoundNotFound:
    """The error for what was pruned."""
    return RoundNotFound(f"{what} was pruned on {date}.", "Choose a newer round, or one whose model was promoted.")


def read_info(row: RunRow | Row[*tuple[Any, ...]], rounds: int) -> RunInfo:
    """A run's entry.

    Raises:
        StoreUnreadable: a column does not hold what it must.
    """
    where = f"run {row.name!r}"

    def text(name: str) -> str:
        return RECORDS.decode(str, getattr(row, name), f"{where}, {name}")

    status, folder = RECORDS.decode(RunStatus, row.status, where), Path(text("models_dir"))
    return RunInfo(text("name"), text("created"), status, text("config_digest"), folder, rounds, text("note"))


def signature_row(run: str, signature: str) -> SignatureRow:
    """The row of a signature that is made now."""
    return SignatureRow(run=run, text=signature, made=datetime.now(UTC).isoformat())


def kept_optimizer(earlier: Anchor | Best | None, models: ModelFiles) -> str | None:
    """Digest of the optimiser moments of a model that the run may go back to; both are put on disk."""
    if earlier is None:
        return None
    models.put(earlier.model)
    return models.put_optimizer(earlier.optimizer)


def check_pair(record: RoundRecord, state: RunState) -> None:
    """Check that a state is the one after the round.

    Raises:
        StoreError: it is not.
    """
    digest = None if state.model is None else state.model.digest
    for what, mine, theirs in (
        ("run", record.run, state.run),
        ("number", record.number, state.finished),
        ("model", record.model, digest),
        ("configuration", record.config, state.config_digest),
    ):
        if mine != theirs:
            raise StoreError(f"round {record.number} does not fit its state: {what} {mine!r} is not {theirs!r}.")
