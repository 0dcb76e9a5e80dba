"""The gateway's side of TLS: who is let in, and a line in its log about everybody who is not.

Python's servers turn a caller away without a word: asyncio (and uvloop) drop the connection before OpenSSL's alert is
sent, so a plant with a lapsed certificate hears nothing but a broken line, and nothing is logged. Here the alert goes
out first, and the log names the certificate that was shown.
"""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from shared.pki.certificates import common_name

_MOST_KNOWN = 1000
_AGAIN_S = 60.0
_LONGEST_NAME = 64
_HEADER = {ssl.TLSVersion.TLSv1_3: 4 + 1 + 3, ssl.TLSVersion.TLSv1_2: 4 + 3}
"""Bytes of a Certificate message before the length of the first certificate (RFC 8446 4.4.2, RFC 5246 7.4.2)."""


class Refusals:
    """Says who was turned away and why, the same thing once a minute at most.

    Args:
        say: gets each line.
        clock: monotonic seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._said: dict[str, float] = {}

    def tell(self, error: ssl.SSLError, shown: bytes) -> None:
        """Log one refusal.

        Args:
            error: of the handshake.
            shown: the certificate that the caller showed (DER); empty: none.
        """
        why = getattr(error, "verify_message", None) or _reason(error).replace("_", " ").lower()
        line = f"refused {_whose(shown)}: {why}"
        now = self._clock()
        if now - self._said.get(line, -_AGAIN_S) < _AGAIN_S:
            return
        if len(self._said) >= _MOST_KNOWN:
            self._said.clear()
        self._said[line] = now
        self._say(line)


def _whose(shown: bytes) -> str:
    """In words. The name is what the certificate says: one that was refused proves nothing."""
    if not shown:
        return "a caller that shows no certificate"
    try:
        certificate = x509.load_der_x509_certificate(shown)
        name, until = common_name(certificate), certificate.not_valid_after_utc
    except Exception:  # whatever a stranger sends
        return "a caller with a certificate that cannot be read"
    plain = "".join(sign if sign.isprintable() else "?" for sign in name[:_LONGEST_NAME])
    return f"a caller with a certificate in the name of {plain!r} (until {until:%Y-%m-%d})"


def first_certificate(version: ssl.TLSVersion, message: bytes) -> bytes:
    """The caller's own certificate in a Certificate message of the handshake; empty when there is none.

    Args:
        version: of TLS.
        message: with its header of four bytes.
    """
    start = _HEADER.get(version, _HEADER[ssl.TLSVersion.TLSv1_2])
    length = int.from_bytes(message[start : start + 3], "big")
    return message[start + 3 : start + 3 + length]


def tls(certificate: Path, key: Path, client_ca: Path | None = None, revoked: Path | None = None,
        refusals: Refusals | None = None) -> ssl.SSLContext:  # fmt: skip
    """The gateway's side of TLS, 1.2 or newer.

    Args:
        certificate, key: what it shows.
        client_ca: who signs the plants' certificates; given, a plant must show one.
        revoked: list of revoked certificates (PEM), looked at when a plant connects.
        refusals: hears of every caller that is turned away.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: it holds no certificate or key, or the two do not belong together.
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
    _witnessed(context, refusals or Refusals(say))
    return context


def _witnessed(context: ssl.SSLContext, refusals: Refusals) -> None:
    """Make the context's connections send their alert, and tell `refusals`."""

    class Witness(ssl.SSLObject):
        shown = b""
        refused: ssl.SSLError | None = None

        def do_handshake(self) -> None:
            if self.refused is not None:
                raise self.refused
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                if not _of_certificates(error):
                    raise
                self.refused = error
                refusals.tell(error, self.shown)
                raise ssl.SSLWantReadError from error  # asyncio sends what is due: the alert; the next call is the last

    def look(connection: Any, direction: str, version: Any, content: Any, kind: Any, data: bytes) -> None:
        if direction == "read" and getattr(kind, "name", "") == "CERTIFICATE" and isinstance(connection, Witness):
            connection.shown = first_certificate(version, bytes(data))

    context.sslobject_class = Witness
    if hasattr(ssl.SSLContext, "_msg_callback"):  # Python's own, and private: without it, refusals bear no name
        context._msg_callback = look  # type: ignore[attr-defined]


def _of_certificates(error: ssl.SSLError) -> bool:
    """Whether it is about who calls; port scanners and plain HTTP are not worth a line."""
    return isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE" in _reason(error)


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's word for it; errors that Python itself raises have none."""
    return str(getattr(error, "reason", None) or error).upper()


def say(line: str) -> None:
    """A line in the gateway's log."""
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")
    sys.stderr.flush()
