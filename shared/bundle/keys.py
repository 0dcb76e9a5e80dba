"""The agent's own key, with which it signs what it publishes: Ed25519, made at first use, never leaves its file."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.bundle.trust import Signature, public_pem
from shared.disk import sync_folder
from shared.errors import FileTrouble

_MODE = 0o600


def own_key(path: Path) -> Ed25519PrivateKey:
    """The key in a file; made there if there is none, for its owner alone, with the public one beside it as `.pub`.

    Two processes that begin at the same time get the same key.

    Args:
        path: such as `home/bundle.key`; the public one is `home/bundle.pub`.

    Raises:
        FileTrouble: the file is no Ed25519 key, others may read it, or it cannot be written.
    """
    try:
        if not path.exists():
            _make(path)
        key = _read(path)
        public = public_pem(public_bytes(key))
        beside = path.with_suffix(".pub")
        if not beside.is_file() or beside.read_bytes() != public:
            _publish(beside, public)
    except OSError as error:
        raise FileTrouble(f"{path}: {error.strerror or error}.") from error
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of its public key."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def sign(key: Ed25519PrivateKey, index: bytes) -> Signature:
    """Sign the bytes of a bundle's index."""
    made = (public_bytes(key), key.sign(index))
    return Signature(**dict(zip(("key", "signature"), (base64.b64encode(one).decode() for one in made), strict=True)))


def _make(path: Path) -> None:
    """Whoever links first has made the key; the file is whole from its first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with _scratch(path, pem, _MODE) as scratch, suppress(FileExistsError):
        os.link(scratch, path)
    sync_folder(path.parent)


def _publish(path: Path, pem: bytes) -> None:
    with _scratch(path, pem, 0o644) as scratch:
        scratch.replace(path)


@contextmanager
def _scratch(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A written file beside another, of this process only; gone afterwards."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _read(path: Path) -> Ed25519PrivateKey:
    found = path.stat()
    if os.name != "nt" and found.st_mode & 0o077:
        cause = f"{path} may be read by others (mode {found.st_mode & 0o777:o})."
        raise FileTrouble(cause, f"`chmod 600 {path}`, or remove it for a new key if it may have been copied.")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FileTrouble(f"{path} is no private key: {error}.", "Remove it; a new one is made.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FileTrouble(f"{path} is a key of another kind than Ed25519.", "Remove it; a new one is made.")
    return key
