"""What a source is, and the registry that finds one.

A source is one file beside this one: an async context manager that is iterated for samples and notices. It is read-only
towards the plant, reconnects by itself for ever (with a growing pause), never raises for what the plant does wrong, and
says what it left out by `Notice`s.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from client.edge.records import Notice, Sample
from shared.errors import UnknownName
from shared.schema import SensorSchema


@dataclass(frozen=True)
class SourceSettings:
    """What a source is made of.

    Attributes:
        location: FILE, `opc.tcp://...`, `mqtt://...`, `mqtts://...` or `-`.
        schema: tags that samples must have, in this order, and the period.
        speed: of a replay: 1.0 is real time; None as fast as it goes.
        options: the source's own settings, as `--source-set NAME=VALUE` or the edge.toml gives them.
    """

    location: str
    schema: SensorSchema
    speed: float | None = 1.0
    options: dict[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Delivers samples until it is closed or its data ends."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[Sample | Notice]:
        """Samples in the order they came; ends for a file, never for a live source."""


_BY_SCHEME = {
    "opc.tcp": ("client.edge.sources.opcua", "open_opcua"),
    "mqtt": ("client.edge.sources.mqtt", "open_mqtt"),
    "mqtts": ("client.edge.sources.mqtt", "open_mqtt"),
    "-": ("client.edge.sources.lines", "open_lines"),
    "": ("client.edge.sources.replay", "open_replay"),
}


def open_source(settings: SourceSettings) -> Source:
    """The source for a location; its module (and asyncua or aiomqtt with it) is imported here and not before.

    Raises:
        UnknownName: no source for that scheme.
        InvalidConfig, DataNotFound, MissingExtra: as its own file says.
    """
    location = settings.location
    scheme = location if location == "-" else location.partition("://")[0] if "://" in location else ""
    if scheme not in _BY_SCHEME:
        raise UnknownName("source", scheme, ["FILE", "opc.tcp://HOST:PORT", "mqtt://HOST:PORT/TOPIC", "-"])
    module, name = _BY_SCHEME[scheme]
    opener: Callable[[SourceSettings], Source] = getattr(importlib.import_module(module), name)
    return opener(settings)
