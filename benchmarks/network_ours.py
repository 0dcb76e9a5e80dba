"""Our side of `benchmarks.network`: `crossplant poc up`; read from its store, its stamps and its processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.plant_memory import alone_mb, pss_mb
from benchmarks.process_tree import Block, Memory, Watch, pids_of
from benchmarks.processes import ROOT, child, tail
from benchmarks.quiet import Neighbours
from server.rounds import RoundRecord
from server.store.store import RoundStore
from shared.errors import StoreError

PLANTS = 3
STAMPS, ROUND_TRIP = "CROSSPLANT_BENCH_STAMPS", "CROSSPLANT_BENCH_ROUND_TRIP_S"
_PATIENCE_S = 400.0
_TICK_S = 0.5
_SMALL = {
    "data.rows": 120,
    "recipe.detector.window": 2,
    "recipe.detector.hidden": 68,  # 220,007 weights with 11 sensors
    "recipe.training.stride": 4,
    "rounds.joint": 0,
}


def ours(folder: Path, rounds: int, plants: int = PLANTS, round_trip_s: float = 0.0) -> Block:
    """TLS, node keys, gateway, executors, agents behind sockets; the settings of a network, a plant of 24 windows."""
    stamps, out = folder / "stamps", folder / "poc"
    stamps.mkdir(parents=True)
    arguments = ["-m", "shared", "poc", "up", "--out", str(out), "--plants", str(plants)]
    for name, value in {**_SMALL, "rounds.pretrain": rounds + 1}.items():
        arguments += ["--set", f"{name}={value}"]
    path = f"{ROOT / 'benchmarks' / 'stamps'}:{ROOT}"
    extra = {STAMPS: str(stamps), ROUND_TRIP: str(round_trip_s), "PYTHONPATH": path}
    with child(arguments, folder, extra, grace_s=45.0) as process:
        watch = Watch(lambda: [process.pid])
        others = _follow(process, folder, rounds, watch)
    records = _records(out)[2 : rounds + 3]  # the describe round and the first training round warm up
    _all_counted(records, plants)
    spans = list(pairwise(map(_clock, records)))
    training = [seconds for record in records[:-1] for seconds in _training(record)]
    walls, cpus = [end - begin for begin, end in spans], [watch.cpu_s(*span) for span in spans]
    return Block(walls, cpus, training, watch.memory(), others, _read_stamps(stamps))


def _follow(process: subprocess.Popen[bytes], folder: Path, rounds: int, watch: Watch) -> Neighbours:
    """Watch the measured rounds, and after them, between exchanges without training, the memory."""
    ends, out = time.monotonic() + _PATIENCE_S, folder / "poc"
    others: Neighbours | None = None
    done = 0
    while watch.kept < 5 or done < rounds + 3:
        if process.poll() is not None or time.monotonic() > ends:
            raise RuntimeError(f"the federation ended or stands still:\n{tail(folder)}")
        tree, done = watch.look(), len(_records(out))
        others = Neighbours() if others is None and done >= 2 else others
        if others is not None and done >= rounds + 2:
            if watch.kept == 0:
                others.stop()
            if memory := _our_memory(tree):
                watch.keep(memory)
        time.sleep(_TICK_S)
    assert others is not None
    return others


def _records(out: Path) -> list[RoundRecord]:
    with suppress(StoreError), RoundStore.open(str(out)) as store:
        return store.rounds(store.newest_run())
    return []


def _clock(record: RoundRecord) -> float:
    return datetime.fromisoformat(record.started).timestamp()


def _all_counted(records: Sequence[RoundRecord], plants: int) -> None:
    if short := [record.number for record in records if len(record.accepted) != plants]:
        raise RuntimeError(f"not every plant counted in rounds {short}: the figures would mean nothing")


def _training(record: RoundRecord) -> Iterator[float]:
    for report in record.plants:
        yield sum(report.timings.get(name, 0.0) for name in ("evaluate", "train"))


_OUR_PLANT = {"SuperNode": "client.run.node", "executor": "client.run.executor", "supervisor": "client run"}
_OUR_SERVER = {
    "supervisor": "server run",
    "SuperLink": "flower-superlink",
    "gateway": "server.run.gateway",
    "executor": "flower-superexec",
    "ServerApp": "flwr-serverapp",
}


def _our_memory(tree: Sequence[psutil.Process]) -> Memory:
    """Empty while a task is under way."""
    parts = {name: pids_of(tree, telling) for name, telling in _OUR_PLANT.items()}
    if len(parts["executor"]) != len(parts["SuperNode"]) or not parts["executor"]:
        return {}  # a fork of an executor looks like one
    agents = pids_of(tree, "client agent")
    whole = [alone_mb(group) for group in zip(*parts.values(), strict=True)]
    found = {"plant": statistics.median(whole), "agent": statistics.median(alone_mb([pid]) for pid in agents)}
    found |= {f"plant: {name}": statistics.median(map(pss_mb, pids)) for name, pids in parts.items()}
    server = {name: pids_of(tree, telling) for name, telling in _OUR_SERVER.items()}
    found |= {f"server: {name}": sum(map(pss_mb, pids)) for name, pids in server.items()}
    return {**found, "server": alone_mb([pid for pids in server.values() for pid in pids])}


def _read_stamps(folder: Path) -> list[tuple[float, str, str]]:
    lines = (line for path in folder.iterdir() for line in path.read_text(encoding="utf-8").splitlines())
    return sorted((float(when), str(place), str(station)) for when, place, station in map(json.loads, lines))
