"""Who is in the federation: what provisioning approved, kept equal to the keys that the SuperLink knows."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import InvalidConfig
from shared.service_errors import ServerRefused

if TYPE_CHECKING:
    from server.run.control import Control

APPROVED = "approved"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True)
class Site:
    """A plant in the operator's books.

    Attributes:
        name: of its folder.
        status: `requested`, `approved` or `revoked`.
        key: its node key as the SuperLink keeps it (PEM); None when it has sent none.
    """

    name: str
    status: str
    key: bytes | None


def read_sites(folder: Path) -> tuple[Site, ...]:
    """The plants in `sites/`, sorted by name.

    Raises:
        InvalidConfig: a site's file or key is none; it names the plant.
    """
    if not folder.is_dir():
        return ()
    return tuple(_read_site(path) for path in sorted(folder.iterdir()) if (path / "site.toml").exists())


def _read_site(path: Path) -> Site:
    try:
        status = str(tomllib.loads((path / "site.toml").read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError, KeyError) as error:
        raise InvalidConfig(f"{path / 'site.toml'} says no status.", "Approve the plant again.") from error
    public = path / "node.pub"
    return Site(path.name, status, read_node_key(public) if public.exists() else None)


def read_node_key(path: Path) -> bytes:
    """A node's public key, from OpenSSH's form to the PEM form that Flower registers.

    Raises:
        InvalidConfig: it is no key on a NIST curve.
    """
    cure = "Have the plant send its node.pub again."
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise InvalidConfig(f"{path} is no public key.", cure) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise InvalidConfig(f"{path} is not a key on a NIST curve.", cure)
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def reconcile(control: Control, sites: tuple[Site, ...]) -> list[str]:
    """Register approved keys, unregister all others; what changed and what could not be done, in words.

    A plant that was given a new key keeps its name: the old key goes first. A key that was shut out once Flower never
    takes again (1.41), and one such plant must not keep the others out: it is told of at every call.
    """
    wanted = {site.key: site.name for site in sites if site.status == APPROVED and site.key is not None}
    present = {node.key: node for node in control.nodes()}
    changes = []
    for key, node in present.items():
        if wanted.get(key) != node.name:
            control.unregister(node.id)
            changes.append(f"plant {node.name!r} is shut out.")
    for key, name in wanted.items():
        if key not in present or present[key].name != name:
            changes.append(_let_in(control, name, key))
    return changes


def _let_in(control: Control, name: str, key: bytes) -> str:
    try:
        control.register(name, key)
    except ServerRefused:
        return (
            f"plant {name!r} cannot be let in: the SuperLink takes no key that it shut out before. Revoke the plant "
            "and approve it with new keys (--replace), or stop the server, move run/superlink.sqlite* away and start."
        )
    return f"plant {name!r} may connect."
