"""A measured figure, and how a list of them is summed up, printed and told from a good one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Measure = Callable[[Path, bool], list["Figure"]]


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what was measured.
        value: the figure.
        unit: its unit; `x` for a ratio.
        limit: the most it may be; None where it is told for information only.
        note: what a reader needs beside it.
        raw: the repetitions it was taken from.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""
    raw: tuple[float, ...] = ()

    @property
    def verdict(self) -> str:
        """`ok`, `MISSED`, or `-` without a limit."""
        if self.limit is None:
            return "-"
        return "ok" if self.value <= self.limit else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """The figure with its verdict."""
        return {**asdict(self), "verdict": self.verdict}


def median(name: str, raw: Sequence[float], unit: str, limit: float | None = None, note: str = "") -> Figure:
    """The median of repetitions as a figure; the repetitions are kept."""
    return Figure(name, statistics.median(raw), unit, limit, note, tuple(raw))


def text(value: float) -> str:
    """A number with three digits that matter.

    Example:
        >>> text(1234.5), text(12.345), text(0.012345)
        ('1234', '12.3', '0.0123')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
