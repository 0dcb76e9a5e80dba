"""Updates in fewer bytes: the change of all weights as one flat array, in bfloat16 or in 8 bits with a scale a tensor.

What rounding loses is kept by the plant and added to its next update (error feedback: Seide et al. 2014,
"1-bit stochastic gradient descent", Interspeech; Karimireddy et al. 2019, arXiv 1901.09847), see
`client.agent.residual`. The layout is the manifest's tensors sorted by name, row by row. One array instead of one a
tensor, for a header of 128 bytes weighs as much as a small tensor. Shapes: P weights in all, T tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadPayload
from shared.model import TensorSpec, Weights
from shared.series import FloatArray
from shared.wire.envelope import RawArray, decode_array, encode_array

Wire = Literal["fp32", "bf16", "int8"]
WIRES: tuple[Wire, ...] = get_args(Wire)
DELTA, SCALES = "delta", "delta_scales"

_LEVELS = 127
_ZERO = 128  # travels for 0; 1 .. 255 for -127 .. 127
_LARGEST_SCALE = 2e4 / _LEVELS  # no weight within 10,000 moves further than 20,000

Bytes = NDArray[np.uint8]


def flatten(weights: Weights, specs: Sequence[TensorSpec]) -> FloatArray:
    """All weights as one vector, float32 (P,), tensors sorted by name."""
    return np.concatenate([np.asarray(weights[spec.name], np.float32).ravel() for spec in _ordered(specs)])


def unflatten(values_P: FloatArray, specs: Sequence[TensorSpec]) -> Weights:
    """The inverse of `flatten`."""
    ends = np.cumsum([spec.size for spec in _ordered(specs)])
    parts = np.split(values_P, ends[:-1])
    return MappingProxyType({s.name: part.reshape(s.shape) for s, part in zip(_ordered(specs), parts, strict=True)})


def _ordered(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    return sorted(specs, key=lambda spec: spec.name)


def compress(delta_P: FloatArray, specs: Sequence[TensorSpec], wire: Wire) -> dict[str, RawArray]:
    """A change of the weights as it travels.

    A change that is not finite becomes one that the other side refuses, as it would refuse it uncompressed.

    Args:
        delta_P: float32 (P,).
        specs: the manifest.
        wire: `bf16` (2 bytes a weight) or `int8` (1 byte a weight, 4 a tensor).
    """
    if wire == "bf16":
        return {DELTA: encode_array(_to_bfloat16(delta_P))}
    scale_T = _scales(delta_P, specs)
    scale_P = _spread(scale_T, specs)
    usable_P = (scale_P > 0) & np.isfinite(scale_P)
    levels_P = np.rint(np.divide(delta_P, scale_P, out=np.zeros_like(delta_P), where=usable_P))
    levels_P = levels_P.clip(-_LEVELS, _LEVELS)  # a scale below the normal range of float32 is coarse
    return {DELTA: encode_array((levels_P + _ZERO).astype(np.uint8)), SCALES: encode_array(scale_T)}


def expand(arrays: Mapping[str, RawArray], specs: Sequence[TensorSpec], wire: Wire) -> FloatArray:
    """The change that came, float32 (P,).

    Raises:
        BadPayload: an array is missing, one too many, of another dtype or length, or holds what no plant would send.
    """
    due = {DELTA} if wire == "bf16" else {DELTA, SCALES}
    if set(arrays) != due:
        raise BadPayload(f"arrays {sorted(name[:80] for name in arrays)[:4]}, expected {sorted(due)} for {wire}.")
    size = sum(spec.size for spec in specs)
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile number is refused below, in words
        values_P = _from_bfloat16(arrays, size) if wire == "bf16" else _from_levels(arrays, specs, size)
    if not np.isfinite(values_P).all():
        raise BadPayload(f"{DELTA}: NaN or infinite values.")
    return values_P


def _to_bfloat16(values_P: FloatArray) -> Bytes:
    """The upper half of float32, rounded to nearest, ties to even; little-endian bytes, uint8 (2 P,)."""
    bits_P = values_P.astype("<f4").view("<u4").astype(np.uint64)
    rounded_P = (bits_P + 0x7FFF + ((bits_P >> 16) & 1)) >> 16
    # Rounding would carry a NaN's bits over into something else.
    kept_P = np.where(np.isnan(values_P), 0x7FC0, rounded_P).astype("<u2")
    return kept_P.view(np.uint8)


def _from_bfloat16(arrays: Mapping[str, RawArray], size: int) -> FloatArray:
    halves_P = _bytes_of(arrays, DELTA, 2 * size).view("<u2")
    return (halves_P.astype("<u4") << 16).view("<f4").astype(np.float32)


def _scales(delta_P: FloatArray, specs: Sequence[TensorSpec]) -> FloatArray:
    """Largest |x| / 127 of each tensor, float32 (T,)."""
    largest = [float(np.abs(part).max(initial=0.0)) for part in unflatten(delta_P, specs).values()]
    return np.asarray(largest, np.float32) / np.float32(_LEVELS)


def _spread(scale_T: FloatArray, specs: Sequence[TensorSpec]) -> FloatArray:
    return np.repeat(scale_T, [spec.size for spec in _ordered(specs)])


def _from_levels(arrays: Mapping[str, RawArray], specs: Sequence[TensorSpec], size: int) -> FloatArray:
    levels_P = _bytes_of(arrays, DELTA, size)
    try:
        scale_T = decode_array(arrays[SCALES], (len(specs),)).astype(np.float32)
    except BadPayload as error:
        raise BadPayload(f"{SCALES}: {error.cause}") from error
    if not ((scale_T >= 0) & (scale_T <= _LARGEST_SCALE)).all():
        raise BadPayload(f"{SCALES}: a scale that is not finite, negative or beyond {_LARGEST_SCALE:.0f}.")
    if (levels_P == 0).any():
        raise BadPayload(f"{DELTA}: a level of -128, allowed are -127 to 127.")
    return (levels_P.astype(np.float32) - np.float32(_ZERO)) * _spread(scale_T, specs)


def _bytes_of(arrays: Mapping[str, RawArray], name: str, length: int) -> Bytes:
    try:
        return decode_array(arrays[name], (length,), "|u1").astype(np.uint8)
    except BadPayload as error:
        raise BadPayload(f"{name}: {error.cause}") from error
