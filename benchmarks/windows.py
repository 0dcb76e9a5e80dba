"""What cutting a batch of windows costs of a training step: the two are timed one after the other, step by step.

The step is that of `client.training.loop`: forward, backward, Adam, on the default network. Batches come from the
`TensorWindows` of a site of 200,000 rows in random order, so that their windows lie all over 40 MB. For information:
the same batch by plain indexing of `unfold`, and what all windows would take if they were cut beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.figures import Figure, median
from client.training.loop import round_generator
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import Recipe
from shared.detectors import Detector, build
from shared.windows import window_starts

LIMIT = 0.05
ROWS, DIM = 200_000, 51


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Steps of 128 windows of 30 rows and 51 tags, 1 thread."""
    steps = 20 if quick else 150
    recipe, cpu = Recipe(), torch.device("cpu")
    window, size = recipe.detector.window, recipe.training.batch_size
    rows_TD = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    part = Part(rows_TD, window_starts(ROWS, window, 1))
    windows, view_TDW = TensorWindows(part, window, cpu), torch.from_numpy(rows_TD).unfold(0, window, 1)
    noise = round_generator(0, "north", 0, cpu)
    step = _step(build(recipe.detector, DIM), noise)
    cut, plain, work = [], [], []
    for index_B in torch.split(torch.randperm(len(windows), generator=noise)[: steps * size], size):
        begin = time.perf_counter()
        batch_BWD = windows.batch(index_B)
        middle = time.perf_counter()
        step(batch_BWD)
        end = time.perf_counter()
        view_TDW[index_B].transpose(1, 2).contiguous()
        plain.append(time.perf_counter() - end)
        cut.append(middle - begin)
        work.append(end - middle)
    share = [a / (a + b) for a, b in zip(cut, work, strict=True)]
    everything_mb = len(windows) * window * DIM * 4 / 1e6
    note = f"{size} windows of {window} x {DIM}, {recipe.detector.name}, {len(work)} steps"
    return [
        median("cutting a batch / a training step", share, "x", LIMIT, note),
        median("  cutting a batch", [1e6 * s for s in cut], "us"),
        median("  the same by indexing an unfolded view", [1e6 * s for s in plain], "us"),
        median("  the rest of the step", [1e3 * s for s in work], "ms"),
        Figure(
            "  all windows, had they been cut beforehand", everything_mb, "MB", note=f"rows: {ROWS * DIM * 4e-6:.0f}"
        ),
    ]


def _step(detector: Detector, noise: torch.Generator) -> Callable[[Tensor], None]:
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)

    def step(batch_BWD: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(detector.loss(batch_BWD, None, noise).total)
        optimizer.step()

    return step
