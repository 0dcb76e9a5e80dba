"""Check one Ed25519 signature: `python -m shared.bundle.verify`, a process of its own.

Standard input: 32 bytes public key, 64 bytes signature, then what is signed. Exit code: 0 it holds, 1 it does not,
3 the package cryptography is not there. A scorer starts this instead of
importing cryptography, whose 7 MB it would keep.
"""

from __future__ import annotations

import sys

HOLDS, FAILS, MISSING = 0, 1, 3


def holds(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature holds (RFC 8032).

    Raises:
        ImportError: the package cryptography is not installed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def main() -> int:
    """The process; returns its exit code."""
    data = sys.stdin.buffer.read()
    try:
        return HOLDS if holds(data[:32], data[32:96], data[96:]) else FAILS
    except ImportError:
        return MISSING


if __name__ == "__main__":
    sys.exit(main())
