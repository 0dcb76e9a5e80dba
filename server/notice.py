"""For whom a round waits, from the ServerApp's process to the operator: one small file that is there while it waits.

What is in it is for people only. It names a time after which it no longer holds, as a process that is killed leaves it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.disk import replace_file

if TYPE_CHECKING:  # `crossplant rounds` reads with this file, and has no second for scikit-learn
    from server.phases import Step
    from server.rounds import RoundRecord

WAITS = "CROSSPLANT_WAITS"
"""Environment variable that tells a ServerApp where the file is."""

_MOST_NAMES, _LONGEST = 10, 16 * 2**10


@dataclass(frozen=True)
class Waits:
    """A round that waits.

    Attributes:
        run, round: which.
        plants: for whom; the first of them.
        more: how many others.
        since, until: seconds since 1970.
        told: when that was so.
    """

    run: str
    round: int
    plants: tuple[str, ...]
    more: int
    since: float
    until: float
    told: float

    def words(self, now: float) -> str:
        """In words.

        Example:
            >>> Waits("a", 7, ("north", "south"), 0, 0.0, 300.0, 10.0).words(12.0)
            'run a: round 7 waits for north, south (12 s; deadline in 288 s)'
        """
        names = ", ".join(self.plants) + (f" and {self.more} more" if self.more else "")
        for_whom = f"for {names}" if names else "for plants to connect"
        span = f"{max(0.0, now - self.since):.0f} s; deadline in {max(0.0, self.until - now):.0f} s"
        return f"run {self.run}: round {self.round} waits {for_whom} ({span})"


class Noticed:
    """An observer that keeps the file. A disk that refuses keeps no round from going on.

    Args:
        path: the file.
        run: its name.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, run: str, clock: Callable[[], float] = time.time) -> None:
        self._path, self._run, self._clock = path, run, clock
        self._over()

    def round_started(self, number: int, step: Step, plants: int) -> None:
        self._over()

    def round_waits(self, number: int, plants: Sequence[str], waited_s: float, left_s: float) -> None:
        now, named = self._clock(), tuple(plants[:_MOST_NAMES])
        found = Waits(self._run, number, named, len(plants) - len(named), now - waited_s, now + left_s, now)
        with suppress(OSError):
            replace_file(self._path, json.dumps(asdict(found)).encode(), 0o600)

    def reply_received(self, plant: str) -> None: ...

    def round_finished(self, record: RoundRecord) -> None:
        self._over()

    def _over(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_waits(path: Path, now: float) -> Waits | None:
    """Which round waits; None: none, or the file is damaged, or its time is over."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LONGEST))
        names = tuple(str(name) for name in found["plants"])
        times = (float(found["since"]), float(found["until"]), float(found["told"]))
        waits = Waits(str(found["run"]), int(found["round"]), names, int(found["more"]), *times)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    return waits if all(map(math.isfinite, times)) and now < waits.until else None
