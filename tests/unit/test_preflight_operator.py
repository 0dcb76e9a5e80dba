"""`crossplant preflight` at the operator, and what it looks at on any machine."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

import pytest

from server.provision.change import renew_authority, revoke
from server.provision.federation import opened
from server.provision.preflight import checks as operator_checks
from shared.errors import InvalidConfig
from shared.pki import keys
from shared.preflight.machine import disk, rights, socket_free
from shared.preflight.network import parse_address
from shared.preflight.verdict import Verdict, as_json, judged, ready
from tests.support.pki import (
    DAY,
    HOSTS,
    NOW,
    client_side,
    digests,
    failed,
    healthy_answer,
    make,
    nobody,
    said,
    served,
    take_in,
)

# ---- the machine ----


def test_a_socket_path_may_be_free_left_over_busy_or_impossible(tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"
    assert socket_free(path).status == "ok"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(path))
        listening.listen()
        assert socket_free(path).status == "warn"
    assert socket_free(path).status == "ok"
    path.unlink()
    path.write_text("mine")
    assert socket_free(path).status == "fail"
    assert socket_free(tmp_path / ("x" * 120)).status == "fail"


def test_rights_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    for mode, status in ((0o600, "ok"), (0o400, "ok"), (0o640, "fail"), (0o604, "fail"), (0o644, "fail")):
        (tmp_path / "key").chmod(mode)
        assert rights(tmp_path / "key").status == status


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, status in ((10 << 20, "fail"), (2 << 30, "warn"), (100 << 30, "ok")):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda _, usage=usage: usage)
        assert disk(tmp_path / "not" / "there" / "yet").status == status


@pytest.mark.parametrize(
    "address", ["", "a", "a:", ":1", "a:0", "a:70000", "http://a:1", "a:1/x", "a b:1", "[::1]", "::1:80"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidConfig, match="not host:port"):
        parse_address(address)


def test_a_check_that_breaks_is_a_failure_and_not_the_end() -> None:
    def broken() -> Verdict:
        raise RuntimeError("boom")

    (verdict,) = judged("x", broken)
    assert (verdict.status, verdict.says) == ("fail", "RuntimeError: boom")
    assert not ready([verdict])
    assert as_json([verdict])["ready"] is False


# ---- the operator ----


def test_an_operator_who_is_well_is_ready(fed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_in(fed, "north", NOW)
    settings_file = fed / "federation.toml"
    settings_file.write_text(settings_file.read_text().replace("9443", str(nobody())))
    before = digests(fed)
    verdicts = list(operator_checks(fed))
    assert failed(verdicts) == []
    assert "is free" in said(verdicts, "gateway")
    assert "nobody compared the fingerprint of north" in said(verdicts, "plant", "warn")
    assert digests(fed) == before


def test_the_gateway_that_listens_is_asked(fed: Path) -> None:
    north = take_in(fed, "north", NOW)
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain.load_cert_chain(fed / "server/server.crt", fed / "server/server.key")
    path = fed / "federation.toml"
    with served(plain, healthy_answer()) as seen:
        path.write_text(path.read_text().replace("9443", str(seen.port)))
        verdicts = list(operator_checks(fed))
    assert failed(verdicts) == []
    assert "the coordinator is well" in said(verdicts, "server", "ok")
    assert client_side(north)


def test_the_operators_ills_are_named(fed: Path) -> None:
    take_in(fed, "north", NOW)
    take_in(fed, "south", NOW)
    empty = (fed / "ca/revoked.pem").read_bytes()
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    (fed / "ca/revoked.pem").write_bytes(empty)
    (fed / "ca/ca.key").chmod(0o644)
    path = fed / "federation.toml"
    path.write_text(path.read_text().replace(f'"{HOSTS[0]}"', '"fl.example.org"'))
    (fed / "sites/south/node.pub").write_bytes((fed / "sites/north/node.pub").read_bytes())
    verdicts = list(operator_checks(fed, quick=True, now=NOW + 340 * DAY))
    assert "lacks 1 certificates that were revoked" in said(verdicts, "revoked", "fail")
    assert "chmod 600" in said(verdicts, "key file", "fail")
    assert "not for fl.example.org" in said(verdicts, "server", "fail")
    assert "not the key that was approved" in said(verdicts, "plant", "fail")
    assert "the certificate of south lapses in 25 days" in said(verdicts, "plant", "warn")
    assert "this machine's clock says" in said(operator_checks(fed, True, NOW - DAY), "clock", "fail")


def test_a_server_key_that_is_gone_or_another_is_named_with_the_operators_cure(fed: Path) -> None:
    key = fed / "server/server.key"
    whole = key.read_bytes()
    key.unlink()
    assert "server.key" in said(operator_checks(fed, True), "server", "fail")
    key.write_bytes(keys.private_pem(keys.new_key()))
    key.chmod(0o600)
    assert f"renew {fed} server" in said(operator_checks(fed, True), "server", "fail")
    key.write_bytes(whole)
    assert failed(operator_checks(fed, True)) == []


def test_a_locked_authority_is_checked_when_its_passphrase_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keys.PASSPHRASE, "secret")
    fed = make(tmp_path, NOW)
    assert "its key opens" in said(operator_checks(fed, True), "authority", "ok")
    monkeypatch.setenv(keys.PASSPHRASE, "wrong")
    assert failed(operator_checks(fed, True)) == ["authority", "signer"]
    monkeypatch.delenv(keys.PASSPHRASE)
    assert "not opened" in said(operator_checks(fed, True), "authority", "skip")


def test_an_overlap_is_said_with_its_days(fed: Path) -> None:
    with opened(fed) as federation:
        renew_authority(federation, NOW, 90 * DAY)
    verdicts = list(operator_checks(fed, True, NOW + DAY))
    assert failed(verdicts) == []
    assert "trusted for 89 days more" in said(verdicts, "authority")
