"""The issued certificates in real handshakes on loopback: who is let in, and who is not."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from server.provision.change import renew, renew_authority, revoke
from server.provision.federation import opened
from shared.pki import certificates
from tests.support.pki import call, client_side, give_kit, healthy_answer, make, served, server_side, take_in

NOW = certificates.utc_now()
DAY = timedelta(days=1)


@pytest.fixture
def fed(tmp_path: Path) -> Path:
    return make(tmp_path, NOW)


def let_in(fed: Path, home: Path, own: bool = True) -> tuple[list[str], list[str]]:
    """Names that the server saw, and its reasons to refuse, when a plant calls once."""
    with served(server_side(fed), healthy_answer()) as seen:
        try:
            answer = call(client_side(home, own), seen.port)
        except OSError as error:
            seen.refusals.append(str(error))
            answer = b""
    assert bool(answer) == bool(seen.peers)
    return seen.peers, seen.refusals


def test_a_plant_is_known_by_its_name(fed: Path) -> None:
    north, south = take_in(fed, "north", NOW), take_in(fed, "south", NOW)
    assert let_in(fed, north) == (["north"], [])
    assert let_in(fed, south) == (["south"], [])


def test_a_plant_without_a_certificate_is_refused(fed: Path) -> None:
    peers, refusals = let_in(fed, take_in(fed, "north", NOW), own=False)
    assert peers == []
    assert any("PEER_DID_NOT_RETURN_A_CERTIFICATE" in reason for reason in refusals)


def test_a_revoked_plant_is_refused_and_the_others_are_not(fed: Path) -> None:
    north, south = take_in(fed, "north", NOW), take_in(fed, "south", NOW)
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    peers, refusals = let_in(fed, north)
    assert peers == []
    assert "certificate revoked" in refusals
    assert let_in(fed, south) == (["south"], [])


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    past = NOW - 400 * DAY
    fed = make(tmp_path, past)
    north = take_in(fed, "north", past)
    with opened(fed) as federation:
        renew(federation, ["server"], NOW)
    peers, refusals = let_in(fed, north)
    assert peers == []
    assert "certificate has expired" in refusals
    with opened(fed) as federation:
        renew(federation, ["north"], NOW)
    give_kit(fed, "north", NOW)
    assert let_in(fed, north) == (["north"], [])


def test_a_server_whose_certificate_has_lapsed_is_refused(tmp_path: Path) -> None:
    past = NOW - 400 * DAY
    fed = make(tmp_path, past)
    north = take_in(fed, "north", past)
    with served(server_side(fed)) as seen, pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        call(client_side(north), seen.port)


def test_a_plant_of_another_federation_is_refused_and_refuses(tmp_path: Path) -> None:
    fed, other = make(tmp_path, NOW), make(tmp_path, NOW, "other")
    stranger, north = take_in(other, "north", NOW), take_in(fed, "south", NOW)
    with served(server_side(fed)) as seen, pytest.raises(ssl.SSLCertVerificationError):
        call(client_side(stranger), seen.port)
    credulous = client_side(stranger)
    credulous.load_verify_locations(north / "ca.crt")
    with served(server_side(fed), healthy_answer()) as seen, pytest.raises(OSError, match=r"(?i)alert|reset|eof"):
        call(credulous, seen.port)
    assert seen.peers == []
    assert seen.refusals


def test_a_plant_cannot_pose_as_the_server(fed: Path) -> None:
    north, south = take_in(fed, "localhost", NOW), take_in(fed, "south", NOW)
    posing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    posing.load_cert_chain(north / "client.crt", north / "client.key")
    with served(posing) as seen, pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        call(client_side(south), seen.port)


@pytest.mark.parametrize(
    ("host", "good"), [("localhost", True), ("127.0.0.1", True), ("elsewhere", False), ("::1", False)]
)
def test_the_server_is_known_by_its_names_only(fed: Path, host: str, good: bool) -> None:
    north = take_in(fed, "north", NOW)
    with served(server_side(fed), healthy_answer()) as seen:
        if good:
            assert call(client_side(north), seen.port, host).startswith(b"HTTP/1.1 200")
            return
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
            call(client_side(north), seen.port, host)


def test_old_and_new_kits_work_side_by_side_while_authorities_overlap(fed: Path) -> None:
    """North still has its old kit, south has the new one; the server has been renewed. Nobody is cut off."""
    north, south = take_in(fed, "north", NOW), take_in(fed, "south", NOW)
    with opened(fed) as federation:
        renew_authority(federation, NOW, 90 * DAY)
    give_kit(fed, "south", NOW)
    assert let_in(fed, north) == (["north"], [])
    assert let_in(fed, south) == (["south"], [])
    with opened(fed) as federation:
        renew(federation, ["server"], NOW)
    assert let_in(fed, north) == (["north"], [])
    late = take_in(fed, "late", NOW)
    assert let_in(fed, late) == (["late"], [])


def test_the_old_authority_is_trusted_no_longer_than_the_overlap(tmp_path: Path) -> None:
    """The overlap ended yesterday: nothing had to be switched off, and both sides refuse what the old one signed."""
    past = NOW - 100 * DAY
    fed = make(tmp_path, past)
    north, south = take_in(fed, "north", past), take_in(fed, "south", past)
    with opened(fed) as federation:
        renew_authority(federation, past, 99 * DAY)
    give_kit(fed, "south", past)
    assert let_in(fed, south) == (["south"], [])
    peers, refusals = let_in(fed, north)
    assert peers == []
    assert any("expired" in reason for reason in refusals)


def test_a_plant_of_the_old_authority_that_is_revoked_in_the_overlap_is_refused(fed: Path) -> None:
    north, south = take_in(fed, "north", NOW), take_in(fed, "south", NOW)
    with opened(fed) as federation:
        renew_authority(federation, NOW, 90 * DAY)
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    peers, refusals = let_in(fed, north)
    assert peers == []
    assert "certificate revoked" in refusals
    assert let_in(fed, south) == (["south"], [])


def test_flowers_own_client_trusts_the_bundle(fed: Path) -> None:
    """The SuperNode's HTTP client is given the bytes of `ca.crt`: a bundle of two must do."""
    from flwr.supercore.protobuf.client import ProtobufClient

    home = take_in(fed, "north", NOW)
    with opened(fed) as federation:
        renew_authority(federation, NOW, 90 * DAY)
    give_kit(fed, "north", NOW)
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain.load_cert_chain(fed / "server/server.crt", fed / "server/server.key")
    with served(plain, healthy_answer()) as seen:
        client = ProtobufClient.from_server_address(f"127.0.0.1:{seen.port}", False, (home / "ca.crt").read_bytes(), [])
        try:
            reply = client._client.get(f"https://127.0.0.1:{seen.port}/health")
        finally:
            client.close()
    assert reply.status_code == 200
