"""Windows of a series as torch tensors, gathered a batch at a time from one copy of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from client.training.workspace import Part


def resolve_device(wanted: str) -> torch.device:
    """`auto` takes a GPU when there is one."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


class TensorWindows:
    """All windows of a part.

    Args:
        part: rows and window starts.
        window: length W.
        device: where batches live.
    """

    def __init__(self, part: Part, window: int, device: torch.device) -> None:
        rows_TD = torch.from_numpy(part.rows_TD).to(device)
        self._view_TDW = rows_TD.unfold(0, window, 1)
        self._starts_N = torch.from_numpy(part.starts_N).to(device)

    def __len__(self) -> int:
        return len(self._starts_N)

    def batch(self, index_B: Tensor) -> Tensor:
        """Windows (B, W, D) by their numbers."""
        return self._view_TDW[self._starts_N[index_B]].transpose(1, 2).contiguous()

    def batches(self, size: int) -> Iterator[Tensor]:
        """All windows in order, (size, W, D) at a time."""
        for first in range(0, len(self), size):
            yield self._view_TDW[self._starts_N[first : first + size]].transpose(1, 2).contiguous()
