"""What can go wrong with keys, certificates and kits.

TrustError                   CP-7xx  who may take part
├── FederationUnreadable     CP-701
├── KeyUnusable              CP-702
├── CertificateUnusable      CP-703
├── RequestRefused           CP-704
├── KitRefused               CP-705
└── ClockWrong               CP-706
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from shared.errors import CrossplantError

BROKEN = (
    *(ValueError, TypeError, NotImplementedError, Warning),
    *(UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension),
)
"""What `cryptography` raises for damaged keys and certificates (found by damaging them), and its warnings."""


@contextlib.contextmanager
def strictly() -> Iterator[None]:
    """What `cryptography` only warns of (a negative serial number, a country of five letters) is damage, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class TrustError(CrossplantError):
    """Something is wrong with who may take part."""

    code = "CP-700"
    cure = "docs/operations.md describes the life of a federation."


class FederationUnreadable(TrustError):
    """The operator's folder is missing, incomplete or damaged."""

    code = "CP-701"
    cure = "Give the folder that `crossplant provision init` made, or restore it from a backup."


class KeyUnusable(TrustError):
    """A private or public key is damaged, of the wrong kind, or locked by another passphrase."""

    code = "CP-702"
    cure = "Restore the file from a backup, or make the keys anew."


class CertificateUnusable(TrustError):
    """A certificate is damaged, lapsed, of another authority, or not for this key."""

    code = "CP-703"
    cure = "Ask the operator for a new kit."


class RequestRefused(TrustError):
    """A plant's request cannot be approved."""

    code = "CP-704"
    cure = "Ask the plant to make its keys and request anew with `crossplant provision site new`."


class KitRefused(TrustError):
    """A kit is damaged, or not for this plant."""

    code = "CP-705"
    cure = "Ask the operator to send the kit again."


class ClockWrong(TrustError):
    """The clock of this machine cannot be right."""

    code = "CP-706"
    cure = "Set the clock (NTP), then try again."
