"""The operator's folder as a value: settings, authority, plants. Read whole and checked before anything is changed.

    federation.toml                 name, hosts, port; the operator's to edit
    ca/ca.crt ca/ca.key             trusted authorities (the issuing one first), and its key
    ca/revoked.pem                  what they took back
    ca/cross.crt ca/old/ID.key      only while two authorities overlap
    server/server.crt server.key    the gateway's
    signing/run.key run.pub         what runs are signed with; none in a folder that is older than signatures
    sites/NAME/                     client.csr client.crt node.pub site.toml

The server's processes keep theirs in `run/` beside these.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.provision import signing
from server.provision.site import Site, read_sites
from shared.errors import CrossplantError, FileTrouble, InvalidConfig, UnknownName
from shared.pki import certificates, files, keys
from shared.pki.request import check_plant_name
from shared.pki.trouble import CertificateUnusable, ClockWrong, FederationUnreadable

SETTINGS = "federation.toml"
CA_CERT, CA_KEY, CA_CRL, CROSS, OLD = "ca/ca.crt", "ca/ca.key", "ca/revoked.pem", "ca/cross.crt", "ca/old"
SERVER_CERT, SERVER_KEY = "server/server.crt", "server/server.key"
PORT = 9443
_SLACK = timedelta(minutes=5)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Settings(BaseModel):
    """`federation.toml`.

    Attributes:
        name: the federation's.
        hosts: names and addresses of the gateway; plants dial the first one.
        port: the gateway's.
        made: when.
        tags: fingerprint of the schema that every plant must have; None when the federation has fixed none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1]
    name: str
    hosts: Annotated[list[str], Field(min_length=1, max_length=100)]
    port: Annotated[int, Field(ge=1, le=65535)]
    made: datetime
    tags: Annotated[str, Field(pattern=r"\A[0-9a-f]{16}\z")] | None = None


@dataclass(frozen=True)
class Federation:
    """One federation, read whole.

    Attributes:
        folder: the operator's.
        settings: `federation.toml`.
        bundle: trusted authorities; the one that issues comes first.
        cross: the issuing authority under its predecessor, while they overlap.
        sites: by name.
        signer: fingerprint of the key that signs runs; None when there is none.
    """

    folder: Path
    settings: Settings
    bundle: tuple[x509.Certificate, ...]
    cross: x509.Certificate | None
    sites: dict[str, Site]
    signer: str | None = None

    @property
    def authority(self) -> x509.Certificate:
        """The one that issues."""
        return self.bundle[0]

    def trusted(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Authorities that have not lapsed; the issuing one always counts."""
        return (self.authority, *(one for one in self.bundle[1:] if one.not_valid_after_utc >= now))

    def crossed(self, now: datetime) -> x509.Certificate | None:
        """The cross certificate as long as it serves."""
        one = self.cross
        mine = one is not None and certificates.key_of(one) == certificates.key_of(self.authority)
        return one if one is not None and mine and one.not_valid_after_utc >= now else None

    def site(self, name: str) -> Site:
        """A plant by its name.

        Raises:
            UnknownName: there is none.
        """
        if name not in self.sites:
            raise UnknownName("plant", name[:80], sorted(self.sites))
        return self.sites[name]

    def key(self) -> keys.PrivateKey:
        """The issuing authority's private key, unlocked by the passphrase of the environment.

        Raises:
            KeyUnusable: it is damaged, or the passphrase is missing or wrong.
            CertificateUnusable: it is not the key of `ca/ca.crt`.
        """
        return self._key(CA_KEY, self.authority)

    def old_key(self, authority: x509.Certificate) -> keys.PrivateKey:
        """The private key of an authority that is being replaced; raises as `key`."""
        return self._key(f"{OLD}/{authority_id(authority)}.key", authority)

    def _key(self, name: str, authority: x509.Certificate) -> keys.PrivateKey:
        path = self.folder / name
        key = keys.load_private(files.read_bytes(path), str(path), keys.passphrase_from_environment())
        if keys.digest(key.public_key()) != certificates.key_of(authority):
            raise FederationUnreadable(f"{path} is not the key of the authority in {self.folder / CA_CERT}.")
        return key

    def check_clock(self, now: datetime) -> None:
        """Whether this machine's clock can be right: nothing was issued in its future.

        Raises:
            ClockWrong: it is behind what this federation has already seen.
        """
        seen = [self.settings.made, *(issued.since for site in self.sites.values() for issued in site.certificates)]
        if now + _SLACK < max(seen):
            raise ClockWrong(
                f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, "
                f"but this federation issued a certificate on {max(seen):%Y-%m-%d %H:%M} UTC."
            )

    def check_issuing(self, now: datetime) -> None:
        """Whether the authority can issue now.

        Raises:
            ClockWrong: as `check_clock`.
            CertificateUnusable: the authority has lapsed.
        """
        self.check_clock(now)
        if now > self.authority.not_valid_after_utc:
            lapsed = f"the authority of {self.folder} lapsed on {self.authority.not_valid_after_utc:%Y-%m-%d}."
            raise CertificateUnusable(lapsed, "`crossplant provision renew DIR ca --overlap-days 0`, then new kits.")


def authority_id(authority: x509.Certificate) -> str:
    """First digits of an authority's key: its file name in `ca/old/`, and the end of its name."""
    return certificates.key_of(authority)[:8]


def create(folder: Path, name: str, hosts: list[str], port: int, now: datetime, tags: str | None = None) -> Federation:
    """Make a federation: authority, server certificate, settings. The folder is whole, or not there.

    Raises:
        InvalidConfig: a name, a host or the fingerprint cannot be one.
        FileTrouble: the folder holds something already, or the disk refuses.
    """
    check_plant_name(name, "federation")
    hosts = list(dict.fromkeys(certificates.check_host(host) for host in hosts))
    passphrase = keys.passphrase_from_environment()
    if tags is not None and not re.fullmatch(r"[0-9a-f]{16}", tags):
        raise InvalidConfig(f"{tags[:80]!r} is no schema fingerprint.", "It has 16 hex digits; preflight prints it.")
    key, server_key = keys.new_key(), keys.new_key()
    authority = certificates.make_authority(name, key, now)
    server = certificates.issue_server(server_key.public_key(), hosts, name, authority, key, now)
    crl = certificates.make_crl(authority, key, [], now)
    with files.new_folder(folder) as place:
        for inner in ("ca", "server", "signing", "sites"):
            (place / inner).mkdir(mode=0o700)
        files.write_new(place / CA_KEY, keys.private_pem(key, passphrase), files.PRIVATE)
        files.write_new(place / CA_CERT, certificates.pem(authority))
        files.write_new(place / CA_CRL, certificates.pem_crl([crl]))
        files.write_new(place / SERVER_KEY, keys.private_pem(server_key), files.PRIVATE)
        files.write_new(place / SERVER_CERT, certificates.pem(server))
        _write_signing_key(place, name)
        files.write_new(place / SETTINGS, _render(name, hosts, port, now, tags))
    return read(folder)


def _write_signing_key(place: Path, name: str) -> None:
    for file, (data, rights) in signing.new_files(name).items():
        files.write_new(place / file, data, rights)


def _render(name: str, hosts: list[str], port: int, now: datetime, tags: str | None) -> bytes:
    fixed = f'tags = "{tags}"' if tags else '# tags = "0123456789abcdef"'
    lines = [
        "# A federation, as `crossplant provision init` made it.",
        "format = 1",
        f"name = {files.quoted(name)}",
        "# Names and addresses of the gateway; plants dial the first one. After a change: `crossplant provision renew",
        "# DIR server`, and new kits.",
        f"hosts = [{', '.join(map(files.quoted, hosts))}]",
        f"port = {port}",
        f"made = {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "# Fingerprint of the schema that every plant must have; plants' preflight compares it.",
        fixed,
        "",
    ]
    return "\n".join(lines).encode()


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Federation]:
    """A federation that nobody else changes meanwhile.

    Raises:
        FederationUnreadable: there is none, or it is damaged.
        FileTrouble: another command holds it.
    """
    _refuse_missing(folder)
    with files.held(folder):
        yield read(folder)


def read(folder: Path) -> Federation:
    """Read a federation's folder, without changing anything.

    Raises:
        FederationUnreadable: there is none, or it is damaged.
    """
    _refuse_missing(folder)
    try:
        settings = _settings(folder)
        bundle = certificates.load_bundle(files.read_bytes(folder / CA_CERT), str(folder / CA_CERT))
        cross = None
        if (folder / CROSS).exists():
            cross = certificates.load_bundle(files.read_bytes(folder / CROSS), str(folder / CROSS))[0]
        return Federation(folder, settings, bundle, cross, read_sites(folder), signing.read_signer(folder))
    except FederationUnreadable:
        raise
    except CrossplantError as error:
        raise FederationUnreadable(error.cause) from error


def _settings(folder: Path) -> Settings:
    path = folder / SETTINGS
    try:
        settings = Settings.model_validate(files.read_table(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FederationUnreadable(f"{path}: {where}: {first['msg']}.", "Correct the file.") from error
    check_plant_name(settings.name, "federation")
    for host in settings.hosts:
        certificates.check_host(host)
    if settings.made.tzinfo is None:
        raise FederationUnreadable(f"{path}: made has no time zone.", "Correct the file.")
    return settings


def _refuse_missing(folder: Path) -> None:
    try:
        there = (folder / SETTINGS).is_file()
    except (OSError, ValueError) as error:
        raise FileTrouble(f"cannot read {folder}.") from error
    if not there:
        raise FederationUnreadable(f"{folder} holds no {SETTINGS}.")
