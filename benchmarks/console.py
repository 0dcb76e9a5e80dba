"""The console over a store of 10,000 rounds and 50 plants: each query, page and API path, and `rounds list`.

Pages are asked of the real server on loopback by somebody who is logged in: what is timed is a whole answer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks import noop
from benchmarks.figures import Figure, median
from benchmarks.processes import child, tail
from benchmarks.quiet import Neighbours
from server.console.roles import Role
from server.store.reading import Reader
from server.store.store import RoundStore
from shared.model import Clusters, GlobalModel, initial_weights
from tests.support.big_store import RUN, fill, plant_names
from tests.support.console import served, site

PLANTS = 50
PAGE_S = 0.150
LIST_S = 0.5
_PATIENCE_S = 60.0
_REPEATS = 40


@dataclass(frozen=True)
class Timing:
    """How long some repetitions took.

    Attributes:
        name: of what.
        wall, cpu: seconds of each, `cpu` of the whole process.
        note: what there is to add.
    """

    name: str
    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    note: str = ""

    @property
    def p95(self) -> float:
        """Of the wall seconds."""
        return statistics.quantiles(self.wall, n=20)[-1]

    @property
    def cpu_p95(self) -> float:
        """Of the CPU seconds."""
        return statistics.quantiles(self.cpu, n=20)[-1]

    def figure(self, limit: float | None) -> Figure:
        """A line of the table."""
        middle = 1e3 * statistics.median(self.wall)
        note = f"p50 {middle:.0f}, CPU p95 {1e3 * self.cpu_p95:.0f}{self.note}"
        return Figure(f"  {self.name}", 1e3 * self.p95, "ms", None if limit is None else 1e3 * limit, note, self.wall)


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Queries first, then what people ask for; a store of 1,000 rounds with `quick`."""
    rounds = 1_000 if quick else 10_000
    begin = time.perf_counter()
    _make(scratch / "store", rounds)
    made_s = time.perf_counter() - begin
    watch = Neighbours()
    queries, asked = _queries(scratch / "store", rounds), _asked(scratch, rounds)
    lists = [_list(scratch / f"list{i}", scratch / "store") for i in range(5)]
    watch.stop()
    slowest, hardest = max(asked, key=lambda t: t.p95), max(asked, key=lambda t: t.cpu_p95)
    size = (scratch / "store/rounds.sqlite").stat().st_size / 2**20
    quiet = watch.limit(PAGE_S)
    return [
        Figure(f"making {rounds} rounds of {PLANTS} plants", made_s, "s", 60.0, f"{size:.0f} MiB"),
        Figure("slowest page or path, p95", slowest.p95, "s", quiet, slowest.name),
        Figure("  most CPU of a page or path, p95", hardest.cpu_p95, "s", PAGE_S, f"{hardest.name}, client included"),
        median("`rounds list`, a process of its own", lists, "s", watch.limit(LIST_S)),
        watch.figure(),
        *(timing.figure(quiet) for timing in asked),
        *(timing.figure(None) for timing in queries),
    ]


def _make(folder: Path, rounds: int) -> None:
    manifest = noop.manifest()
    weights = initial_weights(manifest, 0)
    models = []
    with RoundStore.create(str(folder)) as store:
        for seed in (1, 2):
            moved = {name: value + np.float32(1e-3 * seed) for name, value in weights.items()}
            models.append(store.keep_start(GlobalModel(moved, _clusters(seed))))
        fill(store, rounds, PLANTS, models=models)


def _clusters(seed: int, count: int = 8, latent: int = 16) -> Clusters:
    chance = np.random.default_rng(seed)
    centroids_KZ = chance.normal(size=(count, latent)).astype(np.float32)
    frequency_K = np.full(count, 1 / count, np.float32)
    return Clusters(centroids_KZ, frequency_K, np.ones(count, bool), np.zeros(count, np.int64), 2.0)


def _queries(folder: Path, rounds: int) -> list[Timing]:
    read, plant = Reader(RoundStore.open(str(folder), look=True)), plant_names(PLANTS)[7]
    looks: dict[str, Callable[[], object]] = {
        "runs": read.runs,
        "page": lambda: read.page(RUN),
        "rounds, 50": lambda: read.rounds(RUN),
        "rounds, 500": lambda: read.rounds(RUN, limit=500),
        "rounds, skipped": lambda: read.rounds(RUN, status="skipped"),
        "round": lambda: read.round(RUN, rounds // 2),
        "series": lambda: read.series(RUN, "holdout_loss"),
        "series of a plant": lambda: read.series(RUN, "holdout_loss", plant),
        "plants": lambda: read.plants(RUN),
        "plant": lambda: read.plant(RUN, plant),
        "attempts": lambda: read.attempts(RUN, plant),
        "attempts, refused": lambda: read.attempts(RUN, plant, refused=True),
        "matrix": lambda: read.matrix(RUN),
        "version": lambda: read.version(RUN),
    }
    return [_timed(f"Reader: {name}", look) for name, look in looks.items()]


def _asked(scratch: Path, rounds: int) -> list[Timing]:
    console = site(scratch)
    browser = console.browser(Role.ADMIN)
    with served(console.app) as base, httpx.Client(base_url=base, timeout=_PATIENCE_S) as client:
        client.headers.update(browser.headers)
        client.headers["Cookie"] = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
        return [_page(client, path) for path in _paths(rounds)]


def _page(client: httpx.Client, path: str) -> Timing:
    first = client.get(path)
    if first.status_code != 200:
        raise RuntimeError(f"{path} answers {first.status_code}: {first.text[:300]}")
    return _timed(path, lambda: client.get(path), f", {len(first.content) / 1024:.0f} KiB")


def _paths(rounds: int) -> Iterator[str]:
    run, api, plant = f"/runs/{RUN}", f"/api/v1/runs/{RUN}", plant_names(PLANTS)[7]
    middle, both = rounds // 2, f"a={rounds - 1}&b={rounds}"
    yield from ("/", run, f"{run}?before={middle}", f"{run}/rounds/{middle}", f"{run}/plants", f"{run}/plants/{plant}")
    yield from (f"{run}/compare?{both}", f"{run}/matrix", f"{run}/registry", "/audit", "/accounts", "/healthz")
    yield from (
        "/metrics",
        "/openapi.json",
        "/api/v1/me",
        "/api/v1/runs",
        api,
        f"{api}/rounds",
        f"{api}/rounds/{middle}",
    )
    yield from (f"{api}/rounds?limit=500", f"{api}/rounds?status=skipped", f"{api}/series?metric=holdout_loss")
    yield from (f"{api}/series?metric=holdout_loss&plant={plant}", f"{api}/plants", f"{api}/plants/{plant}")
    yield from (f"{api}/compare?{both}", f"{api}/matrix", f"{api}/orders", "/api/v1/audit")


def _timed(name: str, call: Callable[[], object], note: str = "") -> Timing:
    call()
    wall, cpu = [], []
    for _ in range(_REPEATS):
        begin, worked = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - worked)
    return Timing(name, tuple(wall), tuple(cpu), note)


def _list(folder: Path, store: Path) -> float:
    begin = time.perf_counter()
    arguments = ["-c", "from shared.cli import main; main()", "rounds", "list", "--store", str(store)]
    with child(arguments, folder) as process:
        if process.wait(_PATIENCE_S):
            raise RuntimeError(f"crossplant rounds list failed:\n{tail(folder)}")
        return time.perf_counter() - begin
