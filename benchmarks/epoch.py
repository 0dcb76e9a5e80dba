"""A federated epoch of 10 plants against the same steps in a plain PyTorch loop, in turns: A B A B ...

A is a pretrain round of the in-process engine with the real agents: request, holdout evaluation, one epoch of Adam, the
reply, the gate, the mean, the commit. B does the same work with no federation: for each site in turn, the holdout's
forward passes and one epoch of Adam over the same batches, on windows cut beforehand. B runs right after A in the same
process, from the weights that A started from, with the same random numbers, and must arrive at the same losses.

Both sides keep freed memory (`mallopt`): glibc's habit of handing it back between two batches costs an epoch anything
from 0 to 30 % in page faults, by chance and by thread, which would drown what is measured here.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.federation import RUN, Watch, new_store, settings
from benchmarks.figures import Figure, median
from client.ingest.folder import write_site
from client.training.loop import round_generator
from client.training.workspace import Part, prepare
from server.rounds import Phase, PlantReport, RoundRecord
from server.store.store import RoundStore
from shared.config import Recipe, RunConfig
from shared.detectors import Detector, build
from shared.model import Weights
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations import engines

LIMIT = 1.10
DIM, BATCHES = 55, 10
_SAME = 1e-4


@dataclass(frozen=True)
class Site:
    """What the plain loop works on: windows (N, W, D), cut and copied beforehand."""

    name: str
    train_NWD: Tensor
    holdout_NWD: Tensor


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Ten sites of 10 batches of 128, the default network, 1 worker, 1 thread."""
    keep_freed_memory()
    plants, epochs = (3, 4) if quick else (10, 7)
    config = settings(epochs, seed=0)
    data = [_site(number, config.recipe) for number in range(plants)]
    for site in data:
        write_site(scratch / "plants" / site.name, site)
    store = new_store(scratch / "store", config)
    plain = Plain(config, store, [_cut(site, config.recipe) for site in data])
    watch = Watch(plain.after)
    engines.carry(engines.Job(store, RUN, scratch / "plants", plants, config.engine), watch)
    return _figures(watch.pretrain(plants), plain, plants)


def _figures(rounds: list[tuple[RoundRecord, float, float]], plain: Plain, plants: int) -> list[Figure]:
    walls, cpus = [wall for _, wall, _ in rounds], [cpu for _, _, cpu in rounds]
    laps = plain.laps[1:]
    ratio = [a / (b.train + b.evaluate) for a, b in zip(walls, laps, strict=True)]
    cpu = [a / b.cpu for a, b in zip(cpus, laps, strict=True)]
    bare = [a / b.train for a, b in zip(walls, laps, strict=True)]
    inside = [sum(sum(p.timings.values()) for p in record.plants) for record, _, _ in rounds]
    beyond = [1e3 * (wall - own) / plants for wall, own in zip(walls, inside, strict=True)]
    share = [b.evaluate / (b.train + b.evaluate) for b in laps]
    steps = f"{plants} sites x {BATCHES} steps of 128, then the holdout's forward passes"
    return [
        median("federated epoch / plain loop, wall", ratio, "x", LIMIT, steps),
        median("  the same, CPU of the process", cpu, "x"),
        median("  federated epoch", walls, "s"),
        median("  plain loop: training and holdout", [b.train + b.evaluate for b in laps], "s"),
        median("  holdout's share of the plain loop", share, "x"),
        median("  federated epoch / plain loop without holdout", bare, "x", note="not like for like"),
        median("  wall outside the plants' own clocks, a plant", beyond, "ms"),
        Figure("  largest relative difference of a loss, A to B", plain.worst, "x", _SAME, "both did the same work"),
    ]


def keep_freed_memory() -> None:
    """Tell glibc to hand no freed memory back from now on."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_threshold = -1, -3
    if mallopt is not None:
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 32 * 2**20)


def _site(number: int, recipe: Recipe) -> SiteData:
    """Noisy oscillations, just long enough for the batches after the hold-out is cut off."""
    windows = BATCHES * (recipe.training.batch_size or 1)
    rows = round((windows + recipe.detector.window - 1) / (1 - recipe.training.holdout))
    rng = np.random.default_rng(number)
    phase_D, speed_D = rng.uniform(0, 6, DIM), rng.uniform(0.02, 0.3, DIM)
    waves_TD = np.sin(np.arange(rows)[:, None] * speed_D + phase_D) + 0.1 * rng.normal(size=(rows, DIM))
    schema = SensorSchema(tags=tuple(f"T{i:02d}" for i in range(DIM)), period_s=1.0)
    return SiteData(f"site-{number:02d}", schema, waves_TD.astype(np.float32), np.empty((0, DIM), np.float32), None)


def _cut(site: SiteData, recipe: Recipe) -> Site:
    workspace, window = prepare(site, recipe), recipe.detector.window
    if len(workspace.train.starts_N) != BATCHES * recipe.training.batch_size:
        raise RuntimeError(f"{len(workspace.train.starts_N)} windows: not the batches that the table names")
    return Site(site.name, _windows(workspace.train, window), _windows(workspace.holdout, window))


def _windows(part: Part, window: int) -> Tensor:
    rows_TD = torch.from_numpy(part.rows_TD)
    return rows_TD.unfold(0, window, 1)[torch.from_numpy(part.starts_N)].transpose(1, 2).contiguous()


@dataclass
class Lap:
    """Seconds of one plain epoch over all sites: training, evaluation, and CPU of both."""

    train: float = 0.0
    evaluate: float = 0.0
    cpu: float = 0.0


class Plain:
    """The plain loop, run after every pretrain round.

    Attributes:
        laps: one an epoch.
        worst: largest relative difference between a loss that a plant reported and the loop's own.
    """

    def __init__(self, config: RunConfig, store: str, sites: list[Site]) -> None:
        self.laps: list[Lap] = []
        self.worst = 0.0
        self._config, self._store, self._sites = config, store, sites
        self._detectors = [build(config.recipe.detector, DIM) for _ in sites]

    def after(self, record: RoundRecord) -> None:
        """Repeat a pretrain round without the federation."""
        if record.phase is not Phase.PRETRAIN:
            return
        with RoundStore.open(self._store) as store:
            model = store.state_at(RUN, record.number - 1).model
        assert model is not None
        lap = Lap()
        for site, detector, report in zip(self._sites, self._detectors, record.plants, strict=True):
            self._one(site, detector, model.weights, report, lap)
        self.laps.append(lap)

    def _one(self, site: Site, detector: Detector, weights: Weights, report: PlantReport, lap: Lap) -> None:
        detector.load_weights(weights)
        noise = round_generator(self._config.recipe.training.seed, site.name, len(self.laps), torch.device("cpu"))
        begin, cpu = time.perf_counter(), time.process_time()
        held = evaluate(detector, site.holdout_NWD)
        middle = time.perf_counter()
        trained = train(detector, site.train_NWD, noise)
        lap.train += time.perf_counter() - middle
        lap.evaluate += middle - begin
        lap.cpu += time.process_time() - cpu
        for name, own in (("holdout_loss", held), ("train_loss", trained)):
            self.worst = max(self.worst, abs(report.metrics[name] - own) / own)


def train(detector: Detector, windows_NWD: Tensor, noise: torch.Generator) -> float:
    """One epoch of Adam as anybody would write it; returns the mean loss."""
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    losses = []
    for index_B in torch.split(torch.randperm(len(windows_NWD), generator=noise), 128):
        batch_BWD = windows_NWD[index_B]
        optimizer.zero_grad()
        loss = (detector.decode(detector.encode(batch_BWD, noise), noise) - batch_BWD).square().mean()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return statistics.fmean(losses)


@torch.no_grad()
def evaluate(detector: Detector, windows_NWD: Tensor) -> float:
    """Mean squared error, 512 windows at a time as the agent does."""
    parts = [(detector(part)[0] - part).square().mean(dim=(1, 2)) for part in torch.split(windows_NWD, 512)]
    return float(torch.cat(parts).mean())
