"""Tables, lines and JSON for a terminal. Cells are text and never markup; a table is never wider than the terminal."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

import typer

from server.store.words import plain

LEAST, FALLBACK = 40, 80
_GAP = " "
_SHORTEST = 8  # words that are shorter are not cut before figures are
_INDENT = "    "
_MOST_BELOW = 16  # lines; the longest reason that may be given fits an 80 columns wide terminal


def print_json(value: Any) -> None:
    """One JSON value."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def print_json_line(value: Any) -> None:
    """One JSON value on one line, at once."""
    typer.echo(json.dumps(value, allow_nan=False))
    sys.stdout.flush()


def print_lines(lines: Iterable[str]) -> None:
    """Lines, with nothing in them that steers a terminal."""
    for line in lines:
        typer.echo(plain(line))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int, below: Sequence[str] = ()) -> None:
    """A table whose first `left` columns are words, the others figures; `below` each row its sentence, whole."""
    head, *body = table(columns, rows, left, width())
    typer.secho(head, bold=True)
    for i, line in enumerate(body):
        typer.echo(line)
        for more in _below(below[i], width()) if below else ():
            typer.echo(more)


def width() -> int:
    """Columns of the terminal, or of the environment's COLUMNS."""
    return max(LEAST, shutil.get_terminal_size((FALLBACK, 24)).columns)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int, most: int) -> list[str]:
    """The lines of a table, the heads first. What does not fit is cut in the middle, the widest words first.

    Example:
        >>> table(["plant", "s"], [["north", "1.5"], ["a plant by the sea", "10"]], 1, 14)
        ['plant        s', 'north      1.5', 'a plan…sea  10']
    """
    from rich.cells import cell_len

    cells = [[plain(cell) for cell in row] for row in [columns, *rows]]
    natural = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    widths = _fitted(natural, left, most - len(_GAP) * (len(columns) - 1))
    return [_line(row, widths, left) for row in cells]


def _below(text: str, most: int) -> list[str]:
    from rich.cells import cell_len

    shown = plain(text)
    most = most if cell_len(shown) == len(shown) else most // 2  # characters that are two columns wide
    return wrap(shown, most, initial_indent=_INDENT, subsequent_indent=_INDENT, max_lines=_MOST_BELOW, placeholder=" …")


def _fitted(widths: Sequence[int], left: int, most: int) -> list[int]:
    """Widths that add up to at most `most`: taken from the widest column of words, then from the widest of all."""
    fitted = [max(1, min(width, most)) for width in widths]
    while sum(fitted) > most and max(fitted) > 1:
        words = [i for i in range(left) if fitted[i] > _SHORTEST]
        fitted[max(words or range(len(fitted)), key=fitted.__getitem__)] -= 1
    return fitted


def _line(row: Sequence[str], widths: Sequence[int], left: int) -> str:
    parts = [_cell(cell, size, i < left) for i, (cell, size) in enumerate(zip(row, widths, strict=True))]
    return _GAP.join(parts).rstrip()


def _cell(text: str, size: int, words: bool) -> str:
    from rich.cells import cell_len

    text = _cut(text, size)
    space = " " * (size - cell_len(text))
    return text + space if words else space + text


def _cut(text: str, size: int) -> str:
    """A text without its middle: names differ at their ends."""
    from rich.cells import cell_len

    if cell_len(text) <= size:
        return text
    tail = size // 3
    head = size - 1 - tail
    start = 0
    while start < len(text) and cell_len(text[: start + 1]) <= head:
        start += 1
    end = len(text)
    while end > start and cell_len(text[end - 1 :]) <= tail:
        end -= 1
    return f"{text[:start]}…{text[end:]}"
