"""Readings that repeat themselves word for word: a replayed stretch, and a value that stands still.

`match`: how many successive distinct values of a tag equal an earlier stretch of the same tag. `run`: rows since the
value changed, 0 for values that are at home (a flow of exactly 0). A recorded stretch that is played back is the attack
of Mo and Sinopoli 2009, "Secure control against replay attacks" (Allerton): noise never comes twice, so what comes
twice is a recording. The earlier stretch is found by the hash of three values, as in Lempel and Ziv's coders.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from shared.scoring import Float64Array

NAMES = ("match", "run")
LEAST = (10.0, 3.0)
"""What normal operation is granted at least, in values and rows."""
_SLOTS = 2**15


class Repeats:
    """Repeats in one recording's tags, a chunk of blocks at a time.

    Args:
        home_CH: values at home of each tag, NaN-padded.
        past: changes of value that are remembered.
    """

    def __init__(self, home_CH: Float64Array, past: int) -> None:
        self._tags = [_Tag(frozenset(row_H[~np.isnan(row_H)].tolist()), past) for row_H in home_CH]

    def take(self, rows_nBC: NDArray[np.floating]) -> Float64Array:
        """`match` and `run` at each block's end, float64 (n, 2, C)."""
        found_n2C = np.empty((len(rows_nBC), 2, len(self._tags)))
        for c, tag in enumerate(self._tags):
            for n, values_B in enumerate(rows_nBC[:, :, c].tolist()):
                found_n2C[n, :, c] = tag.take(values_B)
        return found_n2C


class _Tag:
    """One tag's memory: a ring of its last distinct values, and where three values in a row last stood."""

    __slots__ = ("_count", "_home", "_match", "_past", "_pointer", "_ring", "_run", "_slots", "_value")

    def __init__(self, home: frozenset[float], past: int) -> None:
        self._home, self._past = home, past
        self._ring, self._slots = array("f", bytes(4 * past)), array("i", [-1]) * _SLOTS
        self._value, self._run, self._count, self._match, self._pointer = float("nan"), 0, 0, 0, -1

    def take(self, values: list[float]) -> tuple[int, int]:
        """Match and run after some successive values."""
        for value in values:
            if value == self._value:
                self._run += 1
            else:
                self._value, self._run = value, 1
                self._changed(value)
        return self._match, 0 if self._value in self._home else self._run

    def _changed(self, value: float) -> None:
        ring, past, count = self._ring, self._past, self._count
        ring[count % past] = value
        self._count = count + 1
        slot = -1 if count < 2 else self._slot(value, ring[(count - 1) % past], ring[(count - 2) % past])
        following = self._pointer + 1
        if self._pointer >= 0 and count - past < following < count and ring[following % past] == value:
            self._pointer, self._match = following, self._match + 1
        else:
            self._pointer = -1 if slot < 0 else self._earlier(slot, count)
            self._match = 3 if self._pointer >= 0 else 0
        if slot >= 0:
            self._slots[slot] = count

    @staticmethod
    def _slot(a: float, b: float, c: float) -> int:
        return hash((a, b, c)) & (_SLOTS - 1)

    def _earlier(self, slot: int, count: int) -> int:
        """Where the same three values stood; -1 where another stretch has the slot, or too long ago."""
        at, ring, past = self._slots[slot], self._ring, self._past
        known = at - 2 > count - past and all(ring[(at - i) % past] == ring[(count - i) % past] for i in range(3))
        return at if at >= 0 and known else -1
