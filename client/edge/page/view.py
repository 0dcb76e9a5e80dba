"""From a state folder and a history to what the page shows: one JSON-ready value. Everything read may be damaged."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from client.edge import state as disk
from client.edge.alarm_files import read_state as read_alarms
from client.edge.alarm_values import AlarmState
from client.edge.page.history import History, Point
from shared.bundle.index import read_index
from shared.errors import BundleInvalid, FileTrouble

_EVENTS, _NOTICES, _LATEST = 8, 5, 400
_PARTS = 5


@dataclass(frozen=True)
class View:
    """Where the page looks.

    Attributes:
        folder: the scorer's state folder.
        history: its SQLite history.
    """

    folder: Path
    history: History

    def summary(self) -> dict[str, Any]:
        """Everything but the chart."""
        standing = disk.read_table(self.folder / disk.STANDING) or {}
        self._seen()
        return {
            "now": time.time(),
            "latest": standing.get("score"),
            "alarms": self._alarms(),
            "models": self._models(standing),
            "link": standing.get("link"),
            "faults": _open_states(self.history.records("fault", _LATEST), "cleared", "kind"),
            "drift": _open_states(self.history.records("drift", _LATEST), "settled", "state"),
            "notices": self.history.records("notice", _NOTICES),
        }

    def scores(self, since: float, most: int) -> list[Point]:
        """Points of the chart, oldest first; see `History.points`."""
        return self.history.points(since, most)

    def _seen(self) -> None:
        """Tell the scorer that somebody looks: it shows its newest score more often then."""
        with suppress(OSError):
            (self.folder / disk.SEEN).touch()

    def _alarms(self) -> dict[str, Any]:
        try:
            found = read_alarms(self.folder)
        except ValueError as error:
            found = AlarmState()
            return {"standing": "unknown", "known": False, "trouble": str(error)[:200], "listed": [], "shelves": []}
        return {
            "standing": found.standing,
            "known": found.known,
            "listed": [_alarm(msgspec.to_builtins(alarm)) for alarm in found.listed[:50]],
            "shelves": msgspec.to_builtins(found.shelves),
        }

    def _models(self, standing: dict[str, Any]) -> dict[str, Any]:
        try:
            state = disk.read_state(self.folder)
        except FileTrouble as error:
            return {"trouble": error.cause}
        if state is None:
            return {"trouble": "The scorer has written nothing yet."}
        return {
            "current": self._model(state.current),
            "previous": self._model(state.previous),
            "shadow": self._model(state.shadow),
            "probation": state.probation,
            "uncalibrated": state.uncalibrated,
            "trial": standing.get("trial"),
            "events": [msgspec.to_builtins(event) for event in state.events[: -_EVENTS - 1 : -1]],
            "refused": [msgspec.to_builtins(one) for one in state.refused[:-4:-1]],
        }

    def _model(self, digest: str) -> dict[str, Any] | None:
        if not digest:
            return None
        try:
            made = read_index(self.folder / disk.MODELS / digest).provenance
        except BundleInvalid:
            return {"digest": digest}
        return {"digest": digest, "site": made.site, "run": made.run, "round": made.round, "number": made.number}


def _alarm(alarm: dict[str, Any]) -> dict[str, Any]:
    return {**alarm, "sensors": alarm["sensors"][:_PARTS]}


def _open_states(records: list[dict[str, Any]], over: str, key: str) -> list[dict[str, Any]]:
    """The newest word on every tag, without those that are over."""
    newest = {str(record.get("tag")): record for record in reversed(records) if record.get("tag")}
    return [record for record in newest.values() if over not in (record.get("state"), record.get(key))][:50]
