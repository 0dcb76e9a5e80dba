"""How the console is set up: what it listens for, what it lets in, what it holds people to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.console.oidc import IdentityProvider

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
PORT = 8321


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask of the console.

    Attributes:
        body: bytes of a request's body.
        body_s: how long it may take to arrive.
        rate_per_s: requests of a session, in the long run.
        burst: how many of them at once.
        tries: logins of an address that may fail before it waits.
        keys: sessions and addresses that are remembered at most, each.
    """

    body: int = 64 * 1024
    body_s: float = 15.0
    rate_per_s: float = 20.0
    burst: int = 200
    tries: int = 5
    keys: int = 10_000


@dataclass(frozen=True)
class ConsoleSettings:
    """What `crossplant console` was asked for.

    Attributes:
        read_only: nothing is written to the store, sessions included: they end with the process.
        secure: browsers reach it through TLS, its own or a proxy's; nothing else is answered.
        hosts: names by which it may be asked for; others are refused (DNS rebinding).
        proxied: requests come through a proxy: an address of this machine proves nothing.
        metrics_token: lets a scraper in from elsewhere; empty: only from this machine.
        federation: the operator's folder: who is waited for, and whose certificate ends; None: the store's own folder,
            where it is one.
        provider: vouches for people besides the local accounts.
        idle: how long a session lasts unused.
        longest: how long a session lasts.
        limits: what one visitor may ask.
        now: the clock.
    """

    read_only: bool = False
    secure: bool = False
    hosts: frozenset[str] = LOOPBACK
    proxied: bool = False
    metrics_token: str = ""
    federation: Path | None = None
    provider: IdentityProvider | None = None
    idle: timedelta = timedelta(hours=8)
    longest: timedelta = timedelta(hours=24)
    limits: Limits = field(default_factory=Limits)
    now: Callable[[], datetime] = utc_now
