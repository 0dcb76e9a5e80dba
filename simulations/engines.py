"""What carries a run: threads in one process, or Flower's own simulation runtime on Ray. The apps are the same."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from flwr.app import Context, RecordDict

import server.app
from client.agent import local
from client.app import app as client_app
from server.channel import Observer
from server.store.store import RoundStore
from shared.config import EngineConfig
from shared.errors import MissingExtra, RunFailed
from simulations.grid import InProcessGrid

_POLL_S = 0.5
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True)
class Job:
    """One run to carry to its end.

    Attributes:
        store: location of the round store.
        run: name of the run in it.
        plants: folder with one folder a plant.
        count: number of plants.
        engine: which engine, and its resources.
    """

    store: str
    run: str
    plants: Path
    count: int
    engine: EngineConfig

    @property
    def workers(self) -> int:
        """Plants that work at the same time."""
        return min(self.count, self.engine.workers or os.cpu_count() or 1)


def carry(job: Job, observer: Observer) -> None:
    """Run a job to its end, from wherever its store says it stands.

    Raises:
        CrossplantError: the run failed.
        KeyboardInterrupt: the user ended it; the last committed round is kept.
    """
    os.environ.update(_QUIET)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    if job.engine.name == "ray":
        _carry_by_ray(job, observer)
    else:
        _carry_in_process(job, observer)


def _carry_in_process(job: Job, observer: Observer) -> None:
    torch.set_num_threads(job.engine.threads)
    local.stop.clear()
    settings = {"plants": str(job.plants), "device": job.engine.device, "store": job.store, "run": job.run}
    contexts = {
        node: Context(
            run_id=1,
            node_id=node,
            node_config={"partition-id": node - 1, "num-partitions": job.count},
            state=RecordDict(),
            run_config=dict(settings),
        )
        for node in range(1, job.count + 1)
    }
    grid = InProcessGrid(client_app, contexts, job.workers)
    server_context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=dict(settings))
    token = server.app.observer.set(observer)
    try:
        server.app.app(grid, server_context)
    finally:
        server.app.observer.reset(token)
        local.stop.set()
        grid.close()
        local.forget()


def _carry_by_ray(job: Job, observer: Observer) -> None:
    """Start Flower's simulation in a process of its own, from an empty folder.

    Ray workers import `client` from the folder in which the driver was started when it holds one, without a word: an
    empty folder holds none.
    """
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "the engine 'ray' needs Ray.", "Install it with `pip install 'crossplant[simulation]'`."
        ) from error
    with tempfile.TemporaryDirectory(prefix="crossplant-") as neutral, open(Path(neutral) / "log", "w+b") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "simulations.ray_engine", str(job.count), str(job.workers)],
            cwd=neutral,
            env=_ray_environment(job),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _follow(job, child, observer)
        finally:
            _end(child)
        if child.returncode:
            log.seek(0)
            raise _told(log.read().decode(errors="replace"), child.returncode)


def _ray_environment(job: Job) -> dict[str, str]:
    threads = str(job.engine.threads)
    return {
        **os.environ,
        **_QUIET,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "CROSSPLANT_STORE": job.store,
        "CROSSPLANT_RUN": job.run,
        "CROSSPLANT_PLANTS": str(job.plants),
        "CROSSPLANT_DEVICE": job.engine.device,
    }


def _follow(job: Job, child: subprocess.Popen[bytes], observer: Observer) -> None:
    """Tell the observer of every round that the other process commits."""
    seen = 0
    with RoundStore.open(job.store) as store:
        seen = len(store.rounds(job.run))
        while True:
            ended = child.poll() is not None
            records = store.rounds(job.run)
            for record in records[seen:]:
                observer.round_finished(record)
            seen = len(records)
            if ended:
                return
            time.sleep(_POLL_S)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the process and the Ray processes of its session."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Relayed(RunFailed):
    """An error that the other process has put into words already."""

    def __str__(self) -> str:
        return self.cause


def _told(log: str, code: int) -> RunFailed:
    told = [line for line in log.splitlines() if line.startswith("CP-")]
    if told:
        return _Relayed(told[-1][:1000])
    last = (log.strip().splitlines() or ["it said nothing"])[-1]
    return RunFailed(f"Flower's simulation runtime ended with code {code}: {last[:500]}.")
