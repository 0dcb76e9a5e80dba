"""Norms and weighted sums of records' gradients out of one backward pass (ghost clipping with book-keeping).

    ||sum_t d_t x_t^T||^2 = sum_{s,t} (d_s . d_t)(x_s . x_t)        s, t over all rows of the record

The left side is computed as it stands or as the right side does, whichever takes fewer operations for a layer and the
length of a record (mixed ghost clipping: Bu et al. 2022, arXiv 2205.10683). Then each row's d is multiplied by its
record's clipping factor, and one ordinary product over all rows gives the sum of the clipped gradients, with no second
backward pass (Bu et al. 2023, arXiv 2210.00038).

The right side cancels: its rounding is relative to (sum_t |d_t| |x_t|)^2, not to the result. Where the result is less
than a hundredth of that, the left side is taken.

Both are rounded, and so is the sum of the clipped gradients, relative to sum_t |d_t| |x_t|. A network can be made under
which nearly everything in a record cancels; what is left of it then is rounding, which no clip of the result would
bound. So no norm counts as less than a ten-thousandth of what it would be if nothing cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from client.training.rows import outer
from client.training.tape import Product, taped
from shared.detectors import ClusterTarget, Detector
from shared.errors import PrivacyUnmet

_TRUSTED = 1e-2
_LEAST = 1e-4


@dataclass(frozen=True)
class GhostGradients:
    """Gradients of R records, none of which exists.

    Attributes:
        losses: what they are the gradients of.
        products: a tape over N = m R windows, window j of record r at j R + r.
    """

    losses: Tensor
    products: list[Product]

    def square_norms(self) -> Tensor:
        """Squared norm of each record's gradient, float32 (R,); at least what rounding may leave of it."""
        count, known = len(self.losses), dict[int, Tensor]()
        square_R, doubted_R, gross_R = (torch.zeros_like(self.losses) for _ in range(3))
        for product in self.products:
            if _pairs_are_fewer(product, count):
                square, gross = _by_pairs(product, count, known)
                doubted_R = doubted_R + gross
            else:
                square, gross = _as_it_stands(product, count), _uncancelled(product, count)
            square_R, gross_R = square_R + square, gross_R + gross
        if bool((square_R < _TRUSTED * doubted_R).any()):
            exact_R = torch.stack([_as_it_stands(product, count) for product in self.products]).sum(0)
            square_R = torch.where(square_R < _TRUSTED * doubted_R, exact_R, square_R)  # nobody else's changes
        return torch.maximum(square_R, gross_R * _LEAST**2)

    def weighted_sum(self, weight_R: Tensor) -> dict[str, Tensor]:
        """`sum_r w_r gradient_r` by parameter."""
        sums: dict[str, Tensor] = {}
        for product in self.products:
            steps, n, _ = product.deltas.shape
            ones_TN1 = product.deltas.new_ones(()).expand(steps, n, 1)
            rows = [ones_TN1 if factor.rows is None else factor.rows for factor in product.factors]
            weighted_TNF = torch.cat(rows, 2).mul_(weight_R.repeat(n // len(weight_R))[:, None])
            parts = torch.split(outer(product.deltas, weighted_TNF), [part.shape[2] for part in rows], 1)
            for factor, value in zip(product.factors, parts, strict=True):
                sums |= {name: value.reshape(shape) for name, shape in factor.shapes.items()}
        return sums


def ghost_gradients(
    detector: Detector, windows_NWD: Tensor, records: int, target: ClusterTarget | None, share: float
) -> GhostGradients:
    """Gradients of records, in factors.

    Args: as `client.training.gradients.Engine` says.

    Raises:
        PrivacyUnmet: the detector has a layer that is not known (client/training/tape.py).
    """
    with taped(detector) as tape:
        losses_N = detector.losses(windows_NWD, target)
        torch.autograd.backward(losses_N.sum() * share)
    if any(product.deltas.shape[1] != len(windows_NWD) for product in tape.products):
        raise PrivacyUnmet("no exact clipping is known for this detector: a layer does not have the windows first.")
    return GhostGradients(losses_N.detach().view(-1, records).sum(0) * share, tape.products)


def _pairs_are_fewer(product: Product, records: int) -> bool:
    """Whether all products between rows of a record take fewer operations than its gradient."""
    steps, n, outputs = product.deltas.shape
    inputs = sum(factor.rows.shape[2] for factor in product.factors if factor.rows is not None)
    return steps * n // records * (outputs + inputs) < outputs * inputs


def _of_record(rows_TNF: Tensor, records: int) -> Tensor:
    """(R, m T, F) without a copy: step t of window j of record r lies at (t m + j) R + r."""
    return rows_TNF.reshape(-1, records, rows_TNF.shape[2]).transpose(0, 1)


def _by_pairs(product: Product, records: int, known: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """Squared norms (R,), and what they would be if nothing cancelled.

    Args:
        known: products between rows that were worked out before: both ways of a layer have the same inputs.
    """
    pairs, inputs = _pairs(product.deltas, records), torch.full((), float(_ones(product)))
    for factor in product.factors:
        if factor.rows is not None:
            if id(factor.rows) not in known:
                known[id(factor.rows)] = _pairs(factor.rows, records)
            inputs = known[id(factor.rows)] + inputs
    lengths = pairs.diagonal(dim1=1, dim2=2) * inputs.diagonal(dim1=1, dim2=2)
    return pairs.mul_(inputs).sum((1, 2)), lengths.sqrt().sum(1).square()


def _uncancelled(product: Product, records: int) -> Tensor:
    """What the squared norms (R,) would be if nothing cancelled: (sum_t |d_t| |x_t|)^2."""
    length_TN = torch.linalg.vector_norm(product.deltas, dim=2)
    rows = [factor.rows for factor in product.factors if factor.rows is not None]
    square_TN = torch.full_like(length_TN, float(_ones(product)))
    for part in rows:
        square_TN += torch.linalg.vector_norm(part, dim=2).square()
    gross_R: Tensor = (length_TN * square_TN.sqrt()).reshape(-1, records).sum(0).square()
    return gross_R


def _ones(product: Product) -> int:
    """How many biases it has: each adds 1 to every product between inputs."""
    return sum(len(factor.shapes) for factor in product.factors if factor.rows is None)


def _pairs(rows_TNF: Tensor, records: int) -> Tensor:
    """Products between all rows of a record: (R, m T, m T)."""
    rows = _of_record(rows_TNF, records)
    return torch.bmm(rows, rows.transpose(1, 2))


def _as_it_stands(product: Product, records: int) -> Tensor:
    """Squared norms (R,)."""
    deltas, square_R = _of_record(product.deltas, records), product.deltas.new_zeros(records)
    for factor in product.factors:
        rows = None if factor.rows is None else _of_record(factor.rows, records)
        gradient = deltas.sum(1) if rows is None else torch.bmm(deltas.transpose(1, 2), rows)
        square_R += len(factor.shapes) * gradient.flatten(1).square().sum(1)
    return square_R
