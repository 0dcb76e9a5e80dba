"""`crossplant bundle show | verify`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from shared.bundle.files import MODEL
from shared.bundle.folder import located
from shared.bundle.keys import public_bytes
from shared.bundle.trust import fingerprint, public_pem
from shared.bundle.whole import publish
from tests.support.bundles import KEY, OTHER_KEY, bundle, live, put
from tests.support.command import crossplant_here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "north.bundle")
    return tmp_path / "north.bundle"


def test_show_tells_what_there_is(folder: Path) -> None:
    put(folder, 5)
    done = crossplant_here("bundle", "show", folder)
    assert done.returncode == 0, done.stderr
    for told in (
        "north, bundle 2; 2 kept",
        "run a, round 5",
        "1 of 2 active",
        "conformal",
        fingerprint(public_bytes(KEY)),
    ):
        assert told in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("inside", [False, True])
def test_show_as_json(folder: Path, inside: bool) -> None:
    place = located(folder)
    done = crossplant_here("bundle", "show", place if inside else folder, "--json")
    told = json.loads(done.stdout)
    assert told["digest"] == place.name
    assert told["versions"] == [place.name]
    assert told["provenance"]["round"] == 4
    assert told["threshold"]["rule"] == "conformal"
    assert told["calibration"]["rehearsal"]["rate"] == 0.012
    assert told["calibration"]["tag_error"] == {"LIT101": 0.1, "FIT101": 0.5}


def test_show_lets_no_name_steer_the_terminal(tmp_path: Path) -> None:
    told = structs.replace(bundle().provenance, site="\x1b[2Jnorth", run="a\nb")
    publish(replace(bundle(), provenance=told), live(), tmp_path / "x", KEY)
    shown = crossplant_here("bundle", "show", tmp_path / "x").stdout
    assert "\x1b" not in shown
    assert "?[2Jnorth" in shown


def test_verify_with_and_without_a_trusted_key(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.pub").write_bytes(public_pem(public_bytes(KEY)))
    done = crossplant_here("bundle", "verify", folder, "--trust", tmp_path / "bundle.pub")
    assert (done.returncode, "was not checked" in done.stdout) == (0, False)
    done = crossplant_here("bundle", "verify", folder)
    assert (done.returncode, "was not checked" in done.stdout) == (0, True)
    told = json.loads(crossplant_here("bundle", "verify", folder, "--json").stdout)
    assert told == {"digest": located(folder).name, "signer": fingerprint(public_bytes(KEY)), "trusted": False}


def test_verify_refuses_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.pub").write_bytes(public_pem(public_bytes(OTHER_KEY)))
    done = crossplant_here("bundle", "verify", folder, "--trust", tmp_path / "bundle.pub")
    assert done.returncode == 1
    assert done.stderr.startswith("CP-601 BundleInvalid: ")
    assert "trusted is" in done.stderr
    (located(folder) / MODEL).write_bytes(b"")
    for command in ("show", "verify"):
        done = crossplant_here("bundle", command, folder)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{MODEL} was changed after publishing" in done.stderr
        assert done.stderr.count("\n") == 1


def test_verify_refuses_a_signature_that_does_not_hold(folder: Path) -> None:
    older = located(folder)
    put(folder, 5)
    (located(folder) / "signature.json").write_bytes((older / "signature.json").read_bytes())
    done = crossplant_here("bundle", "verify", folder)
    assert done.returncode == 1
    assert "does not hold" in done.stderr


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    done = crossplant_here("bundle", "show", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("CP-601 BundleInvalid: no bundle and no folder of bundles")
