"""Labelled faults for a critic to tell from normal windows, as many as it is shown of these: SMOTE.

    x = x_i + u (x_j - x_i),   i any known fault, j one of its 5 nearest, u ~ U(0, 1)

Chawla et al. 2002, doi 10.1613/jair.953, section 4.2. A few faults make a critic that knows them by heart; what lies
between them is as faulty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NEAREST = 5
_MOST = 2_048  # faults; distances between all of them are kept for a moment


@dataclass(frozen=True)
class Faults:
    """Known faults and which are near which.

    Attributes:
        windows_MX: float32 (M, X).
        near_MK: int64 (M, K), the nearest others; itself where there is no other.
    """

    windows_MX: Tensor
    near_MK: Tensor

    @staticmethod
    def of(windows_NWD: Tensor) -> Faults:
        """The first 2,048 of windows of faults, at least one."""
        windows_MX = windows_NWD[:_MOST].flatten(1)
        count = len(windows_MX)
        apart_MM = torch.cdist(windows_MX, windows_MX).fill_diagonal_(float("inf") if count > 1 else 0.0)
        near_MK = apart_MM.topk(min(_NEAREST, max(1, count - 1)), largest=False).indices
        return Faults(windows_MX, near_MK)

    def drawn(self, count: int, noise: torch.Generator) -> Tensor:
        """New ones, (count, X)."""
        device = self.windows_MX.device
        first_B = torch.randint(len(self.windows_MX), (count,), generator=noise, device=device)
        turn_B = torch.randint(self.near_MK.shape[1], (count,), generator=noise, device=device)
        share_B1 = torch.rand(count, 1, generator=noise, device=device)
        own_BX, other_BX = self.windows_MX[first_B], self.windows_MX[self.near_MK[first_B, turn_B]]
        return own_BX + share_B1 * (other_BX - own_BX)
