"""Private and public keys: ECDSA on P-384 everywhere.

Flower's SuperNode loads its key in OpenSSH's format and the operator registers the public line (flwr 1.41,
`--auth-supernode-private-key` and `flwr supernode register`). TLS keys are PKCS 8.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from shared.errors import InvalidConfig
from shared.pki.trouble import BROKEN, KeyUnusable

PASSPHRASE = "CROSSPLANT_CA_PASSPHRASE"  # noqa: S105 - the name of a variable
PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey
_OTHER = "{} is not an ECDSA key on P-384."


def new_key() -> PrivateKey:
    """A new private key on P-384."""
    return ec.generate_private_key(ec.SECP384R1())


def passphrase_from_environment() -> bytes | None:
    """What unlocks the authority's key; None when the variable is not set.

    Raises:
        InvalidConfig: it is set and empty, which would look protected and not be.
    """
    given = os.environ.get(PASSPHRASE)
    if given == "":
        raise InvalidConfig(f"{PASSPHRASE} is set but empty.", "Set a passphrase, or unset it for a key without one.")
    return None if given is None else os.fsencode(given)


def private_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """PKCS 8, encrypted when there is a passphrase."""
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


def private_openssh(key: PrivateKey) -> bytes:
    """The format that `flower-supernode --auth-supernode-private-key` reads; it takes no passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, serialization.NoEncryption())


def public_line(key: PublicKey, comment: str) -> str:
    """One line as in `node.pub`, without its end."""
    return f"{key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"


def load_private(data: bytes, where: str, passphrase: bytes | None = None) -> PrivateKey:
    """A PKCS 8 key.

    Raises:
        KeyUnusable: it is damaged, no P-384 key, or the passphrase is missing or wrong.
    """
    locked = b"ENCRYPTED" in data[:80]
    if locked and passphrase is None:
        raise KeyUnusable(f"{where} is locked by a passphrase.", f"Give it in the environment: {PASSPHRASE}.")
    try:
        key = serialization.load_pem_private_key(data, passphrase if locked else None)
    except BROKEN as error:
        if locked:
            cure = f"Give the right one in {PASSPHRASE}; if it is right, restore the file from a backup."
            raise KeyUnusable(f"the passphrase does not open {where}, or the file is damaged.", cure) from error
        raise KeyUnusable(f"{where} is damaged, or no private key.") from error
    if not isinstance(key, PrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyUnusable(_OTHER.format(where))
    return key


def load_node_private(data: bytes, where: str) -> PrivateKey:
    """A SuperNode's key, read as Flower reads it.

    Raises:
        KeyUnusable: it is damaged, locked or no P-384 key in OpenSSH's format.
    """
    try:
        key = serialization.load_ssh_private_key(data, None)
    except BROKEN as error:
        raise KeyUnusable(f"{where} is damaged, or no OpenSSH private key without a passphrase.") from error
    if not isinstance(key, PrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyUnusable(_OTHER.format(where))
    return key


def load_node_public(data: bytes, where: str) -> PublicKey:
    """A SuperNode's public line, read as `flwr supernode register` reads it.

    Raises:
        KeyUnusable: it is damaged or no P-384 key.
    """
    try:
        key = serialization.load_ssh_public_key(data)
    except BROKEN as error:
        raise KeyUnusable(f"{where} is damaged, or no OpenSSH public key.") from error
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyUnusable(_OTHER.format(where))
    return key


def digest(key: PublicKey) -> str:
    """SHA-256 over the public key, in hex: the same for every file that holds it."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def spoken(parts: Iterable[bytes]) -> str:
    """A fingerprint to read out on the telephone: 128 bits of SHA-256 in eight groups of four hex digits.

    Example:
        >>> spoken([b"north", b"key"])
        'a555-c0c6-d18d-5799-095d-2748-e53d-7788'
    """
    whole = hashlib.sha256()
    for part in parts:  # Each with its length, so that no two lists of parts read the same.
        whole.update(len(part).to_bytes(8, "big") + part)
    text = whole.hexdigest()[:32]
    return "-".join(text[start : start + 4] for start in range(0, 32, 4))


def same_spoken(heard: str, ours: str) -> bool:
    """Whether a fingerprint that somebody typed is ours, however it was grouped.

    Example:
        >>> same_spoken("AB12 34cd", "ab12-34cd"), same_spoken("", "ab12")
        (True, False)
    """
    return "".join(sign for sign in heard.lower() if sign not in " -:\t") == ours.replace("-", "")
