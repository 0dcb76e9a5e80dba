"""Stretches of rows from one or several files, put in order of time: every row once, its label with it.

Copies on the web hold one run in several files, or rows twice (a normal run in both of its releases, the attack run's
normal rows in one file and its attacks in another). Rows of one time must then be equal, or the copy is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.ingest.clock import Seconds, period, recordings, said
from shared.catalogue import operating_ranges
from shared.errors import DataUnreadable, TooFewRows
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData

_CHUNK = 65_536


@dataclass(frozen=True)
class Stretch:
    """Rows of one file whose times do not go back.

    Attributes:
        path: the file.
        lines_T: int64 (T,), each row's line in it.
        seconds_T: int64 (T,), each row's time.
        values_TD: float32 (T, D).
        labels_T: bool (T,), True where the row is labelled an attack.
    """

    path: Path
    lines_T: NDArray[np.int64]
    seconds_T: Seconds
    values_TD: FloatArray
    labels_T: BoolArray

    def rows(self, first: int, end: int) -> Stretch:
        """Rows [first, end) as a view."""
        at = slice(first, end)
        return Stretch(self.path, self.lines_T[at], self.seconds_T[at], self.values_TD[at], self.labels_T[at])

    def cut(self, second: int) -> tuple[Stretch, Stretch]:
        """The rows before a time and those from it on."""
        at = int(np.searchsorted(self.seconds_T, second))
        return self.rows(0, at), self.rows(at, len(self.seconds_T))


@dataclass(frozen=True)
class Run:
    """One run in order of time; arrays as in `Stretch`."""

    seconds_T: Seconds
    values_TD: FloatArray
    labels_T: BoolArray
    repairs: tuple[Repair, ...] = ()


def forward(whole: Stretch) -> Iterator[Stretch]:
    """Cut rows where time goes back.

    The argument's times may go back, unlike those of what is given.
    """
    back = np.flatnonzero(np.diff(whole.seconds_T) < 0) + 1
    for first, end in pairwise((0, *map(int, back), len(whole.seconds_T))):
        yield whole.rows(first, end)


def in_order(where: str, stretches: Sequence[Stretch], dim: int) -> Run:
    """Join stretches; where they overlap, rows of one time must be equal and are taken once.

    Args:
        where: what the run is, for notes.
        stretches: in any order.
        dim: columns, D.

    Raises:
        DataUnreadable: two stretches have different rows for one time.
    """
    held = sorted((part for part in stretches if len(part.seconds_T)), key=lambda part: int(part.seconds_T[0]))
    if not held:
        return Run(np.empty(0, np.int64), np.empty((0, dim), np.float32), np.empty(0, np.bool_))
    if len(held) == 1:
        return Run(held[0].seconds_T, held[0].values_TD, held[0].labels_T)
    return _merged(where, held)


def _merged(where: str, parts: Sequence[Stretch]) -> Run:
    seconds_N = np.concatenate([part.seconds_T for part in parts])
    part_N = np.repeat(np.arange(len(parts)), [len(part.seconds_T) for part in parts])
    row_N = np.concatenate([np.arange(len(part.seconds_T)) for part in parts])
    order = np.argsort(seconds_N, kind="stable")
    seconds_N, part_N, row_N = seconds_N[order], part_N[order], row_N[order]
    again = np.flatnonzero((seconds_N[1:] == seconds_N[:-1]) & (part_N[1:] != part_N[:-1])) + 1
    _check_equal(parts, part_N, row_N, again)
    keep = np.ones(len(seconds_N), dtype=np.bool_)
    keep[again] = False
    part_N, row_N = part_N[keep], row_N[keep]
    values_TD = np.empty((len(row_N), parts[0].values_TD.shape[1]), dtype=np.float32)
    labels_T = np.empty(len(row_N), dtype=np.bool_)
    for number, part in enumerate(parts):
        mine = part_N == number
        values_TD[mine], labels_T[mine] = part.values_TD[row_N[mine]], part.labels_T[row_N[mine]]
    return Run(seconds_N[keep], values_TD, labels_T, tuple(_notes(where, parts, len(again), part_N)))


def _check_equal(
    parts: Sequence[Stretch], part_N: NDArray[np.int64], row_N: NDArray[np.int64], again: NDArray[np.int64]
) -> None:
    for begin in range(0, len(again), _CHUNK):
        chunk = again[begin : begin + _CHUNK]
        first_TD, first_T = _taken(parts, part_N[chunk - 1], row_N[chunk - 1])
        second_TD, second_T = _taken(parts, part_N[chunk], row_N[chunk])
        same = (first_TD == second_TD) | (np.isnan(first_TD) & np.isnan(second_TD))
        wrong = np.flatnonzero(~same.all(axis=1) | (first_T != second_T))
        if len(wrong):
            at = int(chunk[wrong[0]])
            old, new = parts[part_N[at - 1]], parts[part_N[at]]
            places = f"{old.path}, line {old.lines_T[row_N[at - 1]]} and {new.path}, line {new.lines_T[row_N[at]]}"
            cause = f"{places}: two rows with other readings have the time {said(int(new.seconds_T[row_N[at]]))}."
            raise DataUnreadable(cause, "Give one copy of the data, as issued; the rows must be in order of time.")


def _taken(
    parts: Sequence[Stretch], part_N: NDArray[np.int64], row_N: NDArray[np.int64]
) -> tuple[FloatArray, BoolArray]:
    values = np.empty((len(row_N), parts[0].values_TD.shape[1]), dtype=np.float32)
    labels = np.empty(len(row_N), dtype=np.bool_)
    for number in np.unique(part_N):
        mine = part_N == number
        values[mine] = parts[number].values_TD[row_N[mine]]
        labels[mine] = parts[number].labels_T[row_N[mine]]
    return values, labels


def _notes(where: str, parts: Sequence[Stretch], again: int, part_N: NDArray[np.int64]) -> Iterator[Repair]:
    if again:
        yield Repair(where, "rows are there twice, with equal readings: taken once", again)
    if (changes := int((np.diff(part_N) != 0).sum())) >= len(parts):
        names = ", ".join(sorted({part.path.name for part in parts}))
        yield Repair(where, f"rows of {names} were put in order of time", changes)


def as_site(
    name: str, tags: Sequence[str], train: Run, test: Run, source: str, repairs: Sequence[Repair], labelled: bool = True
) -> SiteData:
    """A plant's one site: recordings begin after every gap, empty tags are noted.

    Args:
        labelled: whether the test run's labels mean something.

    Raises:
        TooFewRows: the normal run has no rows.
        DataUnreadable: the runs are sampled differently.
    """
    if not len(train.seconds_T):
        cause = f"{source} holds no rows of the normal run: there is nothing to train on."
        raise TooFewRows(cause, "Put the file of the normal run beside it and give their folder.")
    period_s = _common_period(source, train, test)
    train_starts, train_notes = recordings(f"{name}/train", train.seconds_T)
    test_starts, test_notes = recordings(f"{name}/test", test.seconds_T)
    alone = Repair(name, "no rows of the attack run were found: the site has no test data", 1)
    odd = [Repair(name, f"rows come every {period_s} s, as issued every second: kept", len(train.seconds_T))]
    return SiteData(
        name=name,
        schema=SensorSchema(tags=tuple(tags), period_s=period_s),
        train_TD=train.values_TD,
        test_TD=test.values_TD,
        labels_T=test.labels_T if labelled and len(test.labels_T) else None,
        train_starts=train_starts,
        test_starts=test_starts,
        source=source,
        repairs=(
            *repairs,
            *(odd if period_s != 1 else []),
            *train.repairs,
            *train_notes,
            *_empty(f"{name}/train", tags, train.values_TD),
            *([] if len(test.seconds_T) else [alone]),
            *test.repairs,
            *test_notes,
            *_empty(f"{name}/test", tags, test.values_TD),
        ),
        ranges=operating_ranges(tags),
    )


def _common_period(source: str, train: Run, test: Run) -> int:
    periods = [period(run.seconds_T) for run in (train, test) if len(run.seconds_T) > 1] or [1]
    if len(set(periods)) > 1:
        cause = f"{source}: the normal run has a row every {periods[0]} s, the run with attacks every {periods[1]} s."
        raise DataUnreadable(cause, "Give both as issued, or resample both alike.")
    return periods[0]


def _empty(where: str, tags: Sequence[str], values_TD: FloatArray) -> Iterator[Repair]:
    if len(values_TD):
        empty = [at for at in np.flatnonzero(np.isnan(values_TD[0])) if np.isnan(values_TD[:, at]).all()]
        if empty:
            yield Repair(
                where,
                f"tags without any reading: kept as missing: {', '.join(tags[int(at)] for at in empty)}",
                len(empty),
            )
