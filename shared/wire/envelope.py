"""A message between server and plant, before anybody believes it.

A `Packet` is three flat maps, whatever carries it (Flower records, a Unix socket, a test). Arrays travel as `.npy`
version 1 blobs; they are
parsed by hand and by exact length: `np.load` on a peer's bytes would believe a header that claims 37 GiB.
"""

from __future__ import annotations

import ast
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadPayload

PROTOCOL = 1

Number = int | float

_MAGIC = b"\x93NUMPY\x01\x00"
_LONGEST_HEADER = 512
_ALLOWED_DTYPES = ("<f4", "<f8", "|u1")


@dataclass(frozen=True)
class RawArray:
    """An array as it travels: what it claims to be, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Packet:
    """One message's content: arrays, numbers and texts by field name."""

    arrays: Mapping[str, RawArray] = field(default_factory=dict)
    numbers: Mapping[str, Number] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def payload_bytes(self) -> int:
        """Size of the content, without the carrier's own headers."""
        texts = sum(len(value.encode(errors="surrogatepass")) for value in self.texts.values())
        return sum(len(raw.data) for raw in self.arrays.values()) + 8 * len(self.numbers) + texts


def encode_array(values: NDArray[np.generic]) -> RawArray:
    """An array as a `.npy` version 1 blob."""
    array = np.asarray(values, order="C")  # not ascontiguousarray, which makes (1,) of a shape of ()
    data = b"".join((_header(array.dtype.str, array.shape), array.data))  # one copy
    return RawArray(str(array.dtype), array.shape, data)


@lru_cache(maxsize=1024)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def decode_array(raw: RawArray, shape: tuple[int, ...], dtype: str = "<f4") -> NDArray[np.generic]:
    """Parse a blob that must hold exactly this dtype and shape.

    Args:
        raw: what came.
        shape: the only acceptable shape; a broadcastable one is not acceptable.
        dtype: the only acceptable dtype, little-endian.

    Returns:
        a read-only view of the blob: nothing is copied, and nobody can change what came.

    Raises:
        BadPayload: anything else.
    """
    header, body = _split(raw.data)
    found_dtype, found_shape = _parse_header(header)
    if found_dtype != dtype:
        raise BadPayload(f"dtype {found_dtype}, expected {dtype}.")
    if found_shape != shape:
        raise BadPayload(f"shape {found_shape}, expected {shape}.")
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(body) != expected:
        raise BadPayload(f"{len(body)} bytes of data, expected {expected}.")
    return np.frombuffer(body, dtype).reshape(shape)


def _split(data: bytes) -> tuple[bytes, memoryview]:
    if len(data) < 10 or data[:8] != _MAGIC:
        raise BadPayload("not an .npy version 1 array.")
    length = int.from_bytes(data[8:10], "little")
    if length > _LONGEST_HEADER or len(data) < 10 + length:
        raise BadPayload(f"array header of {length} bytes.")
    return data[10 : 10 + length], memoryview(data)[10 + length :]


@lru_cache(maxsize=1024)
def _parse_header(header: bytes) -> tuple[str, tuple[int, ...]]:
    try:
        fields = ast.literal_eval(header.decode("ascii").strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise BadPayload("unreadable array header.") from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise BadPayload("array header with other fields than dtype, order and shape.")
    dtype, order, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if order is not False or dtype not in _ALLOWED_DTYPES:
        raise BadPayload(f"array of dtype {str(dtype)[:20]} in order {str(order)[:20]}.")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise BadPayload("array header with an impossible shape.")
    return dtype, shape
