"""One plant as the operator keeps it: who it is, what was issued to it, and whether it may take part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import CrossplantError
from shared.pki import certificates, files
from shared.pki.request import NODE_PUBLIC, TLS_REQUEST, check_plant_name
from shared.pki.trouble import FederationUnreadable

SITES, RECORD, CLIENT_CERT = "sites", "site.toml", "client.crt"
Status = Literal["approved", "revoked"]
Hex = Annotated[str, Field(pattern=r"\A[0-9a-f]{1,64}\z")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Issued(_Model):
    """A certificate that a plant was given.

    Attributes:
        serial: in hex.
        authority: the key of the authority that signed it, in hex.
        since: when it was issued.
        until: when it lapses.
        revoked: when it was taken back.
    """

    serial: Hex
    authority: Hex
    since: datetime
    until: datetime
    revoked: datetime | None = None


class _Record(_Model):
    """`site.toml`."""

    format: Literal[1]
    name: str
    status: Status
    fingerprint: str
    compared: bool
    keys: Annotated[list[Hex], Field(min_length=2)]
    certificates: list[Issued]


@dataclass(frozen=True)
class Site:
    """A plant of the roster.

    Attributes:
        name: its name.
        status: approved or revoked.
        fingerprint: of its request.
        compared: whether somebody compared it (`--fingerprint`).
        keys: SHA-256 of every public key it ever had, in hex; none of them is ever approved again.
        certificates: every certificate it was given, oldest first.
        folder: where its files lie.
    """

    name: str
    status: Status
    fingerprint: str
    compared: bool
    keys: tuple[str, ...]
    certificates: tuple[Issued, ...]
    folder: Path

    @property
    def until(self) -> datetime:
        """When its newest certificate lapses."""
        return self.certificates[-1].until

    def file(self, name: str) -> str:
        """Path of one of its files, relative to the federation."""
        return f"{SITES}/{self.name}/{name}"

    def certificate(self) -> x509.Certificate:
        """Its newest certificate.

        Raises:
            CertificateUnusable: the file is damaged.
            FileTrouble: it cannot be read.
        """
        path = self.folder / CLIENT_CERT
        return certificates.load_bundle(files.read_bytes(path), str(path))[0]

    def given(self, certificate: x509.Certificate, authority: x509.Certificate, now: datetime) -> Site:
        """With one certificate more."""
        one = Issued(
            serial=f"{certificate.serial_number:x}",
            authority=certificates.key_of(authority),
            since=now,
            until=certificate.not_valid_after_utc,
        )
        return replace(self, certificates=(*self.certificates, one))

    def taken_back(self, now: datetime) -> Site:
        """Revoked, with all its certificates."""
        marked = tuple(one if one.revoked else one.model_copy(update={"revoked": now}) for one in self.certificates)
        return replace(self, status="revoked", certificates=marked)

    def render(self) -> bytes:
        """`site.toml`."""
        lines = [
            "# Kept by `crossplant provision`; not to be edited.",
            "format = 1",
            f"name = {files.quoted(self.name)}",
            f"status = {files.quoted(self.status)}",
            f"fingerprint = {files.quoted(self.fingerprint)}",
            f"compared = {str(self.compared).lower()}",
            f"keys = [{', '.join(map(files.quoted, self.keys))}]",
        ]
        for one in self.certificates:
            lines += ["", "[[certificates]]", f'serial = "{one.serial}"', f'authority = "{one.authority}"']
            lines += [f"since = {_moment(one.since)}", f"until = {_moment(one.until)}"]
            lines += [f"revoked = {_moment(one.revoked)}"] if one.revoked else []
        return ("\n".join(lines) + "\n").encode()


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def read_sites(folder: Path) -> dict[str, Site]:
    """Every plant of a federation, sorted by name.

    Raises:
        FederationUnreadable: a plant's folder is damaged.
    """
    place = folder / SITES
    try:
        names = sorted(path.name for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise FederationUnreadable(f"cannot read {place}.") from error
    return {name: _read_site(place / name) for name in names}


def _read_site(folder: Path) -> Site:
    path = folder / RECORD
    try:
        record = _Record.model_validate(files.read_table(path))
        check_plant_name(record.name)
    except ValidationError as error:
        first = error.errors()[0]
        raise FederationUnreadable(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    except CrossplantError as error:
        raise FederationUnreadable(error.cause) from error
    if record.name != folder.name or not record.certificates:
        raise FederationUnreadable(f"{path} is not the record of {folder.name}.")
    moments = [moment for one in record.certificates for moment in (one.since, one.until, one.revoked) if moment]
    if any(moment.tzinfo is None for moment in moments):
        raise FederationUnreadable(f"{path}: a time without its zone.")
    missing = [name for name in (TLS_REQUEST, CLIENT_CERT, NODE_PUBLIC) if not (folder / name).is_file()]
    if missing:
        raise FederationUnreadable(f"{folder} lacks {', '.join(missing)}.")
    return Site(
        record.name,
        record.status,
        record.fingerprint,
        record.compared,
        tuple(record.keys),
        tuple(record.certificates),
        folder,
    )
