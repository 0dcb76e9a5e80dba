"""Checks of keys and certificates on disk, each with the days that are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from shared.pki import certificates, files, keys
from shared.pki.install import check_pair
from shared.preflight.machine import rights
from shared.preflight.verdict import Verdict, fail, ok, warn

_WARN_DAYS = certificates.WARN_BEFORE.days


def lifetime(name: str, what: str, certificate: x509.Certificate, now: datetime, mend: str) -> Verdict:
    """How long a certificate holds; not yet valid means that a clock is wrong."""
    left = certificates.days_left(certificate, now)
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if now < certificate.not_valid_before_utc:
        begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        says = f"{what} is valid from {begins} on; this machine's clock says {now:%Y-%m-%d %H:%M} UTC."
        return fail(name, says, "Set this machine's clock (NTP).")
    if left < 0:
        return fail(name, f"{what} lapsed on {until}.", mend)
    if left < _WARN_DAYS:
        return warn(name, f"{what} lapses in {left} days, on {until}.", mend)
    return ok(name, f"{what} has {left} days left")


def node_key(private: Path, public: Path) -> Iterator[Verdict]:
    """The SuperNode's key as Flower loads it, and its public half."""
    yield rights(private)
    key = keys.load_node_private(files.read_bytes(private), str(private)).public_key()
    if public.exists() and keys.digest(keys.load_node_public(files.read_bytes(public), str(public))) != keys.digest(
        key
    ):
        yield fail("node key", f"{public} is not the public half of {private}.", "Restore the one that was approved.")
        return
    yield ok("node key", f"{private.name} can be read by Flower")


def bundle(path: Path, now: datetime, mend: str) -> tuple[tuple[x509.Certificate, ...], list[Verdict]]:
    """Trusted authorities, and how long they hold; the predecessor in an overlap is expected to lapse.

    Raises:
        CertificateUnusable: the file is damaged.
        FileTrouble: it cannot be read.
    """
    found = certificates.load_bundle(files.read_bytes(path), str(path))
    return found, [lifetime("authority", f"the authority in {path.name}", found[0], now, mend)]


def pair(certificate: Path, key: Path, authorities: Sequence[x509.Certificate], now: datetime,
         mend: str) -> Iterator[Verdict]:  # fmt: skip
    """A certificate, its private key, its authority, and how long it holds."""
    yield rights(key)
    leaf = check_pair(certificate, key)
    yield ok("certificate", f"{certificate.name} is for the key in {key.name}")
    if authorities:
        certificates.issuer_among(leaf, authorities, str(certificate))
    yield lifetime("certificate", certificate.name, leaf, now, mend)
