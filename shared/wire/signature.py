"""An operator's signature over a run, so that a plant serves only runs that somebody it knows has started.

Signed are the name of the run, its recipe, the digest of all its settings, the plants it goes to and an end of
validity; not the model, which changes every round, and not the number of rounds: a plant's budget limits those. The
text is `v1.CLAIM.KEY.SIGNATURE` in base64url: the claim as JSON, the public key as SubjectPublicKeyInfo (DER). Keys are
Ed25519 or ECDSA on P-384 (with SHA-384), and known by the fingerprint that `ssh-keygen -l` prints for the same key.

A plant checks all but the settings, which it never sees; its place in the roster it finds by a digest, so that the
signature does not tell it who the others are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import BadPayload, InvalidConfig
from shared.wire.inventory import SIGNATURE as SIGNATURE

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey

_PURPOSE = b"crossplant run v1\n"
_LONGEST = 65_536
_FIELDS = {"run", "recipe", "settings", "plants", "until"}


@dataclass(frozen=True)
class Signed:
    """What is signed.

    Attributes:
        run: name of the run.
        recipe: its text, as it stands in every request.
        settings: `RunConfig.digest`.
        plants: names of those that the run goes to.
    """

    run: str
    recipe: str
    settings: str
    plants: tuple[str, ...]

    @property
    def claim(self) -> dict[str, Any]:
        """As it stands in the signature."""
        seats = sorted(_seat(self.run, plant) for plant in self.plants)
        return {"run": self.run, "recipe": _sha256(self.recipe), "settings": self.settings, "plants": seats}


@dataclass(frozen=True)
class Due:
    """What a signature must be over, as one plant sees it.

    Attributes:
        run, recipe: as they stand in the request.
        plant: its own name.
    """

    run: str
    recipe: str
    plant: str


def sign(key: PrivateKey, what: Signed, until: datetime) -> str:
    """Sign a run.

    Args:
        key: the operator's.
        what: the run.
        until: when the signature ends, with a time zone.

    Raises:
        InvalidConfig: more plants than a signature holds.
    """
    claim = json.dumps({**what.claim, "until": int(until.timestamp())}, sort_keys=True).encode()
    message = _PURPOSE + claim
    made = key.sign(message) if isinstance(key, Ed25519PrivateKey) else key.sign(message, ec.ECDSA(hashes.SHA384()))
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = ".".join(["v1", *map(_text, (claim, public, made))])
    if len(text) > _LONGEST:
        raise InvalidConfig(f"{len(what.plants)} plants are more than one signature holds.", "Start several runs.")
    return text


def verify(signature: str, due: Due, now: datetime, skew: timedelta = timedelta(minutes=5)) -> str:
    """Check a signature; whether its key may sign is the caller's to say.

    Args:
        signature: what came.
        due: what it must be over.
        now: with a time zone.
        skew: how far the clocks of the two sides may be apart.

    Returns:
        the fingerprint of the key, `SHA256:...`.

    Raises:
        BadPayload: unreadable, forged, over another run, another recipe or other plants, or past its end.
    """
    claim, public, made = _parts(signature)
    key = _public(public)
    try:
        _check(key, made, _PURPOSE + claim)
        found = json.loads(claim)
        until = datetime.fromtimestamp(found["until"], UTC)
        _check_claim(found, due)
    except InvalidSignature as error:
        raise BadPayload("a signature that does not belong to its key.") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError) as error:
        raise BadPayload("a signature over no claim.") from error
    if now > until + skew:
        raise BadPayload(f"a signature that ended at {until:%Y-%m-%dT%H:%MZ}.")
    return fingerprint(key)


def _check_claim(found: dict[str, Any], due: Due) -> None:
    if found.keys() != _FIELDS or not isinstance(found["plants"], list):
        raise ValueError("other fields")
    if found["run"] != due.run:
        raise BadPayload("a signature over another run.")
    if found["recipe"] != _sha256(due.recipe):
        raise BadPayload("a signature over another recipe.")
    if _seat(due.run, due.plant) not in found["plants"]:
        raise BadPayload("a signature over a run of other plants.")


def _seat(run: str, plant: str) -> str:
    """A plant's place in a run: 64 bits; only who knows the plant's name can tell whose it is."""
    return _sha256(f"{run}\n{plant}")[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


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
