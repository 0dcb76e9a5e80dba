"""An operator's signature over a run, so that a plant serves only runs that somebody it knows has started.

Signed are the name of the run, its recipe and an end of validity; not the model, which changes every round. The text is
`v1.CLAIM.KEY.SIGNATURE` in base64url: the claim as JSON, the public key as SubjectPublicKeyInfo (DER). Keys are Ed25519
or ECDSA on P-384 (with SHA-384), and known by the fingerprint that `ssh-keygen -l` prints for the same key.

Not wired into the server yet: the operator's side is `sign`, and its text goes into a request's texts as `signature`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import BadPayload

SIGNATURE = "signature"
"""Name of the text in a request."""

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey

_PURPOSE = b"crossplant run v1\n"
_LONGEST = 4096


@dataclass(frozen=True)
class Signed:
    """What a signature is over: the run's name and the recipe's text, as they stand in every request."""

    run: str
    recipe: str

    @property
    def claim(self) -> dict[str, str]:
        """As it stands in the signature."""
        return {"run": self.run, "recipe": hashlib.sha256(self.recipe.encode(errors="surrogatepass")).hexdigest()}


def sign(key: PrivateKey, what: Signed, until: datetime) -> str:
    """Sign a run.

    Args:
        key: the operator's.
        what: the run.
        until: when the signature ends, with a time zone.
    """
    claim = json.dumps({**what.claim, "until": int(until.timestamp())}, sort_keys=True).encode()
    message = _PURPOSE + claim
    made = key.sign(message) if isinstance(key, Ed25519PrivateKey) else key.sign(message, ec.ECDSA(hashes.SHA384()))
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return ".".join(["v1", *map(_text, (claim, public, made))])


def verify(signature: str, due: Signed, now: datetime, skew: timedelta = timedelta(minutes=5)) -> str:
    """Check a signature; whether its key may sign is the caller's to say.

    Args:
        signature: what came.
        due: what it must be over.
        now: with a time zone.
        skew: how far the clocks of the two sides may be apart.

    Returns:
        the fingerprint of the key, `SHA256:...`.

    Raises:
        BadPayload: unreadable, forged, over another run or recipe, or past its end.
    """
    claim, public, made = _parts(signature)
    key = _public(public)
    try:
        _check(key, made, _PURPOSE + claim)
        found = json.loads(claim)
        until = datetime.fromtimestamp(found.pop("until"), UTC)
    except InvalidSignature as error:
        raise BadPayload("a signature that does not belong to its key.") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError) as error:
        raise BadPayload("a signature over no claim.") from error
    if found != due.claim:
        raise BadPayload("a signature over another run or another recipe.")
    if now > until + skew:
        raise BadPayload(f"a signature that ended at {until:%Y-%m-%dT%H:%MZ}.")
    return fingerprint(key)


def fingerprint(key: PublicKey) -> str:
    """`SHA256:...` of a public key, as `ssh-keygen -l` prints it.

    Raises:
        BadPayload: no key that OpenSSH knows.
    """
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    blob = base64.b64decode(line.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _check(key: PublicKey, made: bytes, message: bytes) -> None:
    if isinstance(key, Ed25519PublicKey):
        key.verify(made, message)
    else:
        key.verify(made, message, ec.ECDSA(hashes.SHA384()))


def _parts(signature: str) -> tuple[bytes, bytes, bytes]:
    fields = signature.split(".") if len(signature) <= _LONGEST else []
    if len(fields) != 4 or fields[0] != "v1":
        raise BadPayload("a signature in no form known here.")
    try:
        claim, public, made = (base64.b64decode(_padded(field), b"-_", validate=True) for field in fields[1:])
    except (binascii.Error, ValueError) as error:
        raise BadPayload("a signature in no form known here.") from error
    if [_text(part) for part in (claim, public, made)] != fields[1:]:
        raise BadPayload("a signature with bits that mean nothing: there is one form of each only.")
    return claim, public, made


def _padded(field: str) -> str:
    return field + "=" * (-len(field) % 4)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _public(der: bytes) -> PublicKey:
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadPayload("a signature with an unreadable key.") from error
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise BadPayload("a signature by a key that is neither Ed25519 nor P-384.")
