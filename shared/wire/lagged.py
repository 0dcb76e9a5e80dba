"""Moments on the wire (docs/lag.md): one plant's, in its reply, and the sum of all, in the request to calibrate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from shared.errors import BadPayload
from shared.lag.pooled import MOST, TAG_BYTES, LagSum
from shared.lag.sums import Moments, parse, vector_size
from shared.wire.envelope import Packet, RawArray, decode_array, encode_array

MOMENTS = "moments"
LAG = "lag_"
SUM, TAGS, SHARES = f"{LAG}moments", f"{LAG}tags", f"{LAG}shares"

_MOST_PLANTS = 100_000
_FLOAT32 = 1e-6  # relative: a prepared value at its bound, rounded to float32


@dataclass(frozen=True)
class MomentsDue:
    """What a plant's moments must be.

    Attributes:
        dim, lags: of the lagged rows that they are summed over.
        most: largest size that a prepared value may have.
        rows: that may have been summed at most: what the windows that the plant declared can cover.
    """

    dim: int
    lags: int
    most: float
    rows: float


def encode_moments(moments: Moments) -> dict[str, RawArray]:
    """A plant's moments as its reply carries them."""
    return {MOMENTS: encode_array(moments.vector_Q)}


def parse_moments(packet: Packet, due: MomentsDue) -> Moments:
    """Sums of squares and products that prepared rows can have; a lie within these bounds is not seen.

    Raises:
        BadPayload: they are missing, of another shape or type, or no such sums.
    """
    if MOMENTS not in packet.arrays:
        raise BadPayload("moments are missing.")
    try:
        vector_Q = decode_array(packet.arrays[MOMENTS], (vector_size(due.dim, due.lags),), "<f8")
    except BadPayload as error:
        raise BadPayload(f"moments: {error.cause}") from error
    return parse(vector_Q, due.dim, due.lags, due.most * (1 + _FLOAT32), due.rows)


def encode_lag(lag: LagSum | None) -> dict[str, RawArray]:
    """The sum as a request carries it; nothing for None."""
    if lag is None:
        return {}
    tags, share_S = tags_and_shares(lag)
    return {SUM: encode_array(lag.vector_Q), TAGS: encode_array(tags), SHARES: encode_array(share_S)}


def tags_and_shares(lag: LagSum) -> tuple[np.ndarray, np.ndarray]:
    """`LagSum.shares` as arrays in the order of the tags: uint8 (S, 8) and float64 (S,)."""
    tags = sorted(lag.shares)
    tags_SB = np.frombuffer(bytes.fromhex("".join(tags)), np.uint8).reshape(len(tags), TAG_BYTES)
    return tags_SB, np.asarray([lag.shares[name] for name in tags], np.float64)


def shares_of(tags_SB: np.ndarray, share_S: np.ndarray) -> Mapping[str, float]:
    """What `tags_and_shares` took apart."""
    names = (row.tobytes().hex() for row in tags_SB)
    return MappingProxyType(dict(zip(names, share_S.tolist(), strict=True)))


def parse_lag(packet: Packet) -> LagSum | None:
    """The sum in a request, of any number of tags: the plant knows its own. None where the request has none.

    Raises:
        BadPayload: a part is missing, of another type, too large or not finite.
    """
    if not any(name.startswith(LAG) for name in packet.arrays):
        return None
    missing = [name for name in (SUM, TAGS, SHARES) if name not in packet.arrays]
    if missing:
        raise BadPayload(f"{missing[0]} is missing.")
    size, count = _length(packet, SUM, MOST), _length(packet, SHARES, _MOST_PLANTS)
    vector_Q = decode_array(packet.arrays[SUM], (size,), "<f8").astype(np.float64, copy=False)
    share_S = decode_array(packet.arrays[SHARES], (count,), "<f8").astype(np.float64, copy=False)
    if not np.isfinite(vector_Q).all():
        raise BadPayload(f"{SUM} with values that are not finite.")
    if not ((share_S >= 0) & (share_S <= 1)).all():
        raise BadPayload(f"{SHARES} beyond 0 to 1.")
    shares = shares_of(decode_array(packet.arrays[TAGS], (count, TAG_BYTES), "|u1"), share_S)
    if len(shares) < count:
        raise BadPayload(f"{TAGS} with one plant twice.")
    return LagSum(vector_Q, shares)


def _length(packet: Packet, name: str, most: int) -> int:
    shape = packet.arrays[name].shape
    if len(shape) != 1 or not 1 <= shape[0] <= most:
        raise BadPayload(f"{name} of shape {str(shape)[:40]}, due is one row of 1 to {most:,}.")
    return shape[0]
