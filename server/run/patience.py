"""How long, and for how many, the gateway keeps a line open: what uvicorn leaves open to whoever connects and dawdles.

uvicorn waits for a request's first line for ever, and takes every connection that there is a descriptor for.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from shared.service_errors import PortTaken


@dataclass(frozen=True)
class Lines:
    """What callers may hold.

    Attributes:
        handshake_s: for TLS.
        head_s: from a connection, or the first byte of a further request, to the end of its headers.
        idle_s: between two requests; a SuperNode asks every second.
        life_s: of a connection; a certificate is looked at when one is made, and may lapse since.
        head: bytes of a request's line and headers.
        connections: at the same time.
        an_address: of them, from the same address; several plants may share one.
    """

    handshake_s: float = 10.0
    head_s: float = 15.0
    idle_s: float = 30.0
    life_s: float = 3600.0
    head: int = 16 * 2**10
    connections: int = 1024
    an_address: int = 256


class Protocol(H11Protocol):
    """uvicorn's HTTP on one connection, with an end to its patience."""

    lines = Lines()

    def __init__(self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any],
                 _loop: asyncio.AbstractEventLoop | None = None) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, _loop)
        self._cut: asyncio.TimerHandle | None = None
        self._made = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._too_many():
            transport.abort()
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._have_head()
        elif self._cut is None:  # the first bytes of a further request: they ended uvicorn's own wait
            self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.our_state is h11.IDLE and self.loop.time() - self._made > self.lines.life_s:
            self.timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._cut = self.loop.call_later(self.lines.head_s, self.transport.abort)

    def _have_head(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def _too_many(self) -> bool:
        if len(self.connections) > self.lines.connections:
            return True
        here = self.client and self.client[0]
        same = sum(1 for one in self.connections if isinstance(one, Protocol) and one.client and one.client[0] == here)
        return same > self.lines.an_address


class Server(uvicorn.Server):
    """uvicorn's server, with a deadline for the TLS handshake and a readable word when it cannot listen."""

    def __init__(self, config: uvicorn.Config, lines: Lines = Lines()) -> None:
        super().__init__(config)
        self.lines = lines

    async def startup(self, sockets: Any = None) -> None:
        """Listen.

        Raises:
            PortTaken: it cannot.
        """
        config, loop = self.config, asyncio.get_running_loop()
        patient = type("_Protocol", (Protocol,), {"lines": self.lines})
        handshake_s = None if config.ssl is None else self.lines.handshake_s
        try:
            listening = await loop.create_server(
                lambda: patient(config, self.server_state, {}), config.host, config.port, ssl=config.ssl,
                backlog=config.backlog, ssl_handshake_timeout=handshake_s, ssl_shutdown_timeout=handshake_s,
            )  # fmt: skip
        except (OSError, OverflowError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise PortTaken(f"{config.host} port {config.port} cannot be listened on: {cause}.") from error
        self.servers = [listening]
        self.started = True


def configured(app: Any, host: str, port: int, context: ssl.SSLContext | None, lines: Lines = Lines()) -> Server:
    """A server that tells nothing of itself and asks nothing of its callers but HTTP/1.1."""
    config = uvicorn.Config(
        app, host=host, port=port, http="h11", ws="none", lifespan="off", access_log=False, server_header=False,
        date_header=False, proxy_headers=False, timeout_keep_alive=int(lines.idle_s), timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=lines.head, log_level="error",
    )  # fmt: skip
    config.load()
    config.ssl = context
    return Server(config, lines)


def allow_descriptors() -> None:
    """As many open files as the machine lets this process have; a half-open handshake is one."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
