"""A packet as one run of bytes, for a carrier that knows nothing of arrays: the socket between relay and agent.

    CPF1 | length of the head, 4 bytes little-endian | head, JSON | bytes of the arrays, one after the other

The head names every array with dtype, shape and length in bytes. Every length must be exact: nothing may be left over,
missing or counted twice. What the values mean is judged elsewhere (`shared.wire.messages`, `shared.wire.gate`).
"""

from __future__ import annotations

import json
from typing import Any

from shared.errors import BadPayload
from shared.wire.envelope import Number, Packet, RawArray

MOST_FIELDS = 10_000

_MAGIC = b"CPF1"
_LONGEST_HEAD = 16 * 2**20
_LONGEST_NAME = 300
_START = len(_MAGIC) + 4


def encode_frame(packet: Packet) -> bytes:
    """A packet as bytes.

    Example:
        >>> decode_frame(encode_frame(Packet(numbers={"round": 3}))).numbers
        {'round': 3}
    """
    arrays = [[name, raw.dtype, list(raw.shape), len(raw.data)] for name, raw in packet.arrays.items()]
    parts = {"arrays": arrays, "numbers": dict(packet.numbers), "texts": dict(packet.texts)}
    head = json.dumps(parts, separators=(",", ":")).encode("ascii")
    bodies = (raw.data for raw in packet.arrays.values())
    return b"".join((_MAGIC, len(head).to_bytes(4, "little"), head, *bodies))


def decode_frame(data: bytes) -> Packet:
    """Read a packet; the arrays' bytes are copied once.

    Raises:
        BadPayload: anything but exactly one frame.
    """
    head, body = _split(data)
    rows, numbers, texts = head["arrays"], head["numbers"], head["texts"]
    if len(rows) + len(numbers) + len(texts) > MOST_FIELDS:
        raise BadPayload(f"a frame of more than {MOST_FIELDS:,} fields.")
    if not all(type(value) is str for value in texts.values()):
        raise BadPayload("a frame with a text that is something else.")
    return Packet(_arrays(rows, body), _numbers(numbers), texts)


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    if len(data) < _START or data[:4] != _MAGIC:
        raise BadPayload("bytes that are no frame of this protocol.")
    length = int.from_bytes(data[4:_START], "little")
    if length > _LONGEST_HEAD or _START + length > len(data):
        raise BadPayload(f"a frame whose head claims {length:,} bytes.")
    return _head(data[_START : _START + length]), memoryview(data)[_START + length :]


def _head(text: bytes) -> dict[str, Any]:
    try:
        head = json.loads(text.decode("ascii"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadPayload("a frame with an unreadable head.") from error
    due = {"arrays": list, "numbers": dict, "texts": dict}
    if type(head) is not dict or set(head) != set(due):
        raise BadPayload("a frame with another head than arrays, numbers and texts.")
    if any(type(head[part]) is not kind for part, kind in due.items()):
        raise BadPayload("a frame whose head holds no values by name.")
    if any(len(name) > _LONGEST_NAME for part in ("numbers", "texts") for name in head[part]):
        raise BadPayload(f"a frame with a name of more than {_LONGEST_NAME} characters.")
    return head


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a name occur twice, and readers differ in which one counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _numbers(numbers: dict[str, Any]) -> dict[str, Number]:
    if not all(type(value) in (int, float) for value in numbers.values()):
        raise BadPayload("a frame with a number that is something else.")
    return numbers


def _arrays(rows: list[Any], body: memoryview) -> dict[str, RawArray]:
    found: dict[str, RawArray] = {}
    at = 0
    for row in rows:
        name, dtype, shape, length = _row(row)
        if name in found or length > len(body) - at:
            raise BadPayload("a frame with an array that occurs twice or is cut short.")
        found[name] = RawArray(dtype, shape, bytes(body[at : at + length]))
        at += length
    if at != len(body):
        raise BadPayload(f"a frame with {len(body) - at:,} bytes too many.")
    return found


def _row(row: Any) -> tuple[str, str, tuple[int, ...], int]:
    if type(row) is not list or len(row) != 4:
        raise BadPayload("a frame with an array that is not described.")
    name, dtype, shape, length = row
    named = type(name) is str and len(name) <= _LONGEST_NAME and type(dtype) is str and len(dtype) <= 20
    shaped = type(shape) is list and len(shape) <= 32 and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    if not named or not shaped or type(length) is not int or length < 0:
        raise BadPayload("a frame with an array of an impossible name, dtype, shape or length.")
    return name, dtype, tuple(shape), length
