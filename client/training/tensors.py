"""Windows of a series as torch tensors, gathered a batch at a time from one copy of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from client.training.workspace import Part
from shared.errors import InvalidConfig


def resolve_device(wanted: str) -> torch.device:
    """`auto` takes a GPU when there is one.

    Raises:
        InvalidConfig: a GPU is asked for that this machine does not have.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(wanted)
    return torch.device(wanted)


def check_device(wanted: str) -> None:
    """Refuse a GPU that this machine does not have, before anything is written.

    Raises:
        InvalidConfig: there is none, or none of that number.
    """
    if not wanted.startswith("cuda"):
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(wanted.partition(":")[2] or 0) >= count:
        there = f"only {count}" if count else "no CUDA device"
        raise InvalidConfig(f"engine.device = {wanted!r}: this machine has {there}.", "Use --device auto or cpu.")


class TensorWindows:
    """All windows of a part.

    A window is W rows that lie one after the other in memory, so it is one stretch of W * D numbers: the windows are a
    view (T - W + 1, W * D) with overlapping rows, and a batch is one copied stretch a window.

    Args:
        part: rows and window starts.
        window: length W.
        device: where batches live.
    """

    def __init__(self, part: Part, window: int, device: torch.device) -> None:
        rows_TD = torch.from_numpy(part.rows_TD).to(device).contiguous()
        count, dim = rows_TD.shape
        self._window_shape = (window, dim)
        self._view_NX = rows_TD.as_strided((max(0, count - window + 1), window * dim), (dim, 1))
        self._starts_N = torch.from_numpy(part.starts_N).to(device)

    def __len__(self) -> int:
        return len(self._starts_N)

    def batch(self, index_B: Tensor) -> Tensor:
        """Windows (B, W, D) by their numbers."""
        return self._gathered(self._starts_N[index_B])

    def batches(self, size: int) -> Iterator[Tensor]:
        """All windows in order, (size, W, D) at a time."""
        for first in range(0, len(self), size):
            yield self._gathered(self._starts_N[first : first + size])

    def _gathered(self, starts_B: Tensor) -> Tensor:
        return self._view_NX.index_select(0, starts_B).view(-1, *self._window_shape)
