"""One engine with no-op plants in a process of its own, driven round by round from outside.

Two of these, alternating, put the in-process engine and Ray side by side: while one works the other waits.
`python -m benchmarks.engine NAME PLANTS WORKERS PRETRAIN` in an empty folder; `Driver` is the other end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.federation import RUN, Watch, new_store, run_no_op, settings
from benchmarks.noop import FIRST
from benchmarks.processes import child, tail
from server.rounds import Phase, RoundRecord

_SOCKET = "socket"
_PATIENCE_S = 180.0


def main(name: str, plants: int, workers: int, pretrain: int) -> None:
    """Carry the run; say when the engine was started, tell every round, and wait for a word before the next."""
    folder = Path.cwd()
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(folder / _SOCKET))
        line = Line(end)
        watch = Watch(lambda record: _report(line, watch, record))
        _import_all(name)
        line.say(time.monotonic())
        if name == "ray":
            _carry_by_ray(folder, plants, workers, pretrain, watch)
        else:
            run_no_op(folder / "store", plants, pretrain, watch, workers)


class Line:
    """JSON values, one a line, over a connected socket."""

    def __init__(self, end: socket.socket) -> None:
        self._file = end.makefile("rw", encoding="ascii")

    def say(self, value: Any) -> None:
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()

    def hear(self) -> Any:
        if not (text := self._file.readline()):
            raise EOFError("the other end hung up")
        return json.loads(text)


def _report(line: Line, watch: Watch, record: RoundRecord) -> None:
    line.say((record.phase.value, len(record.accepted), watch.rounds[-1][1]))
    line.hear()


def _import_all(name: str) -> None:
    """What the engine needs is imported before the clock starts."""
    import simulations.engines  # noqa: F401
    from benchmarks import noop  # noqa: F401

    if name == "ray":
        import ray  # noqa: F401
        from flwr.simulation import run_simulation  # noqa: F401


def _carry_by_ray(folder: Path, plants: int, workers: int, pretrain: int, watch: Watch) -> None:
    """The call of `simulations.ray_engine`, with the no-op in the client's place."""
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    import server.app
    from benchmarks import noop

    os.environ |= {"CROSSPLANT_STORE": new_store(folder / "store", settings(pretrain, workers)), "CROSSPLANT_RUN": RUN}
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        server.app.observer.set(watch)
        server.app.app(grid, context)

    run_simulation(
        server_app=app,
        client_app=noop.app,
        num_supernodes=plants,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False},
        },
    )


class Driver:
    """The other end of an engine's line.

    Attributes:
        plants: how many it has.
    """

    def __init__(self, folder: Path, line: Line, plants: int, group: int) -> None:
        self.plants = plants
        self._folder = folder
        self._line = line
        self._group = group
        self._begun: float = self._hear()

    def _hear(self) -> Any:
        try:
            return self._line.hear()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"the engine ended early or hangs ({error}):\n{tail(self._folder)}") from error

    def until_pretrain(self) -> float:
        """Go through the describe round; returns the seconds from starting the engine to the first request."""
        self._hear()
        return float((self._folder / "first").read_text(encoding="ascii")) - self._begun

    def pause(self) -> None:
        """Stop every process of the engine: Ray polls while it has nothing to do, which would burden the other one."""
        os.killpg(self._group, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        os.killpg(self._group, signal.SIGCONT)

    def cpu_s(self) -> float:
        """CPU seconds of the engine's processes so far."""
        first = psutil.Process(self._group)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
        return float(sum(t.user + t.system for t in times))

    def pretrain_round(self) -> float:
        """One more round; its wall seconds."""
        self._line.say("go")
        phase, accepted, seconds = self._hear()
        if phase != Phase.PRETRAIN.value or accepted != self.plants:
            raise RuntimeError(f"a {phase} round in which {accepted} of {self.plants} plants counted")
        return float(seconds)


@contextmanager
def driven(name: str, folder: Path, plants: int, workers: int, pretrain: int) -> Iterator[Driver]:
    """Start an engine; it is ended when the block is left."""
    folder.mkdir(parents=True)
    arguments = ["-m", "benchmarks.engine", name, str(plants), str(workers), str(pretrain)]
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / _SOCKET))
        door.listen()
        extra = {FIRST: str(folder / "first")}
        with child(arguments, folder, extra) as process, _answered(door, folder) as end:
            driver = Driver(folder, Line(end), plants, process.pid)
            try:
                yield driver
            finally:
                driver.resume()


def _answered(door: socket.socket, folder: Path) -> socket.socket:
    door.settimeout(_PATIENCE_S)
    try:
        end, _ = door.accept()
    except TimeoutError as error:
        raise RuntimeError(f"the engine did not start within {_PATIENCE_S:.0f} s:\n{tail(folder)}") from error
    end.settimeout(_PATIENCE_S)
    return end


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
