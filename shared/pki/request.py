"""A plant's request to take part: made at the plant with keys that stay there, read by the operator.

`request.toml` is the only file that travels. It holds the plant's name, the public line of its Flower key, a signing
request for its TLS certificate, and a fingerprint over all three that both sides read out on the telephone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.errors import InvalidConfig
from shared.pki import files, keys
from shared.pki.trouble import BROKEN, KeyUnusable, RequestRefused, strictly

REQUEST, NODE_KEY, NODE_PUBLIC, TLS_KEY, TLS_REQUEST = "request.toml", "node", "node.pub", "client.key", "client.csr"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
RESERVED = frozenset({"ca", "server", "all"})
_FIELDS = frozenset({"format", "name", "fingerprint", "node", "tls"})


@dataclass(frozen=True)
class SiteRequest:
    """A request whose signature, keys and fingerprint hold.

    Attributes:
        name: the plant's name.
        node_line: its Flower key's public line, as in `node.pub`, without its end.
        node_digest, tls_digest: SHA-256 of its two public keys, in hex.
        csr: the signing request, PEM.
        fingerprint: over all of it, to compare on the telephone.
    """

    name: str
    node_line: str
    node_digest: str
    tls_digest: str
    csr: bytes
    fingerprint: str


def check_plant_name(name: str, what: str = "plant") -> str:
    """Return a name that can be a folder's and a certificate's.

    Raises:
        InvalidConfig: it cannot.

    Example:
        >>> check_plant_name("north-2")
        'north-2'
    """
    if not NAME.fullmatch(name) or name.lower() in RESERVED:
        cure = "Use 1 to 48 letters, digits, dots, dashes and underscores, and begin with a letter or digit"
        raise InvalidConfig(f"{name[:80]!r} cannot be a {what}'s name.", f"{cure}; not {', '.join(sorted(RESERVED))}.")
    return name


def new_site(name: str, folder: Path) -> SiteRequest:
    """Make a plant's keys and its request in a new folder. Run at the plant: the two private keys never leave it.

    Raises:
        InvalidConfig: the name cannot be a plant's.
        FileTrouble: the folder holds something already, or the disk refuses.
    """
    check_plant_name(name)
    node, tls = keys.new_key(), keys.new_key()
    request = _describe(name, keys.public_line(node.public_key(), name), _signing_request(name, tls))
    with files.new_folder(folder, mode=0o755) as place:
        files.write_new(place / NODE_KEY, keys.private_openssh(node), files.PRIVATE)
        files.write_new(place / NODE_PUBLIC, f"{request.node_line}\n".encode())
        files.write_new(place / TLS_KEY, keys.private_pem(tls), files.PRIVATE)
        files.write_new(place / TLS_REQUEST, request.csr)
        files.write_new(place / REQUEST, _render(request))
    return request


def _signing_request(name: str, key: keys.PrivateKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, hashes.SHA384())
        .public_bytes(Encoding.PEM)
    )


def _render(request: SiteRequest) -> bytes:
    lines = [
        "# A plant's request to take part in a federation. Nothing in it is secret: send it to the operator,",
        "# and compare the fingerprint on the telephone.",
        "format = 1",
        f"name = {files.quoted(request.name)}",
        f"fingerprint = {files.quoted(request.fingerprint)}",
        f"node = {files.quoted(request.node_line)}",
        f'tls = """\n{request.csr.decode()}"""',
        "",
    ]
    return "\n".join(lines).encode()


def read_request(path: Path) -> SiteRequest:
    """Read and check a request: the file, or the folder that holds it.

    Raises:
        FileTrouble: it cannot be read or is no TOML.
        RequestRefused: it is damaged, its signature does not hold, or a key is of the wrong kind.
        InvalidConfig: its name cannot be a plant's.
    """
    path = path / REQUEST if path.is_dir() else path
    table = files.read_table(path)
    if set(table) != _FIELDS or table["format"] != 1 or type(table["format"]) is not int:
        raise RequestRefused(f"{path} is no request of this version.")
    texts = [table[field] for field in ("name", "fingerprint", "node", "tls")]
    if not all(isinstance(text, str) for text in texts):
        raise RequestRefused(f"{path} holds something else than texts.")
    name, fingerprint, node, tls = texts
    request = _describe(check_plant_name(name), node, tls.encode("utf-8", "replace"))
    if fingerprint != request.fingerprint:
        raise RequestRefused(f"{path} was changed or damaged: its fingerprint is not that of its content.")
    return request


def read_signing_request(data: bytes, where: str) -> keys.PublicKey:
    """The public key of a signing request whose own signature holds.

    Raises:
        RequestRefused: it is damaged, not signed by its key, or the key is not ECDSA on P-384.
    """
    try:
        with strictly():
            csr = x509.load_pem_x509_csr(data)
            whole, key = csr.is_signature_valid, csr.public_key()
    except BROKEN as error:
        raise RequestRefused(f"the signing request of {where} is damaged.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise RequestRefused(f"the signing request of {where} is not for an ECDSA key on P-384.")
    if not whole:
        raise RequestRefused(f"the signing request of {where} is not signed by its own key.")
    return key


def _describe(name: str, node_line: str, csr: bytes) -> SiteRequest:
    """Everything that follows from a name and the two public keys. Only keys count: a CSR's own name is not used."""
    try:
        node = keys.load_node_public(node_line.encode("utf-8", "replace"), f"the node key of {name}")
    except KeyUnusable as error:
        raise RequestRefused(error.cause) from error
    tls = read_signing_request(csr, name)
    if keys.digest(node) == keys.digest(tls):
        raise RequestRefused(f"{name} uses one key for Flower and for TLS.")
    digests = keys.digest(node), keys.digest(tls)
    line = keys.public_line(node, name)  # Written anew: a comment or options that came with it go no further.
    fingerprint = keys.spoken([b"request", name.encode(), *(one.encode() for one in digests)])
    plain = x509.load_pem_x509_csr(csr).public_bytes(Encoding.PEM)  # Without what stood before or after it.
    return SiteRequest(name, line, *digests, plain, fingerprint)
