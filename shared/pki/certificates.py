"""Certificates: made, read, and judged. Every function that needs the time is given it.

RFC 5280 as OpenSSL checks it, strictly too (`X509_V_FLAG_X509_STRICT`): key identifiers, critical constraints, one use
a certificate. Leaves are backdated by an hour for plants whose clocks are a little behind.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import InvalidConfig
from shared.pki.keys import PrivateKey, PublicKey, digest, spoken
from shared.pki.trouble import BROKEN, CertificateUnusable, strictly

CA_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
WARN_BEFORE = timedelta(days=30)
_BACKDATED = timedelta(hours=1)
_HASH = hashes.SHA384()
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")


def utc_now() -> datetime:
    """Now, with its zone and whole seconds, as certificates count."""
    return datetime.now(UTC).replace(microsecond=0)


# ---- making ----


def make_authority(federation: str, key: PrivateKey, now: datetime) -> x509.Certificate:
    """The self-signed certificate of an authority; its name ends in its key's first digits, so no two are alike.

    One level of certificates may stand below it beside leaves: its successor's, signed over (`cross_sign`).
    """
    subject = _name(federation, f"{federation} CA {digest(key.public_key())[:8]}")
    return _sign_authority(subject, key.public_key(), subject, key, now, now + CA_LIFE, length=1)


def shorten(authority: x509.Certificate, key: PrivateKey, now: datetime, until: datetime) -> x509.Certificate:
    """The same authority, of the same name and key, that lapses sooner: what it signed holds until then."""
    return _sign_authority(authority.subject, key.public_key(), authority.subject, key, now, until, length=1)


def cross_sign(successor: x509.Certificate, authority: x509.Certificate, key: PrivateKey, now: datetime,
               until: datetime) -> x509.Certificate:  # fmt: skip
    """The successor's key under the present authority: who trusts only the present one trusts the successor so."""
    return _sign_authority(successor.subject, _public(successor), authority.subject, key, now, until, length=0)


def _sign_authority(subject: x509.Name, public: PublicKey, issuer: x509.Name, key: PrivateKey, now: datetime,
                    until: datetime, length: int) -> x509.Certificate:  # fmt: skip
    builder = _builder(subject, public, issuer, key.public_key(), now, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
    return builder.add_extension(_usage(signs_certificates=True), critical=True).sign(key, _HASH)


def issue_server(public: PublicKey, hosts: Sequence[str], federation: str, authority: x509.Certificate,
                 key: PrivateKey, now: datetime) -> x509.Certificate:  # fmt: skip
    """A server's certificate for every one of its names and addresses."""
    names = x509.SubjectAlternativeName([_host(host) for host in hosts])
    builder = _leaf(_name(federation, "server"), public, authority, key, now)
    builder = builder.add_extension(names, critical=False)
    return builder.add_extension(_purpose(ExtendedKeyUsageOID.SERVER_AUTH), critical=False).sign(key, _HASH)


def issue_client(public: PublicKey, site: str, federation: str, authority: x509.Certificate, key: PrivateKey,
                 now: datetime) -> x509.Certificate:  # fmt: skip
    """A plant's certificate; its common name is the plant's name in the roster."""
    builder = _leaf(_name(federation, site), public, authority, key, now)
    return builder.add_extension(_purpose(ExtendedKeyUsageOID.CLIENT_AUTH), critical=False).sign(key, _HASH)


def _leaf(subject: x509.Name, public: PublicKey, authority: x509.Certificate, key: PrivateKey,
          now: datetime) -> x509.CertificateBuilder:  # fmt: skip
    until = min(now + LEAF_LIFE, authority.not_valid_after_utc)
    builder = _builder(subject, public, authority.subject, key.public_key(), now, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return builder.add_extension(_usage(signs_certificates=False), critical=True)


def _builder(subject: x509.Name, public: PublicKey, issuer: x509.Name, signer: PublicKey, now: datetime,
             until: datetime) -> x509.CertificateBuilder:  # fmt: skip
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, until) - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(identifier, critical=False)
    )


def make_crl(authority: x509.Certificate, key: PrivateKey, revoked: Iterable[tuple[int, datetime]],
             now: datetime) -> x509.CertificateRevocationList:  # fmt: skip
    """The list of what an authority takes back: serial numbers and since when.

    It is valid as long as the authority. The gateway reads it from the operator's own disk, so its age says nothing;
    a list that lapses would lock every plant out on a date that nobody has in mind.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(min(now, authority.not_valid_after_utc) - _BACKDATED)
        .next_update(authority.not_valid_after_utc)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
    )
    for serial, since in revoked:
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(one)
    return builder.sign(key, _HASH)


def _name(federation: str, common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _purpose(which: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([which])


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def check_host(host: str) -> str:
    """Return a host name or IP address that a certificate can bear.

    Raises:
        InvalidConfig: it is neither; a port, a scheme or a wildcard is none either.

    Example:
        >>> check_host("fl.example.org"), check_host("::1")
        ('fl.example.org', '::1')
    """
    _host(host)
    return host


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    # What looks like an address and is none (10.0.0.300) would become a name that no client ever matches.
    if not _HOST.fullmatch(host) or len(host) > 253 or re.fullmatch(r"[\d.]+", host):
        cause = f"{host[:80]!r} is neither a host name nor an IP address."
        raise InvalidConfig(cause, "Give --host as plants dial it, without scheme and port.")
    return x509.DNSName(host)


# ---- reading ----


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates one after the other, as OpenSSL reads a bundle."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def pem_crl(lists: Iterable[x509.CertificateRevocationList]) -> bytes:
    """Revocation lists one after the other."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in lists)


def load_bundle(data: bytes, where: str) -> tuple[x509.Certificate, ...]:
    """One or more certificates on P-384.

    Raises:
        CertificateUnusable: there is none, or one is damaged.
    """
    try:
        with strictly():
            found = tuple(x509.load_pem_x509_certificates(data))
            keys = [one.public_key() for one in found]
            for one in found:
                _touch(one)
    except BROKEN as error:
        raise CertificateUnusable(f"{where} is damaged, or no certificate.") from error
    if not all(isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1) for key in keys):
        raise CertificateUnusable(f"{where} holds a certificate of a key that is not ECDSA on P-384.")
    return found


def _touch(certificate: x509.Certificate) -> None:
    """Read every part that is parsed only when it is asked for: a damaged one shows here and nowhere later."""
    parts = ("subject", "issuer", "extensions", "serial_number", "not_valid_before_utc", "not_valid_after_utc")
    for part in parts:
        getattr(certificate, part)


def load_crls(data: bytes, where: str) -> tuple[x509.CertificateRevocationList, ...]:
    """Revocation lists one after the other.

    Raises:
        CertificateUnusable: one is damaged.
    """
    end = b"-----END X509 CRL-----"
    try:
        with strictly():
            found = tuple(x509.load_pem_x509_crl(part + end) for part in data.split(end)[:-1])
            for one in found:
                _ = (one.issuer, one.extensions, [entry.serial_number for entry in one])
            return found
    except BROKEN as error:
        raise CertificateUnusable(f"{where} is damaged, or no revocation list.") from error


def _public(certificate: x509.Certificate) -> PublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateUnusable("a certificate's key is not ECDSA on P-384.")
    return key


def key_of(certificate: x509.Certificate) -> str:
    """Digest of a certificate's public key, in hex."""
    return digest(_public(certificate))


def common_name(certificate: x509.Certificate) -> str:
    """A certificate's common name; empty when it bears none or several."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def authority_fingerprint(certificate: x509.Certificate) -> str:
    """An authority's key, to compare on the telephone."""
    return spoken([b"authority", key_of(certificate).encode()])


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Names and addresses that a server's certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether this very authority signed it (names and signature; not the dates)."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (*BROKEN, InvalidSignature):
        return False
    return True


def crl_signed_by(revoked: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """Whether a revocation list is this authority's."""
    try:
        return revoked.issuer == authority.subject and revoked.is_signature_valid(_public(authority))
    except BROKEN:
        return False


def issuer_among(certificate: x509.Certificate, bundle: Iterable[x509.Certificate], where: str) -> x509.Certificate:
    """The authority in a bundle that signed a certificate.

    Raises:
        CertificateUnusable: none of them did.
    """
    for authority in bundle:
        if signed_by(certificate, authority):
            return authority
    issuer = certificate.issuer.rfc4514_string()[:120]
    raise CertificateUnusable(f"{where} was issued by another authority ({issuer}).")


def check_time(certificate: x509.Certificate, now: datetime, where: str) -> None:
    """Whether a certificate is valid now.

    Raises:
        CertificateUnusable: it has lapsed, or is not valid yet.
    """
    if now > certificate.not_valid_after_utc:
        raise CertificateUnusable(f"{where} lapsed on {certificate.not_valid_after_utc:%Y-%m-%d}.")
    if now < certificate.not_valid_before_utc:
        begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        cause = f"{where} is valid from {begins} on; this machine's clock says {now:%Y-%m-%d %H:%M} UTC."
        raise CertificateUnusable(cause, "Set this machine's clock (NTP), or ask the operator about theirs.")


def days_left(certificate: x509.Certificate, now: datetime) -> int:
    """Whole days until a certificate lapses; negative when it has.

    Example: a certificate that lapses in 30 hours has 1 day left.
    """
    return (certificate.not_valid_after_utc - now) // timedelta(days=1)
