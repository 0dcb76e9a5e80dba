"""Whose bundles count: the plant's own key, given as a file or taken at first use; checked in a short child process."""

from __future__ import annotations

import base64
import binascii
import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shared.artefact import Artefact
from shared.bundle import verify
from shared.bundle.files import INDEX, SIGNATURE, read_file
from shared.disk import replace_file
from shared.errors import BundleInvalid, FileTrouble, MissingExtra

_SPKI = bytes.fromhex("302a300506032b6570032100")  # what RFC 8410 puts before the 32 bytes of an Ed25519 key
_SSH = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
_MOST = 8192  # bytes of a key or signature file
_SIGN = "Only the plant's own agent signs; let it publish again."
_CHILD_S = 60


class Signature(Artefact, frozen=True, kw_only=True):
    """`signature.json`.

    Attributes:
        key: the public key, 32 bytes in base64.
        signature: over the bytes of `bundle.json`, 64 bytes in base64.
    """

    key: str
    signature: str

    def check(self) -> None:
        if len(self.key_bytes) != 32 or len(self.signature_bytes) != 64:
            raise ValueError("a key of 32 bytes and a signature of 64 are due")

    @property
    def key_bytes(self) -> bytes:
        """The public key, 32 bytes."""
        return _decoded(self.key)

    @property
    def signature_bytes(self) -> bytes:
        """The signature, 64 bytes."""
        return _decoded(self.signature)


@dataclass(frozen=True)
class Trust:
    """Whose signature counts.

    Attributes:
        key: file with the agent's public key, as the agent writes it (`home/bundle.pub`), PEM or OpenSSH.
        pin: if there is no such file yet, take the key of the first bundle whose signature holds, and keep it there.
    """

    key: Path
    pin: bool = False


def check_signature(folder: Path, index: bytes, trust: Trust) -> str:
    """Check the signature over a bundle's index, in a child process (0.05 s of CPU; cryptography is not kept).

    Args:
        folder: of the bundle, for its signature and for messages.
        index: the bytes of its `bundle.json`, as they were read.
        trust: whose signature counts.

    Returns:
        the key's fingerprint, as `ssh-keygen -l` prints it.

    Raises:
        BundleInvalid: there is no signature, it does not hold, or it is of another key.
        FileTrouble: the trusted key cannot be read, or not be kept at first use.
        MissingExtra: the package cryptography is not installed.
    """
    found = read_signature(folder)
    key = found.key_bytes
    trusted = _trusted(trust)
    if trusted is not None and key != trusted:
        cause = f"{folder} is signed by {fingerprint(key)}, trusted is {fingerprint(trusted)} ({trust.key})."
        raise BundleInvalid(
            cause, "If the plant's agent has a new key, put its bundle.pub there; else keep this one out."
        )
    _check(folder, found, index)
    if trusted is None:
        _keep(trust.key, key)
    return fingerprint(key)


def read_signature(folder: Path) -> Signature:
    """The signature of a bundle; nothing of it is checked.

    Raises:
        BundleInvalid: it is unsigned, or what lies there is no signature.
    """
    try:
        return Signature.parse(read_file(folder, SIGNATURE, _MOST))
    except BundleInvalid as error:
        raise BundleInvalid(f"{folder} is not signed: {error.cause.removeprefix(f'{folder}: ')}", _SIGN) from error
    except ValueError as error:
        raise BundleInvalid(f"{folder} is not signed: {SIGNATURE}: {error}.", _SIGN) from error


def fingerprint(key: bytes) -> str:
    """What `ssh-keygen -l` prints for a public key of 32 bytes.

    Example:
        >>> fingerprint(bytes(32))
        'SHA256:kmYcvdi2GkPeWxB6XLjrZB8JHsy2Hm8luHMFp9GMvqk'
    """
    return "SHA256:" + base64.b64encode(hashlib.sha256(_SSH + key).digest()).decode().rstrip("=")


def public_pem(key: bytes) -> bytes:
    """A public key of 32 bytes as PEM (RFC 8410)."""
    body = base64.b64encode(_SPKI + key).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n".encode()


def parse_public(data: bytes) -> bytes:
    """The 32 bytes of an Ed25519 public key, from PEM or from OpenSSH's one line.

    Raises:
        ValueError: it is no such key.

    Example:
        >>> parse_public(public_pem(bytes(range(32)))) == bytes(range(32))
        True
    """
    text = data.decode("ascii", "replace").strip()
    if text.startswith("-----BEGIN PUBLIC KEY-----") and text.endswith("-----END PUBLIC KEY-----"):
        der = _decoded("".join(text.splitlines()[1:-1]))
        head, key = der[: len(_SPKI)], der[len(_SPKI) :]
        wanted = _SPKI
    else:
        blob = _decoded(text.split()[1]) if text.startswith("ssh-ed25519 ") and len(text.split()) > 1 else b""
        head, key, wanted = blob[: len(_SSH)], blob[len(_SSH) :], _SSH
    if head != wanted or len(key) != 32:
        raise ValueError("it is no Ed25519 public key in PEM or OpenSSH's format")
    return key


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("it is no base64") from error


def _trusted(trust: Trust) -> bytes | None:
    """The trusted key; None where it is to be taken at first use."""
    cure = "Give the file bundle.pub from the agent's home."
    try:
        return parse_public(read_file(trust.key.parent, trust.key.name, _MOST))
    except ValueError as error:
        raise FileTrouble(f"{trust.key}: {error}.", cure) from error
    except BundleInvalid as error:
        if trust.pin and isinstance(error.__cause__, FileNotFoundError):
            return None
        raise FileTrouble(f"the trusted key: {error.cause}", cure) from error


def check_any_signature(folder: Path) -> str:
    """Check that the signature of a bundle holds, whoever made it.

    Returns:
        the key's fingerprint.

    Raises:
        BundleInvalid, MissingExtra: as for `check_signature`.
    """
    found = read_signature(folder)
    _check(folder, found, read_file(folder, INDEX))
    return fingerprint(found.key_bytes)


def _check(folder: Path, found: Signature, index: bytes) -> None:
    command = [sys.executable, "-I", str(Path(verify.__file__))]
    try:
        done = subprocess.run(
            command,
            input=found.key_bytes + found.signature_bytes + index,
            capture_output=True,
            check=False,
            timeout=_CHILD_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BundleInvalid(
            f"{folder}: its signature cannot be checked: {error}.", "Check the machine's memory."
        ) from error
    if done.returncode == verify.MISSING:
        raise MissingExtra(
            "checking signatures needs the package 'cryptography'.", "Install it with `pip install 'crossplant[edge]'`."
        )
    if done.returncode != verify.HOLDS:
        raise BundleInvalid(f"{folder}: the signature over bundle.json does not hold.", _SIGN)


def _keep(path: Path, key: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, public_pem(key))
    except OSError as error:
        raise FileTrouble(f"{path}: the key cannot be kept: {error.strerror or error}.") from error
