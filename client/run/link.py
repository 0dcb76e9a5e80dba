"""The plant's line to the coordinator: what the plant shows there, and in plain words why it is not let in.

Flower's SuperNode 1.41 knows no client certificate, and of a connection that fails it logs what OpenSSL says, if
anything. Its client for the Fleet API takes a TLS context and interceptors, though: this gives it both. Every failure
is looked into as `crossplant preflight` does, logged, and noted in a file that `crossplant client status` reads.
"""

from __future__ import annotations

import inspect
import os
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufClient, ProtobufRequestContext
from flwr.supercore.version import package_version
from flwr.supernode import fleet_http_connection

from client.run.note import write_note
from shared.errors import MissingExtra
from shared.preflight import network
from shared.preflight.verdict import Verdict, fail

_LOOK_AGAIN_S = 10.0
_TOUCH_S = 5.0
_UNKNOWN = fail(
    "server",
    "the coordinator does not take this plant's key: it was revoked, or never approved.",
    "Ask the operator; `crossplant provision site list` shows it there.",
)
_NOT_NOW = fail(  # Flower answers both alike
    "server",
    "the coordinator does not take this plant's key: it was revoked or never approved, or is in use by another "
    "process, or it was killed less than a minute ago and is still counted as connected.",
    "It is tried again; if this stays for more than a minute, ask the operator.",
)
_BEHIND = fail("server", "the gateway answers, the coordinator behind it does not.", "It is tried again.")
_BROKEN = "the connection broke off"


class Line:
    """How the line to the coordinator stands, as an interceptor of Flower's client sees it.

    Args:
        peer: whom it leads to, with which files.
        note: file for `client status`; None: none is kept.
        say: gets a line when the standing changes.
        look: dials as preflight does, to find out what is wrong.
    """

    def __init__(self, peer: network.Peer, note: Path | None, say: Callable[[str], None],
                 look: Callable[[network.Peer], list[Verdict]] = network.reach) -> None:  # fmt: skip
        self._peer, self._note, self._say, self._look = peer, note, say, look
        self._lock = threading.Lock()  # heartbeats have a thread of their own
        self._standing: tuple[str, Verdict | None] = ("dialling", None)
        self._touched = self._looked = -_LOOK_AGAIN_S

    @property
    def refused(self) -> Verdict | None:
        """Why one side does not take the other; None: it does, as far as is known."""
        state, trouble = self._standing
        return trouble if state == "refused" else None

    @property
    def trouble(self) -> Verdict | None:
        """What is wrong now; None: nothing."""
        return self._standing[1]

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """One call of Flower's (its `ProtobufClientInterceptor`)."""
        try:
            response = call_next(context)
        except httpx.TransportError as error:
            raise self._broken(error) from error
        refused = network.refused_in_http(response.headers.get(network.REFUSED_HEADER))
        if refused is not None:
            self._stand("refused", refused)
        elif response.status_code == httpx.codes.UNAUTHORIZED:
            self._stand("refused", self._clock() or _UNKNOWN)
        elif _not_activated(response):
            self._stand("refused", _NOT_NOW)
        elif response.status_code in (502, 503, 504):
            self._stand("lost", _BEHIND)
        else:
            self._stand("connected", None)
        return response

    def _broken(self, error: httpx.TransportError) -> httpx.TransportError:
        """What Flower is told: it tries again for ever, unless the text speaks of certificates, SSL or TLS.

        Flower's reading stops a SuperNode for good when a gateway that is started anew breaks off in TLS.
        """
        found = network.refusal(_cause(error)) or self._find()
        if network.refuses(found):
            self._stand("refused", found)
            return httpx.ConnectError(f"certificate refused: {found.says}")
        self._stand("lost", found)
        speaks = any(word in str(error).lower() for word in ("certificate", "ssl", "tls"))
        return httpx.ReadError(_BROKEN) if speaks else error

    def _find(self) -> Verdict:
        """Dial as preflight does; not at every try."""
        with self._lock:
            if time.monotonic() - self._looked < _LOOK_AGAIN_S and self.trouble is not None:
                return self.trouble
            self._looked = time.monotonic()
        failed = [one for one in self._look(self._peer) if one.status == "fail"]
        return failed[0] if failed else fail("server", f"{_BROKEN}.", "It is tried again.")

    def _clock(self) -> Verdict | None:
        """Flower refuses a plant whose clock is off just like one that it does not know."""
        return next((one for one in self._look(self._peer) if (one.name, one.status) == ("clock", "fail")), None)

    def _stand(self, state: str, trouble: Verdict | None) -> None:
        with self._lock:
            if (state, trouble) != self._standing:
                self._standing = (state, trouble)
                self._say(f"the coordinator: {state}" + (f": {trouble.says} {trouble.mend}" if trouble else ""))
                if self._note is not None:
                    write_note(self._note, state, *((trouble.says, trouble.mend) if trouble else ()))
            elif trouble is None and self._note is not None and time.monotonic() - self._touched > _TOUCH_S:
                self._touched = time.monotonic()
                with suppress(OSError):
                    os.utime(self._note)


def _not_activated(response: httpx.Response) -> bool:
    """Whether the coordinator does not let this key in."""
    return response.request.url.path.endswith("/activate-node") and 400 <= response.status_code < 500


def _cause(error: BaseException) -> ssl.SSLError | None:
    """OpenSSL's own error behind one of httpx's."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError):
        seen = seen.__cause__ or seen.__context__
    return seen


class _Moved(Exception):
    """What is not where it was in Flower."""


def check_flower() -> None:
    """Whether the installed Flower is built as this expects.

    Raises:
        MissingExtra: it is another one.
    """
    try:
        fleet = getattr(fleet_http_connection, "FleetHttpClient", None)
        if not (inspect.isclass(fleet) and issubclass(fleet, ProtobufClient)):
            raise _Moved("fleet_http_connection.FleetHttpClient")
        _parameters(ProtobufClient.__init__, "base_url", "interceptors", "verify", "retry_invoker")
        _parameters(
            fleet.from_server_address,
            "server_address",
            "insecure",
            "root_certificates",
            "interceptors",
            "retry_invoker",
        )
    except _Moved as moved:
        cause = f"flwr {package_version} has no {moved} as 1.41 has it: the plant's certificate cannot be shown."
        raise MissingExtra(cause, "pip install 'flwr==1.41.*'") from moved


def _parameters(function: Callable[..., Any], *names: str) -> None:
    if lacking := [name for name in names if name not in inspect.signature(function).parameters]:
        raise _Moved(f"{function.__qualname__}({lacking[0]})")


def join(line: Line, context: ssl.SSLContext | None) -> None:
    """Make Flower's SuperNode connect with a TLS context of ours, and over `line`.

    Args:
        line: sees every call.
        context: with the plant's certificate; None without TLS.

    Raises:
        MissingExtra: the installed Flower is built otherwise.
    """
    check_flower()

    class Fleet(fleet_http_connection.FleetHttpClient):  # type: ignore[name-defined,misc,unused-ignore]
        @classmethod
        def from_server_address(cls, server_address: str, insecure: bool, root_certificates: bytes | str | None,
                                interceptors: Sequence[Any], *, retry_invoker: Any = None) -> Any:  # fmt: skip
            through = (line, *interceptors)
            if insecure or context is None:
                return super().from_server_address(
                    server_address, insecure, root_certificates, through, retry_invoker=retry_invoker
                )
            address = f"https://{server_address}"
            return cls(address, interceptors=through, verify=context, retry_invoker=retry_invoker)

    fleet_http_connection.FleetHttpClient = Fleet  # type: ignore[attr-defined,misc,unused-ignore]


def say(line: str) -> None:
    """A line in the SuperNode's log."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
