"""What a tree of processes does to a machine, looked at from outside: CPU time and memory, by the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from benchmarks.quiet import Neighbours

Memory = dict[str, float]


@dataclass
class Block:
    """One side, once.

    Attributes:
        walls, cpus: seconds a training round after the first: by the clock, and of all processes together.
        training: seconds of it that plants spent in training and evaluation.
        memory: MB by what it is of, between rounds; medians over plants and moments.
        others: how busy the machine was with other things meanwhile.
        stamps: lines of `benchmarks/stamps`.
    """

    walls: list[float]
    cpus: list[float]
    training: list[float]
    memory: Memory
    others: Neighbours
    stamps: list[tuple[float, str, str]] = field(default_factory=list)


class Watch:
    """Looks at a tree of processes again and again: CPU time since ever, and memory between rounds."""

    def __init__(self, roots: Callable[[], Sequence[int]]) -> None:
        self._roots = roots
        self._spent: list[tuple[float, float]] = []
        self._memory: list[Memory] = []

    def look(self) -> list[psutil.Process]:
        """Note the CPU time; the processes."""
        tree = tree_of(self._roots())
        self._spent.append((time.time(), sum(_cpu_s(process) for process in tree)))
        return tree

    def keep(self, memory: Memory) -> None:
        """Note the memory of a moment between rounds."""
        self._memory.append(memory)

    @property
    def kept(self) -> int:
        """Moments so far."""
        return len(self._memory)

    def cpu_s(self, begin: float, end: float) -> float:
        """CPU seconds between two moments of the clock."""
        return self._at(end) - self._at(begin)

    def _at(self, when: float) -> float:
        later = next((i for i, (moment, _) in enumerate(self._spent) if moment >= when), len(self._spent) - 1)
        (t0, s0), (t1, s1) = self._spent[max(0, later - 1)], self._spent[later]
        return s1 if t1 <= t0 else s0 + (s1 - s0) * min(1.0, max(0.0, (when - t0) / (t1 - t0)))

    def memory(self) -> Memory:
        """Medians."""
        names = {name for memory in self._memory for name in memory}
        return {name: statistics.median(m[name] for m in self._memory if name in m) for name in sorted(names)}


def tree_of(roots: Sequence[int]) -> list[psutil.Process]:
    """Processes and all their descendants."""
    found = []
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            found += [process, *process.children(recursive=True)]
    return found


def pids_of(tree: Sequence[psutil.Process], telling: str) -> list[int]:
    """Processes whose command line holds some words, in the order of their working folders."""
    found = []
    for process in tree:
        with suppress(psutil.Error):
            if telling in " ".join(process.cmdline()):
                found.append((process.cwd(), process.pid))
    return [pid for _, pid in sorted(found)]


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
