"""MQTT: subscribes to topics of a broker and reads JSON (see payload.py). Nothing is published.

`mqtts://broker:8883/plant/line1/#`: what follows the host is the topic filter. A fresh client for every connection,
with a growing pause. A retained message is an old one: its values count, its time does not say how late it is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from client.edge.options import Pause, Place, must_exist, one_line, read_options, read_place, read_secret, tls_context
from client.edge.sources.assemble import Assembler, Rules
from client.edge.sources.base import SourceSettings
from client.edge.sources.live import Live
from client.edge.sources.payload import read_payload
from shared.artefact import Artefact
from shared.errors import FileTrouble, InvalidConfig, MissingExtra
from shared.schema import SensorSchema

if TYPE_CHECKING:
    from aiomqtt import Client

PORTS = {"mqtt": 1883, "mqtts": 8883}
_WAITING = 10_000  # messages between the socket and us; the oldest make room

Positive = Annotated[float, Meta(gt=0)]
AtLeastZero = Annotated[float, Meta(ge=0)]


class Broker(Artefact, frozen=True, kw_only=True):
    """Options of everything that talks to a broker.

    Attributes:
        user, password_file: empty: none.
        ca: trusted certificates; empty: the system's.
        certificate, key: of this client, for brokers that ask.
        cleartext: allow a password without TLS to another machine.
        client_id: name towards the broker; empty: a new one every time.
        qos: 0, 1 or 2.
        keepalive_s: after one and a half of these a silent broker is taken as lost.
        timeout_s: for an answer.
        pause_s, longest_pause_s: between two attempts to connect.
    """

    user: str = ""
    password_file: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    cleartext: bool = False
    client_id: Annotated[str, Meta(max_length=128)] = ""
    qos: Annotated[int, Meta(ge=0, le=2)] = 1
    keepalive_s: Annotated[int, Meta(ge=1, le=65_535)] = 15
    timeout_s: Positive = 5.0
    pause_s: Positive = 1.0
    longest_pause_s: Positive = 60.0


class MqttOptions(Broker, frozen=True, kw_only=True):
    """Options of an MQTT source.

    Attributes:
        topics: TOML file, `[topics]` with TOPIC = "TAG"; other topics stand for the tag that their last level names.
        session: keep the session at the broker (needs `client_id`): what comes while this side is away is sent later.
        lateness_s: how long a row waits for messages that are on their way.
        hold_s: how long a value stands in for the next; 0: until it changes.
        stall_s: silence that is told; 0: five periods, at least 5 s.
        stamps: whose time counts: the `payload`'s where it has one, or the messages' `arrival` here.
    """

    topics: str = ""
    session: bool = False
    lateness_s: AtLeastZero = 0.0
    hold_s: AtLeastZero = 0.0
    stall_s: AtLeastZero = 0.0
    stamps: Annotated[str, Meta(pattern="^(payload|arrival)$")] = "payload"


def open_mqtt(settings: SourceSettings) -> MqttSource:
    """The source for `mqtt://HOST:PORT/TOPIC/FILTER` or `mqtts://...`.

    Raises:
        InvalidConfig: the topic filter, an option, the topic map, or a password that would go in the clear.
        FileTrouble: a file of the options cannot be used.
        MissingExtra: aiomqtt is not installed.
    """
    place = read_place(settings.location, PORTS)
    options = read_options(MqttOptions, settings.options, place.scheme)
    _check_filter(place.path)
    if options.session and not options.client_id:
        raise InvalidConfig("`session` needs a `client_id`.", "Give one that no other client of the broker has.")
    topics = _read_topics(options.topics, settings.schema) if options.topics else {}
    return MqttSource(Dial(place, options, "an MQTT source"), settings.schema, options, topics)


class Dial:
    """Everything to connect to a broker; read and checked once.

    Args:
        place: host and port; TLS with the scheme `mqtts`.
        options: see there.
        what: for the error when aiomqtt is missing.
    """

    def __init__(self, place: Place, options: Broker, what: str) -> None:
        self.place, self.options = place, options
        if bool(options.user) != bool(options.password_file):
            raise InvalidConfig("`user` and `password_file` go together.", "Give both or neither.")
        secured = place.scheme == "mqtts"
        if options.user and not secured and not place.loopback and not options.cleartext:
            raise InvalidConfig(
                f"the password would cross the network to {place.host} in the clear.",
                "Use mqtts://, or say `cleartext = true`.",
            )
        if not secured and (options.ca or options.certificate or options.key):
            raise InvalidConfig("certificates are used with mqtts:// only.", "Use mqtts://, or leave them out.")
        try:
            import aiomqtt  # noqa: F401
        except ImportError as error:
            raise MissingExtra(
                f"{what} needs aiomqtt, which is not installed.", "Run `pip install 'crossplant[mqtt]'`."
            ) from error
        logging.getLogger("mqtt").setLevel(logging.CRITICAL)  # What it logs for a lost broker is told otherwise.
        self._password = read_secret(options.password_file, "the password file") if options.user else None
        self._tls = tls_context(options.ca, options.certificate, options.key) if secured else None

    @property
    def name(self) -> str:
        """The broker, for people."""
        return f"{self.place.scheme}://{self.place.host}:{self.place.port}"

    @asynccontextmanager
    async def connected(self, **more: Any) -> AsyncIterator[Client]:
        """A fresh client, connected; nothing of it is left afterwards, however it went.

        aiomqtt 2.5 leaves the socket and a task behind when a broker accepts and then says nothing.
        """
        client = self._client(**more)
        try:
            async with client:
                yield client
        finally:
            with suppress(Exception):
                client._client._sock_close()
            task = getattr(client, "_misc_task", None)
            if task is not None:
                task.cancel()

    def _client(self, **more: Any) -> Client:
        from aiomqtt import Client

        options = self.options
        return Client(
            self.place.host,
            self.place.port,
            username=options.user or None,
            password=self._password,
            identifier=options.client_id or None,
            tls_context=self._tls,
            keepalive=options.keepalive_s,
            timeout=options.timeout_s,
            **more,
        )

    def words(self, error: Exception) -> str:
        """One sentence for what aiomqtt raises."""
        cause = error.__cause__ if error.__cause__ is not None else error
        text = one_line(error)
        if "CERTIFICATE_VERIFY_FAILED" in text or isinstance(cause, ssl.SSLCertVerificationError):
            return f"the broker's certificate is not trusted: {text}"
        code = getattr(error, "rc", None)
        number = getattr(code, "value", code)
        if number in (4, 5, 134, 135):
            return "the user or password is refused"
        return text


class _Oldest(asyncio.Queue[Any]):
    """A queue that makes room by forgetting the oldest."""

    forgotten = 0

    def put_nowait(self, item: Any) -> None:
        if self.full():
            self.get_nowait()
            self.forgotten += 1
        super().put_nowait(item)


class MqttSource(Live):
    """See the module.

    Attributes:
        messages: that came.
        unknown: names in them that are no tag.
    """

    def __init__(self, dial: Dial, schema: SensorSchema, options: MqttOptions, topics: dict[str, str]) -> None:
        stall = options.stall_s or max(5.0, 5 * schema.period_s)
        rules = Rules(options.lateness_s, options.hold_s or math.inf, stall, max(stall, 10 * schema.period_s))
        pause = Pause(options.pause_s, options.longest_pause_s)
        super().__init__(dial.name, Assembler(schema, rules), pause, False, min(0.25, schema.period_s / 4))
        self.messages = self.unknown = 0
        self._dial, self._options, self._topics = dial, options, topics
        self._columns = {tag: column for column, tag in enumerate(schema.tags)}

    async def _session(self) -> None:
        more = {"queue_type": _Oldest, "max_queued_incoming_messages": _WAITING}
        async with self._dial.connected(clean_session=not self._options.session, **more) as client:
            await client.subscribe(self._dial.place.path, qos=self._options.qos)
            self._up()
            ticking = asyncio.create_task(self._tick())
            try:
                async for message in client.messages:
                    self._take(message)
            finally:
                ticking.cancel()

    def _words(self, error: Exception) -> str:
        return self._dial.words(error)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            self._flush()

    def _take(self, message: Any) -> None:
        self.messages += 1
        topic = message.topic.value
        tag = self._topics.get(topic) or topic.rpartition("/")[2]
        data = message.payload if isinstance(message.payload, bytes) else b""
        found = read_payload(data, tag if tag in self._columns else None, self._columns)
        if isinstance(found, str):
            self._refuse(f"{topic[:100]!r}: {found}")
        else:
            now = time.monotonic()
            for one in found:
                self.unknown += one.unknown
                stamp = time.time() if one.time is None or self._options.stamps == "arrival" else one.time
                columns = [self._columns[name] for name in one.values]
                self.assembler.take(now, stamp, columns, list(one.values.values()), anchor=not message.retain)
        self._flush()


def _check_filter(topic: str) -> None:
    """A topic filter of MQTT 3.1.1, 4.7.

    Example:
        >>> _check_filter("plant/+/#")
    """
    levels = topic.split("/")
    wrong = not topic or len(topic.encode()) > 65_535 or "\0" in topic
    wrong = wrong or any("#" in level and (level != "#" or k + 1 < len(levels)) for k, level in enumerate(levels))
    if wrong or any("+" in level and level != "+" for level in levels):
        raise InvalidConfig(f"{topic[:100]!r} is no topic filter.", "Give it as mqtt://HOST:PORT/plant/line1/#.")


def _read_topics(path: str, schema: SensorSchema) -> dict[str, str]:
    cure = 'It must have a table [topics] with lines "plant/tank/level" = "TAG".'
    try:
        found = tomllib.loads(must_exist(path, "the topic map").read_bytes().decode("utf-8")).get("topics")
    except OSError as error:
        raise FileTrouble(f"the topic map {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"the topic map {path} is no TOML: {one_line(error)}.", cure) from error
    if not isinstance(found, dict) or not all(isinstance(tag, str) for tag in found.values()):
        raise InvalidConfig(f"the topic map {path} has no table [topics] of texts.", cure)
    unknown = sorted(set(found.values()) - set(schema.tags))
    if unknown:
        raise InvalidConfig(f"the topic map {path} names {', '.join(unknown[:5])}, no tag of the bundle.", cure)
    return found
