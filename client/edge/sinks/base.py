"""What a sink is, and the registry that finds one.

A sink is one file beside this one. `put` is called for every record from the runtime's loop: it never blocks on a
network or a slow disk and never raises; what cannot be delivered is kept (bounded) or counted as dropped. Delivery runs
in the sink's own task.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from client.edge.records import Record
from shared.errors import UnknownName


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


_BY_SCHEME = {
    "-": ("client.edge.sinks.lines", "open_lines"),
    "jsonl": ("client.edge.sinks.lines", "open_lines"),
    "sqlite": ("client.edge.sinks.history", "open_history"),
    "mqtt": ("client.edge.sinks.mqtt", "open_mqtt"),
    "mqtts": ("client.edge.sinks.mqtt", "open_mqtt"),
    "http": ("client.edge.sinks.webhook", "open_webhook"),
    "https": ("client.edge.sinks.webhook", "open_webhook"),
    "opc.tcp": ("client.edge.sinks.opcua", "open_opcua"),
    "metrics": ("client.edge.sinks.prometheus", "open_prometheus"),
}


def open_sink(settings: SinkSettings) -> Sink:
    """The sink for a location; its module is imported here and not before.

    Raises:
        UnknownName: no sink for that location.
        InvalidConfig, FileTrouble, MissingExtra: as its own file says.
    """
    location = settings.location
    kind = (
        location.partition("://")[0]
        if "://" in location
        else location
        if location == "-"
        else Path(location).suffix[1:]
    )
    if kind not in _BY_SCHEME:
        raise UnknownName(
            "sink", location, ["-", "FILE.jsonl", "FILE.sqlite", *[f"{s}://" for s in _BY_SCHEME if s.isalpha()]]
        )
    module, name = _BY_SCHEME[kind]
    opener: Callable[[SinkSettings], Sink] = getattr(importlib.import_module(module), name)
    return opener(settings)
