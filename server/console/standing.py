"""Where a run stands: its phases as a strip, and the round that is under way with the plants it waits for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from server import phases
from server.console.context import Console
from server.console.figures import moment
from server.notice import Waits, read_waits
from server.rounds import Phase
from server.run.place import ServerPlace
from server.store.rows import RunStatus
from server.store.shown import RoundLine, RunPage
from shared.config import RunConfig
from shared.errors import CrossplantError

_LEAST_SILENCE_S = 600.0
_SILENT = 10.0  # times the last round's duration


@dataclass(frozen=True)
class Stretch:
    """A phase in the strip.

    Attributes:
        name: of the phase.
        state: `done`, `now` or `todo`.
        rounds: finished ones of it, those that were skipped among them.
        planned: rounds that its plan has; None where the settings cannot be read.
    """

    name: str
    state: str
    rounds: int
    planned: int | None


@dataclass(frozen=True)
class Live:
    """The round that is under way, if one is.

    Attributes:
        number: of the round.
        tone: `quiet`, `warn`, `bad` or empty.
        title: a few words.
        told: a sentence.
        waits: for whom it waits, where this machine knows.
        links: plants that it waits for.
    """

    number: int
    tone: str
    title: str
    told: str
    waits: Waits | None = None


def strip(run: RunPage, config: RunConfig | None) -> tuple[Stretch, ...]:
    """The phases of a run, in order."""
    planned = None if config is None else _planned(config)
    order = [phase.value for phase in Phase]
    reached = max((order.index(name) for name in run.phases if name in order), default=0)
    over = run.info.status is RunStatus.FINISHED
    return tuple(
        Stretch(
            name,
            "done" if over or i < reached else "now" if i == reached and not _ended(run) else "todo",
            run.phases.get(name, 0),
            None if planned is None else planned.get(name, 0),
        )
        for i, name in enumerate(order)
    )


def _ended(run: RunPage) -> bool:
    return run.info.status in (RunStatus.FINISHED, RunStatus.FAILED)


@lru_cache(64)
def _planned(config: RunConfig) -> Mapping[str, int]:
    return Counter(step.phase.value for step in phases.plan(config))


def settings_of(console: Console, run: str) -> RunConfig | None:
    """What a run was asked to do; None where that cannot be read any more."""
    try:
        return console.store.config(run)
    except CrossplantError:
        return None


def waits_of(console: Console, run: str) -> Waits | None:
    """For whom a run's round waits; None: for nobody, or this store is no federation's."""
    if console.federation is None:
        return None
    try:
        found = read_waits(ServerPlace.of(console.federation).waits, time.time())
    except CrossplantError:
        return None
    return found if found is not None and found.run == run else None


def live(console: Console, run: RunPage, now: datetime) -> Live:
    """The round under way."""
    status, number = run.info.status, run.info.rounds + 1
    if status is RunStatus.FINISHED:
        return Live(number - 1, "quiet", "The run is finished", f"{run.info.rounds:,} rounds are in the store.")
    if status is RunStatus.FAILED:
        return Live(number - 1, "bad", "The run failed", run.info.note or "Its last round says why.")
    if status is RunStatus.INTERRUPTED:
        return Live(number - 1, "warn", "The run was interrupted", "It goes on from its last round when it is resumed.")
    waits = waits_of(console, run.info.name)
    if waits is not None and waits.plants:
        return Live(waits.round, "", f"Round {waits.round} waits for plants", "", waits)
    if waits is not None:
        return Live(waits.round, "warn", f"Round {waits.round} waits for plants to connect", "", waits)
    if _silent(run.newest, run.info.created, now):
        told = "Nothing has been finished for long. If no server runs, start it again: the run goes on from here."
        return Live(number, "warn", f"Round {number} is open", told)
    return Live(number, "", f"Round {number} is under way", "This page follows it by itself.")


def _silent(newest: RoundLine | None, created: str, now: datetime) -> bool:
    began = moment(created if newest is None else newest.started)
    lasted = 0.0 if newest is None else newest.seconds or 0.0
    patience = max(_LEAST_SILENCE_S, _SILENT * lasted)
    return began is not None and now - began > timedelta(seconds=min(lasted + patience, 1e9))
