"""Puts replies together in the order of the roster, whatever the order they come in: sums do not depend on who is
faster. What overtakes a slow plant waits, a few updates in memory and the others in a file without a name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import IO

import numpy as np

from server.aggregate import Aggregate, Fold
from server.robust import HELD
from server.store.models import file_errors
from shared.model import Weights
from shared.wire.gate import Accepted, Rejected

_WHERE = "updates that wait for a slower plant, in the folder for temporary files (TMPDIR)"


class OrderedFold:
    """Folds replies together in the order of the roster.

    Args:
        order: plants, as they are to be folded.
        weights: of each in the mean.
        into: what puts them together.
        held: updates that may wait in memory; more go to a file.
    """

    def __init__(self, order: Sequence[str], weights: Mapping[str, float], into: Fold, held: int = HELD) -> None:
        self._order = list(order)
        self._weights = weights
        self._waiting: dict[str, Accepted | Rejected] = {}
        self._shelf = Shelf(held)
        self._next = 0
        self._into = into
        self.accepted = 0

    def take(self, plant: str, verdict: Accepted | Rejected) -> None:
        """Take one reply, in any order.

        Raises:
            DiskFull: too many wait for the disk to hold.
        """
        self.accepted += isinstance(verdict, Accepted)
        due = self._next < len(self._order) and self._order[self._next] == plant
        self._waiting[plant] = verdict if due else self._shelf.put(verdict)
        while self._next < len(self._order) and self._order[self._next] in self._waiting:
            self._fold(self._order[self._next])
            self._next += 1

    def _fold(self, plant: str) -> None:
        verdict = self._shelf.get(self._waiting.pop(plant))
        if isinstance(verdict, Accepted):
            self._into.add(verdict, self._weights[plant])

    def finish(self) -> Aggregate:
        """What they amount to; plants that sent nothing are passed over."""
        for plant in self._order[self._next :]:
            if plant in self._waiting:
                self._fold(plant)
        self.close()
        return self._into.result()

    def close(self) -> None:
        """Give the file back."""
        self._shelf.close()


class Shelf:
    """Accepted updates put by: bit for bit the same when they are taken back."""

    def __init__(self, held: int) -> None:
        self._held = held
        self._file: IO[bytes] | None = None
        self._places: dict[str, tuple[int, list[tuple[str, tuple[int, ...]]]]] = {}
        self._in_memory: set[str] = set()

    @property
    def written(self) -> int:
        """How many lie in the file."""
        return len(self._places)

    def put(self, verdict: Accepted | Rejected) -> Accepted | Rejected:
        """What to keep in memory of a reply."""
        if isinstance(verdict, Rejected) or verdict.weights is None:
            return verdict
        if len(self._in_memory) < self._held:
            self._in_memory.add(verdict.plant)
            return verdict
        with file_errors(_WHERE):
            self._write(verdict.plant, verdict.weights)
        return replace(verdict, weights=None)

    def get(self, verdict: Accepted | Rejected) -> Accepted | Rejected:
        """The reply, whole again."""
        self._in_memory.discard(verdict.plant)
        place = self._places.pop(verdict.plant, None)
        if place is None or isinstance(verdict, Rejected) or self._file is None:
            return verdict
        with file_errors(_WHERE):
            self._file.seek(place[0])
            weights = {name: _read(self._file, shape) for name, shape in place[1]}
        return replace(verdict, weights=weights)

    def _write(self, plant: str, weights: Weights) -> None:
        self._file = self._file or tempfile.TemporaryFile(prefix="crossplant-")  # noqa: SIM115  closed by `close`
        at = self._file.seek(0, 2)
        for value in weights.values():
            self._file.write(np.ascontiguousarray(value, np.float32).tobytes())
        self._places[plant] = (at, [(name, value.shape) for name, value in weights.items()])

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()


def _read(file: IO[bytes], shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    count = int(np.prod(shape))
    return np.frombuffer(file.read(4 * count), np.float32).reshape(shape)
