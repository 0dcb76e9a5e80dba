"""What a store keeps of old rounds: everything that was measured, but not every model and state.

A pruned round stays in the tables with its plants, its figures and the digest of its model. What goes is the state that
a next round could start from, and the files that no round needs any more. Never pruned are, in every run: the newest
round, which it resumes from, with the anchor and the best model that its state names; a round whose model was ever
ordered; the round whose model plants score by; and the one that `rounds rollback` would go back to.

The database is changed first, files go afterwards: a prune that is killed leaves files too many, never too few, and
the next one finishes. A writer may be at work meanwhile: it marks each file that it relies on by its time
(`ModelFiles.put_bytes`), and a file that was marked lately stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from server.store.auditlog import Actor, append, hold
from server.store.codec import RECORDS
from server.store.place import MODELS
from server.store.references import MARK, STATE, Named, digests_in, named_digests, ordered_models
from server.store.registry import live_rounds
from server.store.rows import PRUNED, RunStatus, pruned
from server.store.store import RoundStore
from server.store.sweep import Needs, Swept, sweep, sweepable
from server.store.tables import RoundRow, RunRow
from server.store.words import spans
from shared.errors import InvalidConfig, StoreBusy

_BATCH = 500  # rounds in a transaction
_RUNNING = 3  # newest rounds that a run under way keeps, whatever is asked for
_MOST_DAYS = 36_500


@dataclass(frozen=True)
class Policy:
    """Which rounds go: those that are neither among the newest, nor young.

    Attributes:
        keep: how many of the newest rounds of each run stay; None: age alone decides.
        older_than_days: rounds that began later stay; None: number alone decides.

    Raises:
        InvalidConfig: neither is given, or one is out of its range.
    """

    keep: int | None = None
    older_than_days: float | None = None

    def __post_init__(self) -> None:
        if self.keep is None and self.older_than_days is None:
            raise InvalidConfig("nothing says which rounds may go.", "Give --keep, --older-than, or both.")
        if self.keep is not None and self.keep < 1:
            raise InvalidConfig(f"--keep {self.keep}: the newest round of a run always stays.", "Keep one at least.")
        if self.older_than_days is not None and not 0 <= self.older_than_days <= _MOST_DAYS:
            raise InvalidConfig(f"--older-than {self.older_than_days}: days are 0 to {_MOST_DAYS}.", "Choose fewer.")


@dataclass(frozen=True)
class Pruned:
    """What went, or would go.

    Attributes:
        rounds: numbers by run, ascending.
        files, bytes: of models and states.
        later: files that a writer may just be about to rely on; a later prune removes them.
    """

    rounds: Mapping[str, tuple[int, ...]]
    files: int
    bytes: int
    later: int


def foresee(store: RoundStore, policy: Policy, run: str | None = None) -> Pruned:
    """What `prune` would remove now.

    Raises:
        RoundNotFound: no such run.
    """
    with store.session() as session:
        gone = _gone(session, store, policy, run)
        named, folders = named_digests(session, _keys(gone)), _folders(session, store)
    found = sweepable(folders, _needs(store, named, alone=True))
    return Pruned(gone, found.files, found.bytes, found.later)


def prune(store: RoundStore, policy: Policy, actor: Actor, run: str | None = None) -> Pruned:
    """Prune a run, or all; what earlier prunes left over goes too. Written down in the audit log.

    Raises:
        RoundNotFound: no such run.
        StoreError: the store cannot be written.
    """
    rounds = dict[str, tuple[int, ...]]()
    while batch := _prune_some(store, policy, actor, run):
        rounds |= {name: (*rounds.get(name, ()), *numbers) for name, numbers in batch.items()}
    swept = _sweep(store)
    return Pruned(rounds, swept.files, swept.bytes, swept.later)


def _prune_some(store: RoundStore, policy: Policy, actor: Actor, run: str | None) -> dict[str, tuple[int, ...]]:
    """Prune the oldest rounds of one run, so many that a writer beside need not wait for long; none: all is done."""
    with store.session(writes=True) as session:
        hold(session)  # nothing is ordered from here on
        gone = _gone(session, store, policy, run)
        if not gone:
            return {}
        name = min(gone)
        some = {name: gone[name][:_BATCH]}
        _mark(session, name, some[name])
        told = {name: spans(some[name])}
        detail = {"keep": policy.keep, "older_than_days": policy.older_than_days, "rounds": told}
        append(session, actor, "prune", f"run {name}", detail)
        return some


def pruned_on(store: RoundStore, run: str, number: int) -> str | None:
    """When a round was pruned, ISO 8601; None: it was not."""
    with store.session() as session:
        row = session.get(RoundRow, (run, number))
        return None if row is None else pruned(row.state)


def model_folders(store: RoundStore) -> list[Path]:
    """Where the store's model files are."""
    with store.session() as session:
        return _folders(session, store)


# ---- which rounds ----


def _gone(session: Session, store: RoundStore, policy: Policy, run: str | None) -> dict[str, tuple[int, ...]]:
    """Numbers of the rounds that go, by run."""
    runs = [store.require(session, run)] if run is not None else list(session.scalars(select(RunRow)))
    ordered = ordered_models(session)
    found = {row.name: tuple(_old(session, row, policy, ordered)) for row in runs}
    return {name: numbers for name, numbers in found.items() if numbers}


def _keys(gone: Mapping[str, Iterable[int]]) -> frozenset[tuple[str, int]]:
    return frozenset((run, number) for run, numbers in gone.items() for number in numbers)


def _old(session: Session, run: RunRow, policy: Policy, ordered: Collection[str]) -> list[int]:
    """Numbers of the rounds of a run that go."""
    whole = (RoundRow.run == run.name, STATE.not_like(f"{MARK}%"))
    query = select(RoundRow.number, RoundRow.started, RoundRow.model).where(*whole)
    rows = session.execute(query.order_by(RoundRow.number)).all()
    name = RECORDS.decode(str, run.name, "a run, name")
    last = max((RECORDS.decode(int, row.number, f"run {name!r}, number") for row in rows), default=0)
    live = live_rounds(session, name)
    keep = max(policy.keep or 1, _RUNNING if run.status == RunStatus.RUNNING.value else 1)
    since = None if policy.older_than_days is None else datetime.now(UTC) - timedelta(days=policy.older_than_days)
    old = [row for row in rows if row.number <= last - keep and row.number not in live and row.model not in ordered]
    return [row.number for row in old if _aged(row.started, since)]


def _aged(started: str, since: datetime | None) -> bool:
    """Whether a round began long enough ago; one whose time cannot be read is young."""
    if since is None:
        return True
    try:
        began = datetime.fromisoformat(started)
    except ValueError:
        return False
    return (began if began.tzinfo else began.replace(tzinfo=UTC)) < since


def _mark(session: Session, run: str, numbers: Iterable[int]) -> None:
    """Put the date, and the files that a sweep has to look at, in the place of the states."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for number in numbers:
        where = (RoundRow.run == run, RoundRow.number == number)
        state, model, optimizer = session.execute(select(STATE, RoundRow.model, RoundRow.optimizer).where(*where)).one()
        left = {PRUNED: at, "files": sorted(digests_in(state, model, optimizer))}
        session.execute(update(RoundRow).where(*where).values(state=left, optimizer=None))


# ---- files ----


def _sweep(store: RoundStore) -> Swept:
    """Remove the files that nothing names any more, with care for a writer if there is one."""
    try:
        with store.lock():
            return _swept(store, alone=True)
    except StoreBusy:
        return _swept(store, alone=False)


def _swept(store: RoundStore, alone: bool) -> Swept:
    with store.session() as session:
        named, folders = named_digests(session), _folders(session, store)
    return sweep(folders, _needs(store, named, alone))


def _needs(store: RoundStore, named: Named, alone: bool) -> Needs:
    return Needs(named.needed, named.known, store.place.folder is not None, alone)


def _folders(session: Session, store: RoundStore) -> list[Path]:
    """Where model files are: a store's folder may have been moved, whatever its runs say."""
    if store.place.folder is not None:
        return [store.place.folder / MODELS]
    return [Path(folder) for folder in sorted(set(session.scalars(select(RunRow.models_dir))))]
