"""A lag scorer as bytes: a line that names the format, a line of JSON, then its matrices in little-endian float64."""

from __future__ import annotations

import hashlib
from typing import Annotated

import numpy as np
from msgspec import Meta

from shared.artefact import Artefact
from shared.errors import BundleInvalid
from shared.lag.score import LagScorer
from shared.lag.var import VarModel
from shared.local_guard.file import positive
from shared.local_guard.lagged import LagModel
from shared.scoring import Float64Array, RobustScale

MAGIC = b"crossplant lag model 1\n"
_MOST_HEAD = 64 * 2**10
_Rows = Annotated[int, Meta(ge=1, le=101)]


class _Head(Artefact, frozen=True, kw_only=True):
    """What stands before the numbers; `digest` is their SHA-256."""

    dim: Annotated[int, Meta(ge=1, le=100_000)]
    rows: _Rows
    var_rows: _Rows
    t2: RobustScale
    residual: RobustScale
    trail: Annotated[int, Meta(ge=1, le=100_000)]
    digest: str

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Of mean and precision, then of the VAR's mean, weights and whitening."""
        columns = self.rows * self.dim
        before = (self.var_rows - 1) * self.dim
        joint = [(self.rows, self.dim), (columns, columns)]
        return [*joint, (self.var_rows, self.dim), (before, self.dim), (self.dim, self.dim)]


def to_bytes(scorer: LagScorer) -> bytes:
    """A scorer as one file's content; equal scorers give equal bytes."""
    var = scorer.var
    arrays = (scorer.mahalanobis.mean_LD, scorer.mahalanobis.precision_PP, var.mean_LD, var.weights_ZD)
    numbers = b"".join(array.astype("<f8").tobytes() for array in (*arrays, var.whitened.precision_PP))
    head = _Head(
        dim=scorer.dim,
        rows=scorer.mahalanobis.lags,
        var_rows=var.rows,
        t2=scorer.t2,
        residual=scorer.residual,
        trail=scorer.trail,
        digest=hashlib.sha256(numbers).hexdigest(),
    )
    return MAGIC + head.json + b"\n" + numbers


def from_bytes(data: bytes, source: str = "lag model") -> LagScorer:
    """Read what `to_bytes` wrote; lengths are checked before a number is believed.

    Raises:
        BundleInvalid: no lag model, cut short, changed, or numbers that are no means and precisions.
    """
    head, numbers = _parted(data, source)
    if len(numbers) != 8 * sum(height * width for height, width in head.shapes):
        raise BundleInvalid(f"{source}: {len(numbers)} bytes of numbers for {head.rows} rows of {head.dim} tags.")
    if hashlib.sha256(numbers).hexdigest() != head.digest:
        raise BundleInvalid(f"{source} was changed after it was written.")
    mean_LD, precision_PP, var_mean_LD, weights_ZD, whitening_DD = _arrays(numbers, head.shapes)
    known = all(np.isfinite(array).all() for array in (mean_LD, var_mean_LD, weights_ZD))
    if not known or not positive(precision_PP) or not positive(whitening_DD):
        raise BundleInvalid(f"{source} holds no mean and precision.")
    var = VarModel(var_mean_LD, weights_ZD, LagModel(np.zeros((1, head.dim)), whitening_DD))
    return LagScorer(LagModel(mean_LD, precision_PP), var, head.t2, head.residual, head.trail)


def _parted(data: bytes, source: str) -> tuple[_Head, bytes]:
    end = data.find(b"\n", len(MAGIC), len(MAGIC) + _MOST_HEAD)
    if not data.startswith(MAGIC) or end < 0:
        raise BundleInvalid(f"{source} is no lag model that this version reads.")
    try:
        return _Head.parse(data[len(MAGIC) : end]), data[end + 1 :]
    except ValueError as error:
        raise BundleInvalid(f"{source} has an unreadable head: {error}.") from error


def _arrays(numbers: bytes, shapes: list[tuple[int, int]]) -> list[Float64Array]:
    values = np.frombuffer(numbers, "<f8").astype(np.float64)
    values.setflags(write=False)
    ends = np.cumsum([height * width for height, width in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), shapes, strict=True)]
