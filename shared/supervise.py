"""Children of a long-lived command: started in order, watched, restarted with a growing pause, and never left behind.

Each child leads a process group of its own, writes to a log file, and is ended by the kernel when its parent dies
(Linux). What a child leaves in its group when it dies is ended before it is started again. Nothing is ended by name.

with Supervisor() as children:
    children.start(Spec("gateway", ("python", "-m", "server.run.gateway"), Path("gateway.log")))
    children.watch(until=lambda: False)
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from shared.disk import replace_file
from shared.errors import CrossplantError
from shared.service_errors import ProcessFailed

LONGEST_LOG = 16 * 2**20
"""Bytes of a child's log before it begins anew. A SuperLink writes some tens of MB a day."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_TICK_S = 0.2
_SETTLED_S = 60.0
_LOG_TAIL = 4096
_USELESS = "For more information check: "  # httpx ends its errors with a link


@dataclass(frozen=True)
class Spec:
    """How to run one child.

    Attributes:
        name: for people; the log's name in messages.
        command: program and arguments; never a shell.
        log: file that gets stdout and stderr, appended to.
        environment: laid over this process's own.
        folder: working folder; must exist.
        ready: tells whether the child serves; None: it does once it runs.
        ready_s: how long it may take until it does.
        first_pause_s, longest_pause_s: before it is started again; doubled at each death, until it lived a minute.
        stop_s: how long it may take to end when asked to.
        outlives: it goes on when this process ends; for what `let_go` is meant for.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    ready: Callable[[], bool] | None = None
    ready_s: float = 90.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 10.0
    stop_s: float = 10.0
    outlives: bool = False


@dataclass
class _Child:
    spec: Spec
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = 0.0


class Supervisor:
    """Starts, watches and ends children. Use it from one thread that lives as long as they do.

    The kernel ends a child when the *thread* that started it ends, so this is no business for a pool.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self._children: dict[str, _Child] = {}
        self._say = say

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self, spec: Spec) -> None:
        """Start a child and wait until it serves.

        Raises:
            ProcessFailed: it cannot be started, died, or did not serve in time; with the last line of its log.
        """
        child = self._children[spec.name] = _Child(spec)
        _spawn(child)
        ends = time.monotonic() + spec.ready_s
        while spec.ready is not None and not spec.ready():
            if _dead(child):
                raise _failed(spec, "ended before it served")
            if time.monotonic() > ends:
                raise _failed(spec, f"did not serve within {spec.ready_s:.0f} s")
            time.sleep(_TICK_S)

    def tick(self) -> None:
        """Start again what died, when its pause is over."""
        now = time.monotonic()
        for child in self._children.values():
            if child.process is not None and _dead(child):
                self._bury(child, now)
            elif child.process is None and now >= child.due:
                self._try(child, now)
            _keep_short(child.spec.log)

    def watch(self, until: Callable[[], bool], longest_s: float | None = None) -> bool:
        """Keep the children alive until `until()`; False when `longest_s` passed before."""
        ends = None if longest_s is None else time.monotonic() + longest_s
        while not until():
            if ends is not None and time.monotonic() > ends:
                return False
            self.tick()
            time.sleep(_TICK_S)
        return True

    def pids(self) -> dict[str, int]:
        """Process ids of the children that run."""
        return {name: child.process.pid for name, child in self._children.items() if child.process is not None}

    def stop(self) -> None:
        """End all children, the last started first."""
        for name in reversed(list(self._children)):
            self.end(name)

    def let_go(self) -> None:
        """Forget the children without ending them."""
        self._children.clear()

    def end(self, *names: str) -> None:
        """End some children at the same time, and forget them: they are asked to, then made to."""
        children = [child for child in map(self._children.pop, names) if child.process is not None]
        for child in children:
            _signal_group(child, signal.SIGTERM)
        begin = time.monotonic()
        for child in children:
            while not _dead(child) and time.monotonic() < begin + child.spec.stop_s:
                time.sleep(_TICK_S / 4)
            _finish(child)

    def _try(self, child: _Child, now: float) -> None:
        """Start a child again. What keeps it from that, such as a full disk, must not end the others."""
        try:
            _spawn(child)
        except ProcessFailed as error:
            child.due = now + child.spec.longest_pause_s
            self._say(str(error))

    def _bury(self, child: _Child, now: float) -> None:
        code = _finish(child)
        child.deaths = 1 if now - child.started > _SETTLED_S else child.deaths + 1
        pause = min(child.spec.longest_pause_s, child.spec.first_pause_s * 2.0 ** min(child.deaths - 1, 30))
        child.process, child.due = None, now + pause
        words = f" ({last_line(child.spec.log)})" if code > 0 else ""  # a signal leaves nobody time for last words
        self._say(f"{child.spec.name} ended with code {code}{words}; it starts again in {pause:.0f} s.")


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when the thread that started it ends (Linux)."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died in between
        os._exit(1)


def _spawn(child: _Child) -> None:
    spec, parent = child.spec, os.getpid()

    def die_with_parent() -> None:
        end_with_parent(parent, signal.SIGTERM)

    try:
        with spec.log.open("ab") as log:
            child.process = subprocess.Popen(
                spec.command,
                cwd=spec.folder,
                env={**os.environ, **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=None if spec.outlives else die_with_parent,  # two system calls, no lock: safe after a fork
            )
    except OSError as error:
        raise _unstartable(spec, error) from error
    child.started = time.monotonic()


def _keep_short(log: Path) -> None:
    """Begin a log anew that has grown long; what was in it stands in one older file beside it.

    The child goes on writing into the same file, which it opened for appending, so it is emptied, not replaced.
    """
    with suppress(OSError):  # on a full disk nothing is copied, and nothing is lost either
        if log.stat().st_size > LONGEST_LOG:
            replace_file(log.with_name(f"{log.name}.1"), log.read_bytes(), 0o600)
            os.truncate(log, 0)


def _dead(child: _Child) -> bool:
    """Whether it ended. It is not reaped, so that its group's id cannot be anybody else's yet."""
    if child.process is None or child.process.returncode is not None:
        return True
    return os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(child: _Child, number: signal.Signals) -> None:
    if child.process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, number)


def _finish(child: _Child) -> int:
    """End what is left of a child's group, then reap the child; its exit code."""
    _signal_group(child, signal.SIGKILL)
    return 0 if child.process is None else child.process.wait()


def _failed(spec: Spec, what: str) -> CrossplantError:
    return ProcessFailed(f"{spec.name} {what}: {last_line(spec.log)}.", f"See {spec.log}.")


def _unstartable(spec: Spec, error: OSError) -> ProcessFailed:
    where = error.filename or spec.command[0]
    cure = "Install Crossplant again." if where == spec.command[0] else "Check its permissions and the free space."
    return ProcessFailed(f"cannot start {spec.name}: {where}: {error.strerror}.", cure)


def last_line(log: Path) -> str:
    """The last line of a log that says something, at most 300 characters of it."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return "it left no log"
    said = [line.strip() for line in lines if line.strip() and not line.startswith(_USELESS)]
    return said[-1][:300].rstrip(".") if said else "it said nothing"
