"""Times of rows: read, mended where only one reading is possible, and cut into recordings at gaps.

Times never move a label: a label that stands in a row stays with that row's values whatever its time says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.ingest.scan import Block
from shared.errors import DataUnreadable
from shared.series import Repair

Seconds = NDArray[np.int64]
"""Local time of each row in whole seconds since 1970."""

HALF_DAY_S = 12 * 3600
_CURE = "Give the file as issued, or put the times right."


@dataclass(frozen=True)
class Form:
    """One way to write a time.

    Attributes:
        looks: a pattern that a time written so matches in full.
        layout: the same for `strptime`.
    """

    looks: str
    layout: str


def form_of(text: str, forms: Sequence[Form]) -> Form | None:
    """The first form that a text has; None when it has none of them."""
    return next((form for form in forms if re.fullmatch(form.looks, text, re.IGNORECASE)), None)


def parse(text: str, forms: Sequence[Form]) -> int | None:
    """One time in seconds since 1970; None when it has none of the forms.

    Example:
        >>> parse("28/12/2015 10:00:01 AM", [Form(r"[0-9/]+ [0-9:]+ [AP]M", "%d/%m/%Y %I:%M:%S %p")])
        1451296801
    """
    form = form_of(text, forms)
    seconds = None if form is None else _seconds(pl.Series([text]), form)
    return None if seconds is None or seconds[0] is None else int(seconds[0])


def _seconds(text: pl.Series, form: Form) -> pl.Series:
    return text.str.to_datetime(form.layout, time_unit="us", strict=False).dt.epoch("s")


def read_times(block: Block, column: str, text: pl.Series, form: Form) -> Seconds:
    """A block's times.

    Args:
        column: the column to name in an error.
        text: the times, from one column or several.
        form: of the whole file.

    Raises:
        DataUnreadable: a cell is empty or has another form.
    """
    seconds = _seconds(text, form)
    block.refuse(column, seconds.is_null(), f"is no time like {form.layout}", text)
    return seconds.to_numpy()


def local(moment: datetime) -> int:
    """A local time without zone in seconds since 1970."""
    return int(moment.replace(tzinfo=UTC).timestamp())


def said(second: int) -> str:
    """A local time as it is shown.

    Example:
        >>> said(1451296801)
        '2015-12-28 10:00:01'
    """
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


def period(seconds_T: Seconds) -> int:
    """The most usual step forward between rows in seconds, 1 when there is none.

    Example:
        >>> period(np.array([0, 10, 20, 43230, 43240]))
        10
    """
    steps = np.diff(seconds_T)
    found, times = np.unique(steps[steps > 0], return_counts=True)
    return int(found[times.argmax()]) if len(found) else 1


def mend(path: Path, seconds_T: Seconds, lines_T: NDArray[np.int64]) -> tuple[Seconds, tuple[Repair, ...]]:
    """Times without slips between AM and PM.

    A stretch of rows is displaced when the rows before and after it follow each other as if it had the times that lie
    between them. One that is displaced by just twelve hours is put back; any other is refused.

    Raises:
        DataUnreadable: a displaced stretch, or a jump of twelve hours that nothing undoes.
    """
    step_s = period(seconds_T)
    jumps = np.flatnonzero(np.diff(seconds_T) != step_s) + 1
    if not len(jumps):
        return seconds_T, ()
    mended_T, slips, at = seconds_T.copy(), [], 0
    while at < len(jumps):
        first, end = int(jumps[at]), int(jumps[at + 1]) if at + 1 < len(jumps) else 0
        moved_s = int(seconds_T[first] - seconds_T[first - 1]) - step_s
        if end and _is_displaced(seconds_T, first, end, step_s):
            if abs(moved_s) != HALF_DAY_S:
                raise _displaced(path, seconds_T, lines_T, first, end)
            mended_T[first:end] -= moved_s
            slips.append((first, end))
            at += 1
        elif abs(moved_s) == HALF_DAY_S:
            raise _half_day(path, seconds_T, lines_T, first)
        at += 1
    return mended_T, tuple(_slip_notes(path, slips, lines_T))


def _is_displaced(seconds_T: Seconds, first: int, end: int, step_s: int) -> bool:
    """Whether the rows around [first, end) leave just its room, and its times lie outside of it.

    A second that was logged late (1, 2, 2, 4) does not count: its order is right.
    """
    room = seconds_T[end] - seconds_T[first - 1] == (end - first + 1) * step_s
    return bool(room and (seconds_T[first] < seconds_T[first - 1] or seconds_T[end] < seconds_T[end - 1]))


def _displaced(path: Path, seconds_T: Seconds, lines_T: NDArray[np.int64], first: int, end: int) -> DataUnreadable:
    rows = f"{end - first} rows" if end - first > 1 else "the row"
    between = f"{said(int(seconds_T[first - 1]))} and {said(int(seconds_T[end]))}"
    cause = f"{path}, line {lines_T[first]}: {rows} from {said(int(seconds_T[first]))} stand between {between}."
    return DataUnreadable(cause, _CURE)


def _half_day(path: Path, seconds_T: Seconds, lines_T: NDArray[np.int64], row: int) -> DataUnreadable:
    cause = (
        f"{path}, line {lines_T[row]}: time jumps by twelve hours from {said(int(seconds_T[row - 1]))} to "
        f"{said(int(seconds_T[row]))} and does not come back: a slip between AM and PM, or a gap."
    )
    return DataUnreadable(cause, _CURE)


def _slip_notes(path: Path, slips: Sequence[tuple[int, int]], lines_T: NDArray[np.int64]) -> Iterator[Repair]:
    if slips:
        rows = sum(end - first for first, end in slips)
        what = f"AM and PM were swapped from line {lines_T[slips[0][0]]} on: put right"
        yield Repair(path.name, what, rows)


def recordings(where: str, seconds_T: Seconds) -> tuple[tuple[int, ...], tuple[Repair, ...]]:
    """Where recordings begin in rows whose times do not go back: at row 0 and after every gap, with notes.

    Example:
        >>> recordings("attack", np.array([0, 1, 2, 84, 85]))[0]
        (0, 3)
    """
    step_s = period(seconds_T)
    steps = np.diff(seconds_T)
    gaps = np.flatnonzero(steps > step_s) + 1
    notes = []
    if len(gaps):
        lost = int((steps[gaps - 1] - step_s).sum())
        first = f"the first of {len(gaps)} " if len(gaps) > 1 else ""
        what = f"{lost} s are missing, {first}before {said(int(seconds_T[gaps[0]]))}: a new recording begins there"
        notes.append(Repair(where, what + (" and after each gap" if len(gaps) > 1 else ""), len(gaps)))
    if twice := int((steps == 0).sum()):
        row = int(np.flatnonzero(steps == 0)[0])
        what = f"rows bear the time of the row before, first {said(int(seconds_T[row]))}: kept in the file's order"
        notes.append(Repair(where, what, twice))
    return (0, *(int(row) for row in gaps)), tuple(notes)
