"""A table of a report as a value; one macro of the templates draws them all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Cell:
    """One cell: a text, its tone (`weak`, `bad`, `quiet` or none) and where it leads to within the page."""

    text: str
    tone: str = ""
    link: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its heading, what it holds (`n` numbers, `short` or `long` text), and the heading of its group."""

    title: str
    kind: str = "n"
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A caption, columns and rows, and up to two lines at the foot; the first cell of each row names it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    foot: tuple[Cell, ...] = ()
    second_foot: tuple[Cell, ...] = ()

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Shared headings and how many columns each spans; empty when there is none."""
        runs = tuple((title, len(list(run))) for title, run in groupby(self.columns, lambda column: column.group))
        return runs if any(title for title, _ in runs) else ()
