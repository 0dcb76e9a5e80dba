"""Is the machine quiet enough for wall time to mean something? What other jobs took of the cores meanwhile tells.

A limit on wall time is judged on a quiet machine only; on a busy one the scheduler decides it, and favours whoever has
more processes. The CPU figure beside it is always judged.
"""

from __future__ import annotations

import os
import time

import psutil

from benchmarks.figures import Figure

QUIET = 0.15


class Neighbours:
    """Watches, from now to `stop`, what share of all cores went to processes other than this one and its descendants.

    Attributes:
        share: the result, 0 to 1.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._wall, self._busy, self._own = time.monotonic(), _busy_s(), _own_s()

    def stop(self) -> None:
        """Take the share; this process's children must still be there, or have been waited for."""
        capacity = (time.monotonic() - self._wall) * (os.cpu_count() or 1)
        others = _busy_s() - self._busy - (_own_s() - self._own)
        self.share = max(0.0, others / capacity)

    def limit(self, limit: float) -> float | None:
        """The limit on wall time, or None on a busy machine."""
        return limit if self.share <= QUIET else None

    def figure(self) -> Figure:
        """How busy the machine was."""
        told = "wall is judged" if self.share <= QUIET else "busy: wall is NOT judged"
        return Figure(
            "  other jobs' share of the cores meanwhile", self.share, "x", note=f"{told}, quiet up to {QUIET}"
        )


def _busy_s() -> float:
    times = psutil.cpu_times()._asdict()
    return float(sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


def _own_s() -> float:
    me = psutil.Process()
    tree = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in tree))
