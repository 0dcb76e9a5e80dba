"""Arrays by name as one run of bytes (safetensors), whose types and shapes are checked before a number is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from shared.errors import BundleInvalid

Arrays = Mapping[str, NDArray[Any]]
Due = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]


def laid(arrays: Arrays) -> bytes:
    """Arrays as numbers; equal arrays give equal bytes."""
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def taken(numbers: bytes, source: str) -> dict[str, NDArray[Any]]:
    """The arrays that `laid` wrote; they cannot be written to.

    Raises:
        BundleInvalid: no safetensors.
    """
    try:
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(numbers)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleInvalid(f"{source} cannot be read: {error}.") from error
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def size(arrays: Arrays, name: str, axis: int) -> int:
    """How long an array seems to be: 0 where there is none, or it has not as many axes.

    Example:
        >>> size({"a": np.zeros((2, 3))}, "a", 1), size({}, "a", 0)
        (3, 0)
    """
    shape = arrays[name].shape if name in arrays else ()
    return shape[axis] if axis < len(shape) else 0


def misshapen(arrays: Arrays, due: Due) -> str:
    """What has another type or shape than is due, in words; empty: nothing.

    Example:
        >>> misshapen({"a": np.zeros(2)}, {"a": (np.dtype(np.float64), (3,))})
        'a is float64 (2,)'
    """
    if arrays.keys() != due.keys():
        return f"it holds other arrays: {', '.join(sorted(arrays.keys() ^ due.keys()))}"
    wrong = [name for name, (kind, shape) in due.items() if (arrays[name].dtype, arrays[name].shape) != (kind, shape)]
    return f"{wrong[0]} is {arrays[wrong[0]].dtype} {arrays[wrong[0]].shape}" if wrong else ""
