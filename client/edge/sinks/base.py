"""What a sink is, and the registry that finds one.

A sink is one file beside this one. `put` is called for every record from the runtime's loop: it never blocks on a
network or a slow disk and never raises; what cannot be delivered is kept (bounded) or counted as dropped. Delivery runs
in the sink's own task.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from client.edge.records import Record
from shared.errors import InvalidConfig, UnknownName


@dataclass(frozen=True)
class SinkSettings:
    """What a sink is made of.

    Attributes:
        location: `-`, FILE.jsonl, FILE.sqlite, `mqtt://...`, `https://...`, `opc.tcp://...`, `metrics://HOST:PORT`.
        state: folder that outlives the process, for a spool.
        types: types of records it wants; empty: its own default (`jsonl` and history all, the others no scores).
        options: the sink's own settings.
    """

    location: str
    state: Path
    types: frozenset[str] = frozenset()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Delivery:
    """How a sink stands; counters only grow within a process.

    Attributes:
        delivered, dropped: records.
        waiting: records in its spool or queue.
        trouble: why nothing is delivered now; empty when all is well.
    """

    delivered: int
    dropped: int
    waiting: int
    trouble: str = ""


class Sink(Protocol):
    """Takes records."""

    name: str

    async def start(self) -> None:
        """Connect in the background; returns at once, whether the other side is there or not."""

    def put(self, record: Record) -> None:
        """Take a record."""

    def standing(self) -> Delivery:
        """How it stands."""

    async def close(self, timeout_s: float) -> None:
        """Deliver what can be delivered in that time; what is left stays in the spool, or is counted as dropped."""


_slowly = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encoded(told: Mapping[str, Any]) -> bytes:
    """A record as JSON; what is no text, as half of a surrogate pair in a file's name, becomes a question mark.

    Example:
        >>> encoded({"text": "no tag is called " + chr(0xD800)})
        b'{"text":"no tag is called ?"}'
    """
    try:
        return msgspec.json.encode(told)
    except UnicodeError:
        return _slowly(told).encode("utf-8", "replace")


TYPES = frozenset({"score", "alarm", "fault", "drift", "swap", "notice"})
_BY_KIND = {
    "-": ("client.edge.sinks.lines", "open_lines"),
    ".jsonl": ("client.edge.sinks.lines", "open_lines"),
    ".sqlite": ("client.edge.sinks.history", "open_history"),
    "mqtt://": ("client.edge.sinks.mqtt", "open_mqtt"),
    "mqtts://": ("client.edge.sinks.mqtt", "open_mqtt"),
    "http://": ("client.edge.sinks.webhook", "open_webhook"),
    "https://": ("client.edge.sinks.webhook", "open_webhook"),
    "opc.tcp://": ("client.edge.sinks.opcua", "open_opcua"),
    "metrics://": ("client.edge.sinks.prometheus", "open_prometheus"),
}


def open_sinks(settings: Sequence[SinkSettings]) -> list[Sink]:
    """Sinks, in order.

    Raises:
        InvalidConfig: two are the same, and would deliver each other's records.
        UnknownName, FileTrouble, MissingExtra: as for `open_sink`.
    """
    places = [(one.location, one.state) for one in settings]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise InvalidConfig(f"the sink {twice[0]} is given twice.", "Give it once: it takes every record once.")
    return [open_sink(one) for one in settings]


def open_sink(settings: SinkSettings) -> Sink:
    """The sink for a location; its module is imported here and not before.

    Raises:
        UnknownName: no sink for that location, or no such type of records.
        InvalidConfig, FileTrouble, MissingExtra: as its own file says.
    """
    unknown = sorted(settings.types - TYPES)
    if unknown:  # It would wait for ever, and no alarm would come.
        raise UnknownName(f"type of records for the sink {settings.location}", unknown[0], sorted(TYPES))
    kind = _kind(settings.location)
    if kind not in _BY_KIND:
        known = ["-", "FILE.jsonl", "FILE.sqlite", *(f"{one}..." for one in _BY_KIND if "://" in one)]
        raise UnknownName("sink", settings.location, known)
    module, name = _BY_KIND[kind]
    opener: Callable[[SinkSettings], Sink] = getattr(importlib.import_module(module), name)
    return opener(settings)


def _kind(location: str) -> str:
    """Key of the registry.

    Example:
        >>> _kind("-"), _kind("mqtt://broker/a"), _kind("edge/out.jsonl")
        ('-', 'mqtt://', '.jsonl')
    """
    scheme, mark, _ = location.partition("://")
    return scheme + mark if mark else location if location == "-" else Path(location).suffix
