"""What the OPC UA source and sink share: node maps, browsing, certificates, qualities and times."""

from __future__ import annotations

import asyncio
import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from client.edge.options import must_exist, one_line
from client.edge.sources.live import Lost
from shared.errors import FileTrouble, InvalidConfig
from shared.schema import SensorSchema

if TYPE_CHECKING:
    from asyncua import Client, ua

_MOST_NODES = 100_000  # looked at while browsing
_DEPTH = 12
_GOODBYE_S = 2.0  # for an orderly end; a server that is frozen says nothing
_SERVER_NODE = 2253  # the Server object of namespace 0: no plant below it


def read_nodes(path: str, schema: SensorSchema) -> dict[str, str]:
    """The node map: a NodeId for every tag.

    Raises:
        FileTrouble: it cannot be read.
        InvalidConfig: it is no TOML of the form, names unknown tags or lacks some.
    """
    cure = 'It must have a table [nodes] with a line TAG = "ns=2;s=..." for every tag of the bundle.'
    try:
        found = tomllib.loads(must_exist(path, "the node map").read_bytes().decode("utf-8")).get("nodes")
    except OSError as error:
        raise FileTrouble(f"the node map {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"the node map {path} is no TOML: {one_line(error)}.", cure) from error
    if not isinstance(found, dict) or not all(isinstance(node, str) for node in found.values()):
        raise InvalidConfig(f"the node map {path} has no table [nodes] of texts.", cure)
    unknown = [tag for tag in found if tag not in schema.tags]
    missing = [tag for tag in schema.tags if tag not in found]
    if unknown or missing:
        parts = [("lacks", missing), ("has unknown", unknown)]
        told = "; ".join(f"{word} {', '.join(tags[:5])}" for word, tags in parts if tags)
        raise InvalidConfig(f"the node map {path} {told}.", cure)
    return found


def quality(code: int) -> Literal["good", "uncertain", "bad"]:
    """The two severity bits of an OPC UA status code (Part 4, 7.39).

    Example:
        >>> quality(0), quality(0x40000000), quality(0x80000000)
        ('good', 'uncertain', 'bad')
    """
    return ("good", "uncertain", "bad", "bad")[(code >> 30) & 3]


async def browse(client: Client, under: str, wanted: set[str]) -> dict[str, list[ua.NodeId]]:
    """Variables below a node that are called like a tag, by browse name.

    Raises:
        Lost: the address space does not end.
    """
    from asyncua import ua

    found: dict[str, list[ua.NodeId]] = {}
    seen: set[ua.NodeId] = set()
    level = [ua.NodeId.from_string(under)]
    for _ in range(_DEPTH):
        below: list[ua.NodeId] = []
        for node in level:
            for one in await client.get_node(node).get_children_descriptions():
                if one.NodeId in seen or one.NodeId == ua.NodeId(ua.Int32(_SERVER_NODE)):
                    continue
                seen.add(one.NodeId)
                below.append(one.NodeId)
                if one.NodeClass == ua.NodeClass.Variable and one.BrowseName.Name in wanted:
                    found.setdefault(one.BrowseName.Name, []).append(one.NodeId)
        if len(seen) > _MOST_NODES:
            raise Lost(f"more than {_MOST_NODES} nodes below {under}: give the option `nodes` or `under`")
        level = below
    return found


def seconds(stamp: datetime) -> float:
    """A time of asyncua (UTC, whether it says so or not) in seconds since 1970-01-01 UTC."""
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def application_uri(certificate: str) -> str:
    """The application's name in its certificate: servers compare it with what a client calls itself."""
    from cryptography import x509

    with suppress(x509.ExtensionNotFound):
        names = load_certificate(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        return uris[0] if uris else ""
    return ""


def load_certificate(certificate: str) -> Any:
    """A certificate from a PEM or DER file.

    Raises:
        FileTrouble: it is none.
    """
    from cryptography import x509

    data = must_exist(certificate, "the certificate").read_bytes()
    try:
        pem = data.startswith(b"-----")
        return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise FileTrouble(f"{certificate} is no certificate: {one_line(error)}.") from error


def pem_or_der(path: str) -> tuple[bytes, str]:
    """A file's content, and its format by what it holds: asyncua goes by the file's name."""
    data = must_exist(path, "the file").read_bytes()
    return data, "pem" if data.startswith(b"-----") else "der"


def only(trusted: str) -> Any:
    """A check for asyncua: the server's certificate is the one in the file, byte for byte."""
    from asyncua import ua
    from asyncua.common.utils import ServiceError
    from cryptography.hazmat.primitives.serialization import Encoding

    due = load_certificate(trusted).public_bytes(Encoding.DER)

    async def check(certificate: Any, _: Any) -> None:
        if certificate.public_bytes(Encoding.DER) != due:
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    return check


async def close(client: Client) -> None:
    """End a client's session, its tasks and its socket, whatever state it is in, and also when this is cancelled.

    asyncua leaves the socket open when it was cancelled while connecting, and when it found by itself that the server
    no longer answers: it then takes the client for disconnected (2.1.0).
    """
    protocol = client.uaclient.protocol  # `disconnect` forgets it.
    try:
        with suppress(Exception):
            await asyncio.wait_for(client.disconnect(), _GOODBYE_S)
    finally:
        tasks = (
            client._stale_watchdog_task, client._supervisor_task, client._renew_channel_task,
            client.uaclient.session._publish_task,
        )  # fmt: skip
        for task in tasks:
            if task is not None:
                task.cancel()
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
