"""The folder of versions: bundles beside each other, named by their digests, and one pointer to the one in force.

The pointer is a small text file, `current`: its first line is the digest in force, the others are all versions, newest
first. It is replaced in one step, so whoever reads it finds the old state or the new one, whenever the power goes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from shared.bundle.files import CURRENT, INDEX, read_file
from shared.disk import replace_file
from shared.errors import BundleInvalid

DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_LINES = 1000


def versions(folder: Path) -> tuple[str, ...]:
    """Digests of the bundles in a folder of versions, newest first; those whose folder is gone are left out.

    Their content is not looked at: `read_edge_bundle(folder / digest)` does.

    Raises:
        BundleInvalid: it is no folder of versions, or its pointer is damaged.
    """
    _, listed = _pointer(folder)
    return tuple(digest for digest in listed if (folder / digest).is_dir())


def current(folder: Path) -> str:
    """Digest of the version in force.

    Raises:
        BundleInvalid: it is no folder of versions, or its pointer is damaged.
    """
    return _pointer(folder)[0]


def point(folder: Path, digest: str) -> None:
    """Put another version in force, in one step.

    Args:
        folder: the folder of versions.
        digest: one of `versions(folder)`, or the beginning of exactly one of them, 8 digits or more.

    Raises:
        BundleInvalid: there is no such version, or the pointer cannot be written; it is what it was.
    """
    _, listed = _pointer(folder)
    found = [one for one in versions(folder) if one.startswith(digest)] if len(digest) >= 8 else []
    if len(found) != 1:
        there = ", ".join(one[:12] for one in versions(folder)[:10]) or "none"
        raise BundleInvalid(f"{folder} holds no version {digest[:64]!r}.", f"There are: {there}.")
    write_pointer(folder, found[0], listed)


def located(folder: Path) -> Path:
    """The folder of one bundle: the version in force of a folder of versions, or the folder itself if it is a bundle.

    Raises:
        BundleInvalid: it is neither, or its pointer is damaged.
    """
    names = (CURRENT, INDEX)
    lies = {name for name in names if os.path.lexists(folder / name)} if "\0" not in str(folder) else set()
    return folder if lies == {INDEX} else folder / current(folder)


def write_pointer(folder: Path, digest: str, listed: tuple[str, ...]) -> None:
    """Write the pointer: the digest in force, and all versions, newest first.

    Raises:
        BundleInvalid: it cannot be written; it is what it was.
    """
    try:
        replace_file(folder / CURRENT, "".join(f"{line}\n" for line in (digest, *listed)).encode())
    except OSError as error:
        cure = "Free some space or check the folder's permissions; the version before it stays in force."
        raise BundleInvalid(f"{folder / CURRENT} cannot be written: {error.strerror or error}.", cure) from error


def _pointer(folder: Path) -> tuple[str, tuple[str, ...]]:
    """The digest in force, and all versions, newest first."""
    try:
        data = read_file(folder, CURRENT, _MOST_LINES * 65)
    except BundleInvalid as error:
        cure = "Give a folder that an agent published, such as home/bundles/SITE.bundle."
        raise BundleInvalid(f"no bundle and no folder of bundles: {error.cause}", cure) from error
    lines = data.decode("ascii", "replace").split("\n")
    if not data.endswith(b"\n") or len(lines) < 3 or not all(DIGEST.fullmatch(line) for line in lines[:-1]):
        cause = f"{folder / CURRENT} is damaged: it names no version in force."
        raise BundleInvalid(cause, "Publish again, or give the folder of one bundle beside it.")
    return lines[0], tuple(lines[1:-1])
