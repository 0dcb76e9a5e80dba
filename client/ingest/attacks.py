"""Labels against what is published of attacks, and labels made from it where the files have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.ingest.clock import Seconds, said
from shared.series import BoolArray, Repair

TOLERANCE_S = 60
"""The published times of SWaT's attacks agree with its labels to 40 s."""


@dataclass(frozen=True)
class Interval:
    """Some attacks without a pause between them, in seconds since 1970: [begin_s, end_s)."""

    names: tuple[str, ...]
    begin_s: int
    end_s: int


def joined(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    """Intervals in order of time, those that touch made one: labels cannot tell them apart.

    Example:
        >>> joined([Interval(("10",), 0, 160), Interval(("11",), 160, 720)])
        (Interval(names=('10', '11'), begin_s=0, end_s=720),)
    """
    found: list[Interval] = []
    for each in sorted(intervals, key=lambda interval: interval.begin_s):
        if found and each.begin_s <= found[-1].end_s:
            last = found.pop()
            each = Interval((*last.names, *each.names), last.begin_s, max(last.end_s, each.end_s))
        found.append(each)
    return tuple(found)


def label(seconds_T: Seconds, intervals: Sequence[Interval]) -> BoolArray:
    """Bool (T,), True for rows whose time lies in an interval.

    Example:
        >>> label(np.array([4, 5, 6]), [Interval(("1",), 5, 6)]).tolist()
        [False, True, False]
    """
    labels_T = np.zeros(len(seconds_T), dtype=np.bool_)
    for each in intervals:
        labels_T |= (seconds_T >= each.begin_s) & (seconds_T < each.end_s)
    return labels_T


def segments(labels_T: BoolArray) -> NDArray[np.int64]:
    """Stretches of labelled rows as int64 (N, 2): first row, row after the last.

    Example:
        >>> segments(np.array([False, True, True, False, True])).tolist()
        [[1, 3], [4, 5]]
    """
    edges = np.flatnonzero(np.diff(labels_T.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).astype(np.int64)


def compare(where: str, seconds_T: Seconds, labels_T: BoolArray, published: Sequence[Interval]) -> Iterator[Repair]:
    """Say where labels differ from the published attacks by more than `TOLERANCE_S`; nothing is changed.

    Attacks outside the rows' times are not looked for. When more than half of those inside differ, the labels are of
    another run, such as a simulated one, and one note says so.
    """
    if not len(seconds_T):
        return
    due = [each for each in published if seconds_T[0] <= each.begin_s and each.end_s <= seconds_T[-1] + 1]
    found = [(int(seconds_T[first]), int(seconds_T[end - 1]) + 1) for first, end in segments(labels_T)]
    missing = [each for each in due if not any(_meet(each, *one) for one in found)]
    shifted = {each: tuple(_shifted(where, each, found)) for each in due if each not in missing}
    wrong = len(missing) + sum(bool(notes) for notes in shifted.values())
    if 2 * wrong > len(due):
        what = f"of {len(due)} published attacks these are not labelled, or at other times: the labels are kept"
        yield Repair(where, what, wrong)
        return
    for each in missing:
        yield Repair(where, f"attack {_names(each)} from {said(each.begin_s)} has no labelled rows: kept", 1)
    for notes in shifted.values():
        yield from notes
    strange = [one for one in found if not any(_meet(each, *one) for each in published)]
    if strange:
        what = f"labelled stretches that are no published attack, first {said(strange[0][0])}: kept"
        yield Repair(where, what, len(strange))


def _shifted(where: str, each: Interval, found: Sequence[tuple[int, int]]) -> Iterator[Repair]:
    met = [one for one in found if _meet(each, *one)]
    begin_s, end_s = met[0][0], met[-1][1]
    for edge, labelled, listed in (("begin", begin_s, each.begin_s), ("end", end_s, each.end_s)):
        if abs(labelled - listed) > TOLERANCE_S:
            what = f"the labels of attack {_names(each)} {edge} at {said(labelled)}, published is {said(listed)}: kept"
            yield Repair(where, what, abs(labelled - listed))


def _meet(each: Interval, begin_s: int, end_s: int) -> bool:
    return begin_s < each.end_s and each.begin_s < end_s


def _names(each: Interval) -> str:
    return " and ".join(each.names)
