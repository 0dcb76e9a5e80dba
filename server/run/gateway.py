"""The TLS gateway: all that a plant can reach of the coordinator.

It passes `POST /v1/fleet/...` (Flower's Fleet API, by exact path) and `GET /health` to the SuperLink on loopback;
everything else is 404. Flower's Control and Runtime APIs on the same port would let whoever reaches them submit code,
register keys and claim tasks. Run it as `python -m server.run.gateway`; `deploy/nginx.conf` does the same.

Who is let in: `server.run.doorstep`; for how long: `server.run.patience`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx

from server.run.doorstep import say, tls
from server.run.patience import allow_descriptors, configured
from server.run.place import Endpoint, ServerPlace
from shared.flower_process import LOOPBACK, environment, listening
from shared.preflight.network import VERSION_HEADER
from shared.service_errors import PortTaken
from shared.supervise import Spec

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

FLEET = frozenset(
    f"/v1/fleet/{call}"
    for call in (
        "register-node",
        "activate-node",
        "deactivate-node",
        "unregister-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
HEALTH = "/health"
LARGEST_BODY = 64 * 2**20
"""Bytes. Flower sends arrays in chunks of a few MiB."""
OBJECT = "/v1/fleet/push-object"
"""The one call with content. All others name things: keys, ids, the pieces of a reply (70 bytes each)."""
LARGEST_CALL = 64 * 2**10
"""Bytes of any other call. The SuperLink enters a reply's pieces one by one, a millisecond each, and keeps its database
to itself meanwhile: a list of 64 MiB would keep everybody else out for more than a quarter of an hour."""

_PASSED_IN = frozenset((b"content-type", b"content-length", b"accept", b"accept-encoding", b"user-agent"))
_PASSED_OUT = frozenset((b"content-type",))
_FLOWERS = b"flwr-"
_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


@dataclass(frozen=True)
class Limits:
    """What requests may take.

    Attributes:
        body: bytes of one that brings content, in either direction.
        call: bytes of any other request.
        held: bytes of all that are under way; one address may have half of them.
        request_s: from the end of a request's headers to its last byte.
        reply_s: for the SuperLink to answer.
    """

    body: int = LARGEST_BODY
    call: int = LARGEST_CALL
    held: int = 8 * LARGEST_BODY
    request_s: float = 120.0
    reply_s: float = 120.0


class _TooLarge(Exception):
    pass


class _Full(Exception):
    pass


class Gateway:
    """An ASGI app that passes a few paths on.

    Args:
        upstream: base URL of the SuperLink.
        root: certificate to trust there; None without TLS.
        limits: what requests may take.
    """

    def __init__(self, upstream: str, root: Path | None, limits: Limits = Limits()) -> None:
        self._limits, self._held = limits, Counter[str]()  # bytes by address
        verify = True if root is None else ssl.create_default_context(cafile=str(root))
        timeout = httpx.Timeout(limits.reply_s, connect=5.0)
        self._client = httpx.AsyncClient(base_url=upstream, verify=verify, timeout=timeout, trust_env=False)
        self._version = importlib.metadata.version("crossplant").encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (the ASGI interface)."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not allowed(scope["method"], scope["raw_path"]):
            return await _refuse(send, 404, b"not here")
        with self._holding(str((scope.get("client") or ("",))[0])) as hold:
            try:
                async with asyncio.timeout(self._limits.request_s):
                    body = await self._body(scope, receive, hold)
                await self._pass_on(scope, body, send, hold)
            except _TooLarge:
                await _refuse(send, 413, b"too large")
            except TimeoutError:
                await _refuse(send, 408, b"too slow")
            except _Full:
                await _refuse(send, 503, b"too much at once")
            except httpx.HTTPError:  # Flower's nodes try again on 503
                await _refuse(send, 503, b"the coordinator is not there")
        return None

    @contextmanager
    def _holding(self, address: str) -> Iterator[Callable[[int], None]]:
        """Account for the bytes of a request and its answer until both are done with."""
        mine = 0

        def hold(more: int) -> None:
            nonlocal mine
            if mine + more > 2 * self._limits.body:
                raise _TooLarge
            if self._held.total() + more > self._limits.held or self._held[address] + more > self._limits.held // 2:
                raise _Full
            mine += more
            self._held[address] += more

        try:
            yield hold
        finally:
            self._held[address] -= mine
            if self._held[address] <= 0:
                del self._held[address]

    async def _body(self, scope: Scope, receive: Receive, hold: Callable[[int], None]) -> bytes:
        most = self._limits.body if scope["raw_path"] == OBJECT.encode() else min(self._limits.call, self._limits.body)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > most:
            raise _TooLarge
        whole = bytearray()
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise TimeoutError
            part = event.get("body", b"")
            hold(len(part))
            whole += part
            if len(whole) > most:
                raise _TooLarge
            if not event.get("more_body", False):
                return bytes(whole)

    async def _pass_on(self, scope: Scope, body: bytes, send: Send, hold: Callable[[int], None]) -> None:
        headers = [(name, value) for name, value in scope["headers"] if _passes(name.lower(), _PASSED_IN)]
        path = scope["raw_path"].decode("ascii")
        request = self._client.build_request(scope["method"], path, content=body, headers=headers)
        reply = await self._client.send(request, stream=True)
        content = bytearray()
        async with aclosing(reply):
            async for part in reply.aiter_bytes():
                hold(len(part))
                content += part
        kept = [(name.lower(), value) for name, value in reply.headers.raw if _passes(name.lower(), _PASSED_OUT)]
        own = [(VERSION_HEADER.encode(), self._version)] if path == HEALTH else []
        await _say(send, reply.status_code, bytes(content), kept + own)


def allowed(method: str, raw_path: bytes) -> bool:
    """Whether a request may pass: by the bytes of its path, so that no way of writing another one gets through."""
    path = raw_path.decode("latin-1")
    return (method == "POST" and path in FLEET) or (method == "GET" and path == HEALTH)


def _passes(name: bytes, known: frozenset[bytes]) -> bool:
    return name in known or name.startswith(_FLOWERS)


async def _refuse(send: Send, status: int, why: bytes) -> None:
    """Answer in the gateway's own words, and hang up: there may be more of the request to come."""
    await _say(send, status, why, [(b"connection", b"close")])


async def _say(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Answer, with the time: Flower refuses signatures of a clock that is off, and preflight compares with this."""
    own = [(b"date", formatdate(usegmt=True).encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *own]})
    await send({"type": "http.response.body", "body": body})


def gateway(place: ServerPlace, endpoint: Endpoint, host: str, mutual: bool = False) -> Spec:
    """The gateway's process, on `host` and `endpoint.gateway`.

    It serves when it takes connections: whether the SuperLink behind it is well, is another process's business.
    """
    command = [sys.executable, "-P", "-m", "server.run.gateway", "--upstream", endpoint.url]
    command += ["--host", host, "--port", str(endpoint.gateway)]
    if endpoint.root is not None:
        command += ["--root", str(endpoint.root), "--certificate", str(place.certificate), "--key", str(place.key)]
    if mutual:
        command += ["--client-ca", str(place.ca), "--revoked", str(place.revoked)]  # without the list it does not start
    at = LOOPBACK if host in _ANY else host
    trust = None if mutual or endpoint.root is None else place.ca  # one that asks for certificates is not asked itself
    return Spec(
        "gateway", tuple(command), place.logs / "gateway.log", environment(place.run / "gateway"), place.run,
        ready=listening(at, endpoint.gateway, trust),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it."""
    given = _parse(arguments)
    allow_descriptors()
    try:
        context = None
        if given.certificate is not None:
            context = tls(given.certificate, given.key, given.client_ca, given.revoked)
        app = Gateway(given.upstream, given.root, Limits(body=given.largest_body, held=8 * given.largest_body))
        configured(app, given.host, given.port, context).run()
    except PortTaken as error:
        say(f"{error}")
        return 1
    except OSError as error:  # ssl.SSLError is one: files that are being renewed, or damaged
        say(f"the certificates cannot be used: {error}. `crossplant preflight --federation DIR` says why.")
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server.run.gateway")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    for name in ("--root", "--certificate", "--key", "--client-ca", "--revoked"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--largest-body", type=int, default=LARGEST_BODY)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
