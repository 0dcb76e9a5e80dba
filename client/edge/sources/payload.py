"""What an MQTT message says: readings, or the reason why it says none. Pure; every payload is hostile until it is read.

Three forms, told apart by what they hold:
    row        {"LIT101": 512.3, "FIT101": 2.4, "time": 1700000000.5}      or {"time": ..., "values": {...}}
    value      512.3   or   {"value": 512.3, "time": ..., "quality": "good"}     the tag is the topic's (topic map)
    sparkplug  {"timestamp": 1700000000500, "metrics": [{"name": "LIT101", "value": 512.3, "timestamp": ...}]}
`null` and `quality` other than `good` are missing readings. Times are seconds, milliseconds or ISO 8601 with a zone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from client.edge.sources.assemble import as_number

MOST_BYTES = 2**20
_TIMES = ("time", "timestamp", "ts")
_MILLISECONDS = 1e11  # a number of seconds above this would be after the year 5000
_GOOD = {"good", "192", "0", "true"}  # words of brokers and gateways; 192 is OPC classic's


@dataclass(frozen=True)
class Readings:
    """Of one moment.

    Attributes:
        time: seconds since 1970-01-01 UTC; None: the message does not say.
        values: tag and value; NaN where it is missing.
        unknown: names that are no tag.
    """

    time: float | None
    values: dict[str, float]
    unknown: int = 0


def read_payload(data: bytes, tag: str | None, tags: Mapping[str, int]) -> list[Readings] | str:
    """Readings in a message, by moment; or why there are none.

    Args:
        data: the payload.
        tag: that the topic stands for; None: the message must name its tags.
        tags: that count, as keys.

    Example:
        >>> read_payload(b'{"A": 1, "time": 5, "note": 3}', None, {"A": 0})
        [Readings(time=5.0, values={'A': 1.0}, unknown=1)]
        >>> read_payload(b"12.5", "A", {"A": 0})
        [Readings(time=None, values={'A': 12.5}, unknown=0)]
        >>> read_payload(b"{}", None, {"A": 0})
        'no tag of the bundle in it'
    """
    if len(data) > MOST_BYTES:
        return f"a message of {len(data)} bytes; {MOST_BYTES} are the most"
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return "no JSON"
    if _doubled(data, found):
        return "a name stands in it twice, or it is nested too deep"
    try:
        if not isinstance(found, dict):
            return _one(found, None, tag)
        if isinstance(found.get("metrics"), list):
            return _metrics(found, tags)
        if tag is not None and "value" in found and "value" not in tags:
            return _one(_judged(found), _time(found), tag)
        return _row(found, tags)
    except _NoReadingError as error:
        return str(error)


def _doubled(data: bytes, found: object) -> bool:
    """Whether an object has a name twice, of which msgspec keeps the last without a word. There are as many colons as
    names in most messages; only where there are more is it read again, slowly.

    Example:
        >>> _doubled(b'{"A": 1, "A": 2}', {"A": 2}), _doubled(b'{"time": "10:00"}', {"time": "10:00"})
        (True, False)
    """
    colons = data.count(b":")
    if not colons or colons == _names(found):
        return False
    try:
        json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return True
    return False


def _names(found: object) -> int:
    """Names in it and in the objects that it usually holds."""
    if not isinstance(found, dict):
        return 0
    values, metrics = found.get("values"), found.get("metrics")
    inner = [values, *(metrics if isinstance(metrics, list) else ())]
    return len(found) + sum(len(one) for one in inner if isinstance(one, dict))


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        raise ValueError("a name stands in it twice")


class _NoReadingError(Exception):
    pass


def _one(value: object, time: float | None, tag: str | None) -> list[Readings] | str:
    if tag is None:
        return "a single value on a topic that stands for no tag"
    return [Readings(time, {tag: _number(tag, value)})]


def _row(found: dict[str, Any], tags: Mapping[str, int]) -> list[Readings]:
    values = found.get("values")
    inner = values if isinstance(values, dict) and "values" not in tags else found
    read = {name: _number(name, value) for name, value in inner.items() if name in tags}
    if not read:
        raise _NoReadingError("no tag of the bundle in it")
    others = len(inner) - len(read) - (0 if inner is not found else sum(name in found for name in _TIMES))
    return [Readings(_time(found, tags), read, max(0, others))]


def _metrics(found: dict[str, Any], tags: Mapping[str, int]) -> list[Readings]:
    """A metric's own time counts before the message's."""
    outer, unknown = _time(found), 0
    by_time: dict[float | None, dict[str, float]] = {}
    for metric in found["metrics"]:
        name = metric.get("name") if isinstance(metric, dict) else None
        if not isinstance(name, str):
            raise _NoReadingError("a metric without a name")
        known = name if name in tags else name.rpartition("/")[2]
        if known not in tags:
            unknown += 1
            continue
        own = _time(metric)
        value = None if metric.get("is_null") is True or metric.get("isNull") is True else metric.get("value")
        by_time.setdefault(outer if own is None else own, {})[known] = _number(known, value)
    if not by_time:
        raise _NoReadingError("no tag of the bundle in it")
    readings = [Readings(time, values) for time, values in by_time.items()]
    return [Readings(readings[0].time, readings[0].values, unknown), *readings[1:]]


def _judged(found: dict[str, Any]) -> object:
    told = found.get("quality", "good")
    return found["value"] if str(told).lower() in _GOOD else None


def _number(tag: str, value: object) -> float:
    if value is None:
        return math.nan
    number = as_number(value)
    if number is None:
        raise _NoReadingError(f"{tag[:60]} is no number")
    return number


def _time(found: dict[str, Any], tags: Mapping[str, int] | None = None) -> float | None:
    for name in _TIMES:
        if name in found and (tags is None or name not in tags):
            return _seconds(found[name])
    return None


def _seconds(told: object) -> float | None:
    """Seconds since 1970-01-01 UTC.

    Example:
        >>> _seconds(1700000000500), _seconds("2023-11-14T22:13:20Z")
        (1700000000.5, 1700000000.0)
    """
    if told is None:
        return None
    if isinstance(told, str):
        try:
            moment = datetime.fromisoformat(told)
            if moment.tzinfo is not None:
                return moment.timestamp()
        except (ValueError, OverflowError) as error:
            raise _NoReadingError("its time is none") from error
        raise _NoReadingError("its time names no zone")
    number = None if isinstance(told, bool) else as_number(told)
    if number is None or not math.isfinite(number):
        raise _NoReadingError("its time is none")
    return number / 1000 if number > _MILLISECONDS else number
