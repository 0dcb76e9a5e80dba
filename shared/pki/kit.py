"""A kit: what the operator gives a plant. A zip or a folder of small files with known names, and no private key.

`kit.json` says whose it is and for which versions; `SHA256SUMS` shows damage. Neither makes a kit authentic: that is
done by the plant's own key, by the authorities it trusts already, and at first by a fingerprint on the telephone.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import CrossplantError, FileTrouble
from shared.pki import certificates, files
from shared.pki.trouble import KitRefused

CARD, SUMS, CA, CLIENT, CROSS = "kit.json", "SHA256SUMS", "ca.crt", "client.crt", "cross.crt"
PLANT, POLICY, README = "plant.toml", "policy.toml", "README.txt"
SCRIPTS = ("start.sh", "preflight.sh")
NEEDED = frozenset({CARD, CA, CLIENT, PLANT, POLICY, README, *SCRIPTS})
KNOWN = NEEDED | {CROSS}
_MOST_MEMBERS = 32
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The same kit twice has the same bytes.


class Card(BaseModel):
    """`kit.json`.

    Attributes:
        federation: its name.
        plant: whose kit it is.
        crossplant, flower: versions that the operator runs; a plant must match.
        tags: fingerprint of the schema that the federation has fixed.
        signer: fingerprint of the key that signs the federation's runs; None where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    federation: Annotated[str, Field(min_length=1, max_length=64)]
    plant: Annotated[str, Field(min_length=1, max_length=64)]
    crossplant: Annotated[str, Field(max_length=64)]
    flower: Annotated[str, Field(max_length=64)]
    tags: Annotated[str, Field(pattern=r"\A[0-9a-f]{16}\z")] | None = None
    signer: Annotated[str, Field(pattern=r"\ASHA256:[A-Za-z0-9+/]{43}\z")] | None = None


@dataclass(frozen=True)
class Kit:
    """A kit whose checksums hold and whose certificates can be read.

    Attributes:
        card: whose it is.
        authorities: trusted by it, the issuing one first.
        cross: the issuing one under its predecessor, while they overlap.
        client: the plant's certificate.
        contents: every file by its name, without `SHA256SUMS`.
    """

    card: Card
    authorities: tuple[x509.Certificate, ...]
    cross: x509.Certificate | None
    client: x509.Certificate
    contents: Mapping[str, bytes]


def write_kit(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write a kit: a zip when the name ends in `.zip`, else a new folder.

    Raises:
        KitRefused: a file holds a private key, which must never travel.
        FileTrouble: the place is in use, or the disk refuses.
    """
    for name, data in contents.items():
        if b"PRIVATE KEY" in data:
            raise KitRefused(f"{name} would carry a private key.", "Please report this.")
    whole = {**contents, SUMS: _sums(contents)}
    if out.suffix.lower() != ".zip":
        with files.new_folder(out, mode=0o755) as place:
            for name, data in whole.items():
                files.write_new(place / name, data, mode_of(name))
        return
    if out.exists():
        raise FileTrouble(f"{out} already exists.", "Choose another name, or remove it first.")
    files.replace_file(out, _zipped(whole))


def mode_of(name: str) -> int:
    """Rights of a kit's file."""
    return files.SCRIPT if name in SCRIPTS else files.PUBLIC


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(contents.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100000 | mode_of(name)) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _sums(contents: Mapping[str, bytes]) -> bytes:
    """As `sha256sum --check` reads it."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(contents.items())).encode()


def read_kit(path: Path) -> Kit:
    """Read and check a kit, a zip or a folder.

    Raises:
        KitRefused: it is damaged, incomplete, or holds something that no kit does.
        FileTrouble: it cannot be read.
    """
    contents = _from_folder(path) if path.is_dir() else _from_zip(path)
    sums = contents.pop(SUMS, None)
    if sums is None or not set(contents) >= NEEDED:
        missing = sorted(({*NEEDED, SUMS}) - set(contents) - ({SUMS} if sums is not None else set()))
        raise KitRefused(f"{path} is no whole kit: it lacks {', '.join(missing)}.")
    if sums != _sums(contents):
        raise KitRefused(f"{path} is damaged: its files are not those of its {SUMS}.")
    try:
        card = Card.model_validate_json(contents[CARD])
        cross = certificates.load_bundle(contents[CROSS], CROSS)[0] if CROSS in contents else None
        authorities = certificates.load_bundle(contents[CA], CA)
        return Kit(card, authorities, cross, certificates.load_bundle(contents[CLIENT], CLIENT)[0], contents)
    except ValidationError as error:
        raise KitRefused(f"{CARD} of {path} is of another version, or damaged.") from error
    except CrossplantError as error:
        raise KitRefused(f"{path}: {error.cause}") from error


def _from_folder(path: Path) -> dict[str, bytes]:
    try:
        names = sorted(entry.name for entry in path.iterdir() if entry.name in KNOWN | {SUMS})
    except OSError as error:
        raise FileTrouble(f"cannot read {path}.") from error
    return {name: files.read_bytes(path / name) for name in names}


def _from_zip(path: Path) -> dict[str, bytes]:
    """The members by name. Only names that a kit has are read, into memory: no member can land anywhere else."""
    data = files.read_bytes(path, most=_MOST_MEMBERS * files.MOST_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(names) > _MOST_MEMBERS or len(set(names)) < len(names) or set(names) - KNOWN - {SUMS}:
                raise KitRefused(f"{path} holds files that no kit has.")
            return {member.filename: _member(archive, member, path) for member in members}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise KitRefused(f"{path} is damaged, or no zip.") from error
    except zlib.error as error:
        raise KitRefused(f"{path} is damaged.") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bytes:
    with archive.open(member) as stream:
        data = stream.read(files.MOST_BYTES + 1)
    if len(data) > files.MOST_BYTES:
        raise KitRefused(f"{member.filename} in {path} is larger than any such file.")
    return data


def render_card(card: Card) -> bytes:
    """`kit.json`."""
    return (json.dumps(card.model_dump(), indent=1) + "\n").encode()
