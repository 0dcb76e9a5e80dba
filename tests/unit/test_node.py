"""The plant's SuperNode is Flower's, with our pauses, our certificate, and reasons that a person can read."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest  # type: ignore[attr-defined,unused-ignore]
from flwr.supercore.protobuf.client import ProtobufClient, ProtobufRequestContext
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supernode import fleet_http_connection, start_client_internal

from client.agent.config import read_plant
from client.run import node
from client.run.link import Line, check_flower, join
from client.run.note import begin_note, read_note, write_note
from client.run.supernode import NOTE, Plant, make_home, specs
from server.provision.change import revoke
from server.provision.federation import opened
from shared.errors import CrossplantError, FileTrouble, MissingExtra
from shared.preflight import network
from shared.preflight.network import Peer
from shared.preflight.verdict import Verdict, fail, ok
from tests.support.command import crossplant_here
from tests.support.pki import NOW, healthy_answer, served, server_side, take_in

REVOKED = fail("server", "this plant's certificate is revoked.", "Ask the operator why; `provision site list` ...")
CONNECTION, INTERNAL = cast("Any", fleet_http_connection), cast("Any", start_client_internal)
PEER = Peer("127.0.0.1", 1, None)


@pytest.fixture(autouse=True)
def _flower_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put in its place here must not stay there."""
    monkeypatch.setattr(CONNECTION, "FleetHttpClient", CONNECTION.FleetHttpClient)
    monkeypatch.setattr(INTERNAL, "time", INTERNAL.time)


def context(path: str = "/v1/fleet/pull-messages") -> ProtobufRequestContext:
    request = httpx.Request("POST", f"http://x{path}")
    return ProtobufRequestContext("call", cast("Any", None), request)


def answering(status: int, path: str = "/v1/fleet/pull-messages") -> Callable[[object], httpx.Response]:
    return lambda _: httpx.Response(status, request=httpx.Request("POST", f"http://x{path}"))


def raising(error: Exception) -> Callable[[object], httpx.Response]:
    def call(_: object) -> httpx.Response:
        raise error

    return call


def a_line(tmp: Path, *found: Verdict) -> tuple[Line, list[str]]:
    lines: list[str] = []
    return Line(PEER, tmp / "link.json", lines.append, lambda _: list(found)), lines


# ---- Flower's insides ----


def test_the_installed_flower_is_built_as_the_plants_line_expects() -> None:
    check_flower()
    node.quicken()
    assert INTERNAL.time.sleep is not time.sleep


@pytest.mark.parametrize("pause", sorted(node.PAUSES_S))
def test_flower_still_pauses_as_we_know_it(pause: float) -> None:
    source = Path(INTERNAL.__file__).read_text(encoding="utf-8")
    assert f"time.sleep({pause})" in source


def test_a_flower_without_its_fleet_client_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(CONNECTION, "FleetHttpClient")
    with pytest.raises(MissingExtra, match=r"FleetHttpClient as 1\.41 has it") as caught:
        join(Line(PEER, None, print), None)
    assert "flwr==1.41" in caught.value.cure


def test_a_flower_whose_client_takes_no_tls_context_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: object, base_url: str) -> None:
        """Another one."""

    monkeypatch.setattr(ProtobufClient, "__init__", other)
    with pytest.raises(MissingExtra, match="interceptors"):
        check_flower()


def test_a_flower_with_other_pauses_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(INTERNAL, "time", None)
    with pytest.raises(MissingExtra, match=r"start_client_internal\.time"):
        node.quicken()


# ---- the certificate ----


def shown_by_flower(fed: Path, home: Path, own: bool) -> tuple[list[str], list[str], Line]:
    """What a server that asks for certificates saw of Flower's own client, and what the line made of it."""
    said: list[str] = []
    with served(server_side(fed), healthy_answer()) as seen:
        shown = (home / "client.crt", home / "client.key") if own else (None, None)
        peer = Peer("127.0.0.1", seen.port, home / "ca.crt", *shown)
        line = Line(peer, None, said.append)
        join(line, network.client_context(peer))
        client = CONNECTION.FleetHttpClient.from_server_address(f"127.0.0.1:{seen.port}", False, b"", [])
        try:
            client.PullMessages(PullMessagesRequest())
        except (httpx.HTTPError, ValueError) as error:
            said.append(str(error))
        finally:
            client.close()
    return seen.peers, said, line


def test_flowers_client_shows_the_plants_certificate(fed: Path) -> None:
    peers, _, line = shown_by_flower(fed, take_in(fed, "north", NOW), own=True)
    assert peers == ["north"]
    assert line.refused is None


def test_a_revoked_plants_client_says_why_and_flower_gives_up(fed: Path) -> None:
    home = take_in(fed, "north", NOW)
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    peers, said, line = shown_by_flower(fed, home, own=True)
    assert peers == []
    assert line.refused is not None
    assert line.refused.says == "this plant's certificate is revoked."
    assert said[-1] == "certificate refused: this plant's certificate is revoked."


def test_a_client_that_shows_none_says_why(fed: Path) -> None:
    _, _, line = shown_by_flower(fed, take_in(fed, "north", NOW), own=False)
    assert line.refused is not None
    assert "asks for this plant's certificate" in line.refused.says


def test_without_tls_flowers_client_connects_as_ever_and_the_line_sees_it() -> None:
    said: list[str] = []
    with served(None, healthy_answer()) as seen:
        join(Line(Peer("127.0.0.1", seen.port, None), None, said.append), None)
        client = CONNECTION.FleetHttpClient.from_server_address(f"127.0.0.1:{seen.port}", True, None, [])
        client.PullMessages(PullMessagesRequest())
        client.close()
    assert said == ["the coordinator: connected"]


# ---- what Flower is told, and what people are ----


def gives_up(error: httpx.HTTPError) -> bool:
    """Whether Flower's own judgement of an error is to stop."""
    judge = make_simple_http_retry_invoker().should_giveup
    assert judge is not None
    return bool(judge(error))


def test_a_gateway_that_breaks_off_in_tls_is_tried_again(tmp_path: Path) -> None:
    """As when it is started anew: Flower would read the word SSL in the text, and stop for good."""
    broken = httpx.ReadError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol")
    assert gives_up(broken)
    line, said = a_line(tmp_path, ok("server", "well"))
    with pytest.raises(httpx.TransportError) as caught:
        line.intercept(context(), raising(broken))
    assert not gives_up(caught.value)
    assert line.refused is None
    assert said == ["the coordinator: lost: the connection broke off. It is tried again."]


def test_a_refusal_is_told_to_flower_as_one(tmp_path: Path) -> None:
    line, said = a_line(tmp_path, REVOKED)
    with pytest.raises(httpx.TransportError) as caught:
        line.intercept(context(), raising(httpx.ReadError("[Errno 104] Connection reset by peer")))
    assert gives_up(caught.value)
    assert line.refused == REVOKED
    assert said == [f"the coordinator: refused: {REVOKED.says} {REVOKED.mend}"]


def test_a_server_whose_certificate_lapsed_is_a_refusal(tmp_path: Path) -> None:
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    inner.verify_code, inner.verify_message = 10, "certificate has expired"
    error = httpx.ConnectError("x")
    error.__cause__ = inner
    line, _ = a_line(tmp_path)
    with pytest.raises(httpx.TransportError, match="the server's certificate has lapsed"):
        line.intercept(context(), raising(error))


@pytest.mark.parametrize(
    ("status", "path", "says"),
    [
        (401, "/v1/fleet/pull-messages", "does not take this plant's key"),
        (404, "/v1/fleet/activate-node", "does not take this plant's key"),
        (503, "/v1/fleet/pull-messages", "the coordinator behind it does not"),
    ],
)
def test_an_answer_that_lets_nobody_in_is_explained(tmp_path: Path, status: int, path: str, says: str) -> None:
    line, said = a_line(tmp_path, ok("clock", "agrees"))
    assert line.intercept(context(path), answering(status, path)).status_code == status
    assert says in said[0]
    assert says in (read_note(tmp_path / "link.json") or "")


def test_a_plant_that_was_killed_and_is_back_within_a_minute_is_told_so(tmp_path: Path) -> None:
    """Flower counts it as connected until its heartbeats were missed, and answers as if the key were unknown."""
    line, said = a_line(tmp_path)
    line.intercept(context("/v1/fleet/activate-node"), answering(404, "/v1/fleet/activate-node"))
    assert "or it was killed less than a minute ago and is still counted as connected" in said[0]
    assert "more than a minute" in said[0]


def test_a_refusal_of_nginx_is_explained(tmp_path: Path) -> None:
    answer = httpx.Response(
        401, headers={"x-crossplant-refused": "FAILED:certificate revoked"}, request=context().request
    )
    line, _ = a_line(tmp_path)
    line.intercept(context(), lambda _: answer)
    assert line.refused is not None
    assert line.refused.says == REVOKED.says


def test_a_clock_that_is_off_is_not_taken_for_a_key_that_is_unknown(tmp_path: Path) -> None:
    late = fail("clock", "this machine is 20 s ahead of the server", "Set the clock (NTP).")
    line, said = a_line(tmp_path, ok("server", "well"), late)
    line.intercept(context(), answering(401))
    assert "20 s ahead of the server" in said[0]


def test_the_same_trouble_is_said_once_and_looked_into_seldom(tmp_path: Path) -> None:
    looks = 0

    def look(_: Peer) -> list[Verdict]:
        nonlocal looks
        looks += 1
        return [fail("route", "refused.", "firewall")]

    said: list[str] = []
    line = Line(PEER, tmp_path / "link.json", said.append, look)
    for _ in range(5):
        with pytest.raises(httpx.TransportError):
            line.intercept(context(), raising(httpx.ConnectError("refused")))
    assert (looks, said) == (1, ["the coordinator: lost: refused. firewall"])
    line.intercept(context(), answering(200))
    assert said[1:] == ["the coordinator: connected"]
    assert line.trouble is None


def test_a_note_tells_when_the_coordinator_last_answered(tmp_path: Path) -> None:
    path = tmp_path / "link.json"
    write_note(path, "connected")
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert "answered 100 s ago" in (read_note(path) or "")
    line, _ = a_line(tmp_path)
    line.intercept(context(), answering(200))
    line.intercept(context(), answering(200))
    assert "answered 0 s ago" in (read_note(path) or "")


def test_a_refused_plant_that_dials_again_still_says_why(tmp_path: Path) -> None:
    path = tmp_path / "link.json"
    for before, after in (("refused", "refused"), ("lost", "lost"), ("connected", "dialling")):
        write_note(path, before, "because.")
        begin_note(path, "127.0.0.1:1")
        assert (read_note(path) or "").startswith(after)


NO_NOTES = [b"", b"{", b"[]", b"3", b'{"state": 1}', b"\xff\xfe", b'{"state": null, "why": []}', b"[" * 60_000]
LONG = b'{"state": "lost", "why": "' + b"x" * 10**6 + b'", "mend": "", "since": ""}'


@pytest.mark.parametrize("data", [*NO_NOTES, LONG], ids=lambda data: repr(data[:30]))
def test_a_note_that_is_none_is_no_traceback(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "link.json").write_bytes(data)
    assert read_note(tmp_path / "link.json") is None
    assert read_note(tmp_path / "nowhere") is None


def test_a_note_that_cannot_be_written_does_not_cut_the_line(tmp_path: Path) -> None:
    line = Line(PEER, tmp_path / "no" / "folder" / "link.json", print)
    assert line.intercept(context(), answering(200)).status_code == 200


# ---- the command ----


def test_files_that_do_not_fit_are_a_clear_error_before_anything_starts(
    fed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north, south = take_in(fed, "north", NOW), take_in(fed, "south", NOW)
    note = tmp_path / "link.json"
    arguments = ["--superlink", "127.0.0.1:1", "--note", str(note), "--root-certificates", str(north / "ca.crt")]
    arguments += ["--client-certificate", str(north / "client.crt"), "--client-key", str(south / "client.key")]
    assert node.main(arguments) == 1
    assert capsys.readouterr().err.startswith("CP-106")
    assert json.loads(note.read_text())["state"] == "not started"


def test_client_run_gives_its_supernode_the_certificate_that_plant_toml_names(fed: Path, tmp_path: Path) -> None:
    plant = read_plant(take_in(fed, "north", NOW) / "plant.toml")
    assert plant.shown is not None
    given = Plant("north", tmp_path / "home", "127.0.0.1:1", plant.authority, plant.node_key, plant.shown)
    make_home(given.home)
    (spec,) = (one for one in specs(given) if one.name == "supernode")
    certificate, key = map(str, plant.shown)
    assert spec.command[spec.command.index("--client-certificate") + 1] == certificate
    assert spec.command[spec.command.index("--client-key") + 1] == key
    plant.shown[1].chmod(0o644)
    with pytest.raises(CrossplantError, match=r"client\.key"):
        specs(given)
    plant.shown[1].unlink()
    with pytest.raises(FileTrouble, match=r"client\.key is missing"):
        specs(given)


def test_client_status_prints_how_the_line_stands_without_what_a_terminal_would_obey(fed: Path) -> None:
    home = take_in(fed, "north", NOW)
    (home / "home").mkdir()
    write_note(home / "home" / NOTE, "refused", "revoked\x1b[31m.", "Ask.")
    done = crossplant_here("client", "status", "--config", home / "plant.toml")
    assert done.returncode == 1
    assert "coordinator: refused since" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr.startswith("CP-604")
