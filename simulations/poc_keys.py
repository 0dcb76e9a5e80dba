"""A proof of concept's folders, made as the operator and the plants make them: by provisioning, kit by kit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from client.ingest.folder import write_site
from server.provision.change import approve
from server.provision.federation import create, opened
from server.provision.kit import build_kit
from shared.pki.certificates import authority_fingerprint
from shared.pki.install import install
from shared.pki.kit import write_kit
from shared.pki.request import new_site
from shared.series import SiteData

NAME = "poc"
_PLANT = """name = "{name}"
data = "data"
superlink = "127.0.0.1:{port}"
root_certificates = "ca.crt"
node_key = "node"
"""
_POLICY = "# Everything that is built in is allowed.\n"


def provision(federation: Path, plants: Path, sites: Sequence[SiteData], port: int) -> None:
    """Write both sides' folders: the authority and the roster here, keys and data there."""
    now = datetime.now(UTC)
    (federation.parent / "kits").mkdir()
    create(federation, NAME, ["127.0.0.1", "localhost"], port, now)
    for site in sites:
        folder = plants / site.name
        request = new_site(site.name, folder)
        write_site(folder / "data", site)
        (folder / "plant.toml").write_text(_PLANT.format(name=site.name, port=port), encoding="utf-8")
        (folder / "policy.toml").write_text(_POLICY, encoding="utf-8")
        with opened(federation) as books:
            approved = approve(books, request, now, request.fingerprint)
        with opened(federation) as books:
            kit = federation.parent / "kits" / site.name
            write_kit(kit, build_kit(books, approved, now))
            install(kit, folder, now, authority_fingerprint(books.authority))
