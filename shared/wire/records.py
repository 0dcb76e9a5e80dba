"""From the three records of a Flower message to a packet. Takes any objects of Flower's shape and imports none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import BadPayload
from shared.wire.envelope import Packet, RawArray

ARRAYS, NUMBERS, TEXTS = "arrays", "numbers", "texts"


def packet_from_records(content: Mapping[str, Any]) -> Packet:
    """Read the records of a received message.

    Raises:
        BadPayload: other records, or values that are not arrays, numbers and texts.
    """
    if set(content) != {ARRAYS, NUMBERS, TEXTS}:
        raise BadPayload(f"records {sorted(map(str, content))[:5]}, expected {ARRAYS}, {NUMBERS} and {TEXTS}.")
    arrays, numbers, texts = (content[name] for name in (ARRAYS, NUMBERS, TEXTS))
    if not all(type(value) in (int, float) for value in numbers.values()):
        raise BadPayload("a number that is a list.")
    if not all(type(value) is str for value in texts.values()):
        raise BadPayload("a text that is something else.")
    return Packet({name: _raw(name, array) for name, array in arrays.items()}, dict(numbers), dict(texts))


def _raw(name: str, array: Any) -> RawArray:
    if array.stype != "numpy.ndarray" or not isinstance(array.data, bytes):
        raise BadPayload(f"array {name[:80]} is serialised as {str(array.stype)[:40]!r}, expected numpy.ndarray.")
    return RawArray(str(array.dtype), tuple(array.shape), array.data)
