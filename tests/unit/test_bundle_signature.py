"""Who signed a bundle: the plant's own key, given or taken at first use; everything else is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.bundle import trust, verify
from shared.bundle.edge import read_edge_bundle
from shared.bundle.files import INDEX, SIGNATURE
from shared.bundle.folder import located
from shared.bundle.keys import own_key, public_bytes
from shared.bundle.trust import Trust, fingerprint, parse_public, public_pem
from shared.errors import BundleInvalid, FileTrouble, MissingExtra
from tests.support.bundles import KEY, OTHER_KEY, put

OURS = public_bytes(KEY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "north.bundle")
    return tmp_path / "north.bundle"


@pytest.fixture
def trusted(tmp_path: Path) -> Trust:
    (tmp_path / "bundle.pub").write_bytes(public_pem(OURS))
    return Trust(tmp_path / "bundle.pub")


def test_a_bundle_of_the_trusted_key_is_read(folder: Path, trusted: Trust) -> None:
    assert read_edge_bundle(folder, trusted).signer == fingerprint(OURS)


def test_a_bundle_of_another_key_is_refused_and_both_are_named(folder: Path, trusted: Trust) -> None:
    put(folder, 5, OTHER_KEY)
    theirs = fingerprint(public_bytes(OTHER_KEY))
    with pytest.raises(BundleInvalid) as caught:
        read_edge_bundle(folder, trusted)
    assert f"is signed by {theirs}, trusted is {fingerprint(OURS)}" in caught.value.cause


@pytest.mark.parametrize("content", [None, b"", b"{}", b"nonsense", b'{"key": "", "signature": ""}', b"x" * 10_000])
def test_an_unsigned_bundle_is_refused(folder: Path, trusted: Trust, content: bytes | None) -> None:
    path = located(folder) / SIGNATURE
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleInvalid, match=r"is not signed: signature\.json.* let it publish again"):
        read_edge_bundle(folder, trusted)


def test_a_signature_of_another_bundle_does_not_hold(folder: Path, trusted: Trust) -> None:
    older = located(folder)
    put(folder, 5)
    (located(folder) / SIGNATURE).write_bytes((older / SIGNATURE).read_bytes())
    with pytest.raises(BundleInvalid, match=r"the signature over bundle\.json does not hold"):
        read_edge_bundle(folder, trusted)


def test_another_key_cannot_claim_to_be_ours(folder: Path, trusted: Trust) -> None:
    """The key in the signature file is ours, the signature somebody else's."""
    ours = json.loads((located(folder) / SIGNATURE).read_text())
    put(folder, 5, OTHER_KEY)
    path = located(folder) / SIGNATURE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": ours["key"]}))
    with pytest.raises(BundleInvalid, match="does not hold"):
        read_edge_bundle(folder, trusted)


def test_a_bundle_that_was_sealed_again_by_somebody_is_refused(folder: Path, trusted: Trust) -> None:
    """All digests fit; only the signature tells."""
    place = located(folder)
    index = json.loads((place / INDEX).read_text())
    (place / INDEX).write_text(json.dumps(index))  # The same content, other bytes.
    read_edge_bundle(folder)
    with pytest.raises(BundleInvalid, match="does not hold"):
        read_edge_bundle(folder, trusted)


# ---- at first use ----------------------------------------------------------------------------------------------------


def test_the_first_key_is_kept_and_no_other_is_taken_after_it(folder: Path, tmp_path: Path) -> None:
    pinned = Trust(tmp_path / "state" / "bundle.pub", pin=True)
    assert read_edge_bundle(folder, pinned).signer == fingerprint(OURS)
    assert parse_public(pinned.key.read_bytes()) == OURS
    put(folder, 5)
    read_edge_bundle(folder, pinned)
    put(folder, 6, OTHER_KEY)
    with pytest.raises(BundleInvalid, match="trusted is"):
        read_edge_bundle(folder, pinned)


def test_a_signature_that_does_not_hold_leaves_no_key(folder: Path, tmp_path: Path) -> None:
    older = located(folder)
    put(folder, 5)
    (located(folder) / SIGNATURE).write_bytes((older / SIGNATURE).read_bytes())
    with pytest.raises(BundleInvalid, match="does not hold"):
        read_edge_bundle(folder, Trust(tmp_path / "bundle.pub", pin=True))
    assert not (tmp_path / "bundle.pub").exists()


def test_a_damaged_pin_is_not_taken_for_a_missing_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.pub").write_bytes(b"")
    with pytest.raises(FileTrouble, match="no Ed25519 public key"):
        read_edge_bundle(folder, Trust(tmp_path / "bundle.pub", pin=True))
    (tmp_path / "bundle.pub").unlink()
    (tmp_path / "bundle.pub").mkdir()
    with pytest.raises(FileTrouble, match=r"bundle\.pub cannot be read"):
        read_edge_bundle(folder, Trust(tmp_path / "bundle.pub", pin=True))


def test_a_trusted_key_must_be_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match=r"no\.pub cannot be read: No such file.*Give the file bundle\.pub"):
        read_edge_bundle(folder, Trust(tmp_path / "no.pub"))


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "bundle.key"
    key = own_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert parse_public((tmp_path / "home" / "bundle.pub").read_bytes()) == public_bytes(key)
    assert public_bytes(own_key(path)) == public_bytes(key)
    assert sorted(os.listdir(path.parent)) == ["bundle.key", "bundle.pub"]


def test_agents_that_begin_together_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: public_bytes(own_key(tmp_path / "bundle.key")), range(40)))
    assert len(set(keys)) == 1
    assert sorted(os.listdir(tmp_path)) == ["bundle.key", "bundle.pub"]


def test_a_public_key_that_was_changed_is_written_again(tmp_path: Path) -> None:
    key = own_key(tmp_path / "bundle.key")
    (tmp_path / "bundle.pub").write_text("somebody else's")
    own_key(tmp_path / "bundle.key")
    assert parse_public((tmp_path / "bundle.pub").read_bytes()) == public_bytes(key)


def pem(key: object) -> bytes:
    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*kinds)


@pytest.mark.parametrize(
    ("content", "mode", "telling"),
    [
        (b"", 0o600, "is no private key"),
        (b"nonsense", 0o600, "is no private key"),
        (pem(generate_private_key(SECP256R1())), 0o600, "another kind than Ed25519"),
        (pem(Ed25519PrivateKey.generate()), 0o644, r"may be read by others \(mode 644\).*chmod 600"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, mode: int, telling: str) -> None:
    path = tmp_path / "bundle.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(FileTrouble, match=telling):
        own_key(path)
    assert path.read_bytes() == content


def test_a_home_that_cannot_be_written_is_a_file_trouble(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(FileTrouble, match=r"bundle\.key"):
        own_key(tmp_path / "home" / "bundle.key")


def test_public_keys_are_read_as_openssl_and_openssh_write_them() -> None:
    public = KEY.public_key()
    kinds = (
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
    )
    for kind in kinds:
        assert parse_public(public.public_bytes(*kind)) == OURS
    assert parse_public(public.public_bytes(*kinds[1]) + b" plant@north\n") == OURS
    assert public.public_bytes(*kinds[0]) == public_pem(OURS)


@pytest.mark.parametrize(
    "content", [b"", b"ssh-ed25519", b"ssh-ed25519 !", b"ssh-rsa AAAA", pem(KEY), b"\xff", public_pem(b"short")]
)
def test_what_is_no_public_key_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"no Ed25519 public key|no base64"):
        parse_public(content)


def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_bytes(
        KEY.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    try:
        told = subprocess.run(["ssh-keygen", "-lf", tmp_path / "k.pub"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs ssh-keygen (Debian package openssh-client)")
    assert told.stdout.split()[1] == fingerprint(OURS)


# ---- the child process -----------------------------------------------------------------------------------------------


def test_the_check_runs_as_a_module_too(folder: Path) -> None:
    index = (located(folder) / INDEX).read_bytes()
    good = OURS + KEY.sign(index) + index
    for data, due in ((good, 0), (good + b" ", 1), (good[:60], 1), (b"", 1)):
        done = subprocess.run([sys.executable, "-m", "shared.bundle.verify"], input=data, check=False, timeout=60)
        assert done.returncode == due


def test_the_check_imports_nothing_of_numpy_or_pydantic() -> None:
    program = "import sys, shared.bundle.verify as v; v.holds(bytes(32), bytes(64), b''); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not {"numpy", "msgspec", "pydantic", "torch"} & set(done.stdout.split())


def test_without_cryptography_the_cure_is_named(folder: Path, trusted: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        returncode = verify.MISSING

    monkeypatch.setattr(trust.subprocess, "run", lambda *args, **kwargs: Done)
    with pytest.raises(MissingExtra, match=r"cryptography.*crossplant\[edge\]"):
        read_edge_bundle(folder, trusted)


def test_a_child_that_cannot_start_is_a_refusal(folder: Path, trusted: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(BundleInvalid, match="its signature cannot be checked"):
        read_edge_bundle(folder, trusted)


def test_reading_a_bundle_needs_neither_pydantic_nor_torch_nor_cryptography(folder: Path, trusted: Trust) -> None:
    program = f"""
import sys
from pathlib import Path
from shared.bundle.edge import read_edge_bundle
from shared.bundle.trust import Trust
read_edge_bundle(Path({str(folder)!r}), Trust(Path({str(trusted.key)!r})))
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not {"pydantic", "torch", "cryptography", "flwr", "opacus", "polars", "onnx", "typer"} & loaded
