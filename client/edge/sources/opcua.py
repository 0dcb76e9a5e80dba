"""OPC UA: a subscription to the plant's variables, read-only, with a fresh client for every connection.

asyncua's own reconnection is not used: a client that lost its server can hang for good (opcua-asyncio issue 1660), and
one whose subscription expired grows (issue 116). Here a lost session's client is closed and forgotten.

Readings are what the server publishes: values, their quality and the time at their source. Of the services that a
session can ask for, only these are used: browse, subscribe, publish, read of the server's state. Nothing is written.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from msgspec import Meta

from client.edge.memory import give_back
from client.edge.options import Pause, Place, must_exist, one_line, read_options, read_place, read_secret
from client.edge.sources.assemble import Assembler, Grumbler, Rules, as_number
from client.edge.sources.base import SourceSettings
from client.edge.sources.live import Live, Lost
from client.edge.sources.opcua_parts import (
    application_uri,
    browse,
    close,
    only,
    pem_or_der,
    quality,
    read_nodes,
    seconds,
)
from shared.artefact import Artefact
from shared.errors import InvalidConfig, MissingExtra
from shared.schema import SensorSchema

if TYPE_CHECKING:
    from asyncua import Client, ua

_OVERFLOW = 0x480  # bits of a status code: the server's queue was too short, values are missing

Positive = Annotated[float, Meta(gt=0)]
AtLeastZero = Annotated[float, Meta(ge=0)]


class OpcuaOptions(Artefact, frozen=True, kw_only=True):
    """Options of an OPC UA source.

    Attributes:
        nodes: TOML file, `[nodes]` with TAG = "NodeId"; empty: variables are found by their browse name.
        under: node below which they are looked for.
        user, password_file: empty: anonymous.
        certificate, key: of this client; with them, Basic256Sha256, signed and encrypted.
        server_certificate: file of the server's certificate: only a server that has its key is talked to.
        cleartext: allow a password without encryption to another machine.
        publishing_s: how often the server sends; 0: half a period, from 0.05 to 1 s.
        deadband: least change of a value that is told; 0: every change.
        queue: changes of a value that the server keeps between two publications.
        lateness_s: how long a row waits; 0: two publications.
        hold_s: how long a value stands in for the next; 0: until it changes.
        stall_s: silence that is told; 0: ten periods, at least 10 s.
        quiet: values may rest for long: what counts as silence is a server that no longer says that it is there.
        uncertain: whether readings of uncertain quality are `missing` or are to `take`.
        stamps: whose time counts: of the `source`, the `server`, or their `arrival` here.
        timeout_s: for an answer.
        pause_s, longest_pause_s: between two attempts to connect.
    """

    nodes: str = ""
    under: str = "i=85"
    user: str = ""
    password_file: str = ""
    certificate: str = ""
    key: str = ""
    server_certificate: str = ""
    cleartext: bool = False
    publishing_s: AtLeastZero = 0.0
    deadband: AtLeastZero = 0.0
    queue: Annotated[int, Meta(ge=1, le=10_000)] = 10
    lateness_s: AtLeastZero = 0.0
    hold_s: AtLeastZero = 0.0
    stall_s: AtLeastZero = 0.0
    quiet: bool = False
    uncertain: Literal["missing", "take"] = "missing"
    stamps: Literal["source", "server", "arrival"] = "source"
    timeout_s: Positive = 4.0
    pause_s: Positive = 1.0
    longest_pause_s: Positive = 60.0


def open_opcua(settings: SourceSettings) -> OpcuaSource:
    """The source for `opc.tcp://HOST:PORT[/PATH]`.

    Raises:
        InvalidConfig: an option, the node map, or a password that would cross a network in the clear.
        FileTrouble: a file of the options is not there.
        MissingExtra: asyncua is not installed.
    """
    place = read_place(settings.location, {"opc.tcp": 4840})
    options = read_options(OpcuaOptions, settings.options, "opc.tcp")
    _check_security(options, place)
    give_back()  # asyncua brings 25 MB of Python: let that be the peak, and not on top of what starting has mapped.
    try:
        import asyncua  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "an OPC UA source needs asyncua, which is not installed.", "Run `pip install 'crossplant[opcua]'`."
        ) from error
    give_back()
    for name in ("asyncua", "uaprocessor"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # What it logs for a lost server is told as notices.
    nodes = read_nodes(options.nodes, settings.schema) if options.nodes else {}
    password = read_secret(options.password_file, "the password file") if options.password_file else ""
    return OpcuaSource(settings.location, settings.schema, options, nodes, password)


def _check_security(options: OpcuaOptions, place: Place) -> None:
    secured = [bool(file) for file in (options.certificate, options.key, options.server_certificate)]
    if any(secured) and not all(secured):
        raise InvalidConfig("encryption needs `certificate`, `key` and `server_certificate`.", "Give all three.")
    if bool(options.user) != bool(options.password_file):
        raise InvalidConfig("`user` and `password_file` go together.", "Give both or neither.")
    if options.user and not any(secured) and not place.loopback and not options.cleartext:
        raise InvalidConfig(
            f"the password would cross the network to {place.host} in the clear.",
            "Give `certificate`, `key` and `server_certificate`, or say `cleartext = true`.",
        )
    for file in (options.certificate, options.key, options.server_certificate):
        if file:
            must_exist(file, "the file")


class OpcuaSource(Live):
    """See the module.

    Attributes:
        bad, uncertain: readings of such quality.
        overflows: readings before which the server had to leave some out.
    """

    def __init__(
        self, url: str, schema: SensorSchema, options: OpcuaOptions, nodes: dict[str, str], password: str
    ) -> None:
        period = schema.period_s
        self._publishing = options.publishing_s or min(1.0, max(0.05, period / 2))
        stall = options.stall_s or max(10.0, 10 * period)
        late = options.lateness_s or 2 * self._publishing
        rules = Rules(late, options.hold_s or math.inf, stall, max(stall, 10 * period))
        pause = Pause(options.pause_s, options.longest_pause_s)
        super().__init__(url, Assembler(schema, rules), pause, forget=True, tick_s=min(0.25, period / 4))
        self._url, self._schema, self._options, self._nodes, self._password = url, schema, options, nodes, password
        self._keepalives = max(1, int(stall / 3 / self._publishing))
        self._silent_s = max(3 * self._keepalives * self._publishing, options.timeout_s)
        self.bad = self.uncertain = self.overflows = 0
        self._overflowing = Grumbler()
        self._unfound = ""

    async def _session(self) -> None:
        client = await self._client()
        try:
            await client.connect()  # What it raises says why: see `_words`.
            await self._listen(client)
        finally:
            await close(client)

    async def _listen(self, client: Client) -> None:
        from asyncua import ua

        try:
            columns = await self._find(client)
            heard = _Heard(self, len(self._schema.tags))
            await self._subscribe(client, columns, heard)
            self._up()
            heard.begin()
            await self._watch(client, heard)
        except ua.UaError as error:
            raise Lost(one_line(error)) from error

    async def _watch(self, client: Client, heard: _Heard) -> None:
        """Hand over rows until the server is lost."""
        while True:
            await asyncio.sleep(self._tick_s)
            self._flush()
            if heard.ended:
                raise Lost(heard.ended)
            if client.state.name != "CONNECTED":
                raise Lost("the connection broke")
            if time.monotonic() - heard.at > self._silent_s:
                raise Lost(f"the server said nothing for {self._silent_s:.0f} s")

    def _words(self, error: Exception) -> str:
        """One sentence for what asyncua raises."""
        text = one_line(error)
        kind = type(error).__name__
        if isinstance(error, TimeoutError):
            hint = "; does the server have the key of `server_certificate`, and does it trust `certificate`?"
            return f"no answer{hint if self._options.certificate else ''}"
        if "BadUserAccessDenied" in kind or "BadIdentityToken" in kind:
            return f"the user or password is refused ({kind})"
        if "Certificate" in kind or "BadSecurity" in kind:
            return f"the certificates do not fit: {text}"
        return text if kind in ("Lost", "ConnectionRefusedError", "OSError") else f"{kind}: {text}"

    async def _client(self) -> Client:
        """A fresh client, not yet connected."""
        from asyncua import Client
        from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
        from asyncua.crypto.uacrypto import CertProperties

        options = self._options
        client = Client(self._url, timeout=options.timeout_s, watchdog_intervall=options.timeout_s)
        client.name = client.description = "crossplant edge, read-only"
        if options.certificate:
            client.application_uri = application_uri(options.certificate) or client.application_uri
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                certificate=CertProperties(*pem_or_der(options.certificate)),
                private_key=CertProperties(*pem_or_der(options.key)),
                server_certificate=CertProperties(*pem_or_der(options.server_certificate)),
            )
            client.certificate_validator = only(options.server_certificate)
        if options.user:
            client.set_user(options.user)
            client.set_password(self._password)
        return client

    async def _find(self, client: Client) -> dict[int, ua.NodeId]:
        """Column and node of every tag that is there."""
        from asyncua import ua

        if self._nodes:
            return {k: ua.NodeId.from_string(self._nodes[tag]) for k, tag in enumerate(self._schema.tags)}
        found = await browse(client, self._options.under, set(self._schema.tags))
        twice = sorted(tag for tag, nodes in found.items() if len(nodes) > 1)
        if twice:
            raise Lost(f"several variables are called {', '.join(twice[:5])}: give the option `nodes`")
        missing = [tag for tag in self._schema.tags if tag not in found]
        if len(missing) == len(self._schema.tags):
            raise Lost(f"no variable below {self._options.under} is called like a tag of the bundle")
        self._tell_unfound(missing)
        return {k: found[tag][0] for k, tag in enumerate(self._schema.tags) if tag in found}

    def _tell_unfound(self, missing: list[str]) -> None:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        told = ", ".join(missing[:5]) + more
        if told and told != self._unfound:
            self._refuse(f"the server has no variable for {told}")
        self._unfound = told

    async def _subscribe(self, client: Client, columns: dict[int, ua.NodeId], heard: _Heard) -> None:
        from asyncua import ua
        from asyncua.common.subscription import Subscription

        params = ua.CreateSubscriptionParameters()
        params.RequestedPublishingInterval = 1000 * self._publishing
        params.RequestedMaxKeepAliveCount = self._keepalives
        params.RequestedLifetimeCount = max(30, 10 * self._keepalives)
        params.MaxNotificationsPerPublish = 0
        params.PublishingEnabled = True
        subscription: Any = Subscription(client.uaclient.session, params, handler=cast(Any, heard))
        subscription.publish_callback = heard.published
        await subscription.init()
        items = list(columns.items())
        results = await subscription.create_monitored_items([self._item(column, node) for column, node in items])
        refused = [
            f"{self._schema.tags[column]} ({result.name})"
            for (column, _), result in zip(items, results, strict=True)
            if isinstance(result, ua.StatusCode)
        ]
        if len(refused) == len(items):
            raise Lost(f"the server lets no variable be read, as {refused[0]}")
        self._tell_unfound(refused)

    def _item(self, column: int, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
        from asyncua import ua

        wanted = ua.MonitoringParameters()
        wanted.ClientHandle = column
        wanted.SamplingInterval = 1000 * min(self._publishing, self._schema.period_s / 2)
        wanted.QueueSize = self._options.queue
        wanted.DiscardOldest = True
        change = ua.DataChangeFilter()
        change.Trigger = ua.DataChangeTrigger.StatusValueTimestamp
        if self._options.deadband:
            change.Trigger = ua.DataChangeTrigger.StatusValue
            change.DeadbandType, change.DeadbandValue = ua.DeadbandType.Absolute, self._options.deadband
        wanted.Filter = change
        request = ua.MonitoredItemCreateRequest()
        request.ItemToMonitor = ua.ReadValueId()
        request.ItemToMonitor.NodeId = node
        request.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        request.MonitoringMode = ua.MonitoringMode.Reporting
        request.RequestedParameters = wanted
        return request

    def _reading(self, item: Any) -> float:
        """A monitored item's value as a number; NaN where its quality or kind does not do."""
        found = item.Value
        code = int(found.StatusCode.value) if found.StatusCode is not None else 0
        if code & _OVERFLOW == _OVERFLOW:
            self.overflows += 1
            text = self._overflowing.refuse(time.monotonic(), "the server's queue was too short: changes are missing")
            if text:
                self.assembler.tell("overflow", text)
        how = quality(code)
        if how == "bad":
            self.bad += 1
            return math.nan
        if how == "uncertain":
            self.uncertain += 1
            if self._options.uncertain == "missing":
                return math.nan
        number = as_number(found.Value.Value if found.Value is not None else None)
        if number is None:
            self._refuse(f"{self._schema.tags[item.ClientHandle]} is no number")
            return math.nan
        return number

    def _stamp(self, found: Any) -> float:
        stamps = self._options.stamps
        first = found.SourceTimestamp if stamps == "source" else None
        told = None if stamps == "arrival" else first or found.ServerTimestamp
        return time.time() if told is None else seconds(told)


class _Heard:
    """Takes what a subscription publishes; keeps it until the session stands (`begin`): no row before `reconnected`."""

    def __init__(self, source: OpcuaSource, width: int) -> None:
        self.at = time.monotonic()
        self.ended = ""
        self._source, self._width = source, width
        self._known: set[int] = set()
        self._early: list[tuple[float, Any]] | None = []

    async def published(self, result: Any) -> None:
        """Of asyncua: one answer to a publish request, with notifications or none (the server is there)."""
        self.at = time.monotonic()
        if self._early is None:
            self._take(self.at, result)
        else:
            self._early.append((self.at, result))

    def begin(self) -> None:
        """Take what came early, and from now on at once."""
        early, self._early = self._early or [], None
        for at, result in early:
            self._take(at, result)

    def _take(self, now: float, result: Any) -> None:
        message = result.NotificationMessage
        told = message.PublishTime
        if told is not None and self._source._options.stamps != "arrival":
            self._source.assembler.clock(now, seconds(told))
        if self._source._options.quiet:
            self._source.assembler.alive(now)
        for notification in message.NotificationData or ():
            items = getattr(notification, "MonitoredItems", None)
            if items is not None:
                self._changed(now, items)
            elif hasattr(notification, "Status"):
                self.ended = f"the server ended the subscription ({notification.Status})"
        self._source._flush()

    def _changed(self, now: float, items: Iterable[Any]) -> None:
        """Readings of the same moment are taken together; the first of each tag may be old."""
        moments: dict[tuple[float, bool], tuple[list[int], list[float]]] = {}
        for item in items:
            column = item.ClientHandle
            if not (0 <= column < self._width) or item.Value is None:
                self._source._refuse("the server publishes what nobody asked for")
                continue
            fresh = column in self._known
            self._known.add(column)
            columns, values = moments.setdefault((self._source._stamp(item.Value), fresh), ([], []))
            if column in columns:  # Two values for one moment: the later counts.
                values[columns.index(column)] = self._source._reading(item)
            else:
                columns.append(column)
                values.append(self._source._reading(item))
        for (stamp, fresh), (columns, values) in moments.items():
            self._source.assembler.take(now, stamp, columns, values, anchor=fresh)
