"""Preflight reads a plant as the agent and `client run` do, and dials with the certificate that they show."""

from __future__ import annotations

import json
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from client.agent.config import read_plant
from server.provision import preflight as operator
from server.run.place import ServerPlace
from server.run.superlink import make_private_files
from shared.errors import InvalidConfig
from shared.preflight.network import Peer, judge_version, reach, refusal, refuses
from shared.preflight.verdict import fail, warn
from tests.conftest import write_telemanom
from tests.support.pki import NOW, failed, healthy_answer, nobody, said, served, server_side, take_in
from tests.support.preflight import point_at, rewrite, verdicts_at

# ---- files ----


def test_what_client_run_takes_by_default_is_what_preflight_checks(fed: Path, north: Path) -> None:
    """`ca.crt` and `node` beside plant.toml, named or not."""
    with served(server_side(fed), healthy_answer()) as seen:
        rewrite(north, superlink=f"localhost:{seen.port}", root_certificates=None, node_key=None)
        assert failed(verdicts_at(north)) == []
    plant = read_plant(north / "plant.toml")
    assert (plant.authority, plant.node_key) == (north / "ca.crt", north / "node")


def test_preflight_dials_with_the_plants_certificate(fed: Path, north: Path) -> None:
    with served(server_side(fed), healthy_answer()) as seen:
        point_at(north, seen.port)
        assert failed(verdicts_at(north)) == []
    assert seen.peers == ["north"]


@pytest.mark.parametrize("lacking", ["client_certificate", "client_key"])
def test_half_a_certificate_is_refused_and_says_so(north: Path, lacking: str) -> None:
    rewrite(north, **{lacking: None})
    with pytest.raises(InvalidConfig, match="go together"):
        read_plant(north / "plant.toml")
    assert "go together" in said(verdicts_at(north), "settings", "fail")


def test_a_certificate_for_another_key_keeps_preflight_from_dialling_and_says_so(fed: Path, north: Path) -> None:
    south = take_in(fed, "south", NOW)
    (north / "client.key").write_bytes((south / "client.key").read_bytes())
    (north / "client.key").chmod(0o600)
    with served(server_side(fed), healthy_answer()) as seen:
        point_at(north, seen.port)
        found = verdicts_at(north)
    assert "is not for the key" in said(found, "certificate", "fail")
    assert "certificates cannot be loaded" in said(found, "network", "fail")


# ---- data: a site folder, or a data set ----


def test_a_data_set_with_a_chosen_site_can_be_read(north: Path, tmp_path: Path) -> None:
    write_telemanom(tmp_path / "msl", {"M-1": "[[10, 15]]", "M-2": "[[3, 5]]"})
    point_at(north, nobody())
    path = north / "plant.toml"
    source = f'path = "{tmp_path / "msl"}"\ndataset = "msl"'
    text = path.read_text().replace('path = "data"', source)
    path.write_text(text)
    assert "Set data.site" in said(verdicts_at(north), "data", "fail")
    path.write_text(text.replace('dataset = "msl"', 'dataset = "msl"\nsite = "M-2"'))
    assert "rows of 55 tags can be read" in said(verdicts_at(north), "data", "ok")
    assert "fingerprint" in said(verdicts_at(north), "schema", "ok")


def test_an_unknown_data_set_is_told_with_those_that_there_are(north: Path) -> None:
    point_at(north, nobody())
    path = north / "plant.toml"
    path.write_text(path.read_text().replace('path = "data"', 'path = "data"\ndataset = "swatt"'))
    assert "swat" in said(verdicts_at(north), "data", "fail")


# ---- versions ----


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        ("1.2.3", "1.2.3", "ok"),
        ("1.2.3", "1.2.4", "warn"),
        ("1.2.3", "1.3.0", "fail"),
        ("1.2.3", "2.2.3", "fail"),
        ("1.2.3", None, "skip"),
        ("1.2.3", "", "skip"),
        ("1.2.3", "1.2.3\x1b[31m", "skip"),
        ("1.2.3", "1" * 5000, "skip"),
        ("1.2.3", "new", "skip"),
    ],
)
def test_the_coordinators_version_is_compared(ours: str, theirs: str | None, status: str) -> None:
    verdict = judge_version(theirs, ours)
    assert verdict.status == status
    assert theirs is None or status == "skip" or theirs in verdict.says


# ---- refusals ----


def test_a_verdict_is_a_refusal_or_it_is_not() -> None:
    for word in ("SSLV3_ALERT_CERTIFICATE_REVOKED", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA"):
        error = ssl.SSLError(1, word)
        verdict = refusal(error)
        assert verdict is not None
        assert refuses(verdict)
    assert refusal(ssl.SSLError(1, "UNEXPECTED_EOF_WHILE_READING")) is None
    assert refusal(None) is None
    assert not refuses(fail("server", "GET /health is answered by 404.", ""))
    assert not refuses(warn("tls", "the server's certificate has lapsed", ""))


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("NONE", "asks for this plant's certificate"),
        ("FAILED:certificate revoked", "is revoked"),
        ("FAILED:certificate has expired", "has lapsed"),
        ("FAILED:unable to get local issuer certificate", "does not know who issued"),
        ("FAILED:" + "x" * 10_000, "does not take this plant's certificate"),
    ],
)
def test_a_refusal_of_nginx_is_read_like_a_tls_alert(told: str, says: str) -> None:
    answer = f"HTTP/1.1 401 x\r\nX-Crossplant-Refused: {told}\r\nContent-Length: 0\r\n\r\n".encode()
    with served(None, lambda: answer) as seen:
        found = reach(Peer("127.0.0.1", seen.port, None))
    assert failed(found) == ["server"]
    assert says in said(found, "server")


# ---- the operator ----


def test_a_gateway_that_asks_for_certificates_is_well_to_the_operator(fed: Path) -> None:
    with served(server_side(fed), healthy_answer()) as seen:
        settings = fed / "federation.toml"
        settings.write_text(settings.read_text().replace("9443", str(seen.port)))
        found = list(operator.checks(fed))
    assert "asks plants for their certificates" in said(found, "gateway", "ok")
    assert failed(found) == []


def test_a_port_that_somebody_else_holds_is_not_well(fed: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = fed / "federation.toml"
        settings.write_text(settings.read_text().replace("9443", str(taken.getsockname()[1])))
        assert failed(operator.checks(fed))


def test_the_certificate_between_gateway_and_superlink_outlives_any_server_process(fed: Path) -> None:
    place = ServerPlace.of(fed)
    place.prepare()
    make_private_files(place)
    certificate = x509.load_pem_x509_certificate(place.loopback_certificate.read_bytes())
    assert (certificate.not_valid_after_utc - datetime.now(UTC)).days > 3000


def test_a_server_that_is_not_there_leaves_every_later_step_unchecked(north: Path) -> None:
    found = reach(Peer("127.0.0.1", nobody(), north / "ca.crt"))
    assert [(one.name, one.status) for one in found] == [
        ("name", "ok"), ("route", "fail"), ("tls", "skip"), ("server", "skip"), ("clock", "skip"), ("version", "skip"),
    ]  # fmt: skip


# ---- who signs ----


@pytest.mark.parametrize(
    ("signers", "says"),
    [
        (None, "runs that nobody signed are served too"),
        ([f"SHA256:{'A' * 43}"], "runs of other signers only are served"),
    ],
)
def test_a_policy_without_the_kits_signer_is_warned_of(north: Path, signers: list[str] | None, says: str) -> None:
    """A plant's own policy stays when a kit is installed over it."""
    policy, signer = north / "policy.toml", json.loads((north / "kit.json").read_bytes())["signer"]
    assert said(verdicts_at(north), "policy", "warn") == ""
    lines = [line for line in policy.read_text().splitlines() if not line.startswith("signers")]
    policy.write_text("\n".join([*([] if signers is None else [f"signers = {json.dumps(signers)}"]), *lines]))
    told = said(verdicts_at(north), "policy", "warn")
    assert says in told
    assert f'signers = ["{signer}"]' in told


def test_without_a_kit_that_names_a_signer_there_is_nothing_to_warn_of(north: Path) -> None:
    card = json.loads((north / "kit.json").read_bytes())
    (north / "kit.json").write_text(json.dumps(card | {"signer": None}))
    policy = north / "policy.toml"
    policy.write_text("\n".join(line for line in policy.read_text().splitlines() if not line.startswith("signers")))
    assert said(verdicts_at(north), "policy", "ok") != ""
