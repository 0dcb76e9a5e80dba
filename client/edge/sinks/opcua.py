"""OPC UA: a small server of our own, for the control system to read. `opc.tcp://127.0.0.1:4841` is where it listens.

Why a server of our own and not writes to the plant's: nothing of Crossplant may write to a control system. Clients
read, and cannot write: variables are read-only. Below `Objects/Crossplant`:

    Score Threshold GuardScore Anomalous Mode Time Bundle      of the newest scored window
    AlarmState ActiveAlarm LastAlarm (JSON) AlarmsRaised       of the alarms
    and an event on `Crossplant` for every record of type alarm, fault, drift and swap: its text is the record as JSON
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from client.edge.options import Place, must_exist, one_line, read_options, read_place, read_secret
from client.edge.records import Record
from client.edge.sinks.base import Delivery, SinkSettings, encoded
from client.edge.sources.opcua_parts import application_uri, pem_or_der
from shared.artefact import Artefact
from shared.errors import InvalidConfig, MissingExtra

TYPES = frozenset({"score", "alarm", "fault", "drift", "swap"})
NAMESPACE = "urn:crossplant:edge"
_WAITING = 1000
_RETRY_S = 5.0
_SEVERITY = {"alarm": 800, "fault": 500, "drift": 300, "swap": 200}
VARIABLES: dict[str, Any] = {
    "Score": math.nan, "Threshold": math.nan, "GuardScore": math.nan, "Anomalous": False, "Mode": -1, "Time": "",
    "Bundle": "", "AlarmState": "normal", "ActiveAlarm": False, "LastAlarm": "", "AlarmsRaised": 0,
}  # fmt: skip


class OpcuaSinkOptions(Artefact, frozen=True, kw_only=True):
    """Options of the OPC UA server.

    Attributes:
        certificate, key: with them, only clients that sign and encrypt (Basic256Sha256) are let in.
        user, password_file: with them, only who knows the password is let in.
        public: allow an address that other machines reach; needs `certificate`, `key`, `user` and `password_file`.
    """

    certificate: str = ""
    key: str = ""
    user: str = ""
    password_file: str = ""
    public: bool = False


def open_opcua(settings: SinkSettings) -> OpcuaSink:
    """The sink for `opc.tcp://HOST:PORT`, where HOST is an address of this machine.

    Raises:
        InvalidConfig: an option, or an address that other machines reach without encryption and a password.
        FileTrouble: a file of the options cannot be used.
        MissingExtra: asyncua is not installed.
    """
    place = read_place(settings.location, {"opc.tcp": 4841})
    options = read_options(OpcuaSinkOptions, settings.options, "the OPC UA server")
    if bool(options.certificate) != bool(options.key) or bool(options.user) != bool(options.password_file):
        raise InvalidConfig("`certificate` and `key`, `user` and `password_file` go together.", "Give both or neither.")
    if not place.loopback and not (options.public and options.certificate and options.user):
        raise InvalidConfig(
            f"{place.host} is reached from other machines.",
            "Use 127.0.0.1, or `public = true` with `certificate`, `key`, `user` and `password_file`.",
        )
    for file in (options.certificate, options.key):
        if file:
            must_exist(file, "the file")
    try:
        import asyncua  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "an OPC UA server needs asyncua, which is not installed.", "Run `pip install 'crossplant[opcua]'`."
        ) from error
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    password = read_secret(options.password_file, "the password file") if options.user else ""
    return OpcuaSink(settings, place, options, password)


class OpcuaSink:
    """See the module."""

    name = "opcua"

    def __init__(self, settings: SinkSettings, place: Place, options: OpcuaSinkOptions, password: str) -> None:
        self._types = settings.types or TYPES
        self._place, self._options, self._password = place, options, password
        self._waiting: deque[dict[str, Any]] = deque()
        self._delivered = self._dropped = self._raised = 0
        self._trouble = "it is starting"
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve in the background; a port that is taken is tried again."""
        self._task = asyncio.create_task(self._for_ever())

    def put(self, record: Record) -> None:
        """Take a record; of scores only the newest waits."""
        told = record.as_json()
        if told["type"] not in self._types:
            return
        if told["type"] == "score" and self._waiting and self._waiting[-1]["type"] == "score":
            self._waiting.pop()
            self._delivered += 1  # Overtaken by a newer one, as a variable's value is.
        if len(self._waiting) >= _WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(told)
        self._came.set()

    def standing(self) -> Delivery:
        """How it stands."""
        return Delivery(self._delivered, self._dropped, len(self._waiting), self._trouble)

    async def close(self, timeout_s: float) -> None:
        """Publish what waits, and end the server."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_s
        while self._waiting and not self._trouble and loop.time() < ends:
            await asyncio.sleep(0.01)
        self._dropped += len(self._waiting)
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=max(1.0, ends - loop.time()))

    async def _for_ever(self) -> None:
        while True:
            try:
                await self._serve()
            except Exception as error:  # Whatever the library raises: it serves again, and scoring goes on.
                self._trouble = f"{self._place.host}:{self._place.port}: {one_line(error)}"
            await asyncio.sleep(_RETRY_S)

    async def _serve(self) -> None:
        server = await self._server()
        nodes, events = await _tree(server)
        try:
            await server.start()
            self._trouble = ""
            while True:
                while self._waiting:
                    told = self._waiting.popleft()
                    self._dropped += 1  # Until it is published: what ends in between is not lost uncounted.
                    await self._publish(server, nodes, events, told)
                    self._delivered, self._dropped = self._delivered + 1, self._dropped - 1
                self._came.clear()
                await self._came.wait()
        finally:
            with suppress(Exception):
                await asyncio.wait_for(server.stop(), 3.0)

    async def _server(self) -> Any:
        import asyncua

        ua: Any = asyncua.ua
        options = self._options
        users: Any = _Users(options.user, self._password)
        server: Any = asyncua.Server(user_manager=users)
        await server.init()
        server.set_endpoint(f"opc.tcp://{self._place.host}:{self._place.port}/crossplant")
        server.name = "Crossplant edge"
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        if options.certificate:
            await server.set_application_uri(application_uri(options.certificate) or NAMESPACE)
            server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
            await server.load_certificate(*pem_or_der(options.certificate))
            key, kind = pem_or_der(options.key)
            await server.load_private_key(key, format=kind)
        server.set_identity_tokens([ua.UserNameIdentityToken if options.user else ua.AnonymousIdentityToken])
        return server

    async def _publish(self, server: Any, nodes: dict[str, Any], events: Any, told: dict[str, Any]) -> None:
        values = _of_score(told) if told["type"] == "score" else {}
        if told["type"] != "score":
            text = encoded(told).decode()
            if told["type"] == "alarm":
                self._raised += told.get("what") == "raised"
                state = str(told.get("state", ""))
                on = state in ("active", "acknowledged")
                values = {"AlarmState": state, "ActiveAlarm": on, "LastAlarm": text, "AlarmsRaised": self._raised}
            events.event.Severity = _SEVERITY.get(told["type"], 100)
            await events.trigger(message=text[:16_000])
        for name, value in values.items():
            await server.write_attribute_value(nodes[name].nodeid, _data(name, value))


def _of_score(told: dict[str, Any]) -> dict[str, Any]:
    def number(name: str) -> float:
        return math.nan if told.get(name) is None else float(told[name])

    return {
        "Score": number("score"), "Threshold": number("threshold"), "GuardScore": number("guard"),
        "Anomalous": bool(told.get("anomalous")), "Mode": -1 if told.get("mode") is None else int(told["mode"]),
        "Time": datetime.fromtimestamp(told["time"], UTC).isoformat(), "Bundle": str(told.get("bundle", "")),
    }  # fmt: skip


def _data(name: str, value: Any) -> Any:
    import asyncua

    ua: Any = asyncua.ua
    kinds = {float: ua.VariantType.Double, bool: ua.VariantType.Boolean, int: ua.VariantType.Int64}
    now = datetime.now(UTC).replace(tzinfo=None)
    kind = kinds.get(type(VARIABLES[name]), ua.VariantType.String)
    return ua.DataValue(ua.Variant(value, kind), SourceTimestamp=now, ServerTimestamp=now)


async def _tree(server: Any) -> tuple[dict[str, Any], Any]:
    """The nodes, read-only for clients, and what makes events."""
    import asyncua

    ua: Any = asyncua.ua
    index = await server.register_namespace(NAMESPACE)
    top = await server.nodes.objects.add_object(ua.NodeId("Crossplant", index), f"{index}:Crossplant")
    nodes = {}
    for name, value in VARIABLES.items():
        first = _data(name, value).Value
        nodes[name] = await top.add_variable(ua.NodeId(f"Crossplant.{name}", index), f"{index}:{name}", first)
    return nodes, await server.get_event_generator(emitting_node=top)


class _Users:
    """Lets in who knows the password; everybody where there is none."""

    def __init__(self, user: str, password: str) -> None:
        self._due = f"{user}\0{password}".encode() if user else b""

    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        """Of asyncua: the user, or None."""
        import hmac

        from asyncua.crypto.permission_rules import User, UserRole

        word = password.decode("utf-8", "replace") if isinstance(password, bytes) else str(password)
        if self._due and not hmac.compare_digest(f"{username}\0{word}".encode(), self._due):
            return None
        return User(role=UserRole.User, name=str(username or "anonymous"))
