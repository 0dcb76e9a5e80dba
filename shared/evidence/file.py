"""A judge as bytes: a line that names the format, a line of JSON, then its arrays as safetensors."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.artefact import Artefact
from shared.errors import BundleInvalid
from shared.evidence.judge import Judge
from shared.evidence.models import Models
from shared.evidence.residual import ResidualModel
from shared.evidence.shape import ShapeModel
from shared.headed import Format, digest
from shared.lag.var import VarModel
from shared.local_guard.file import positive
from shared.local_guard.lagged import LagModel
from shared.named_arrays import Arrays, Due, laid, misshapen, size, taken

MAGIC = b"crossplant judge 2\n"
_MOST_TRAIL = 100_000
_ROUNDING = 1e-9  # of weights that add up to 1
_SCALES = ("median", "spread", "trail", "weight")
_NETWORK = ("network.mean", "network.precision")


class _Head(Artefact, frozen=True, kw_only=True):
    """What stands before the arrays; `digest` is their SHA-256."""

    lengths: Annotated[tuple[Annotated[int, Meta(ge=1, le=10_000)], ...], Meta(min_length=1, max_length=64)]
    trail: Annotated[int, Meta(ge=1, le=_MOST_TRAIL)]
    digest: str


_FORMAT = Format(MAGIC, "judge", _Head)


def to_bytes(judge: Judge) -> bytes:
    """A judge as one file's content; equal judges give equal bytes."""
    numbers = laid(_parts(judge))
    head = _Head(lengths=judge.models.shape.lengths, trail=judge.trail, digest=digest(numbers))
    return _FORMAT.joined(head, numbers)


def from_bytes(data: bytes, source: str = "judge") -> Judge:
    """Read what `to_bytes` wrote; shapes are checked before a number is believed.

    Raises:
        BundleInvalid: no judge, cut short, changed, or numbers that are no models, scales and weights.
    """
    head, numbers = _FORMAT.parted(data, source)
    arrays = taken(numbers, source)
    told = misshapen(arrays, _due(arrays, head)) or _unsound(arrays, head)
    if told:
        raise BundleInvalid(f"{source} is no usable judge: {told}.")
    judge = _whole(arrays, head)
    count = len(judge.models.channels)
    if {len(arrays[f"scale.{name}"]) for name in _SCALES} != {count}:
        raise BundleInvalid(f"{source} is no usable judge: it has not {count} scales, trails and weights.")
    return judge


def _parts(judge: Judge) -> Arrays:
    models, shape = judge.models, judge.models.shape
    found: dict[str, NDArray[Any]] = {
        "joint.mean": models.joint.mean_LD,
        "joint.precision": models.joint.precision_PP,
        "step.mean": models.step.mean_LD,
        "step.weights": models.step.weights_ZD,
        "step.precision": models.step.whitened.precision_PP,
        "step.tails": models.tails_D,
        "shape.columns": shape.columns_A,
        "shape.prototypes": shape.prototypes_AKW,
        "shape.still": shape.still_S,
        "shape.level": shape.level_S,
        "scale.median": judge.median_C,
        "scale.spread": judge.spread_C,
        "scale.trail": judge.trail_C,
        "scale.weight": judge.weight_C,
    }
    if models.network is not None:
        found |= dict(zip(_NETWORK, (models.network.mean_KD, models.network.precision_KDD), strict=True))
    return found


def _whole(arrays: Arrays, head: _Head) -> Judge:
    joint = LagModel(arrays["joint.mean"], arrays["joint.precision"])
    whitened = LagModel(np.zeros((1, joint.dim)), arrays["step.precision"])
    step = VarModel(arrays["step.mean"], arrays["step.weights"], whitened)
    courses = (arrays["shape.columns"], arrays["shape.prototypes"], arrays["shape.still"], arrays["shape.level"])
    network = ResidualModel(*(arrays[name] for name in _NETWORK)) if _NETWORK[0] in arrays else None
    models = Models(joint, step, arrays["step.tails"], ShapeModel(*courses, head.lengths), network)
    median_C, spread_C, trail_C, weight_C = (arrays[f"scale.{name}"] for name in _SCALES)
    return Judge(models, median_C, spread_C, trail_C, weight_C, head.trail)


def _due(arrays: Arrays, head: _Head) -> Due:
    """Type and shape of each array, by how many rows, tags, courses, modes and channels there seem to be."""
    long = partial(size, arrays)
    dim, rows, before = long("joint.mean", 1), long("joint.mean", 0), long("step.mean", 0) - 1
    moving, still, count = long("shape.columns", 0), long("shape.still", 0), long("scale.median", 0)
    courses = (moving, long("shape.prototypes", 1), head.lengths[-1])
    double, whole = np.dtype(np.float64), np.dtype(np.int64)
    found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "joint.mean": (double, (max(rows, 1), max(dim, 1))),
        "joint.precision": (double, (rows * dim, rows * dim)),
        "step.mean": (double, (max(before, 0) + 1, dim)),
        "step.weights": (double, (before * dim, dim)),
        "step.precision": (double, (dim, dim)),
        "step.tails": (double, (dim,)),
        "shape.columns": (whole, (moving,)),
        "shape.prototypes": (np.dtype(np.float32), courses),
        "shape.still": (whole, (still,)),
        "shape.level": (double, (still,)),
        "scale.trail": (whole, (count,)),
        **{f"scale.{name}": (double, (count,)) for name in ("median", "spread", "weight")},
    }
    if _NETWORK[0] in arrays:
        modes = max(long(_NETWORK[0], 0), 1)
        found |= {_NETWORK[0]: (double, (modes, dim)), _NETWORK[1]: (double, (modes, dim, dim))}
    return found


def _unsound(arrays: Arrays, head: _Head) -> str:
    """What is no model, scale or weight, in words; empty: nothing."""
    shaped = np.concatenate([arrays["shape.columns"], arrays["shape.still"]])
    weight_C, trail_C = arrays["scale.weight"], arrays["scale.trail"]
    if not all(np.isfinite(array).all() for array in arrays.values()):
        return "not all numbers are finite"
    precisions = [arrays["joint.precision"], arrays["step.precision"], *arrays.get(_NETWORK[1], ())]
    wrong = {
        "a precision is not positive definite": not all(positive(one) for one in precisions),
        "lengths of courses that do not ascend": list(head.lengths) != sorted(set(head.lengths)),
        "courses of tags that there are not": bool(((shaped < 0) | (shaped >= arrays["joint.mean"].shape[1])).any()),
        "courses of a tag twice": len(set(shaped.tolist())) != len(shaped),
        "no prototype": bool(arrays["shape.prototypes"].shape[1] < 1),
        "a tail or spread that is not positive": bool((arrays["step.tails"] <= 0).any())
        or bool((arrays["scale.spread"] <= 0).any()),
        "trails out of bounds": bool(((trail_C < 1) | (trail_C > _MOST_TRAIL)).any()),
        "weights that do not add up to 1": bool((weight_C < 0).any()) or abs(float(weight_C.sum()) - 1) > _ROUNDING,
    }
    return next((told for told, bad in wrong.items() if bad), "")
