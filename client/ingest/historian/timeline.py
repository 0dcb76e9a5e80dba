"""Rows in order of time, each moment once, on a regular grid. Arrays only; no files.

Moments are int64 microseconds since 1970, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidConfig
from shared.series import BoolArray, FloatArray, Repair

SECOND = 1_000_000
HOUR = 3_600 * SECOND
ROUND = np.array([0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 86_400]) * SECOND
NEAR = 0.05
GAP_PERIODS = 10
MOST_SLOTS = 50
"""A grid may have this many slots a row; more means that period and gap do not fit the data."""

Stamps = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Rows of one plant.

    Attributes:
        stamps_T: int64 (T,), microseconds since 1970.
        values_TD: float32 (T, D), NaN where a reading is missing.
        attacks_T: bool (T,), or None without labels.
        starts: rows at which recordings begin.
    """

    stamps_T: Stamps
    values_TD: FloatArray
    attacks_T: BoolArray | None = None
    starts: tuple[int, ...] = (0,)

    def take(self, rows: NDArray[np.int64] | BoolArray) -> Rows:
        """Some rows, as one recording."""
        attacks_T = None if self.attacks_T is None else self.attacks_T[rows]
        return Rows(self.stamps_T[rows], self.values_TD[rows], attacks_T)


def moment(stamp: int | np.int64) -> str:
    """A time as a person writes it.

    Example:
        >>> moment(1_500_000)
        '1970-01-01 00:00:01'
    """
    return f"{datetime.fromtimestamp(int(stamp) // SECOND, UTC):%Y-%m-%d %H:%M:%S}"


def in_order(rows: Rows, where: str, first_line: int | None, naive: bool) -> tuple[Rows, tuple[Repair, ...]]:
    """Sort by time; rows of one moment keep their order.

    Args:
        rows: as in the file.
        where: file or plant, for the note.
        first_line: line of row 0, if the rows are those of one file.
        naive: the times carry no offset, so a step back of an hour may be a clock set back.
    """
    steps_T = np.diff(rows.stamps_T)
    back = np.flatnonzero(steps_T < 0)
    if not back.size:
        return rows, ()
    order_T = np.argsort(rows.stamps_T, kind="stable")
    if (steps_T <= 0).all():
        what = "newest row first: turned"
        order_T = np.arange(len(rows.stamps_T))[::-1]
    elif naive and (steps_T[back] >= -HOUR).all() and (steps_T[back] < -HOUR * 3 // 4).all():
        what = "times go back an hour, as when clocks are set back: sorted; set timezone in historian.toml to keep both"
    else:
        what = "times go back: sorted"
    place = "" if first_line is None else f", first in line {first_line + int(back[0]) + 1}"
    note = Repair(
        where, f"{what}{place} ({moment(rows.stamps_T[back[0] + 1])} after {moment(rows.stamps_T[back[0]])})", back.size
    )
    return rows.take(order_T), (note,)


def each_once(rows: Rows, where: str) -> tuple[Rows, tuple[Repair, ...]]:
    """Keep the last row of every moment of sorted rows; a moment is an attack if one of its rows is."""
    again_T = np.diff(rows.stamps_T) == 0
    if not again_T.any():
        return rows, ()
    at = np.flatnonzero(again_T)
    same = (_equal(rows.values_TD[at], rows.values_TD[at + 1])).all(axis=1)
    first_T = np.flatnonzero(np.r_[True, ~again_T])
    kept = rows.take(np.r_[~again_T, True])
    if rows.attacks_T is not None:
        kept = replace(kept, attacks_T=np.logical_or.reduceat(rows.attacks_T, first_T))
    other = at[~same]
    notes = []
    if same.any():
        notes.append(Repair(where, "rows that repeat the row before them: left out", int(same.sum())))
    if other.size:
        first = moment(rows.stamps_T[other[0]])
        what = f"rows with the time of another but other readings, first at {first}: the last one counts"
        notes.append(Repair(where, what, other.size))
    return kept, tuple(notes)


def _equal(a_TD: FloatArray, b_TD: FloatArray) -> BoolArray:
    same_TD: BoolArray = (a_TD == b_TD) | (np.isnan(a_TD) & np.isnan(b_TD))
    return same_TD


def usual_step(stamps_T: Stamps) -> int:
    """The median step of rising moments in microseconds; of steps that jitter, the round number beside it.

    Example:
        >>> usual_step(np.array([0, 59_900_000, 120_100_000, 180_000_000]))
        60000000
    """
    steps_T = np.diff(stamps_T)
    if not len(steps_T):
        return SECOND
    middle = float(np.median(steps_T))
    if (steps_T == middle).mean() < 0.5:
        nearest = float(ROUND[np.abs(ROUND - middle).argmin()])
        middle = nearest if abs(nearest - middle) <= NEAR * nearest else middle
    unit = SECOND if middle >= 10 * SECOND else 1_000 if middle >= 1_000 else 1
    return max(round(middle / unit), 1) * unit


def on_grid(rows: Rows, period: int, max_gap: int, where: str) -> tuple[Rows, tuple[Repair, ...]]:
    """Put sorted rows, each moment once, on a grid of one period; a pause longer than `max_gap` begins a new recording.

    A slot takes the last row since the slot before it, up to half a usual step late, so that jitter moves no row to
    the next slot and no slot knows what follows. A slot without a row is missing, and labelled as the one before it.

    Raises:
        InvalidConfig: the grid would be far larger than the data.
    """
    stamps_T = rows.stamps_T
    steps_T = np.diff(stamps_T)
    breaks = np.flatnonzero(steps_T > max_gap) + 1
    edges = np.r_[0, breaks, len(stamps_T)]
    starts, lengths = edges[:-1], np.diff(edges)
    late = min(usual_step(stamps_T), period) / 2
    since_T = stamps_T - np.repeat(stamps_T[starts], lengths)
    slot_T = np.maximum(np.ceil((since_T - late) / period), 0).astype(np.int64)
    slots = slot_T[edges[1:] - 1] + 1
    if slots.sum() > MOST_SLOTS * len(stamps_T):
        cause = f"{where}: {len(stamps_T)} rows would become {slots.sum()} at a period of {period / SECOND:g} s."
        raise InvalidConfig(cause, "Set a longer period_s or a shorter max_gap_s in historian.toml.")
    begin = np.cumsum(slots) - slots
    at_T = slot_T + np.repeat(begin, lengths)
    grid = _spread(rows, at_T, int(slots.sum()))
    origin = np.repeat(stamps_T[starts] - begin * period, slots)
    stamps = origin + np.arange(int(slots.sum()), dtype=np.int64) * period
    made = replace(grid, stamps_T=stamps, starts=tuple(int(at) for at in begin))
    return made, tuple(_grid_notes(rows, at_T, len(stamps), len(breaks), period, max_gap, where))


def _spread(rows: Rows, at_T: NDArray[np.int64], slots: int) -> Rows:
    if slots == len(at_T) and (np.diff(at_T) == 1).all():
        return rows
    values = np.full((slots, rows.values_TD.shape[1]), np.nan, dtype=np.float32)
    last_T = np.r_[np.diff(at_T) > 0, True]
    values[at_T[last_T]] = rows.values_TD[last_T]
    if rows.attacks_T is None:
        return Rows(rows.stamps_T, values)
    first = np.flatnonzero(np.r_[True, np.diff(at_T) > 0])
    attacks = np.zeros(slots, dtype=np.bool_)
    attacks[at_T[first]] = np.logical_or.reduceat(rows.attacks_T, first)
    seen = np.zeros(slots, dtype=np.int64)
    seen[at_T] = at_T
    return Rows(rows.stamps_T, values, attacks[np.maximum.accumulate(seen)])


def _grid_notes(
    rows: Rows, at_T: NDArray[np.int64], slots: int, breaks: int, period: int, max_gap: int, where: str
) -> list[Repair]:
    distinct = len(np.unique(at_T))
    steps_T = np.diff(rows.stamps_T)
    every = f"{period / SECOND:g} s"
    uneven = int(((steps_T != period) & (steps_T <= max_gap)).sum())
    longest = f" (the longest {steps_T.max() / SECOND:g} s)" if len(steps_T) else ""
    notes = (
        Repair(where, f"steps that are not {every}: put on a grid of {every} by the last reading", uneven),
        Repair(where, "rows that fall into the slot of a later one: left out", len(at_T) - distinct),
        Repair(where, "slots of the grid without a row: missing", slots - distinct),
        Repair(where, f"pauses longer than {max_gap / SECOND:g} s{longest}: a new recording begins after each", breaks),
    )
    return [note for note in notes if note.count]


def split(rows: Rows, test_from: int | None) -> tuple[Rows, Rows]:
    """Rows before a moment and from it on; all rows come before None."""
    cut = len(rows.stamps_T) if test_from is None else int(np.searchsorted(rows.stamps_T, test_from))
    early, late = np.arange(cut), np.arange(cut, len(rows.stamps_T))
    before = tuple(at for at in rows.starts if at < cut) or (0,)
    after = (0, *(at - cut for at in rows.starts if at > cut))
    return replace(rows.take(early), starts=before), replace(rows.take(late), starts=after)


def without_attacks(rows: Rows) -> tuple[Rows, int]:
    """Rows that are no attacks, a new recording after each attack, and how many rows were left out."""
    if rows.attacks_T is None or not rows.attacks_T.any():
        return rows, 0
    kept = np.flatnonzero(~rows.attacks_T)
    recording_T = np.searchsorted(rows.starts, kept, side="right")
    new_T = (np.diff(kept, prepend=-2) > 1) | (np.diff(recording_T, prepend=0) > 0)
    return replace(rows.take(kept), starts=tuple(np.flatnonzero(new_T).tolist()) or (0,)), int(rows.attacks_T.sum())
