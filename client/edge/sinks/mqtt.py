"""MQTT: every record as a JSON message, out of a spool that outlives the process.

`mqtts://broker:8883/plant/line1/crossplant`: a record of type `alarm` goes to `plant/line1/crossplant/alarm`, with
quality of service 1 (the broker has it when it is taken out of the spool) and its id: {"id": "...", "record": {...}}.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from client.edge.options import Pause, read_options, read_place
from client.edge.sinks.base import SinkSettings
from client.edge.sinks.spool import Delivering, spool_path
from client.edge.sources.mqtt import PORTS, Broker, Dial
from shared.errors import InvalidConfig

if TYPE_CHECKING:
    from aiomqtt import Client

TYPES = frozenset({"alarm", "fault", "drift", "swap", "notice"})


class MqttSinkOptions(Broker, frozen=True, kw_only=True):
    """Options of an MQTT sink.

    Attributes:
        retain: the broker keeps the last message of every topic, for those who subscribe later.
        spool_mb: most that waits on disk.
    """

    retain: bool = False
    spool_mb: Annotated[float, Meta(gt=0)] = 64.0


class _Kind(msgspec.Struct):
    type: str


def open_mqtt(settings: SinkSettings) -> MqttSink:
    """The sink for `mqtt://HOST:PORT/TOPIC` or `mqtts://...`.

    Raises:
        InvalidConfig: the topic, an option, or a password that would go in the clear.
        FileTrouble: a file of the options cannot be used.
        MissingExtra: aiomqtt is not installed.
    """
    place = read_place(settings.location, PORTS)
    options = read_options(MqttSinkOptions, settings.options, place.scheme)
    topic = place.path.strip("/")
    if not topic or len(topic.encode()) > 1000 or any(char in topic for char in "+#\0"):
        raise InvalidConfig(f"{topic[:100]!r} is no topic.", "Give it as mqtt://HOST:PORT/plant/line1.")
    return MqttSink(settings, Dial(place, options, "an MQTT sink"), options, topic)


class MqttSink(Delivering):
    """See the module."""

    def __init__(self, settings: SinkSettings, dial: Dial, options: MqttSinkOptions, topic: str) -> None:
        pause = Pause(options.pause_s, options.longest_pause_s)
        name, path = f"mqtt {dial.place.host}:{dial.place.port}", spool_path(settings, "mqtt")
        super().__init__(name, settings.types or TYPES, path, int(options.spool_mb * 2**20), pause)
        self._dial, self._options, self._topic = dial, options, topic
        self._held: AsyncExitStack | None = None
        self._client: Client | None = None

    async def _deliver(self, key: str, body: bytes) -> None:
        try:
            client = self._client or await self._connect()
            kind = msgspec.json.decode(body, type=_Kind).type
            data = b'{"id":"%s","record":%s}' % (key.encode(), body)
            await client.publish(
                f"{self._topic}/{kind}", data, qos=max(1, self._options.qos), retain=self._options.retain
            )
        except BaseException:
            await self._release()
            raise

    async def _connect(self) -> Client:
        self._held = AsyncExitStack()
        self._client = await self._held.enter_async_context(self._dial.connected())
        return self._client

    async def _release(self) -> None:
        held, self._held, self._client = self._held, None, None
        if held is not None:
            try:
                await asyncio.wait_for(held.aclose(), self._options.timeout_s)
            except Exception:  # A broker that is gone cannot be left politely.
                return

    def _words(self, error: Exception) -> str:
        return f"{self._dial.name}: {self._dial.words(error)}"
