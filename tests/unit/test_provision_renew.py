"""Renewed and revoked: who keeps which keys, and what is left alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)

from server.provision.change import approve, due, renew, renew_authority, revoke
from server.provision.federation import opened, read
from server.provision.kit import build_kit
from shared.errors import CrossplantError, FileTrouble, UnknownName
from shared.pki import certificates, keys
from shared.pki.install import install
from shared.pki.kit import write_kit
from shared.pki.request import new_site, read_request
from shared.pki.trouble import CertificateUnusable, RequestRefused
from tests.support.pki import DAY, NOW, digests, take_in

# ---- revoke ----


def test_a_revoked_plant_is_on_the_list_and_gets_nothing_any_more(fed: Path, tmp_path: Path) -> None:
    take_in(fed, "north", NOW)
    take_in(fed, "south", NOW)
    south = {name: digest for name, digest in digests(fed).items() if "south" in name}
    with opened(fed) as federation:
        renew(federation, ["north"], NOW)
    with opened(fed) as federation:
        site = revoke(federation, "north", NOW)
    (crl,) = certificates.load_crls((fed / "ca/revoked.pem").read_bytes(), "crl")
    assert {f"{one.serial_number:x}" for one in crl} == {one.serial for one in site.certificates}
    assert len(site.certificates) == 2, "the certificate before the renewal is still valid and must be listed, too"
    assert {name: digest for name, digest in digests(fed).items() if "south" in name} == south
    with opened(fed) as federation:
        with pytest.raises(RequestRefused, match="north is revoked"):
            build_kit(federation, federation.site("north"), NOW)
        with pytest.raises(CertificateUnusable, match="north is revoked"):
            renew(federation, ["north"], NOW)
        with pytest.raises(FileTrouble, match="revoked already"):
            revoke(federation, "north", NOW)
        with pytest.raises(UnknownName, match="east"):
            revoke(federation, "east", NOW)
        with pytest.raises(RequestRefused, match="already that of north"):
            approve(federation, read_request(tmp_path / "at-north"), NOW, replaces=True)


def test_a_revoked_plant_comes_back_with_new_keys(fed: Path, tmp_path: Path) -> None:
    take_in(fed, "north", NOW)
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    request = new_site("north", tmp_path / "anew")
    with opened(fed) as federation:
        with pytest.raises(RequestRefused, match="already"):
            approve(federation, request, NOW)
        approve(federation, request, NOW, replaces=True)
    with opened(fed) as federation:
        site = federation.site("north")
        assert (site.status, len(site.keys), len(site.certificates)) == ("approved", 4, 2)
        assert site.certificates[0].revoked
        assert not site.certificates[1].revoked
        revoke(federation, "north", NOW)
    (crl,) = certificates.load_crls((fed / "ca/revoked.pem").read_bytes(), "crl")
    assert len(list(crl)) == 2


# ---- renew ----


def test_what_lapses_soon_is_due(fed: Path) -> None:
    take_in(fed, "north", NOW)
    take_in(fed, "south", NOW + 100 * DAY)
    federation = read(fed)
    assert due(federation, NOW + 300 * DAY) == []
    assert due(federation, NOW + 340 * DAY) == ["server", "north"]
    with opened(fed) as federation:
        renew(federation, due(federation, NOW + 340 * DAY), NOW + 340 * DAY)
    assert due(read(fed), NOW + 345 * DAY) == []
    assert due(read(fed), NOW + 440 * DAY) == ["south"]


def test_renewal_keeps_the_keys_and_touches_only_what_was_asked_for(fed: Path) -> None:
    take_in(fed, "north", NOW)
    take_in(fed, "south", NOW)
    before = digests(fed)
    old = read(fed).site("north").certificate()
    with opened(fed) as federation:
        renew(federation, ["north"], NOW + DAY)
    changed = {name for name, digest in digests(fed).items() if before.get(name) != digest}
    assert changed == {"sites/north/client.crt", "sites/north/site.toml"}
    new = read(fed).site("north").certificate()
    assert certificates.key_of(new) == certificates.key_of(old)
    assert new.not_valid_after_utc == old.not_valid_after_utc + DAY


def test_a_new_host_is_in_the_servers_certificate_after_a_renewal(fed: Path) -> None:
    settings = fed / "federation.toml"
    settings.write_text(settings.read_text().replace('hosts = ["localhost"', 'hosts = ["fl.example.org", "localhost"'))
    with opened(fed) as federation:
        renew(federation, ["server"], NOW)
    leaf = certificates.load_bundle((fed / "server/server.crt").read_bytes(), "server")[0]
    assert certificates.hosts_of(leaf) == ("fl.example.org", "localhost", "127.0.0.1")


def test_a_new_authority_renews_everyone_and_only_the_bundle_grows(fed: Path) -> None:
    home = take_in(fed, "north", NOW)
    take_in(fed, "gone", NOW)
    with opened(fed) as federation:
        revoke(federation, "gone", NOW)
    old = read(fed).authority
    with opened(fed) as federation:
        done = renew_authority(federation, NOW, 90 * DAY)
    assert [line.split(":")[0] for line in done] == ["authority", "server", "north"]
    federation = read(fed)
    new, previous = federation.bundle
    assert certificates.key_of(previous) == certificates.key_of(old)
    assert previous.not_valid_after_utc == NOW + 90 * DAY
    assert certificates.signed_by(federation.site("north").certificate(), new)
    assert not certificates.signed_by(federation.site("gone").certificate(), new)
    assert install_again(fed, "north").known, "the plant must accept its new kit without a telephone call"
    assert len(certificates.load_bundle((home / "ca.crt").read_bytes(), "ca")) == 2
    with opened(fed) as federation, pytest.raises(CertificateUnusable, match="renewed already"):
        renew_authority(federation, NOW + DAY, 90 * DAY)
    assert len(read(fed).trusted(NOW + 91 * DAY)) == 1


def install_again(fed: Path, name: str):  # type: ignore[no-untyped-def]
    kit = fed.parent / "again.zip"
    with opened(fed) as federation:
        write_kit(kit, build_kit(federation, federation.site(name), NOW))
    return install(kit, fed.parent / f"at-{name}", NOW)


def test_a_plant_of_the_old_authority_can_be_revoked_while_they_overlap(fed: Path) -> None:
    take_in(fed, "north", NOW)
    with opened(fed) as federation:
        renew_authority(federation, NOW, 90 * DAY)
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    lists = certificates.load_crls((fed / "ca/revoked.pem").read_bytes(), "crl")
    assert [len(list(one)) for one in lists] == [1, 1], "one certificate of each authority"


def test_without_an_overlap_the_old_authority_is_gone_at_once(fed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = take_in(fed, "north", NOW)
    with opened(fed) as federation:
        renew_authority(federation, NOW, 90 * DAY)
    (fed / "ca/ca.key").write_bytes(b"lost")
    monkeypatch.setenv(keys.PASSPHRASE, "another")
    with opened(fed) as federation:
        renew_authority(federation, NOW, timedelta(0))
    federation = read(fed)
    assert len(federation.bundle) == 1
    assert federation.cross is None
    assert list((fed / "ca").glob("old/*")) == []
    assert federation.key()
    with pytest.raises(CrossplantError, match="not one that this plant trusts"):
        install_again(fed, "north")
    assert home.exists()


def test_the_node_keys_of_the_roster_are_those_of_the_plants(fed: Path) -> None:
    homes = [take_in(fed, name, NOW) for name in ("north", "south")]
    for home in homes:
        name = home.name.removeprefix("at-")
        mine = load_ssh_private_key((home / "node").read_bytes(), None).public_key()
        kept = load_ssh_public_key((fed / "sites" / name / "node.pub").read_bytes())
        assert isinstance(mine, ec.EllipticCurvePublicKey)
        assert isinstance(kept, ec.EllipticCurvePublicKey)
        assert mine.public_numbers() == kept.public_numbers()


def test_the_coordinator_reads_the_roster_that_provisioning_writes(fed: Path) -> None:
    from server.run.roster import read_sites

    take_in(fed, "north", NOW)
    take_in(fed, "south", NOW)
    with opened(fed) as federation:
        revoke(federation, "south", NOW)
    assert [(site.name, site.status) for site in read_sites(fed / "sites")] == [
        ("north", "approved"),
        ("south", "revoked"),
    ]
