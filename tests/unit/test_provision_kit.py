"""A plant's kit: what it holds, and what the plant takes from it."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from client.agent.config import read_plant
from client.agent.policy import read_policy
from server.provision.change import approve, renew
from server.provision.federation import opened, read
from server.provision.kit import build_kit
from shared.errors import FileTrouble
from shared.pki import certificates
from shared.pki.install import install
from shared.pki.kit import read_kit, write_kit
from shared.pki.request import new_site, read_request
from shared.pki.trouble import CertificateUnusable, KitRefused
from tests.support.pki import DAY, NOW, SECRET, digests, give_kit, make, mode, take_in


def test_a_kit_holds_no_private_key_and_what_it_says_it_holds(fed: Path, tmp_path: Path) -> None:
    take_in(fed, "north", NOW)
    (kit,) = tmp_path.glob("north-*.zip")
    with zipfile.ZipFile(kit) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert set(contents) == {
        *("kit.json", "SHA256SUMS", "ca.crt", "client.crt", "plant.toml", "policy.toml"),
        *("README.txt", "start.sh", "preflight.sh"),
    }
    assert not [name for name, data in contents.items() if SECRET in data]
    for secret in (fed / "ca/ca.key", fed / "server/server.key", fed / "signing/run.key"):
        raw = secret.read_text().split("-----")[2].replace("\n", "")[40:80].encode()
        assert not [name for name, data in contents.items() if raw in data.replace(b"\n", b"")]
    with pytest.raises(KitRefused, match="private key"):
        write_kit(tmp_path / "bad.zip", {"ca.crt": (fed / "ca/ca.key").read_bytes()})
    assert not (tmp_path / "bad.zip").exists()


def test_the_same_kit_has_the_same_bytes_as_zip_and_as_folder(fed: Path, tmp_path: Path) -> None:
    take_in(fed, "north", NOW)
    with opened(fed) as federation:
        contents = build_kit(federation, federation.site("north"), NOW)
    write_kit(tmp_path / "a.zip", contents)
    write_kit(tmp_path / "b.zip", contents)
    write_kit(tmp_path / "c", contents)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert read_kit(tmp_path / "a.zip").contents == read_kit(tmp_path / "c").contents
    sums = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "c", capture_output=True)
    assert sums.returncode == 0
    with pytest.raises(FileTrouble, match="already"):
        write_kit(tmp_path / "a.zip", contents)


def test_the_settings_of_a_kit_are_read_by_the_agent_as_they_are(fed: Path) -> None:
    home = take_in(fed, "north", NOW)
    plant = read_plant(home / "plant.toml")
    assert (plant.config.name, plant.config.superlink) == ("north", "localhost:9443")
    for name in (plant.config.root_certificates, plant.config.node_key, plant.config.client_key):
        assert name is not None
        assert (plant.folder / name).is_file()
    policy = read_policy(plant.policy)
    assert (policy.schema_fingerprint, policy.signers) == ("own", (read(fed).signer,))
    assert mode(home / "start.sh") == 0o755


def test_every_example_in_the_settings_is_valid_when_its_comment_sign_goes(fed: Path) -> None:
    home = take_in(fed, "north", NOW)
    for name in ("plant.toml", "policy.toml"):
        lines = (home / name).read_text().splitlines()
        bare = [line[2:] if line.startswith("# ") and " = " in line.split("#")[1][:24] else line for line in lines]
        assert bare != lines
        bare = [line for line in bare if not line.startswith("signers")]  # its example is no fingerprint
        (home / name).write_text("\n".join(bare))
    read_policy(read_plant(home / "plant.toml").policy)


def test_the_start_scripts_run_in_their_own_folder(fed: Path, tmp_path: Path) -> None:
    home = take_in(fed, "north", NOW)
    double = tmp_path / "crossplant"
    double.write_text('#!/bin/sh\necho "$PWD|$*|$FLWR_TELEMETRY_ENABLED"\n')
    double.chmod(0o755)
    done = subprocess.run([home / "start.sh"], capture_output=True, text=True, env={"CROSSPLANT": str(double)}, cwd="/")
    assert done.stdout == f"{home}|client run --config plant.toml|0\n", done.stderr


def test_install_keeps_the_plants_own_settings(fed: Path) -> None:
    home = take_in(fed, "north", NOW)
    (home / "policy.toml").write_text("# mine\n")
    secrets = {name: (home / name).read_bytes() for name in ("node", "client.key")}
    with opened(fed) as federation:
        renew(federation, ["north"], NOW + DAY)
    before = (home / "client.crt").read_bytes()
    give_kit(fed, "north", NOW + DAY)
    assert (home / "policy.toml").read_text() == "# mine\n"
    assert (home / "client.crt").read_bytes() != before
    assert {name: (home / name).read_bytes() for name in secrets} == secrets


def test_a_kit_of_a_federation_without_a_signing_key_names_none(fed: Path) -> None:
    for name in ("run.key", "run.pub"):
        (fed / "signing" / name).unlink()
    home = take_in(fed, "north", NOW)
    assert read_policy(home / "policy.toml").signers == ()


@pytest.mark.parametrize(
    ("policy", "named"), [("signers = ['{}']", True), ("", False), ("signers = 3", False), ("=", False)]
)
def test_install_says_when_the_plants_own_policy_does_not_name_the_signer(
    fed: Path, tmp_path: Path, policy: str, named: bool
) -> None:
    home, signer = take_in(fed, "north", NOW), read(fed).signer
    (home / "policy.toml").write_text(policy.format(signer))
    done = install(next(tmp_path.glob("north-*.zip")), home, NOW)
    assert done.unnamed == (None if named else signer)
    assert (home / "policy.toml").read_text() == policy.format(signer)


def test_a_kit_of_another_plant_or_for_other_keys_is_refused(fed: Path, tmp_path: Path) -> None:
    north, south = take_in(fed, "north", NOW), take_in(fed, "south", NOW)
    kit = next(tmp_path.glob("north-*.zip"))
    before = digests(south)
    with pytest.raises(KitRefused, match="the kit is north's"):
        install(kit, south, NOW)
    assert digests(south) == before
    new_site("north", tmp_path / "anew")
    with pytest.raises(CertificateUnusable, match="not for the key"):
        install(kit, tmp_path / "anew", NOW)
    with pytest.raises(CertificateUnusable, match="lapsed on"):
        install(kit, north, NOW + 366 * DAY)
    with pytest.raises(CertificateUnusable, match="this machine's clock says"):
        install(kit, north, NOW - DAY)


def test_a_kit_of_another_authority_needs_a_word_on_the_telephone(tmp_path: Path) -> None:
    home = take_in(make(tmp_path, NOW), "north", NOW)
    evil = make(tmp_path, NOW, "evil")
    with opened(evil) as federation:
        approve(federation, read_request(home), NOW)
    with opened(evil) as federation:
        write_kit(tmp_path / "evil.zip", build_kit(federation, federation.site("north"), NOW))
    before = digests(home)
    with pytest.raises(KitRefused, match="not one that this plant trusts"):
        install(tmp_path / "evil.zip", home, NOW)
    with pytest.raises(KitRefused, match="the fingerprint of the kit's authority"):
        install(tmp_path / "evil.zip", home, NOW, heard="0000-0000")
    assert digests(home) == before
    fingerprint = certificates.authority_fingerprint(read(evil).authority)
    assert install(tmp_path / "evil.zip", home, NOW, heard=fingerprint).known


def test_the_first_authority_is_taken_on_trust_and_that_is_said(fed: Path, tmp_path: Path) -> None:
    take_in(fed, "north", NOW)
    new_site("south", tmp_path / "south")
    with opened(fed) as federation:
        approve(federation, read_request(tmp_path / "south"), NOW)
    with opened(fed) as federation:
        write_kit(tmp_path / "s.zip", build_kit(federation, federation.site("south"), NOW))
    assert not install(tmp_path / "s.zip", tmp_path / "south", NOW).known
    assert install(tmp_path / "s.zip", tmp_path / "south", NOW).known
