"""When plants' certificates lapse, from the federation's folder. The names come from there, never from a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from server.console.context import Console
from server.provision.site import Site, read_sites
from shared.errors import CrossplantError
from shared.pki.certificates import WARN_BEFORE


@dataclass(frozen=True)
class Certificate:
    """A plant's newest certificate.

    Attributes:
        until: when it lapses, ISO 8601.
        tone: `bad` when it is over, `warn` when that is near, else empty.
        told: what to do about it; empty when nothing.
    """

    until: str
    tone: str
    told: str


def certificates_of(console: Console, now: datetime) -> Mapping[str, Certificate]:
    """The certificates of a federation's plants; none where the store belongs to no federation, or cannot be read."""
    if console.federation is None:
        return {}
    try:
        return {name: _judged(site, console.federation, now) for name, site in read_sites(console.federation).items()}
    except CrossplantError:
        return {}


def _judged(site: Site, folder: Path, now: datetime) -> Certificate:
    renew = f"Renew it: `crossplant provision renew {folder.name} {site.name}`, then a new kit."
    until = site.until.isoformat()
    if site.status == "revoked":
        return Certificate(until, "bad", "It was revoked: the plant cannot take part.")
    if site.until <= now:
        return Certificate(until, "bad", f"It has lapsed: the plant cannot connect. {renew}")
    return Certificate(until, "warn", renew) if site.until - now <= WARN_BEFORE else Certificate(until, "", "")
