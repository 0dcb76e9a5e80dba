"""Certificates for tests: an authority, and what it signs; usable for TLS and for OPC UA."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.pki.certificates import utc_now


@dataclass(frozen=True)
class Authority:
    """Signs; its certificate is `ca.pem` in its folder."""

    folder: Path
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate


def authority(folder: Path) -> Authority:
    """A new one, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    key = rsa.generate_private_key(65537, 2048)
    made = _begun(folder.name, folder.name, key)
    made = made.add_extension(x509.BasicConstraints(True, None), True)
    made = made.add_extension(_usage(key_cert_sign=True, crl_sign=True), True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    certificate = made.sign(key, hashes.SHA256())
    (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(folder, key, certificate)


def issue(by: Authority, name: str, uri: str = "") -> tuple[str, str]:
    """A certificate for this machine and an application; the paths of it and of its key."""
    key = rsa.generate_private_key(65537, 2048)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    names += [x509.UniformResourceIdentifier(uri)] if uri else []
    made = _begun(name, by.folder.name, key)
    made = made.add_extension(x509.BasicConstraints(False, None), True)
    made = made.add_extension(x509.SubjectAlternativeName(names), False)
    signs = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"), True)
    made = made.add_extension(_usage(**signs), True)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    made = made.add_extension(x509.ExtendedKeyUsage(both), False)
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), False)
    certificate, secret = by.folder / f"{name}.pem", by.folder / f"{name}.key"
    certificate.write_bytes(made.sign(by.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(certificate), str(secret)


def _begun(name: str, by: str, key: rsa.RSAPrivateKey) -> Any:
    now = utc_now()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
    )


def _usage(**used: bool) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: used.get(name, False) for name in every})
