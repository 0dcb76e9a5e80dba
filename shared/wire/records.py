"""From the records of a Flower message to a packet. Takes any objects of Flower's shape and imports none.

A message has either one record for the arrays, one for the numbers and one for the texts, or a single record with the
packet as one frame. Flower carries every array as two objects with several HTTP requests each, at every hop: a model of
thirty tensors costs some hundred requests a plant and round, a frame costs ten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import BadPayload
from shared.wire.envelope import Packet, RawArray
from shared.wire.frame import decode_frame

ARRAYS, NUMBERS, TEXTS = "arrays", "numbers", "texts"
FRAME = "frame"
"""Name of the record, and of the one array in it, when a packet travels as a frame."""


def packet_from_records(content: Mapping[str, Any]) -> Packet:
    """Read the records of a received message.

    Raises:
        BadPayload: other records, or values that are not arrays, numbers and texts.
    """
    if is_framed(content):
        return _unframed(content[FRAME])
    if set(content) != {ARRAYS, NUMBERS, TEXTS}:
        raise BadPayload(f"records {sorted(map(str, content))[:5]}, expected {ARRAYS}, {NUMBERS} and {TEXTS}.")
    arrays, numbers, texts = (_entries(name, content[name]) for name in (ARRAYS, NUMBERS, TEXTS))
    if not all(type(value) in (int, float) for value in numbers.values()):
        raise BadPayload("a number that is a list.")
    if not all(type(value) is str for value in texts.values()):
        raise BadPayload("a text that is something else.")
    return Packet({name: _raw(name, array) for name, array in arrays.items()}, numbers, texts)


def is_framed(content: Mapping[str, Any]) -> bool:
    """Whether a message carries a frame; its reply should, too."""
    return set(content) == {FRAME}


def _unframed(record: Any) -> Packet:
    entries = _entries(FRAME, record)
    if set(entries) != {FRAME}:
        raise BadPayload("a frame's record that holds something else.")
    return decode_frame(_raw(FRAME, entries[FRAME]).data)


def _entries(record: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping) or not all(type(name) is str for name in values):
        raise BadPayload(f"a record {record} that holds no values by name.")
    return dict(values)


def _raw(name: str, array: Any) -> RawArray:
    """A record of metrics may bear the name of the arrays: only what looks like an array is one."""
    stype, dtype, shape, data = (getattr(array, part, None) for part in ("stype", "dtype", "shape", "data"))
    if stype != "numpy.ndarray" or not isinstance(data, bytes):
        raise BadPayload(f"array {name[:80]!r} is serialised as {str(stype)[:40]!r}, expected numpy.ndarray.")
    if not isinstance(shape, tuple | list) or not all(type(n) is int for n in shape):
        raise BadPayload(f"array {name[:80]!r} with a shape that is no list of whole numbers.")
    return RawArray(str(dtype), tuple(shape), data)
