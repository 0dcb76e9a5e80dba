"""Gradients of records, whichever way they are had: what clipping asks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from shared.detectors import ClusterTarget, Detector


class Gradients(Protocol):
    """Gradients of R records."""

    @property
    def losses(self) -> Tensor:
        """What they are the gradients of."""

    def square_norms(self) -> Tensor:
        """Squared norm of each record's gradient, over all parameters, (R,)."""

    def weighted_sum(self, weight_R: Tensor) -> dict[str, Tensor]:
        """`sum_r w_r gradient_r` by parameter; parameters that no record moves may be missing."""


Engine = Callable[[Detector, Tensor, int, ClusterTarget | None, float], Gradients]
"""Gradients of `share * sum of the losses of its windows` for each record.

    engine(detector, windows_NWD, records, target, share)

Window j of record r is windows_NWD[j R + r]; `share` is 1 / m.
"""


@dataclass(frozen=True)
class KeptGradients:
    """Gradients of R records, kept one by one.

    Attributes:
        losses: what they are the gradients of.
        gradients: (R, ...) by parameter.
    """

    losses: Tensor
    gradients: dict[str, Tensor]

    def square_norms(self) -> Tensor:
        """Squared norm of each record's gradient, (R,).

        Example:
            >>> KeptGradients(torch.zeros(1), {"a": torch.tensor([[3.0]]), "b": torch.tensor([[4.0]])}).square_norms()
            tensor([25.])
        """
        return torch.stack([gradient.flatten(1).square().sum(1) for gradient in self.gradients.values()]).sum(0)

    def weighted_sum(self, weight_R: Tensor) -> dict[str, Tensor]:
        """`sum_r w_r gradient_r` by parameter."""
        return {
            name: torch.tensordot(weight_R.to(gradient.dtype), gradient, dims=1)
            for name, gradient in self.gradients.items()
        }
