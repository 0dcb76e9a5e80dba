"""A differentially private step against a plain one: 128 windows of 30 x 51, the default network, one thread, in turns.

The plain step is what anybody would write: loss of `nn.LSTM` layers, backward, Adam. The private one is
`private_exchange` whole: tape, backward, norms, clipping, and noise from ChaCha20 for each of 219,000 weights, with
every record sampled. The clip is the median norm, so that half of the records are clipped. Opacus (hooks, with DPLSTM)
does the same step with `engine = "opacus"`.

A plain step asks the system for up to 60 MB and gives it back, as glibc happens to decide (0 to 16,000 page
faults, 46 to 80 ms); the private one hardly does. So the ratio is told a second time with memory that both keep.
Memory is the peak of a process that does nothing but such steps (`python -m benchmarks.dp KIND PER_RECORD`).
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.epoch import keep_freed_memory
from benchmarks.figures import Figure, median
from benchmarks.memory import peak_mb
from benchmarks.processes import child, tail
from client.training.private import Records, clipped_sum, private_exchange
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import DetectorConfig, PrivacyConfig
from shared.detectors import Detector, build
from shared.model import initial_weights
from shared.privacy.mechanisms import Randomness

LIMIT, MEMORY_LIMIT = 2.0, 1.3
DIM, WINDOW, BATCH = 51, 30, 128
_PATIENCE_S = 300.0
_KEY = bytes(32)
LENGTHS = (2, 1)  # windows a record

Step = Callable[[], None]


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Records of two windows (60 samples) and of one (30 samples)."""
    turns = 15 if quick else 60
    steps = {length: {"plain": plain_step(), "ghost": private_step(length, "ghost")} for length in LENGTHS}
    figures = {length: _times(length, steps[length], turns) + _peaks(length, scratch) for length in LENGTHS}
    keep_freed_memory()  # for good
    for length in LENGTHS:
        kept = _in_turns(steps[length], turns)[1]
        figures[length].insert(2, _ratio("  the same, CPU, freed memory kept by both", kept))
    return [figure for length in LENGTHS for figure in figures[length]]


def _times(per_record: int, steps: dict[str, Step], turns: int) -> list[Figure]:
    walls, cpus = _in_turns(steps, turns)
    slow = {"plain": steps["plain"], "opacus": private_step(per_record, "opacus")}
    slow_walls, slow_cpus = _in_turns(slow, max(2, turns // 12))
    what = f"{BATCH // per_record} records of {per_record}"
    return [
        _ratio(f"private step / plain step, {what}, p50", walls, LIMIT),
        _ratio("  the same, CPU of the process", cpus),
        _ratio("  Opacus hooks / plain step", slow_walls),
        _ratio("  the same, CPU of the process", slow_cpus),
        median("  plain step", [1e3 * wall for wall in walls["plain"]], "ms"),
        median("  private step", [1e3 * wall for wall in walls["ghost"]], "ms"),
    ]


def _peaks(per_record: int, scratch: Path) -> list[Figure]:
    plain, ghost, opacus = (_peak(kind, per_record, scratch) for kind in ("plain", "ghost", "opacus"))
    return [
        Figure("peak memory, private / plain", ghost / plain, "x", MEMORY_LIMIT, "whole process"),
        Figure("  Opacus hooks / plain", opacus / plain, "x"),
        Figure("  plain process", plain, "MB"),
    ]


def _ratio(name: str, laps: dict[str, list[float]], limit: float | None = None) -> Figure:
    base, other = (statistics.median(times) for times in laps.values())
    raw = tuple(b / a for a, b in zip(*laps.values(), strict=True))
    return Figure(name, other / base, "x", limit, raw=raw)


def _in_turns(steps: dict[str, Step], count: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall and CPU seconds of each step; the first turns are left out."""
    walls, cpus = ({name: list[float]() for name in steps} for _ in range(2))
    for turn in range(count + 2):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if turn >= 2:
                walls[name].append(time.perf_counter() - wall)
                cpus[name].append(time.process_time() - cpu)
    return walls, cpus


def plain_step() -> Step:
    """Forward, backward and Adam on one batch."""
    detector, windows = _detector(), _windows(1).windows
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(detector.loss(windows.batch(torch.arange(BATCH)), None).total)
        optimizer.step()

    return step


def private_step(per_record: int, engine: str) -> Step:
    """A whole exchange over the same windows."""
    detector, records = _detector(), _windows(per_record)
    clip = float(np.median(clipped_sum(detector, records, np.arange(len(records)), None, 1.0).norms_B))
    privacy = PrivacyConfig.model_validate(
        {"sampling": 1.0, "engine": engine, "noise": {"weights": 1.0, "below": 10.0, "loss": 10.0}}
    )
    return lambda: _used(private_exchange(detector, records, None, privacy, clip, Randomness.keyed(_KEY, engine)).loss)


def _used(_: float) -> None:
    """What is measured has a result."""


def _detector() -> Detector:
    detector = build(DetectorConfig(window=WINDOW, dropout=0.0), DIM)
    detector.load_weights(initial_weights(detector.manifest(), 0))
    return detector


def _windows(per_record: int) -> Records:
    """Noisy oscillations, as many as one batch."""
    rng = np.random.default_rng(0)
    phase_D, speed_D = rng.uniform(0, 6, DIM), rng.uniform(0.02, 0.3, DIM)
    waves_TD = np.sin(np.arange(BATCH * WINDOW)[:, None] * speed_D + phase_D) + 0.1 * rng.normal(
        size=(BATCH * WINDOW, DIM)
    )
    part = Part(waves_TD.astype(np.float32), np.arange(BATCH) * WINDOW)
    count = BATCH // per_record
    return Records(
        TensorWindows(part, WINDOW, torch.device("cpu")), np.arange(count + 1) * per_record, per_record, count
    )


def _peak(kind: str, per_record: int, scratch: Path) -> float:
    folder = scratch / f"{kind}-{per_record}"
    with child(["-m", "benchmarks.dp", kind, str(per_record)], folder) as process:
        if process.wait(_PATIENCE_S):
            raise RuntimeError(f"the {kind} process failed:\n{tail(folder)}")
    return float((folder / "peak").read_text(encoding="ascii"))


def _settle() -> None:
    """What every process begins with: an optimiser imports half of PyTorch at its first step."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    torch.optim.Adam([weight]).step()


def main(kind: str, per_record: int) -> None:
    """Do a few steps of one kind; write the peak of this process."""
    _settle()
    step = plain_step() if kind == "plain" else private_step(per_record, kind)
    for _ in range(5):
        step()
    Path("peak").write_text(str(peak_mb()), encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
