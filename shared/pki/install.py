"""At the plant: join a kit with the keys that were made there. Nothing is written before everything was checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from shared.errors import CrossplantError
from shared.pki import certificates, files, keys
from shared.pki.kit import CA, CROSS, KNOWN, PLANT, POLICY, Kit, mode_of, read_kit
from shared.pki.request import NODE_KEY, REQUEST, TLS_KEY, read_request
from shared.pki.trouble import CertificateUnusable, KitRefused

_TELEPHONE = "Compare the authority's fingerprint with the operator on the telephone, and give it with --fingerprint."


@dataclass(frozen=True)
class Installed:
    """What an installation did.

    Attributes:
        kit: what was installed.
        authority: fingerprint of the authority, to compare on the telephone.
        known: whether the plant trusted it before, or it was compared.
        kept: files of the plant that were left as they are.
        unnamed: the key that signs the federation's runs, where the plant's own policy does not name it; else None.
    """

    kit: Kit
    authority: str
    known: bool
    kept: tuple[str, ...]
    unnamed: str | None = None


def install(path: Path, folder: Path, now: datetime, heard: str | None = None) -> Installed:
    """Put a kit's files beside the plant's keys. `plant.toml` and `policy.toml` are the plant's: they stay when there.

    Args:
        path: the kit.
        folder: what `new_site` made.
        now: the time.
        heard: the authority's fingerprint, as the operator read it out.

    Raises:
        KitRefused: the kit is damaged or another plant's, or its authority is not one that the plant can trust.
        CertificateUnusable: the certificate is not for the plant's key, of another authority, or not valid now.
        KeyUnusable: the plant's own keys are damaged.
        FileTrouble: a file cannot be read or written.
    """
    kit = read_kit(path)
    with files.held(folder):
        _check_own(kit, folder, now)
        authority = certificates.authority_fingerprint(kit.authorities[0])
        known = _check_trust(kit, _present(folder), authority, heard, now)
        kept = tuple(name for name in (PLANT, POLICY) if (folder / name).exists())
        _write(kit, folder, kept)
    unnamed = None if kit.card.signer is None or _names(folder / POLICY, kit.card.signer) else kit.card.signer
    return Installed(kit, authority, known, kept, unnamed)


def _write(kit: Kit, folder: Path, kept: Sequence[str]) -> None:
    with files.changing(folder) as change:
        for name, data in kit.contents.items():
            if name in KNOWN and name not in (*kept, CROSS):
                change.write(name, data, mode_of(name))


def _check_own(kit: Kit, folder: Path, now: datetime) -> None:
    """The kit is this plant's, and its certificate is for the key that lies here."""
    request = read_request(folder / REQUEST)
    if kit.card.plant != request.name or certificates.common_name(kit.client) != request.name:
        cause = f"the kit is {kit.card.plant}'s, and {folder} holds the keys of {request.name}."
        raise KitRefused(cause, "Install it in the folder of its own plant.")
    key = keys.load_private(files.read_bytes(folder / TLS_KEY), str(folder / TLS_KEY)).public_key()
    keys.load_node_private(files.read_bytes(folder / NODE_KEY), str(folder / NODE_KEY))
    if keys.digest(key) != certificates.key_of(kit.client):
        cause = f"the kit's certificate is not for the key in {folder / TLS_KEY}."
        raise CertificateUnusable(cause, "The keys were made anew since: send the new request to the operator.")
    certificates.issuer_among(kit.client, kit.authorities, "the kit's certificate")
    certificates.check_time(kit.client, now, "the kit's certificate")
    certificates.check_time(kit.authorities[0], now, "the kit's authority")


def _names(policy: Path, signer: str) -> bool:
    """Whether a policy lets a signer's runs in; one that cannot be read is its own trouble, and preflight's to tell."""
    try:
        named = files.read_table(policy).get("signers")
    except CrossplantError:
        return False
    return isinstance(named, list) and signer in named


def _present(folder: Path) -> tuple[x509.Certificate, ...]:
    """Authorities that the plant trusts already; a damaged file says nothing."""
    path = folder / CA
    if not path.exists():
        return ()
    try:
        return certificates.load_bundle(files.read_bytes(path), str(path))
    except CrossplantError:
        return ()


def _check_trust(kit: Kit, present: Sequence[x509.Certificate], authority: str, heard: str | None,
                 now: datetime) -> bool:  # fmt: skip
    """Whether the kit's issuing authority is one that the plant knows; the first time it may be taken on trust."""
    if heard is not None:
        if not keys.same_spoken(heard, authority):
            cause = f"the fingerprint of the kit's authority is {authority}, not {heard[:60]!r}."
            raise KitRefused(cause, "If the operator reads out another one, somebody changed the kit on its way.")
        return True
    trusted = [one for one in present if one.not_valid_after_utc >= now]
    if not present:
        return False
    if all(_vouched(one, trusted, kit.cross, now) for one in kit.authorities):
        return True
    raise KitRefused(f"the kit's authority {authority} is not one that this plant trusts.", _TELEPHONE)


def _vouched(authority: x509.Certificate, trusted: Sequence[x509.Certificate], cross: x509.Certificate | None,
             now: datetime) -> bool:  # fmt: skip
    """Trusted by its key, or signed over by one that is."""
    if any(certificates.key_of(authority) == certificates.key_of(one) for one in trusted):
        return True
    if cross is None or certificates.key_of(cross) != certificates.key_of(authority) or cross.not_valid_after_utc < now:
        return False
    return any(certificates.signed_by(cross, one) for one in trusted)


def check_pair(certificate: Path, key: Path) -> x509.Certificate:
    """A certificate and its private key, as files.

    Raises:
        CertificateUnusable: the certificate is damaged or not for the key.
        KeyUnusable: the key is damaged.
        FileTrouble: one cannot be read.
    """
    leaf = certificates.load_bundle(files.read_bytes(certificate), str(certificate))[0]
    public = keys.load_private(files.read_bytes(key), str(key)).public_key()
    if keys.digest(public) != certificates.key_of(leaf):
        raise CertificateUnusable(f"{certificate} is not for the key in {key}.")
    return leaf
