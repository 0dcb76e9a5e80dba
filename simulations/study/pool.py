"""Cells in processes, a few at once. None is left behind: they end with this one, and at Ctrl-C at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from simulations.study.child import UNFIT
from simulations.study.plan import Cell

_TAIL = 4000
_QUIET = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """A cell, the folder of plants that it is for, the kind of its contestant (`kind_of`), and the code's digest."""

    cell: Cell
    plants: Path
    kind: str
    code: str


@dataclass(frozen=True)
class Done:
    """How a cell's process ended.

    Attributes:
        cell: which.
        error: why there is no outcome, in words; empty when there is one.
        seconds: it took.
    """

    cell: Cell
    error: str
    seconds: float


@dataclass
class _Children:
    """The processes that run."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    alive: set[subprocess.Popen[bytes]] = field(default_factory=set)
    ended: bool = False

    def start(self, command: Sequence[str], log: int) -> subprocess.Popen[bytes] | None:
        """A process that gets no signal of this one's terminal; None once all were ended."""
        with self.lock:
            if self.ended:
                return None
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=_environment(), start_new_session=True
            )
            self.alive.add(child)
            return child

    def end(self) -> None:
        """Kill what runs; nothing starts any more."""
        with self.lock:
            self.ended = True
            for child in self.alive:
                child.kill()


def run(folder: Path, tasks: Iterable[Task], workers: int, told: Callable[[Done], None]) -> None:
    """Run tasks, so many at once, and tell of each as it ends.

    Args:
        folder: of the study.
        tasks: in the order in which they begin.
        workers: processes at once.
        told: called in this thread.

    Raises:
        KeyboardInterrupt: after every process was ended.
    """
    children, waiting = _Children(), iter(tasks)
    with ThreadPoolExecutor(workers) as threads, _ended(children):
        open_: set[Future[Done | None]] = set()
        while True:
            for task in _next(waiting, workers - len(open_)):
                open_.add(threads.submit(_one, folder, task, children))
            if not open_:
                return
            finished, open_ = wait(open_, return_when=FIRST_COMPLETED)
            for future in finished:
                if (done := future.result()) is not None:
                    told(done)


@contextmanager
def _ended(children: _Children) -> Iterator[None]:
    """Whatever ends the block early ends the processes, before their threads are waited for."""
    try:
        yield
    finally:
        children.end()


def _next(tasks: Iterator[Task], count: int) -> list[Task]:
    return [task for _, task in zip(range(count), tasks, strict=False)]


def _one(folder: Path, task: Task, children: _Children) -> Done | None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="crossplant-cell-") as scratch:
        job = Path(scratch) / "job.json"
        about = {"folder": str(folder), "plants": str(task.plants), "cell": asdict(task.cell)}
        about |= {"kind": task.kind, "code": task.code}
        job.write_text(json.dumps(about), encoding="utf-8")
        with (Path(scratch) / "log").open("w+b") as log:
            child = children.start((sys.executable, "-m", "simulations.study.child", str(job)), log.fileno())
            if child is None:
                return None
            code = child.wait()
            with children.lock:
                children.alive.discard(child)
            if child.stdin is not None:
                child.stdin.close()
            log.seek(0)
            return Done(task.cell, _error(code, log.read()), time.perf_counter() - started)


def _error(code: int, log: bytes) -> str:
    if code == 0:
        return ""
    lines = [line.strip() for line in log[-_TAIL:].decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if code == UNFIT:
        return last
    if code < 0:
        return f"its process was killed by signal {-code} (out of memory?): {last}"
    return f"its process ended with code {code}: {last}"


def _environment() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(_QUIET, "1"), "PYTHONUNBUFFERED": "1"}
