"""The round store: every finished round as one transaction, every model as one file.

store = RoundStore.create("runs/a")
with store.lock():
    store.start_run("a", config)
    store.commit(record, state)     # model files first, then round + updates + state at once, or nothing
RoundStore.open("runs/a").latest_state("a")
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, lazyload

from server.rounds import RoundRecord, RunState
from server.store import migrate, totals
from server.store.codec import RECORDS, storable
from server.store.database import connect, database_errors, has_table
from server.store.locking import exclusive
from server.store.models import ModelFiles, file_errors
from server.store.orders import carry_out
from server.store.place import MODELS, Place, models_folder, parse_place, require_file
from server.store.rows import (
    RunInfo,
    RunStatus,
    StoredState,
    check_pair,
    gone,
    kept_optimizer,
    pruned,
    read_info,
    read_record,
    read_state,
    round_row,
    signature_row,
)
from server.store.tables import RoundRow, RunRow, SignatureRow
from shared.config import RunConfig
from shared.errors import InvalidConfig, RoundNotFound, StoreError, StoreUnreadable
from shared.model import GlobalModel, Weights


class RoundStore:
    """What a coordinating site keeps of its runs. Build one with `create` or `open`.

    Every method raises `StoreBusy` when the database stays locked for ten seconds, and `StoreUnreadable` when it cannot
    be read. No connection outlives a call: `with` is welcome, and leaving it out leaks nothing.
    """

    def __init__(self, place: Place, engine: Engine, models_dir: Path | None) -> None:
        self._place = place
        self._engine = engine
        self._models_dir = models_dir

    @classmethod
    def create(cls, location: str, models_dir: Path | None = None) -> RoundStore:
        """Make a store, or open the one that is there to add to it.

        Args:
            location: a folder, or an SQLAlchemy URL.
            models_dir: with a URL, the folder for model files; a store folder keeps them in its own `models/`.

        Raises:
            InvalidConfig: `models_dir` is missing with a URL, or contradicts the folder.
            StoreError: the place cannot be written.
        """
        place = parse_place(location)
        folder = models_folder(place, models_dir)
        if place.file is not None:
            with file_errors(place.file):
                place.file.parent.mkdir(parents=True, exist_ok=True)
        engine = connect(place, create=True)
        with database_errors(place):
            migrate.upgrade(engine, place.shown)
        return cls(place, engine, folder)

    @classmethod
    def open(cls, location: str, look: bool = False) -> RoundStore:
        """Open a store that exists. Nothing is created.

        Args:
            location: as for `create`.
            look: read even where the disk is full, for people: a server has to hear of it.

        Raises:
            StoreNotFound: there is none.
            StoreUnreadable: what is there is no round store, or the database cannot be reached.
        """
        place = parse_place(location)
        require_file(place)
        engine = connect(place, look=look)
        with database_errors(place):
            migrate.check(engine, place.shown)
        store = cls(place, engine, place.folder and place.folder / MODELS)
        weakref.finalize(store, engine.dispose)
        if store._models_dir is None and (runs := store.runs()):
            store._models_dir = runs[-1].models_dir
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._engine.dispose()

    @property
    def place(self) -> Place:
        """Where the store is."""
        return self._place

    @property
    def folder(self) -> Path:
        """Where files lie that belong to the store: its own folder, or the one that holds its models.

        Raises:
            StoreError: there is none.
        """
        return self._place.folder or self._require_models_dir().parent

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer while the block runs; a kill releases it.

        Raises:
            StoreBusy: another process holds it.
        """
        with exclusive((self._place.folder or self._require_models_dir()) / ".lock"):
            yield

    def start_run(self, name: str, config: RunConfig, note: str = "", signature: str = "") -> None:
        """Enter a run, and the operator's signature over it if there is one: both, or neither.

        Raises:
            StoreError: there is a run of that name.
        """
        created, folder = datetime.now(UTC).isoformat(), str(self._require_models_dir())
        row = RunRow(name=name, created=created, config_digest=config.digest, status=RunStatus.RUNNING.value, note=note)
        row.config, row.models_dir = config.model_dump(mode="json"), folder
        with self.session(writes=True) as session:
            if session.get(RunRow, name) is not None:
                raise StoreError(f"{self._place.shown} holds a run {name!r} already.", "Choose another name.")
            row.ordinal = 1 + (session.scalar(select(func.max(RunRow.ordinal))) or 0)
            session.add(row)
            if signature:
                session.flush()  # the run's row first: the signature refers to it
                session.add(signature_row(name, signature))

    def keep_start(self, model: GlobalModel) -> str:
        """Keep a model that a run may begin with; the digest to give as `rounds.start`."""
        return ModelFiles(self._require_models_dir()).put(model)

    def start_weights(self, config: RunConfig) -> Weights | None:
        """The weights that a run begins with; None: fresh ones.

        Raises:
            ModelCorrupt: the model that the settings name is missing or changed.
        """
        start = config.rounds.start
        return ModelFiles(self._require_models_dir()).get(start).weights if start else None

    def sign_run(self, name: str, signature: str) -> None:
        """Keep a signature over a run in the place of the one that it has.

        Raises:
            RoundNotFound: no such run.
        """
        with self.session(writes=True) as session:
            self.require(session, name)
            session.merge(signature_row(name, signature))

    def signature(self, run: str) -> str:
        """The operator's signature over a run; empty when nobody signed it.

        Raises:
            RoundNotFound: no such run.
        """
        with self.session() as session:
            self.require(session, run)
            if not has_table(session.connection(), SignatureRow.__tablename__):
                return ""
            row = session.get(SignatureRow, run)
            return "" if row is None else row.text

    def finish_run(self, name: str, status: RunStatus | str, note: str | None = None) -> None:
        """Say how a run stands: `finished`, `failed` or `interrupted`. The next `commit` makes it `running` again.

        Args:
            name: the run.
            status: how it stands.
            note: why; None leaves what was noted before.
        """
        with self.session(writes=True) as session:
            row = self.require(session, name)
            row.status = RunStatus(status).value
            row.note = row.note if note is None else note

    def runs(self) -> list[RunInfo]:
        """All runs, the newest last."""
        latest = select(RoundRow.run, func.max(RoundRow.number)).group_by(RoundRow.run)
        with self.session() as session:
            rounds = {row[0]: row[1] for row in session.execute(latest)}
            return [read_info(row, rounds.get(row.name, 0)) for row in self._run_rows(session)]

    def run(self, name: str) -> RunInfo:
        """One run.

        Raises:
            RoundNotFound: no such run.
        """
        with self.session() as session:
            return read_info(self.require(session, name), self._last(session, name))

    def newest_run(self) -> str:
        """The run that was started last.

        Raises:
            RoundNotFound: there is none yet.
        """
        with self.session() as session:
            if not (rows := self._run_rows(session)):
                raise RoundNotFound(f"{self._place.shown} holds no run yet.", "Start one with `crossplant simulate`.")
            return RECORDS.decode(str, rows[-1].name, "the newest run, name")

    def config(self, run: str) -> RunConfig:
        """What the run was asked to do.

        Raises:
            RoundNotFound: no such run.
        """
        with self.session() as session:
            row = self.require(session, run)
            try:
                return RunConfig.model_validate(row.config)
            except ValidationError as error:
                cause = f"the configuration of run {run!r} is not one: {error.errors()[0]['msg']}."
                raise StoreUnreadable(cause) from error

    def commit(self, record: RoundRecord, state: RunState, order: int | None = None) -> None:
        """Keep a finished round and the state after it. Either all of it is stored, or nothing that a reader would see.

        Args:
            record: the round.
            state: after it.
            order: number of the operator's order that the round carried out (`server.store.orders`).

        Raises:
            StoreError: the round is there already, is not the next one, or does not fit the state; or the disk is full.
            RoundNotFound: no such run.
        """
        check_pair(record, state)
        with self.session() as session:
            models = self._models(self._expect_next(session, record))
        if state.model is not None:
            models.put(state.model)
        optimizer, moments = models.put_optimizer(state.optimizer), models.put_moments(state.moments)
        stored = StoredState.of(
            state, optimizer, kept_optimizer(state.anchor, models), moments, kept_optimizer(state.best, models)
        )
        with self.session(writes=True) as session:
            self._expect_next(session, record).status = RunStatus.RUNNING.value
            session.add(round_row(record, stored))
            if order is not None:
                carry_out(session, order, record)
            totals.enter(session, record)

    def rounds(self, run: str) -> list[RoundRecord]:
        """All rounds of a run, in order.

        Raises:
            RoundNotFound: no such run.
        """
        with self.session() as session:
            self.require(session, run)
            rows = session.scalars(select(RoundRow).where(RoundRow.run == run).order_by(RoundRow.number))
            return [read_record(row) for row in rows]

    def round(self, run: str, number: int) -> RoundRecord:
        """One round.

        Raises:
            RoundNotFound: no such run or round.
        """
        with self.session() as session:
            return read_record(self._round(session, run, number))

    def latest_state(self, run: str) -> RunState | None:
        """The state after the last finished round; None before the first.

        Raises:
            RoundNotFound: no such run.
            ModelCorrupt: its model file is missing or changed.
        """
        with self.session() as session:
            self.require(session, run)
            last = self._last(session, run)
        return self.state_at(run, last) if last else None

    def state_at(self, run: str, number: int) -> RunState:
        """The state after a round.

        Raises:
            RoundNotFound: no such run or round.
            ModelCorrupt: its model file is missing or changed.
        """
        with self.session() as session:
            models = self._models(self.require(session, run))
            stored = read_state(self._round(session, run, number))
        return stored.load(models)

    def model(self, run: str, number: int) -> GlobalModel:
        """The global model after a round.

        Raises:
            RoundNotFound: no such run or round, or there was no model yet.
            ModelCorrupt: its file is missing or changed.
        """
        models, digest = self.model_file(run, number)
        return models.get(digest)

    def model_file(self, run: str, number: int) -> tuple[ModelFiles, str]:
        """The folder and the digest of the global model after a round.

        Raises:
            RoundNotFound: no such run or round, there was no model yet, or it was pruned.
        """
        with self.session() as session:
            models = self._models(self.require(session, run))
            row = self._round(session, run, number)
            digest, date = row.model, pruned(row.state)
        if digest is None:
            raise RoundNotFound(f"round {number} of run {run!r} has no model.", "Choose a later round.")
        if date is not None:
            raise gone(f"the model of round {number} of run {run!r}", date)
        return models, digest

    # ---- inside a transaction ----

    @contextmanager
    def session(self, writes: bool = False) -> Iterator[Session]:
        """A transaction for the modules beside this one; what the database raises in it becomes a `StoreError`."""
        engine = self._engine.execution_options(writes=writes)
        with database_errors(self._place), Session(engine) as session, session.begin():
            yield session

    def _run_rows(self, session: Session) -> list[RunRow]:
        return list(session.scalars(select(RunRow).order_by(RunRow.ordinal)))

    def require(self, session: Session, name: str) -> RunRow:
        """A run's row.

        Raises:
            RoundNotFound: no such run.
        """
        row = session.get(RunRow, storable(name))
        if row is None:
            known = ", ".join(repr(other.name) for other in self._run_rows(session)[-5:]) or "none"
            raise RoundNotFound(f"{self._place.shown} holds no run {name!r}.", f"Newest runs: {known}.")
        return row

    def _round(self, session: Session, run: str, number: int) -> RoundRow:
        self.require(session, run)
        bare = [lazyload(RoundRow.updates)]  # most want no plant's part
        row = session.get(RoundRow, (run, number), options=bare) if 0 < number < 2**63 else None
        if row is None:
            last = self._last(session, run)
            cure = f"Its rounds are 1 to {last}." if last else "It has no rounds yet."
            raise RoundNotFound(f"run {run!r} has no round {number}.", cure)
        return row

    def _last(self, session: Session, run: str) -> int:
        return session.scalar(select(func.max(RoundRow.number)).where(RoundRow.run == run)) or 0

    def _expect_next(self, session: Session, record: RoundRecord) -> RunRow:
        row, last = self.require(session, record.run), self._last(session, record.run)
        if record.number != last + 1:
            fault = "is stored already" if 0 < record.number <= last else f"does not follow round {last}"
            raise StoreError(
                f"round {record.number} of run {record.run!r} {fault}.", "Is another process writing this run?"
            )
        return row

    def _models(self, row: RunRow) -> ModelFiles:
        # A store folder may be moved or copied: its models are beside its database, wherever it was made.
        folder = self._place.folder
        return ModelFiles(folder / MODELS if folder is not None else Path(row.models_dir))

    def _require_models_dir(self) -> Path:
        if self._models_dir is None:
            raise InvalidConfig(f"{self._place.shown} has no folder for model files yet.", "Create the store with one.")
        return self._models_dir
