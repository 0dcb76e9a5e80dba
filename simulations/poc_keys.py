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
LOOPBACK_NAMES = ("127.0.0.1", "localhost")
_PLANT = """name = "{name}"
data = "data"
superlink = "{host}:{port}"
root_certificates = "ca.crt"
node_key = "node"
client_certificate = "client.crt"
client_key = "client.key"
"""
_POLICY = """# Everything that is built in is allowed, in runs that the operator signed.
signers = ["{signer}"]
"""


def provision(
    federation: Path, plants: Path, sites: Sequence[SiteData], port: int, hosts: Sequence[str] = LOOPBACK_NAMES
) -> None:
    """Write both sides' folders: the authority and the roster here, keys and data there; plants dial the first host."""
    now = datetime.now(UTC)
    (federation.parent / "kits").mkdir()
    signer = create(federation, NAME, list(hosts), port, now).signer
    for site in sites:
        folder = plants / site.name
        request = new_site(site.name, folder)
        write_site(folder / "data", site)
        (folder / "plant.toml").write_text(_PLANT.format(name=site.name, host=hosts[0], port=port), encoding="utf-8")
        (folder / "policy.toml").write_text(_POLICY.format(signer=signer), encoding="utf-8")
        with opened(federation) as books:
            approved = approve(books, request, now, request.fingerprint)
        with opened(federation) as books:
            kit = federation.parent / "kits" / site.name
            write_kit(kit, build_kit(books, approved, now))
            install(kit, folder, now, authority_fingerprint(books.authority))
