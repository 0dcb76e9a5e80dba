"""The TLS gateway: all that a plant can reach of the coordinator.

It passes `POST /v1/fleet/...` (Flower's Fleet API, by exact path) and `GET /health` to the SuperLink on loopback;
everything else is 404. Flower's Control and Runtime APIs on the same port would let whoever reaches them submit code,
register keys and claim tasks. Run it as `python -m server.run.gateway`; `deploy/nginx.conf` does the same.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from server.run.place import Endpoint, ServerPlace
from shared.flower_process import environment, healthy
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

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade host".split()
)


@dataclass(frozen=True)
class Limits:
    """What one request may take.

    Attributes:
        body: bytes, in either direction.
        request_s: from the first byte of a request to its last.
        reply_s: for the SuperLink to answer.
        connections: at the same time.
    """

    body: int = LARGEST_BODY
    request_s: float = 120.0
    reply_s: float = 120.0
    connections: int = 512


class _TooLarge(Exception):
    pass


class Gateway:
    """An ASGI app that passes a few paths on.

    Args:
        upstream: base URL of the SuperLink.
        root: certificate to trust there; None without TLS.
        limits: what one request may take.
    """

    def __init__(self, upstream: str, root: Path | None, limits: Limits = Limits()) -> None:
        self._limits = limits
        verify = True if root is None else ssl.create_default_context(cafile=str(root))
        timeout = httpx.Timeout(limits.reply_s, connect=5.0)
        self._client = httpx.AsyncClient(base_url=upstream, verify=verify, timeout=timeout, trust_env=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (the ASGI interface)."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not allowed(scope["method"], scope["raw_path"]):
            return await _say(send, 404, b"not here")
        try:
            async with asyncio.timeout(self._limits.request_s):
                body = await self._body(receive)
            await self._pass_on(scope, body, send)
        except _TooLarge:
            await _say(send, 413, b"too large")
        except TimeoutError:
            await _say(send, 408, b"too slow")
        except httpx.HTTPError:  # Flower's nodes try again on 503
            await _say(send, 503, b"the coordinator is not there")
        return None

    async def _body(self, receive: Receive) -> bytes:
        whole = bytearray()
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise TimeoutError
            whole += event.get("body", b"")
            if len(whole) > self._limits.body:
                raise _TooLarge
            if not event.get("more_body", False):
                return bytes(whole)

    async def _pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _HOP_BY_HOP]
        path = scope["raw_path"].decode("ascii")
        reply = await self._client.request(scope["method"], path, content=body, headers=headers)
        dropped = {*_HOP_BY_HOP, b"content-length", b"content-encoding", b"server", b"date"}
        kept = [(name.lower(), value) for name, value in reply.headers.raw if name.lower() not in dropped]
        await _say(send, reply.status_code, reply.content, kept)


def allowed(method: str, raw_path: bytes) -> bool:
    """Whether a request may pass: by the bytes of its path, so that no way of writing another one gets through."""
    path = raw_path.decode("latin-1")
    return (method == "POST" and path in FLEET) or (method == "GET" and path == HEALTH)


async def _say(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def tls(certificate: Path, key: Path, client_ca: Path | None = None, revoked: Path | None = None) -> ssl.SSLContext:
    """The gateway's side of TLS, 1.2 or newer.

    Args:
        certificate, key: what it shows.
        client_ca: who signs the plants' certificates; given, a plant must show one.
        revoked: list of revoked certificates (PEM), looked at when a plant connects.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if revoked is not None:
        context.load_verify_locations(revoked)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context


def gateway(place: ServerPlace, endpoint: Endpoint, host: str, mutual: bool = False) -> Spec:
    """The gateway's process, on `host` and `endpoint.gateway`."""
    command = [sys.executable, "-P", "-m", "server.run.gateway", "--upstream", endpoint.url]
    command += ["--host", host, "--port", str(endpoint.gateway)]
    if endpoint.root is not None:
        command += ["--root", str(endpoint.root), "--certificate", str(place.certificate), "--key", str(place.key)]
    if mutual:
        command += ["--client-ca", str(place.ca)]
        command += ["--revoked", str(place.revoked)] if place.revoked.exists() else []
    return Spec(
        "gateway", tuple(command), place.logs / "gateway.log", environment(place.run / "gateway"), place.run,
        ready=None if mutual else _answers(endpoint, place, host),
    )  # fmt: skip


def _answers(endpoint: Endpoint, place: ServerPlace, host: str) -> Callable[[], bool]:
    known = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    if endpoint.root is None:
        return healthy(f"http://{known}:{endpoint.gateway}/health")
    return healthy(f"https://{known}:{endpoint.gateway}/health", place.ca)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal ends it."""
    given = _parse(arguments)
    limits = Limits(body=given.largest_body)
    app = Gateway(given.upstream, given.root, limits)
    config = uvicorn.Config(
        app, host=given.host, port=given.port, lifespan="off", access_log=False, server_header=False, date_header=False,
        proxy_headers=False, limit_concurrency=limits.connections, timeout_keep_alive=30, timeout_graceful_shutdown=3,
        log_level="warning", ws="none",
    )  # fmt: skip
    config.load()
    if given.certificate is not None:
        config.ssl = tls(given.certificate, given.key, given.client_ca, given.revoked)
    uvicorn.Server(config).run()


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
    main()
