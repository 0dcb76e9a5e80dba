"""What a scorer wrote into its SQLite history, as the page needs it: the newest. The file may not be there."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.edge.sinks.history import read_records
from shared.errors import FileTrouble

_BUSY_S = 1.0
_NEWEST = (
    "SELECT time, score, threshold, shadow, guard, guard_threshold, anomalous FROM scores "
    "WHERE time > ? ORDER BY rowid DESC LIMIT ?"
)
Point = tuple[float, float | str | None, float | str | None, float | None, float | None, bool]


@dataclass(frozen=True)
class History:
    """A history file.

    Attributes:
        path: of the SQLite file.
    """

    path: Path

    def points(self, since: float, most: int) -> list[Point]:
        """The newest scores later than a time, oldest first: time, score, threshold, shadow's score by its threshold,
        the guard's by its own, and whether anything was above. None where there is no file.
        """
        try:
            with closing(sqlite3.connect(f"{self._address}?mode=ro", uri=True, timeout=_BUSY_S)) as base:
                rows = base.execute(_NEWEST, (since, most)).fetchall()
        except sqlite3.Error:
            return []
        return sorted((_point(*row) for row in rows), key=lambda point: point[0])

    def records(self, kind: str, most: int) -> list[dict[str, Any]]:
        """The newest records of a type, newest first; none where there is no file."""
        try:
            return [found for found in read_records(self.path, (kind,), most=most) if isinstance(found, dict)]
        except (FileTrouble, ValueError):
            return []

    @property
    def _address(self) -> str:
        return self.path.absolute().as_uri()


def _point(
    time: float,
    score: float | None,
    threshold: float | None,
    shadow: float | None,
    guard: float | None,
    guard_threshold: float | None,
    anomalous: int,
) -> Point:
    over = guard / guard_threshold if guard is not None and guard_threshold else None
    return time, plain(score), plain(threshold), finite(shadow), finite(over), bool(anomalous)


def plain(value: float | None) -> float | str | None:
    """A number that JSON has; `inf` and `-inf` as texts.

    Example:
        >>> plain(1.5), plain(float("inf")), plain(None)
        (1.5, 'inf', None)
    """
    if value is None or math.isfinite(value):
        return value
    return "inf" if value > 0 else "-inf"


def finite(value: float | None) -> float | None:
    """A finite number, or None."""
    return value if value is not None and math.isfinite(value) else None
