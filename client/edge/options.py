"""What sources and sinks have in common: their options, secrets in files, TLS, growing pauses."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from shared.artefact import Artefact
from shared.errors import FileTrouble, InvalidConfig

if TYPE_CHECKING:
    import ssl

_SECRET_MOST = 4096
Options = TypeVar("Options", bound=Artefact)


def read_options(kind: type[Options], given: Mapping[str, str], where: str) -> Options:
    """Options as texts to their own types.

    Raises:
        InvalidConfig: one is unknown, or is not what it must be; the message names it.

    Example:
        >>> class Some(Artefact):
        ...     pause_s: float = 1.0
        >>> read_options(Some, {"pause_s": "2.5"}, "mqtt").pause_s
        2.5
        >>> read_options(Some, {"pause": "2.5"}, "mqtt")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        InvalidConfig: mqtt has no option
    """
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for name in given:
        if name not in known:
            raise InvalidConfig(f"{where} has no option {name!r}.", f"Known: {', '.join(sorted(known))}.")
    try:
        return kind.of(msgspec.to_builtins(msgspec.convert(dict(given), kind, strict=False)))
    except (msgspec.ValidationError, ValueError) as error:
        text, _, place = " ".join(str(error).split()).partition(" - at `$.")
        name = place.strip("`")
        told = f"{name}: {text}" if name else text
        raise InvalidConfig(f"{where}: {told}.", "docs/edge lists the options of every source and sink.") from error


@dataclass(frozen=True)
class Place:
    """A URL's parts.

    Attributes:
        scheme, host, port, path: the path without its first slash.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def loopback(self) -> bool:
        """Whether nothing leaves this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def read_place(location: str, ports: Mapping[str, int]) -> Place:
    """A URL; secrets are refused in it, because command lines and logs show it.

    Args:
        location: as `mqtts://broker:8883/plant/#`.
        ports: schemes, and the port of each when none is given.

    Raises:
        InvalidConfig: no host, no such port, or a name and password in it.
    """
    shown = location.rpartition("@")[2]
    try:
        url = urlsplit(location)
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise InvalidConfig(f"{shown!r} is no URL: {error}.", "Give it as SCHEME://HOST:PORT.") from error
    if url.username is not None or url.password is not None:
        raise InvalidConfig("a URL must not carry a user or password.", "Use the options `user` and `password_file`.")
    if not host or url.scheme not in ports or port == 0:
        raise InvalidConfig(f"{location!r} names no host.", f"Give it as {next(iter(ports))}://HOST:PORT.")
    path = location.partition("://")[2].partition("/")[2]  # `#` is no fragment here: MQTT filters have it
    return Place(url.scheme, host, port or ports[url.scheme], path)


def read_secret(path: str, what: str) -> str:
    """A password or key from a file's first line.

    Raises:
        FileTrouble: it cannot be read, or is empty.
    """
    try:
        with open(path, "rb") as file:
            line = file.read(_SECRET_MOST).decode("utf-8").partition("\n")[0].strip("\r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise FileTrouble(f"{what} {path}: {reason}.") from error
    if not line:
        raise FileTrouble(f"{what} {path} is empty.", "Its first line must be the secret.")
    return line


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """A client's TLS: the other side is always verified, by name too.

    Args:
        ca: file of trusted certificates; empty: the system's.
        certificate, key: our own, for servers that ask; empty: none.

    Raises:
        FileTrouble: a file cannot be read or is no certificate.
        InvalidConfig: one of certificate and key without the other.
    """
    import ssl

    if bool(certificate) != bool(key):
        raise InvalidConfig("a client certificate needs its key and the other way round.", "Give both.")
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if certificate:
            context.load_cert_chain(certificate, key, password=lambda: b"")  # Never asks at a terminal.
    except OSError as error:  # ssl.SSLError is one.
        files = ", ".join(file for file in (ca, certificate, key) if file)
        raise FileTrouble(f"{files or 'the certificates of the system'}: {error.strerror or error}.") from error
    return context


def must_exist(path: str, what: str) -> Path:
    """A file that is there.

    Raises:
        FileTrouble: it is not.
    """
    found = Path(path)
    if not found.is_file():
        raise FileTrouble(f"{what} {path} does not exist.")
    return found


class Pause:
    """A growing pause between attempts.

    Args:
        first_s, longest_s: doubled from one to the other.

    Example:
        >>> pause = Pause(1.0, 5.0)
        >>> [pause.next() for _ in range(4)]
        [1.0, 2.0, 4.0, 5.0]
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first, self._longest, self._next = first_s, max(first_s, longest_s), first_s

    def next(self) -> float:
        """How long to wait now."""
        now, self._next = self._next, min(self._longest, 2 * self._next)
        return now

    def reset(self) -> None:
        """It went well: begin with the first pause again."""
        self._next = self._first


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, on one line; its kind when it says nothing."""
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:most]
