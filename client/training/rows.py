"""Products of many rows with a weight, as fast as PyTorch has them, and matrices of products between rows of a record.

A row is one step of one window. Rows come as (T, N, F): T steps, N windows, F values, in one stretch of memory.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight


def times(rows_TNF: Tensor, weight_GF: Tensor, bias_G: Tensor | None = None) -> Tensor:
    """`rows W^T + b`, (T, N, G).

    On a CPU as a convolution over single points, which goes to oneDNN: twice as fast as the matrix product of MKL on an
    AMD processor (benchmarks/dp.py was run with both).
    """
    if rows_TNF.device.type != "cpu":
        return functional.linear(rows_TNF, weight_GF, bias_G)
    return functional.conv2d(_points(rows_TNF), weight_GF[:, :, None, None], bias_G).permute(0, 2, 3, 1).squeeze(1)


def outer(left_TNG: Tensor, right_TNF: Tensor) -> Tensor:
    """`sum over rows of left right^T`, (G, F)."""
    if left_TNG.device.type != "cpu":
        return left_TNG.flatten(0, 1).T @ right_TNF.flatten(0, 1)
    shape = (left_TNG.shape[2], right_TNF.shape[2], 1, 1)
    sums: Tensor = conv2d_weight(_points(right_TNF), shape, _points(left_TNG))  # type: ignore[no-untyped-call]
    return sums[:, :, 0, 0]


def _points(rows_TNF: Tensor) -> Tensor:
    """T images of 1 x N points with F channels, channels last: the same memory."""
    return rows_TNF.unsqueeze(1).permute(0, 3, 1, 2)
