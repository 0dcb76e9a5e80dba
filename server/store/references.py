"""Which files a store's database names: all that may be meant, and those that must be there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from server.store.models import MODEL, MOMENTS, OPTIMIZER
from server.store.orders import kept
from server.store.rows import PRUNED
from server.store.tables import OrderRow, RoundRow, RunRow

STATE = cast(RoundRow.state, Text)
MARK = f'{{"{PRUNED}"'
"""How the state of a pruned round begins."""

_DIGEST = re.compile(r'"([0-9a-f]{64})"')


@dataclass(frozen=True)
class Named:
    """Digests that a store names.

    Attributes:
        needed: by rounds that stay, settings and orders.
        known: by rounds that were pruned, or are about to be.
    """

    needed: frozenset[str]
    known: frozenset[str]


def named_digests(session: Session, gone: Collection[tuple[str, int]] = ()) -> Named:
    """All digests, wherever in a state they are: too many keep a file, too few would lose one.

    Args:
        session: to read in.
        gone: rounds that are about to be pruned.
    """
    needed, known = ordered_models(session) | _settings(session), set[str]()
    query = select(RoundRow.run, RoundRow.number, STATE, RoundRow.model, RoundRow.optimizer)
    for run, number, state, model, optimizer in session.execute(query.execution_options(yield_per=200)):
        old = (run, number) in gone or state.startswith(MARK)
        (known if old else needed).update(digests_in(state, model, optimizer))
    return Named(frozenset(needed), frozenset(known))


def digests_in(state: str, model: str | None, optimizer: str | None) -> set[str]:
    """All digests that a round names."""
    return {*_DIGEST.findall(state), *(digest for digest in (model, optimizer) if digest)}


def ordered_models(session: Session) -> set[str]:
    """Digests of all models that were ever ordered."""
    return {d for d in session.scalars(select(OrderRow.model)) if d is not None} if kept(session) else set()


def required_files(session: Session) -> frozenset[str]:
    """Names of the model files that must be there: those of rounds that were not pruned."""
    query = select(RoundRow.state, RoundRow.model, RoundRow.optimizer).execution_options(yield_per=200)
    found = {f"{digest}{MODEL}" for digest in ordered_models(session)}
    for state, model, optimizer in session.execute(query):
        if isinstance(state, dict) and PRUNED not in state:
            found |= _files(state) | _named(model, MODEL) | _named(optimizer, OPTIMIZER)
    return frozenset(found)


def _files(state: Mapping[str, Any]) -> set[str]:
    """What a state names (`server.store.rows.StoredState`)."""
    found = _named(state.get("moments"), MOMENTS)
    for part in (state, state.get("anchor"), state.get("best")):
        if isinstance(part, dict):
            found |= _named(part.get("model"), MODEL) | _named(part.get("optimizer"), OPTIMIZER)
    return found


def _named(digest: Any, suffix: str) -> set[str]:
    return {f"{digest}{suffix}"} if isinstance(digest, str) else set()


def _settings(session: Session) -> set[str]:
    """Digests in the settings of runs: of models that they began with."""
    return {digest for text in session.scalars(select(cast(RunRow.config, Text))) for digest in _DIGEST.findall(text)}
