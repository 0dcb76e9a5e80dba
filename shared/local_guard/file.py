"""A guard as bytes: a line that names the format, a line of JSON, then mean and precision in little-endian float64."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from shared.artefact import Artefact
from shared.distribution import Distribution
from shared.errors import BundleInvalid
from shared.headed import Format, digest
from shared.local_guard.guard import LocalGuard
from shared.local_guard.lagged import LagModel
from shared.preprocess import Preprocessor
from shared.schema import SensorSchema
from shared.scoring import Float64Array
from shared.thresholds import Threshold
from shared.thresholds.budget import Bursts

MAGIC = b"crossplant local guard 1\n"


class _Head(Artefact, frozen=True, kw_only=True):
    """What stands before the numbers; `digest` is their SHA-256."""

    columns: SensorSchema
    preprocessor: Preprocessor
    lags: Annotated[int, Meta(ge=1, le=100)]
    threshold: Threshold
    calibration: Distribution
    fitted_on: Annotated[int, Meta(ge=2)]
    digest: str
    bursts: Bursts | None = None
    most: tuple[Annotated[float, Meta(ge=0)], ...] = ()


_FORMAT = Format(MAGIC, "guard", _Head, most=16 * 2**20)


def to_bytes(guard: LocalGuard) -> bytes:
    """A guard as one file's content; equal guards give equal bytes."""
    numbers = b"".join(values.astype("<f8").tobytes() for values in (guard.model.mean_LD, guard.model.precision_PP))
    head = _Head(
        columns=guard.schema,
        preprocessor=guard.preprocessor,
        lags=guard.model.lags,
        threshold=guard.threshold,
        calibration=guard.calibration,
        fitted_on=guard.fitted_on,
        digest=digest(numbers),
        bursts=guard.bursts,
        most=guard.most,
    )
    return _FORMAT.joined(head, numbers)


def from_bytes(data: bytes, source: str = "guard") -> LocalGuard:
    """Read what `to_bytes` wrote; every length is checked before a number is believed.

    Raises:
        BundleInvalid: no guard, cut short, changed, or numbers that are no mean and precision.
    """
    head, numbers = _FORMAT.parted(data, source)
    dim, size = head.columns.dim, head.lags * head.columns.dim
    if head.preprocessor.dim != dim or len(head.most) not in (0, dim) or len(numbers) != 8 * size * (size + 1):
        raise BundleInvalid(f"{source}: {len(numbers)} bytes of numbers for {head.lags} rows of {dim} tags.")
    values = np.frombuffer(numbers, "<f8").astype(np.float64)
    values.setflags(write=False)
    mean_LD, precision_PP = values[:size].reshape(head.lags, dim), values[size:].reshape(size, size)
    if not np.isfinite(values).all() or not positive(precision_PP):
        raise BundleInvalid(f"{source} holds no mean and precision.")
    model = LagModel(mean_LD, precision_PP)
    kept = (head.threshold, head.calibration, head.fitted_on, head.bursts, head.most)
    return LocalGuard(head.columns, head.preprocessor, model, *kept)


def positive(matrix_PP: Float64Array) -> bool:
    """Whether a matrix is finite, symmetric and positive definite."""
    if not np.isfinite(matrix_PP).all() or not np.array_equal(matrix_PP, matrix_PP.T):
        return False
    try:
        np.linalg.cholesky(matrix_PP)
    except np.linalg.LinAlgError:
        return False
    return True
