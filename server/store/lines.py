"""Rounds and runs as `crossplant rounds list` and `watch` print them: a line of text or a JSON value each.

Names and reasons come from plants and are hostile: rows go through `plain`, and whoever prints them must not read
markup in them. Nothing heavy is imported (`server.store.glance` says why).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from server.store.words import figure, finite, plain, spans

Row = tuple[str, ...]

COLUMNS = ("#", "phase", "step", "status", "plants", "holdout", "train", "model", "s")
RUN_COLUMNS = ("run", "status", "rounds", "started", "note")
PRUNED = "pruned"
_SHORT = 8
_MISSED = 10  # plants that `rounds list` names in one round
_DAY = 10  # characters of a date


@dataclass(frozen=True)
class Refusal:
    """A plant that did not count, and why."""

    plant: str
    reason: str | None


@dataclass(frozen=True)
class Line:
    """A round in a list.

    Attributes:
        run, number, phase, label, status, reason, started, seconds, model, metrics: as in `server.rounds.RoundRecord`.
        accepted: names of the plants that counted.
        rejected: those that did not, with reasons.
        joined: names of those that were not asked yet.
        bytes_total: payload in both directions.
        pruned: when its state and its model were removed, ISO 8601.
    """

    run: str
    number: int
    phase: str
    label: str
    status: str
    reason: str | None
    started: str
    seconds: float
    model: str | None
    metrics: Mapping[str, float]
    accepted: tuple[str, ...] = ()
    rejected: tuple[Refusal, ...] = ()
    joined: tuple[str, ...] = ()
    bytes_total: int = 0
    pruned: str | None = None


@dataclass(frozen=True)
class RunLine:
    """A run in a list; the fields are those of `server.store.rows.RunInfo`."""

    name: str
    created: str
    status: str
    note: str
    rounds: int


class _Refused(Protocol):
    @property
    def plant(self) -> str: ...
    @property
    def reason(self) -> str | None: ...


class _Round(Protocol):
    """What a line and a record have in common."""

    @property
    def number(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def rejected(self) -> Sequence[_Refused]: ...


class _Run(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def created(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def note(self) -> str: ...


# ---- JSON ----


def run_entry(info: _Run) -> dict[str, Any]:
    """A run as `rounds list --json` and `rounds show --json` print it beside rounds."""
    return {"name": info.name, "created": info.created, "status": str(info.status), "note": info.note}


def round_entry(line: Line) -> dict[str, Any]:
    """A round as `rounds list --json` and `rounds watch --json` print it."""
    told = {
        "run": line.run,
        "number": line.number,
        "phase": line.phase,
        "label": line.label,
        "status": line.status,
        "reason": line.reason,
        "plants": list(line.accepted),
        "rejected": [{"plant": p.plant, "reason": p.reason} for p in line.rejected],
        "joined": list(line.joined),
        "metrics": {name: finite(value) for name, value in line.metrics.items()},
        "model": line.model,
        "started": line.started,
        "seconds": finite(line.seconds),
        "bytes": line.bytes_total,
    }
    return told if line.pruned is None else told | {PRUNED: line.pruned}


# ---- text ----


def row(line: Line) -> Row:
    """A row under `COLUMNS`."""
    counted = f"{len(line.accepted)}/{len(line.accepted) + len(line.rejected)}"
    losses = (figure(line.metrics.get("holdout_loss")), figure(line.metrics.get("train_loss")))
    model = "-" if line.model is None else PRUNED if line.pruned else line.model[:_SHORT]
    took = f"{line.seconds:.1f}" if finite(line.seconds) is not None else "-"
    return (str(line.number), line.phase, plain(line.label), line.status, counted, *losses, plain(model), took)


def run_row(run: RunLine) -> Row:
    """A row under `RUN_COLUMNS`."""
    return (plain(run.name), run.status, str(run.rounds), plain(run.created[:_DAY]), plain(run.note) or "-")


def standing(info: _Run) -> str:
    """How a run stands, after its name; nothing while it is under way, or was killed and looks as if it were."""
    return "" if info.status == "running" else f", {info.status}"


def ending(info: _Run) -> list[str]:
    """Why a run failed; nothing when it did not."""
    if info.status != "failed":
        return []
    return [plain(f"Run {info.name} failed: {info.note or 'its rounds say why'}")]


def interruptions(rounds: Iterable[_Round]) -> list[str]:
    """What `rounds list` says below its table: of a round that did not commit, also why each plant did not count.

    Rounds one after another that committed with the same words share a line.
    """
    lines: list[str] = []
    told = [one for one in rounds if one.reason is not None]
    for (status, reason, _), same in groupby(told, lambda r: (r.status, r.reason, _own(r))):
        alike = list(same)
        r = alike[0]
        lines.append(f"Round{'s' * (len(alike) > 1)} {spans(one.number for one in alike)} {status}: {reason}")
        missed = r.rejected if r.status != "committed" else ()
        lines += [f"  {p.plant}: {p.reason}" for p in missed[:_MISSED]]
        lines += (
            [f"  and {len(missed) - _MISSED} more: `crossplant rounds show {r.number}`"] if missed[_MISSED:] else []
        )
    return [plain(line) for line in lines]


def _own(one: _Round) -> int:
    """What sets a round apart that must have lines of its own."""
    return 0 if one.status == "committed" else one.number
