"""`crossplant provision` as a user types it: output, exit codes, frozen JSON."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from shared.pki import certificates, keys
from tests.support.command import crossplant_here
from tests.support.pki import digests, make, mode, take_in

SPOKEN = re.compile(r"(?:[0-9a-f]{4}-){7}[0-9a-f]{4}")


def done(*arguments: str | Path) -> str:
    """What a command prints that ends well."""
    result = crossplant_here("provision", *arguments)
    assert result.returncode == 0, result.stderr
    assert "warning:" not in result.stdout
    return result.stdout


def refused(*arguments: str | Path) -> str:
    """The one line of a command that ends badly."""
    result = crossplant_here("provision", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    return line


def spoken(text: str) -> str:
    (found,) = SPOKEN.findall(text)
    return str(found)


def test_the_whole_life_by_commands(tmp_path: Path) -> None:
    fed, home, kit = tmp_path / "fed", tmp_path / "north", tmp_path / "north.zip"
    authority = spoken(done("init", fed, "--name", "water", "--host", "fl.example.org", "--loopback"))
    heard = spoken(done("site", "new", "north", "--out", home))
    assert "approved until" in done("site", "approve", fed, home / "request.toml", "--fingerprint", heard)
    assert spoken(done("kit", fed, "north", "--out", kit)) == authority
    assert f"next: crossplant preflight --config {home / 'plant.toml'}" in done(
        "install", kit, home, "--fingerprint", authority
    )
    assert done("renew", fed) == "Nothing lapses within 30 days.\n"
    assert "north: until" in done("renew", fed, "north")
    renewed = done("renew", fed, "ca")
    assert [line.split(":")[0] for line in renewed.splitlines()] == ["authority", "server", "north", "next"]
    after = spoken(done("kit", fed, "north", "--out", tmp_path / "again"))
    assert after != authority
    assert "kept" in done("install", tmp_path / "again", home)
    assert "is revoked" in done("site", "revoke", fed, "north")
    listed = done("site", "list", fed)
    assert re.search(r"north +revoked .* compared", listed)
    assert after in listed


def test_the_key_that_signs_runs_is_named_wherever_somebody_compares_it(tmp_path: Path) -> None:
    fed, home, kit = tmp_path / "fed", tmp_path / "north", tmp_path / "north.zip"
    said = [done("init", fed, "--name", "water", "--host", "fl.example.org")]
    done("site", "new", "north", "--out", home)
    done("site", "approve", fed, home / "request.toml")
    said += [done("kit", fed, "north", "--out", kit), done("install", kit, home), done("signer", fed)]
    (signer,) = {found for text in said for found in re.findall(r"SHA256:[A-Za-z0-9+/]{43}", text)}
    assert all(signer in text for text in said)
    keygen = subprocess.run(["ssh-keygen", "-lf", fed / "signing/run.pub"], capture_output=True, text=True)
    assert keygen.stdout.split()[1] == signer
    again = crossplant_here("provision", "install", kit, home)
    assert "signers" not in again.stderr
    (home / "policy.toml").write_text("# mine\n")
    again = crossplant_here("provision", "install", kit, home)
    assert f'signers = ["{signer}"]' in again.stderr
    assert (home / "policy.toml").read_text() == "# mine\n"


def test_a_signing_key_is_made_once_and_replaced_only_when_that_is_said(tmp_path: Path) -> None:
    fed = make(tmp_path, certificates.utc_now())
    before, signer = digests(fed), done("signer", fed)
    assert refused("signer", fed, "--new").startswith("CP-106 FileTrouble")
    assert digests(fed) == before
    assert done("signer", fed, "--replace") != signer
    for name in ("run.key", "run.pub"):
        (fed / "signing" / name).unlink()
    assert "has no key that signs runs" in done("signer", fed)
    assert refused("signer", fed, "--replace").endswith(f"`crossplant provision signer {fed} --new` makes one.")
    made = done("signer", fed, "--new").strip()
    assert mode(fed / "signing/run.key") == 0o600
    assert done("signer", fed).strip() == made
    (fed / "signing/run.key").unlink()
    assert refused("signer", fed).startswith("CP-701 FederationUnreadable")


def test_the_keys_of_the_json_are_frozen(tmp_path: Path) -> None:
    fed = make(tmp_path, certificates.utc_now())
    take_in(fed, "north", certificates.utc_now())
    report = json.loads(done("site", "list", fed, "--json"))
    assert (set(report), report["format"]) == ({"format", "federation", "authority", "sites"}, 1)
    (one,) = report["sites"]
    assert set(one) == {"name", "status", "until", "days_left", "fingerprint", "compared"}
    assert (one["name"], one["status"], one["compared"]) == ("north", "approved", False)
    assert one["days_left"] in (364, 365)


def test_every_refusal_is_one_line_with_a_code_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = make(tmp_path, certificates.utc_now())
    home = take_in(fed, "north", certificates.utc_now())
    before = digests(tmp_path)
    assert refused("init", fed, "--name", "water", "--host", "a").startswith("CP-106 FileTrouble")
    assert refused("init", tmp_path / "x", "--name", "w", "--host", "a", "--tags", "zz").startswith("CP-101")
    assert refused("site", "new", "north", "--out", home).startswith("CP-106")
    assert refused("site", "approve", fed, home).startswith("CP-704 RequestRefused: a key of north's request")
    assert refused("site", "approve", fed, home, "--fingerprint", "1").startswith(
        "CP-704 RequestRefused: the fingerprint"
    )
    assert refused("site", "approve", fed, tmp_path / "none.toml").startswith("CP-106")
    assert refused("site", "revoke", fed, "\x1b[31m").startswith("CP-102 UnknownName")
    assert refused("kit", fed, "south", "--out", tmp_path / "s.zip").endswith("Known: north.")
    assert refused("install", fed, home).startswith("CP-705 KitRefused")
    assert refused("install", next(tmp_path.glob("*.zip")), tmp_path / "none").startswith("CP-106")
    assert refused("renew", home).startswith("CP-701 FederationUnreadable")
    monkeypatch.setenv(keys.PASSPHRASE, "")
    assert refused("renew", fed, "server").startswith("CP-101 InvalidConfig: CROSSPLANT_CA_PASSPHRASE is set but empty")
    assert digests(tmp_path) == before


def test_wrong_usage_exits_2() -> None:
    for arguments in (["renew", "x", "ca", "server"], ["init", "x"], ["site", "approve", "x"], ["nothing"]):
        assert crossplant_here("provision", *arguments).returncode == 2


def test_what_was_not_compared_and_what_lapses_is_a_warning_on_stderr(tmp_path: Path) -> None:
    long_ago = certificates.utc_now() - timedelta(days=350)
    fed = make(tmp_path, long_ago)
    take_in(fed, "north", long_ago)
    listed = crossplant_here("provision", "site", "list", fed)
    assert listed.returncode == 0
    assert "NOT COMPARED" in listed.stdout
    for what in ("server", "north"):
        assert f"warning: the certificate of {what} lapses within 30 days" in listed.stderr
    assert {line.split(":")[0] for line in done("renew", fed).splitlines()} == {"server", "north", "next"}
    assert crossplant_here("provision", "site", "list", fed).stderr == ""


def test_an_authority_without_a_passphrase_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = crossplant_here("provision", "init", tmp_path / "a", "--name", "a", "--host", "a.org")
    assert "are not locked" in made.stderr
    monkeypatch.setenv(keys.PASSPHRASE, "x")
    assert crossplant_here("provision", "init", tmp_path / "b", "--name", "b", "--host", "b.org").stderr == ""


def test_openssl_opens_the_locked_key_with_the_same_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSPHRASE, "correct horse")
    fed = make(tmp_path, certificates.utc_now())
    command = ["openssl", "pkey", "-in", str(fed / "ca/ca.key"), "-noout", "-passin", "pass:"]
    good = [*command[:-1], "pass:correct horse"]
    assert subprocess.run(good, capture_output=True).returncode == 0
    assert subprocess.run([*command[:-1], "pass:wrong"], capture_output=True).returncode != 0
