"""Damaged, half-written and hostile files: a clear refusal, never a traceback, and nothing half changed."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.provision.change import approve, renew, renew_authority, revoke
from server.provision.federation import Federation, opened, read
from server.provision.preflight import checks
from shared.errors import CrossplantError, FileTrouble
from shared.pki import certificates, files, keys
from shared.pki.install import install
from shared.pki.kit import read_kit
from shared.pki.request import new_site, read_request, read_signing_request
from shared.pki.trouble import FederationUnreadable, KeyUnusable, KitRefused, RequestRefused
from tests.support.pki import digests, make, take_in

NOW = certificates.utc_now()
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation with two plants, to copy."""
    tmp = tmp_path_factory.mktemp("whole")
    fed = make(tmp, NOW)
    take_in(fed, "north", NOW)
    take_in(fed, "south", NOW)
    return tmp


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def damaged(data: bytes, how: str, at: int, value: int) -> bytes:
    """Cut, changed in one byte, emptied, with rubbish behind it, or something else altogether."""
    place = at % max(1, len(data))
    return {
        "cut": data[:place],
        "flip": data[:place] + bytes([data[place] ^ (value or 1)]) + data[place + 1 :],
        "empty": b"",
        "longer": data + bytes([value]) * 40,
        "rubbish": bytes((value + 7 * index) % 256 for index in range(200)),
        "huge": b"a" * (files.MOST_BYTES + 1),
    }[how]


HOW = st.sampled_from(["cut", "flip", "empty", "longer", "rubbish", "huge"])
FED_FILES = [
    *("federation.toml", "ca/ca.crt", "ca/ca.key", "ca/revoked.pem", "server/server.crt", "server/server.key"),
    *("sites/north/site.toml", "sites/north/client.csr", "sites/north/client.crt", "sites/north/node.pub"),
]
SOME = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])  # each writes and syncs
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SOME
@given(name=st.sampled_from(FED_FILES), how=HOW, at=st.integers(0, 5000), value=st.integers(0, 255))
def test_no_damage_to_the_operators_folder_ends_in_a_traceback(
    whole: Path, name: str, how: str, at: int, value: int
) -> None:
    """Each command either works or refuses, and a refusal changes nothing; preflight always comes to its end."""
    path = whole / "water" / name
    before = path.read_bytes()
    path.write_bytes(damaged(before, how, at, value))
    tried: list[Callable[[], object]] = [
        lambda: list(checks(whole / "water", True, NOW)),
        lambda: _changed(whole / "water", lambda federation: renew(federation, ["server", "north"], NOW)),
        lambda: _changed(whole / "water", lambda federation: revoke(federation, "south", NOW)),
    ]
    keep = {name: (whole / "water" / name).read_bytes() for name in digests(whole / "water")}
    try:
        for call in tried:
            start = digests(whole / "water")
            if refusal(call):
                assert digests(whole / "water") == start, "a refusal changed something"
    finally:
        for kept, data in keep.items():
            (whole / "water" / kept).write_bytes(data)
        path.write_bytes(before)


def refusal(call: Callable[[], object]) -> str:
    """What a call refuses with, in one line; empty when it does not. Anything but a refusal of ours is raised."""
    try:
        call()
    except CrossplantError as error:
        return str(error).replace("\n", "<line>")
    return ""


def _changed(folder: Path, what: Callable[[Federation], object]) -> object:
    with opened(folder) as federation:
        return what(federation)


@FUZZ
@given(how=HOW, at=st.integers(0, 5000), value=st.integers(0, 255))
def test_no_damage_to_a_request_gets_other_keys_approved(whole: Path, how: str, at: int, value: int) -> None:
    good = whole / "at-north" / "request.toml"
    path = whole / "damaged.toml"
    path.write_bytes(damaged(good.read_bytes(), how, at, value))
    said = refusal(lambda: read_request(path))
    assert "<line>" not in said
    assert said or read_request(path) == read_request(good), "only a comment may have changed"


@FUZZ
@given(how=HOW, at=st.integers(0, 20000), value=st.integers(0, 255))
def test_no_damage_to_a_kit_gets_installed(whole: Path, how: str, at: int, value: int) -> None:
    good = next(whole.glob("north-*.zip"))
    path = whole / "damaged-kit"
    path.write_bytes(damaged(good.read_bytes(), how, at, value))
    said = refusal(lambda: read_kit(path))
    assert "<line>" not in said
    assert said or read_kit(path).contents == read_kit(good).contents, "the zip's own fields may differ, no file"


def inside(pem: bytes, changes: list[tuple[int, int]], cut: int | None) -> bytes:
    """The first PEM block with bytes changed inside it, so that the damage reaches the parser of what it encodes."""
    head, body, tail = re.split(r"(?<=-----\n)(?s:(.*?))(?=-----END)", pem.decode(), maxsplit=1)
    raw = bytearray(base64.b64decode(body))
    for at, value in changes:
        raw[at % len(raw)] = value
    del raw[cut if cut is not None else len(raw) :]
    return (head + base64.encodebytes(bytes(raw)).decode() + tail).encode()


def everything(certificate: bytes) -> None:
    """All that is ever asked of certificates."""
    for one in certificates.load_bundle(certificate, "x"):
        certificates.common_name(one)
        certificates.hosts_of(one)
        certificates.authority_fingerprint(one)
        certificates.check_time(one, NOW, "x")
        certificates.issuer_among(one, [one], "x")


READERS: dict[str, Callable[[bytes], object]] = {
    "water/ca/ca.crt": everything,
    "water/server/server.crt": everything,
    "water/ca/revoked.pem": lambda data: certificates.load_crls(data, "x"),
    "at-north/client.csr": lambda data: read_signing_request(data, "x"),
    "at-north/client.key": lambda data: keys.load_private(data, "x"),
    "at-north/node": lambda data: keys.load_node_private(data, "x"),
}


@settings(FUZZ, max_examples=600)
@given(
    name=st.sampled_from(sorted(READERS)),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.none() | st.integers(0, 300),
)
def test_damage_inside_a_certificate_or_key_is_a_refusal(
    whole: Path, name: str, changes: list[tuple[int, int]], cut: int | None
) -> None:
    """Warnings are errors here: what `cryptography` would only warn of must not pass either."""
    data = inside((whole / name).read_bytes(), changes, cut)
    assert "<line>" not in refusal(lambda: READERS[name](data))


@FUZZ
@given(text=st.text(max_size=400))
def test_any_text_as_a_request(whole: Path, text: str) -> None:
    path = whole / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(CrossplantError):
        read_request(path)


FIELD = st.one_of(st.text(max_size=60), st.integers(), st.booleans(), st.lists(st.integers(), max_size=3))


@FUZZ
@given(name=FIELD, node=FIELD, tls=FIELD, kind=st.sampled_from([1, 2, True, "1"]))
def test_any_values_in_a_request(whole: Path, name: object, node: object, tls: object, kind: object) -> None:
    import json

    lines = [f"{key} = {json.dumps(value)}" for key, value in (("format", kind), ("name", name), ("node", node))]
    path = whole / "values.toml"
    path.write_text("\n".join([*lines, f"tls = {json.dumps(tls)}", 'fingerprint = "00"']))
    with pytest.raises(CrossplantError):
        read_request(path)


# ---- hostile kits ----


def rezipped(good: Path, out: Path, extra: dict[str, bytes], drop: str = "") -> Path:
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        for name in archive.namelist():
            if name != drop and name not in extra:
                written.writestr(name, archive.read(name))
        for name, data in extra.items():
            written.writestr(name, data)
    return out


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "node", "client.key", "a/b", "bin/", ".lock", ".pending/node"]
)
def test_a_kit_with_a_file_that_no_kit_has_is_refused(copy: Path, name: str) -> None:
    bad = rezipped(next(copy.glob("north-*.zip")), copy / "bad.zip", {name: b"evil"})
    before = digests(copy)
    with pytest.raises(KitRefused, match="files that no kit has"):
        install(bad, copy / "at-north", NOW)
    assert digests(copy) == before


def test_a_kit_with_a_changed_file_is_refused(copy: Path) -> None:
    good = next(copy.glob("north-*.zip"))
    for name in ("plant.toml", "start.sh", "ca.crt"):
        with zipfile.ZipFile(good) as archive:
            data = archive.read(name) + b"\n"
        bad = rezipped(good, copy / f"changed-{name}.zip", {name: data})
        with pytest.raises(KitRefused, match="its files are not those of its SHA256SUMS"):
            read_kit(bad)


def test_a_kit_that_unpacks_to_gigabytes_is_refused(copy: Path) -> None:
    bad = rezipped(next(copy.glob("north-*.zip")), copy / "bad.zip", {"README.txt": bytes(20 << 20)})
    with pytest.raises(KitRefused, match="larger than any such file"):
        read_kit(bad)


def test_a_kit_that_names_a_file_twice_is_refused(copy: Path) -> None:
    bad = copy / "twice.zip"
    shutil.copy(next(copy.glob("north-*.zip")), bad)
    with zipfile.ZipFile(bad, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("ca.crt", b"evil")
    with pytest.raises(KitRefused, match="files that no kit has"):
        read_kit(bad)


def test_a_kit_without_one_of_its_files_is_refused(copy: Path) -> None:
    for name in ("ca.crt", "SHA256SUMS", "kit.json"):
        bad = rezipped(next(copy.glob("north-*.zip")), copy / f"no-{name}.zip", {}, drop=name)
        with pytest.raises(KitRefused, match=f"lacks {name}"):
            read_kit(bad)


def test_a_locked_zip_is_refused(copy: Path) -> None:
    data = bytearray(next(copy.glob("north-*.zip")).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 4)
    (copy / "locked.zip").write_bytes(data)
    with pytest.raises(KitRefused, match="damaged, or no zip"):
        read_kit(copy / "locked.zip")


# ---- names for each damage ----


def test_a_damaged_authority_key_says_so(copy: Path) -> None:
    (copy / "water/ca/ca.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with opened(copy / "water") as federation, pytest.raises(KeyUnusable, match=r"ca\.key is damaged"):
        federation.key()
    (copy / "water/ca/ca.key").write_bytes(keys.private_pem(keys.new_key()))
    with (
        opened(copy / "water") as federation,
        pytest.raises(FederationUnreadable, match="is not the key of the authority"),
    ):
        federation.key()


def test_a_plant_with_damaged_keys_cannot_install(copy: Path) -> None:
    kit = next(copy.glob("north-*.zip"))
    (copy / "at-north/node").write_bytes(b"rubbish")
    with pytest.raises(KeyUnusable, match="node is damaged"):
        install(kit, copy / "at-north", NOW)


@pytest.mark.parametrize("where", ["nowhere", "at-north", "water/ca"])
def test_what_is_no_federation_says_so(copy: Path, where: str) -> None:
    with pytest.raises(FederationUnreadable, match=r"federation\.toml"), opened(copy / where):
        pass


def test_a_folder_in_place_of_a_file_says_so(copy: Path) -> None:
    (copy / "water/ca/ca.crt").unlink()
    (copy / "water/ca/ca.crt").mkdir()
    with pytest.raises(FederationUnreadable, match="not a plain file"):
        read(copy / "water")


def test_a_request_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileTrouble, match="not a plain file"):
        read_request(tmp_path / "pipe")


def test_a_request_of_another_version_says_so(copy: Path) -> None:
    path = copy / "at-north/request.toml"
    path.write_text(path.read_text().replace("format = 1", "format = 2"))
    with pytest.raises(RequestRefused, match="no request of this version"):
        read_request(path)


def test_a_request_that_was_swapped_at_the_operator_is_not_renewed(copy: Path) -> None:
    """Whoever may write there could otherwise be given a plant's certificate at its next renewal."""
    new_site("north", copy / "evil")
    shutil.copy(copy / "evil/client.csr", copy / "water/sites/north/client.csr")
    with opened(copy / "water") as federation, pytest.raises(RequestRefused, match="not the request that was approved"):
        renew(federation, ["north"], NOW)


# ---- crashes ----


@pytest.mark.parametrize("survivors", [0, 1, 2, 4, 6, 8, 10, 11])
def test_a_renewal_that_is_killed_while_files_move_is_finished_by_the_next_command(copy: Path, survivors: int) -> None:
    """The disk after the kill, whichever file was the last to move, becomes the whole new state."""
    fed = copy / "water"
    program = (
        "import os, sys\n"
        "from datetime import timedelta\n"
        "from pathlib import Path\n"
        "from shared.pki import files\n"
        "from shared.pki.certificates import utc_now\n"
        "from server.provision.change import renew_authority\n"
        "from server.provision.federation import opened\n"
        "real, left = os.replace, [int(sys.argv[2])]\n"
        "def replace(a, b):\n"
        "    if left[0] == 0: os._exit(9)\n"
        "    left[0] -= 1\n"
        "    real(a, b)\n"
        "os.replace = replace\n"
        "with opened(Path(sys.argv[1])) as federation:\n"
        "    renew_authority(federation, utc_now(), timedelta(days=90))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(fed), str(survivors)], capture_output=True, text=True)
    assert done.returncode in (0, 9), done.stderr
    with opened(fed) as federation:
        assert len(federation.bundle) == 2
        assert federation.key()
        for site in federation.sites.values():
            assert certificates.signed_by(site.certificate(), federation.authority)
    assert not [one for one in checks(fed, True) if one.status == "fail"]
    assert not [path.name for path in fed.iterdir() if path.name.startswith((".pending", ".staging"))]


def test_a_change_that_was_not_committed_is_forgotten(copy: Path) -> None:
    fed = copy / "water"
    before = digests(fed)
    change = files.Change(fed)
    change.write("federation.toml", b"half")
    with opened(fed):
        pass
    assert digests(fed) == before


def test_a_full_disk_changes_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = digests(copy), files.write_new

    def full(path: Path, data: bytes, mode: int = files.PUBLIC) -> None:
        if path.name == "site.toml":
            raise OSError(28, "No space left on device")
        real(path, data, mode)

    monkeypatch.setattr("shared.pki.files.write_new", full)
    with opened(copy / "water") as federation, pytest.raises(FileTrouble, match="No space left"):
        revoke(federation, "north", NOW)
    with opened(copy / "water") as federation, pytest.raises(FileTrouble, match="No space left"):
        renew_authority(federation, NOW, 90 * DAY)
    assert digests(copy) == before


def test_two_commands_at_once_do_not_mix(copy: Path) -> None:
    with opened(copy / "water"), pytest.raises(FileTrouble, match="another command"), opened(copy / "water"):
        pass


def test_an_approval_after_a_crash_is_whole(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the change was made certain and before a file moved."""
    new_site("east", tmp_path / "east")
    monkeypatch.setattr("shared.pki.files._carry_out", lambda folder: None)
    with opened(copy / "water") as federation:
        approve(federation, read_request(tmp_path / "east"), NOW)
    assert list(read(copy / "water").sites) == ["north", "south"]
    monkeypatch.undo()
    with opened(copy / "water") as federation:
        assert list(federation.sites) == ["east", "north", "south"]


def test_the_buffer_of_a_zip_is_bounded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}", b"")
    (tmp_path / "many.zip").write_bytes(buffer.getvalue())
    with pytest.raises(KitRefused, match="files that no kit has"):
        read_kit(tmp_path / "many.zip")
