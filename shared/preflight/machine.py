"""Checks of the machine itself: versions, disk, rights of key files, the socket."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from shared.preflight.verdict import Verdict, fail, ok, skip, warn

FLOWER = "1.41"
LEAST_BYTES, SOME_BYTES = 1 << 30, 5 << 30
_MOST_SOCKET_PATH = 107  # sun_path of Linux, without its end


def versions(expected: dict[str, str]) -> Iterator[Verdict]:
    """Installed packages beside those that the other side runs.

    Args:
        expected: package to version; empty when nobody said.
    """
    flower = _installed("flwr")
    if flower is None or not flower.startswith(f"{FLOWER}."):
        yield fail("version", f"flwr is {flower or 'not installed'}.", f"pip install 'flwr=={FLOWER}.*'")
    for package, theirs in sorted(expected.items()):
        ours = _installed(package)
        if ours == theirs:
            yield ok("version", f"{package} {ours}, as at the operator")
        elif package == "flwr" and ours and ours.startswith(f"{FLOWER}.") and theirs.startswith(f"{FLOWER}."):
            yield warn("version", f"flwr {ours} here, {theirs} at the operator.", "Install the same version.")
        else:
            yield fail(
                "version", f"{package} {ours} here, {theirs} at the operator.", f"pip install {package}=={theirs}"
            )
    if not expected:
        yield ok("version", f"crossplant {_installed('crossplant')}, flwr {flower}; nothing to compare with")


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def disk(folder: Path) -> Verdict:
    """Free space where models and logs will lie; the folder itself may not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    says = f"{free / 2**30:.1f} GiB free at {place}"
    if free < LEAST_BYTES:
        return fail("disk", f"{says}; less than {LEAST_BYTES >> 30} GiB.", "Free some space, or choose another `home`.")
    if free < SOME_BYTES:
        return warn("disk", f"{says}.", f"{SOME_BYTES >> 30} GiB hold some hundred rounds.")
    if not os.access(place, os.W_OK | os.X_OK):
        return fail("disk", f"{place} cannot be written to by this user.", f"Give it to this user: chown {place}")
    return ok("disk", says)


def rights(path: Path) -> Verdict:
    """Whether a private key's file is its owner's alone. Flower itself does not look."""
    about = path.stat()
    loose = stat.S_IMODE(about.st_mode) & 0o077
    if loose:
        says = f"{path} may be read by others (mode {stat.S_IMODE(about.st_mode):o})."
        return fail("key file", says, f"chmod 600 {path}")
    if about.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        return warn("key file", f"{path} belongs to another user.", f"chown {os.geteuid()} {path}")
    return ok("key file", f"{path.name} is its owner's alone")


def socket_free(path: Path) -> Verdict:
    """Whether the agent can listen there."""
    if len(os.fsencode(path)) > _MOST_SOCKET_PATH:
        says = f"{path} is longer than the {_MOST_SOCKET_PATH} bytes that a Unix socket's path may have."
        return fail("socket", says, "Choose a shorter `socket` in plant.toml.")
    if path.exists() and not path.is_socket():
        return fail("socket", f"{path} is a file, not a socket.", "Remove it, or choose another `socket`.")
    if path.is_socket():
        return _busy(path)
    place = path.parent
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return fail("socket", f"no socket can be made in {place} by this user.", "Choose another `socket`.")
    return ok("socket", f"{path} is free")


def _busy(path: Path) -> Verdict:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return ok("socket", f"{path} is left over from an agent that is gone; the next one takes it")
        except OSError as error:
            return skip("socket", f"{path} is there and does not answer: {error.strerror or error}")
    return warn("socket", f"an agent listens on {path} already.", "Fine if this plant is running; else end that agent.")
