"""The other side of `benchmarks.network`: a Flower app with Flower's defaults."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.network_ours import PLANTS
from benchmarks.plant_memory import alone_mb
from benchmarks.process_tree import Block, Memory, Watch, pids_of, tree_of
from benchmarks.processes import ROOT, child, tail
from benchmarks.quiet import Neighbours
from shared.flower_process import LOOPBACK, environment, free_port, healthy, script

PLAIN_APP = ROOT / "benchmarks" / "flower_default"
_PATIENCE_S = 400.0
_TICK_S = 0.5


def flower_default(folder: Path, rounds: int, plants: int = PLANTS) -> Block:
    """`flower-superlink`, `flower-supernode` and `flwr run` as they come, without TLS, keys and database."""
    with _plain_federation(folder, plants) as (processes, stamps, start):
        watch, others = Watch(lambda: [p.pid for p in processes]), None
        ends = time.monotonic() + _PATIENCE_S
        start(rounds + 1)
        while len(clock := _read(stamps)) < rounds + 2:
            if time.monotonic() > ends:
                raise RuntimeError(f"the app stands still:\n{tail(folder / 'superlink')}")
            others = Neighbours() if others is None and len(clock) == 2 else others
            watch.look()
            if others is not None and watch.kept < 3 and (memory := _plain_memory(processes)):
                watch.keep(memory)
            time.sleep(_TICK_S)
        watch.look()
        assert others is not None
        others.stop()
        training = _plain_training(stamps)
    spans = list(pairwise(clock[1:]))
    walls, cpus = [end - begin for begin, end in spans], [watch.cpu_s(*span) for span in spans]
    return Block(walls, cpus, training, watch.memory(), others)


@contextmanager
def _plain_federation(folder: Path, plants: int) -> Iterator[tuple[list[psutil.Process], Path, Callable[[int], None]]]:
    port, stamps = free_port(), folder / "rounds"
    address = f"{LOOPBACK}:{port}"
    with ExitStack() as stack:

        def run(name: str, *arguments: str) -> psutil.Process:
            own = folder / name
            begun = stack.enter_context(child([script(arguments[0]), *arguments[1:]], own, _as_it_comes(own)))
            return psutil.Process(begun.pid)

        link = ("--insecure", "--port", str(port), "--disable-runtime-dependency-installation")
        processes = [run("superlink", "flower-superlink", *link)]
        _wait(healthy(f"http://{address}/health"), folder / "superlink")
        for number in range(plants):
            node = ("--insecure", "--superlink", address, "--port", str(free_port()))
            config = ("--node-config", f"partition-id={number}")
            processes.append(run(f"plant-{number}", "flower-supernode", *node, *config))

        def start(rounds: int) -> None:
            home = folder / "cli" / "home"
            home.mkdir(parents=True)
            told = f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
            (home / "config.toml").write_text(told, encoding="utf-8")
            run(
                "cli",
                "flwr",
                "run",
                str(PLAIN_APP),
                "bench",
                "--run-config",
                f'num-server-rounds={rounds} stamps="{stamps}"',
            )

        yield processes, stamps, start


def _as_it_comes(folder: Path) -> Mapping[str, str]:
    """Telemetry off and a home of its own; every pause is Flower's."""
    return {**environment(folder / "home"), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "1.0", "PYTHONPATH": ""}


def _wait(ready: Callable[[], bool], folder: Path, longest_s: float = 90.0) -> None:
    ends = time.monotonic() + longest_s
    while not ready():
        if time.monotonic() > ends:
            raise RuntimeError(f"nothing answers:\n{tail(folder)}")
        time.sleep(_TICK_S)


def _read(stamps: Path) -> list[float]:
    if not stamps.exists():
        return []
    return [json.loads(line)[1] for line in stamps.read_text(encoding="ascii").splitlines() if line.endswith("]")]


def _plain_training(stamps: Path) -> list[float]:
    metrics = stamps.with_suffix(".metrics")
    _wait(metrics.exists, stamps.parent / "superlink", 30.0)
    return [values["seconds"] for values in json.loads(metrics.read_text(encoding="ascii")).values()]


def _plain_memory(processes: Sequence[psutil.Process]) -> Memory:
    """Of the plants that have no task under way; empty while all have one."""
    nodes = [tree_of([process.pid]) for process in processes[1 : 1 + PLANTS]]
    idle = [[process.pid for process in group] for group in nodes if not pids_of(group, "flwr-clientapp")]
    if not idle:
        return {}
    server = [process.pid for process in tree_of([processes[0].pid])]
    return {"plant": statistics.median(map(alone_mb, idle)), "server": alone_mb(server)}
