"""What the neural baselines have in common: seeded draws, batches, a public range, scores without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from shared.series import FloatArray
from simulations.baselines.base import Float64Array
from simulations.baselines.windowed import Score

BATCH = 128
_AT_ONCE = 512
_NARROWEST = 1e-3  # of the range of all tags together; a constant tag has no range


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's own generator, as layers and dropout do, without moving anybody else's numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def batches(windows_NWD: Tensor, epochs: int, least: int = 0) -> Iterator[tuple[int, Tensor]]:
    """The epoch, from 1, and a batch of windows; an epoch sees all of them in an order of its own. Where they are few,
    there are more epochs, so that there are `least` batches.
    """
    for epoch in range(1, max(epochs, -(-least * BATCH // len(windows_NWD))) + 1):
        for index_B in torch.split(torch.randperm(len(windows_NWD)), BATCH):
            yield epoch, windows_NWD[index_B]


@dataclass(frozen=True)
class Range:
    """Each tag's range in training as 0 to 1: what networks with a sigmoid at the end are made for.

    Attributes:
        low_D, width_D: of each tag.
    """

    low_D: FloatArray
    width_D: FloatArray

    @staticmethod
    def of(windows_NWD: FloatArray) -> Range:
        """Of training windows."""
        low_D, high_D = windows_NWD.min(axis=(0, 1)), windows_NWD.max(axis=(0, 1))
        least = max(_NARROWEST * float((high_D - low_D).max()), 1e-9)
        return Range(low_D, np.maximum(high_D - low_D, least).astype(np.float32))

    def __call__(self, windows_NWD: FloatArray) -> Tensor:
        """Windows in it, copied; what was never seen in training lies outside of 0 to 1."""
        return torch.from_numpy((windows_NWD - self.low_D) / self.width_D)


def scored(network: nn.Module, prepare: Callable[[FloatArray], Tensor], scores: Callable[[Tensor], Tensor]) -> Score:
    """What scores windows: `scores` of them prepared, a few at once, without dropout and gradients."""
    network.eval()

    @torch.no_grad()
    def score(windows_NWD: FloatArray) -> Float64Array:
        parts = [scores(part).double().numpy() for part in torch.split(prepare(windows_NWD), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty(0)

    return score
