"""`bundle.json`, and the files that it answers for: nothing of a bundle is read but through its digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shared.bundle.files import INDEX, OPTIONAL, REQUIRED, read_file
from shared.bundle.parts import Provenance
from shared.errors import BundleInvalid

FORMAT = 4
"""What is written. 1 held a scaler only, 2 neither graph nor signature; 4 may hold a judge and relations, and tells
whose model it has."""
OLDEST = 3
"""The oldest format that is read: what 4 added may be missing there, and is what a bundle without it means."""
_AGAIN = "Publish it again with this version: the next round that calibrates does."
_NEWER = "Install that version here, too, or publish the bundle with this one."


@dataclass(frozen=True)
class Index:
    """What a bundle says it is.

    Attributes:
        provenance: where it came from.
        digests: SHA-256 of every other file but the signature, by name.
        digest: over both, hex; the name of the bundle.
        data: the bytes of `bundle.json`: what is signed.
    """

    provenance: Provenance
    digests: Mapping[str, str]
    digest: str
    data: bytes


def make_index(provenance: Provenance, files: Mapping[str, bytes]) -> Index:
    """The index of files; equal files give equal bytes."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    fields = {"format": FORMAT, "provenance": provenance.as_dict(), "digests": digests}
    digest = _seal(fields)
    data = json.dumps({**fields, "digest": digest}, indent=1).encode()
    return Index(provenance, MappingProxyType(digests), digest, data)


def _seal(fields: Mapping[str, Any]) -> str:
    """Digest of an index without its `digest`."""
    kept = {name: value for name, value in fields.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_index(folder: Path) -> Index:
    """Read `bundle.json`. The files that it names are not looked at.

    Raises:
        BundleInvalid: it is missing, changed, or of a format that is not read.
    """
    data = read_file(folder, INDEX)
    try:
        fields = json.loads(data.decode("utf-8"))
        _check_format(folder, fields)
        if fields["digest"] != _seal(fields):
            raise ValueError("it was changed after publishing")
        provenance = Provenance.of(fields["provenance"])
        digests = _digests(fields["digests"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        told = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BundleInvalid(f"{folder} holds no readable {INDEX}: {told:.300}.") from error
    return Index(provenance, MappingProxyType(digests), str(fields["digest"]), data)


def _check_format(folder: Path, fields: Any) -> None:
    if not isinstance(fields, dict):
        raise ValueError("it is no table")
    found = fields["format"]
    if type(found) is not int or found < 1:
        raise ValueError(f"it has format {found!r:.20}, where this version reads format {OLDEST} to {FORMAT}")
    if OLDEST <= found <= FORMAT:
        return
    who, cure = ("an older", _AGAIN) if found < OLDEST else ("a newer", _NEWER)
    cause = f"{folder} has format {found}, which {who} version wrote; this one reads {OLDEST} to {FORMAT}."
    raise BundleInvalid(cause, cure)


def _digests(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(digest, str) for digest in found.values()):
        raise ValueError("its digests are no table")
    missing, strange = REQUIRED - found.keys(), found.keys() - REQUIRED - OPTIONAL
    if missing or strange:
        told = f"lack {', '.join(sorted(missing))}" if missing else f"name {min(strange)!r:.80}, which is no part"
        raise ValueError(f"its digests {told}")
    return found


def read_parts(folder: Path, index: Index, leave: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """The content of a bundle's files, each checked against its digest.

    Args:
        folder: of the bundle.
        index: its index.
        leave: names whose content is checked and not given back.

    Raises:
        BundleInvalid: a file is missing, unreadable or changed.
    """
    parts = {}
    for name, digest in index.digests.items():
        data = read_file(folder, name)
        if hashlib.sha256(data).hexdigest() != digest:
            raise BundleInvalid(f"{folder}: {name} was changed after publishing.")
        if name not in leave:
            parts[name] = data
    return parts
