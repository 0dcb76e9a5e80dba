"""What several detectors are made of: attention out of linear layers, and the initial bounds of every known layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.errors import InvalidConfig
from shared.model import TensorSpec

MOST_WEIGHTS = 50_000_000
_PARTS = ("query", "key", "value")


class Attention(nn.Module):
    """Multi-head self-attention over the steps of a window (Vaswani et al. 2017, eq. 1, section 3.2.2).

        head_i = softmax(Q_i K_i^T / sqrt(d)) V_i        out = concat(head_1 .. head_h) W_o

    Four linear layers, each used once, so that a record's gradient can be clipped exactly (client/training/tape.py).
    The keys have no bias: it would move all products of a query alike, which the softmax does not see.

    Args:
        width: C of what comes in and goes out.
        heads: h; each is max(1, C // h) wide.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, max(1, width // heads)
        inner = heads * self.depth
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=part != "key") for part in _PARTS)
        self.out = nn.Linear(inner, width)

    def forward(self, rows_NTC: Tensor) -> Tensor:
        """(N, T, C) to (N, T, C)."""
        query, key, value = (self._split(layer(rows_NTC)) for layer in (self.query, self.key, self.value))
        share_NHTT = torch.softmax(query @ key.transpose(2, 3) * self.depth**-0.5, dim=3)
        rows: Tensor = self.out((share_NHTT @ value).transpose(1, 2).flatten(2))
        return rows

    def _split(self, rows: Tensor) -> Tensor:
        """(N, T, heads * d) as (N, heads, T, d)."""
        return rows.reshape(*rows.shape[:2], self.heads, self.depth).transpose(1, 2)


def flat(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer from or to all steps of a window: the one layer whose size grows with the window's length.

    Raises:
        InvalidConfig: more than `MOST_WEIGHTS`, 200 MB; a machine would run out of memory before it says so.
    """
    if inputs * outputs > MOST_WEIGHTS:
        cause = f"the detector would have a layer of {inputs:,} x {outputs:,} weights, at most {MOST_WEIGHTS:,} fit."
        raise InvalidConfig(cause, "Choose a shorter recipe.detector.window, or fewer hidden units or latents.")
    return nn.Linear(inputs, outputs)


def specs(detector: nn.Module) -> tuple[TensorSpec, ...]:
    """Every trained tensor, sorted by name, uniform within 1 / sqrt(fan-in), as PyTorch initialises these layers."""
    found = [
        TensorSpec(f"{name}.{part}", tuple(value.shape), _fan_in(layer) ** -0.5)
        for name, layer in detector.named_modules()
        for part, value in layer.named_parameters(recurse=False)
    ]
    return tuple(sorted(found, key=lambda spec: spec.name))


def _fan_in(layer: nn.Module) -> int:
    """Inputs of a linear layer, inputs times kernel of a convolution; the units of an LSTM or GRU."""
    match layer:
        case nn.Linear():
            return layer.in_features
        case nn.Conv1d():
            return layer.in_channels * layer.kernel_size[0]
        case nn.LSTM() | nn.GRU():
            return layer.hidden_size
    raise TypeError(f"no initial bound is known for {type(layer).__name__}")
