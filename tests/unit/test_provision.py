"""A federation set up, and plants taken in: what is made, what is refused, what is left alone."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from server.provision.change import approve, renew, renew_authority, revoke
from server.provision.federation import create, opened, read
from shared.errors import FileTrouble, InvalidConfig
from shared.pki import certificates, keys
from shared.pki.request import new_site, read_request
from shared.pki.trouble import CertificateUnusable, ClockWrong, KeyUnusable, RequestRefused
from tests.support.pki import DAY, NOW, SECRET, digests, make, mode, take_in

# ---- init ----


def test_a_new_federation_has_an_authority_a_server_and_settings(fed: Path) -> None:
    federation = read(fed)
    assert (federation.settings.name, federation.settings.hosts) == ("water", ["localhost", "127.0.0.1"])
    assert mode(fed / "ca/ca.key") == mode(fed / "server/server.key") == 0o600
    assert mode(fed) == 0o700
    server = certificates.load_bundle((fed / "server/server.crt").read_bytes(), "server")[0]
    assert certificates.hosts_of(server) == ("localhost", "127.0.0.1")
    assert certificates.signed_by(server, federation.authority)
    assert federation.key().curve.name == "secp384r1"


def test_openssl_finds_nothing_to_object_to(fed: Path) -> None:
    take_in(fed, "north", NOW)
    ca, leaves = str(fed / "ca/ca.crt"), [str(fed / "server/server.crt"), str(fed / "sites/north/client.crt")]
    done = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", ca, *leaves], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    purpose = ["openssl", "verify", "-purpose", "sslserver", "-CAfile", ca, leaves[1]]
    assert subprocess.run(purpose, capture_output=True).returncode != 0, "a plant could pose as the server"


def test_a_folder_in_use_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "water").mkdir()
    (tmp_path / "water" / "mine.txt").write_text("mine")
    with pytest.raises(FileTrouble, match="already holds something"):
        make(tmp_path, NOW)
    assert digests(tmp_path / "water").keys() == {"mine.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["water"]


def test_an_init_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, mode: int = 0) -> None:
        if path.name == "server.key":
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr("shared.pki.files.write_new", full)
    with pytest.raises(FileTrouble, match="No space left"):
        make(tmp_path, NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "host", ["http://a", "a:1", "10.0.0.300", "*.a.org", "a b", "-a", "", "ä.org", "a/b", "1.2.3.4/8"]
)
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidConfig, match="neither a host name nor"):
        create(tmp_path / "fed", "water", ["ok.org", host], 9443, NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "ca", "SERVER", "x" * 49, "a\n", "ä"])
def test_a_name_that_cannot_be_a_folder_or_means_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidConfig, match="cannot be a"):
        new_site(name, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# ---- the plant's own side ----


def test_flower_reads_the_node_key_as_its_own_code_does(tmp_path: Path) -> None:
    from flwr.cli.supernode.register import try_load_public_key
    from flwr.supercore.primitives.asymmetric import bytes_to_public_key, uses_nist_ec_curve
    from flwr.supernode.cli.flower_supernode import _try_setup_client_authentication

    new_site("north", tmp_path / "north")

    class Arguments:
        auth_supernode_private_key = str(tmp_path / "north/node")
        auth_supernode_public_key = None

    pair = _try_setup_client_authentication(Arguments())  # type: ignore[arg-type]
    assert pair is not None
    registered = bytes_to_public_key(try_load_public_key(tmp_path / "north/node.pub"))
    assert uses_nist_ec_curve(registered)
    assert registered.public_numbers() == pair[1].public_numbers()


def test_openssh_reads_it_too(tmp_path: Path) -> None:
    new_site("north", tmp_path / "north")
    shown = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "north/node"], capture_output=True, text=True)
    assert shown.stdout.split()[:2] == (tmp_path / "north/node.pub").read_text().split()[:2]


def test_nothing_secret_is_in_what_travels_and_secrets_are_their_owners(tmp_path: Path) -> None:
    new_site("north", tmp_path / "north")
    with_secret = {path.name for path in (tmp_path / "north").iterdir() if SECRET in path.read_bytes()}
    assert with_secret == {"node", "client.key"}
    assert {mode(tmp_path / "north" / name) for name in with_secret} == {0o600}
    request = (tmp_path / "north/request.toml").read_bytes()
    for name in with_secret:
        raw = (tmp_path / "north" / name).read_text().split("-----")[2].replace("\n", "")
        assert raw[40:80].encode() not in request


def test_the_site_command_needs_no_package_of_the_server(tmp_path: Path) -> None:
    """At a plant sqlalchemy, sklearn and torch may be missing: nothing of them may be imported."""
    program = (
        "import sys\n"
        "for name in ('sqlalchemy', 'sklearn', 'torch', 'flwr', 'numpy'): sys.modules[name] = None\n"
        "from shared.cli import run\n"
        f"sys.exit(run(['provision', 'site', 'new', 'north', '--out', {str(tmp_path / 'n')!r}]))\n"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "n/request.toml").exists()


# ---- approve ----


def test_an_approved_plant_has_a_certificate_for_a_year_and_its_key_in_the_roster(fed: Path) -> None:
    home = take_in(fed, "north", NOW)
    site = read(fed).site("north")
    assert (site.status, site.compared) == ("approved", False)
    leaf = site.certificate()
    assert certificates.common_name(leaf) == "north"
    assert certificates.days_left(leaf, NOW) == 365
    assert (fed / "sites/north/node.pub").read_bytes() == (home / "node.pub").read_bytes()
    tls = keys.load_private((home / "client.key").read_bytes(), "key").public_key()
    assert keys.digest(tls) == certificates.key_of(leaf)


def test_the_fingerprint_is_compared_however_it_is_typed(fed: Path, tmp_path: Path) -> None:
    request = new_site("north", tmp_path / "north")
    wrong = new_site("other", tmp_path / "other").fingerprint
    with opened(fed) as federation:
        with pytest.raises(RequestRefused, match="the fingerprint of north's request is"):
            approve(federation, request, NOW, heard=wrong)
        with pytest.raises(RequestRefused):
            approve(federation, request, NOW, heard="")
        site = approve(federation, request, NOW, heard=request.fingerprint.upper().replace("-", " "))
    assert site.compared
    assert list(read(fed).sites) == ["north"]


def test_a_fingerprint_that_nobody_compared_is_compared_later(fed: Path, tmp_path: Path) -> None:
    request = new_site("north", tmp_path / "north")
    with opened(fed) as federation:
        first = approve(federation, request, NOW)
    with opened(fed) as federation, pytest.raises(RequestRefused, match="the fingerprint of north's request is"):
        approve(federation, request, NOW, heard=new_site("other", tmp_path / "other").fingerprint)
    with opened(fed) as federation, pytest.raises(RequestRefused, match="is already that of north"):
        approve(federation, request, NOW)
    with opened(fed) as federation:
        approve(federation, request, NOW, heard=request.fingerprint)
    site = read(fed).site("north")
    assert (first.compared, site.compared) == (False, True)
    assert (site.certificates, site.keys) == (first.certificates, first.keys)
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    with opened(fed) as federation, pytest.raises(RequestRefused, match="is already that of north"):
        approve(federation, request, NOW, heard=request.fingerprint)


def test_adding_a_plant_touches_no_other_plant(fed: Path) -> None:
    north = take_in(fed, "north", NOW)
    before, at_plant = digests(fed), digests(north)
    take_in(fed, "south", NOW)
    after = digests(fed)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1] for name in set(after) - set(before)} == {"south"}
    assert digests(north) == at_plant


def test_a_name_or_a_key_that_is_taken_is_refused(fed: Path, tmp_path: Path) -> None:
    take_in(fed, "north", NOW)
    before = digests(fed)
    for name in ("north", "NORTH"):
        new_site(name, tmp_path / f"second-{name}")
        with opened(fed) as federation, pytest.raises(RequestRefused, match="there is a plant 'north' already"):
            approve(federation, read_request(tmp_path / f"second-{name}"), NOW)
    with opened(fed) as federation, pytest.raises(RequestRefused, match="is already that of north"):
        approve(federation, renamed(tmp_path / "at-north", "south"), NOW)
    assert digests(fed) == before


def renamed(home: Path, name: str):  # type: ignore[no-untyped-def]
    """The keys of one plant under another name, with a fingerprint that fits."""
    from shared.pki.request import _describe, _render

    request = _describe(name, (home / "node.pub").read_text().strip(), (home / "client.csr").read_bytes())
    path = home.parent / f"{name}.toml"
    path.write_bytes(_render(request))
    return read_request(path)


def test_one_key_for_both_uses_is_refused(tmp_path: Path) -> None:
    from shared.pki.request import _describe, _signing_request

    key = keys.new_key()
    with pytest.raises(RequestRefused, match="one key for Flower and for TLS"):
        _describe("north", keys.public_line(key.public_key(), "north"), _signing_request("north", key))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1()])
def test_a_key_on_another_curve_is_refused(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    new_site("north", tmp_path / "north")
    other = ec.generate_private_key(curve).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    path = tmp_path / "north/request.toml"
    lines = [f'node = "{other} north"' if line.startswith("node =") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    with pytest.raises(RequestRefused, match="not an ECDSA key on P-384"):
        read_request(path)


def test_a_request_that_was_changed_on_its_way_is_refused(tmp_path: Path) -> None:
    new_site("north", tmp_path / "north")
    new_site("evil", tmp_path / "evil")
    path, mine = tmp_path / "north/request.toml", (tmp_path / "evil/node.pub").read_text().strip()
    lines = [f'node = "{mine}"' if line.startswith("node =") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    with pytest.raises(RequestRefused, match="changed or damaged"):
        read_request(path)


def test_a_signing_request_that_its_key_did_not_sign_is_refused(tmp_path: Path) -> None:
    new_site("north", tmp_path / "north")
    import base64

    pem = (tmp_path / "north/client.csr").read_text().split("-----")[2]
    raw = bytearray(base64.b64decode(pem))
    raw[raw.index(b"north")] ^= 1
    changed = (
        f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.b64encode(raw).decode()}\n-----END CERTIFICATE REQUEST-----\n"
    )
    from shared.pki.request import read_signing_request

    with pytest.raises(RequestRefused, match="not signed by its own key"):
        read_signing_request(changed.encode(), "north")


# ---- passphrase and clock ----


def test_a_locked_authority_opens_with_its_passphrase_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSPHRASE, "correct horse")
    fed = make(tmp_path, NOW)
    assert b"ENCRYPTED" in (fed / "ca/ca.key").read_bytes()
    take_in(fed, "north", NOW)
    monkeypatch.setenv(keys.PASSPHRASE, "wrong")
    with pytest.raises(KeyUnusable, match="the passphrase does not open"):
        take_in(fed, "south", NOW)
    monkeypatch.delenv(keys.PASSPHRASE)
    with pytest.raises(KeyUnusable, match="is locked by a passphrase"):
        take_in(fed, "east", NOW)
    monkeypatch.setenv(keys.PASSPHRASE, "")
    with pytest.raises(InvalidConfig, match="set but empty"):
        take_in(fed, "west", NOW)
    assert list(read(fed).sites) == ["north"]


def test_a_clock_in_the_past_issues_nothing(fed: Path, tmp_path: Path) -> None:
    new_site("north", tmp_path / "north")
    with opened(fed) as federation, pytest.raises(ClockWrong, match="this machine's clock says"):
        approve(federation, read_request(tmp_path / "north"), NOW - DAY)
    take_in(fed, "south", NOW + 30 * DAY)
    with opened(fed) as federation, pytest.raises(ClockWrong):
        approve(federation, read_request(tmp_path / "north"), NOW + 29 * DAY)


def test_a_lapsed_authority_issues_nothing_and_can_be_replaced(fed: Path) -> None:
    late = NOW + 3651 * DAY
    take_in(fed, "north", NOW)
    with opened(fed) as federation, pytest.raises(CertificateUnusable, match="lapsed on"):
        renew(federation, ["server"], late)
    with opened(fed) as federation:
        renew_authority(federation, late, timedelta(0))
    assert certificates.days_left(read(fed).site("north").certificate(), late) == 365
