"""What passes the gateway, and what does not."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.proto.fleet_pb2 import PushMessagesRequest  # type: ignore[attr-defined,unused-ignore]
from flwr.proto.message_pb2 import ObjectTree  # type: ignore[attr-defined,unused-ignore]

from server.provision.change import revoke
from server.provision.federation import opened
from server.run.gateway import FLEET, LARGEST_CALL, Gateway, Limits, allowed, tls
from server.run.place import ServerPlace
from shared.pki import certificates
from tests.support.pki import call, client_side, healthy_answer, make, served, take_in

HIDDEN = [
    ("POST", "/v1/control/start-run"),
    ("POST", "/v1/control/register-node"),
    ("POST", "/v1/runtime/acquire-task"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
    ("POST", "/health"),
    ("GET", "/v1/fleet/pull-messages"),
    ("POST", "/v1/fleet/"),
    ("POST", "/v1/fleet/pull-messages/"),
    ("POST", "/v1/fleet/../control/start-run"),
    ("POST", "/v1/fleet/%2e%2e/control/start-run"),
    ("POST", "/v1/fleet/pull-messages%2f..%2f..%2fcontrol%2fstart-run"),
    ("POST", "//v1/fleet/pull-messages"),
    ("POST", "/V1/fleet/pull-messages"),
]


@pytest.mark.parametrize(("method", "path"), HIDDEN)
def test_everything_else_is_not_there(method: str, path: str) -> None:
    assert not allowed(method, path.encode())


@pytest.mark.parametrize("path", sorted(FLEET))
def test_the_fleet_passes(path: str) -> None:
    assert allowed("POST", path.encode())


def ask(gateway: Gateway, method: str, path: str, body: bytes = b"", **headers: str) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=gateway)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, content=body, headers=headers)

    return asyncio.run(go())


def before(gateway: Gateway, answer: httpx.MockTransport) -> Gateway:
    gateway._client = httpx.AsyncClient(base_url="http://superlink", transport=answer)
    return gateway


def test_a_request_and_its_answer_pass_unchanged() -> None:
    seen: list[httpx.Request] = []

    def superlink(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(401, content=b"no", headers={"content-type": "x/y", "flwr-version": "1", "server": "s"})

    gateway = before(Gateway("http://superlink", None), httpx.MockTransport(superlink))
    headers = {"flwr-signature": "abc", "connection": "close"}
    reply = ask(gateway, "POST", "/v1/fleet/push-object", b"bytes", **headers)
    assert (reply.status_code, reply.content) == (401, b"no")
    assert reply.headers["flwr-version"] == "1"
    assert "server" not in reply.headers
    (passed,) = seen
    assert passed.content == b"bytes"
    assert passed.headers["flwr-signature"] == "abc"
    assert passed.url.path == "/v1/fleet/push-object"


def test_a_hidden_path_never_reaches_the_superlink() -> None:
    def superlink(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    gateway = before(Gateway("http://superlink", None), httpx.MockTransport(superlink))
    assert ask(gateway, "POST", "/v1/control/start-run", b"x").status_code == 404


def test_a_body_that_is_too_large_is_refused_before_it_is_whole() -> None:
    gateway = before(
        Gateway("http://superlink", None, Limits(body=10)), httpx.MockTransport(lambda r: httpx.Response(200))
    )
    assert ask(gateway, "POST", "/v1/fleet/push-object", b"x" * 10).status_code == 200
    assert ask(gateway, "POST", "/v1/fleet/push-object", b"x" * 11).status_code == 413


@pytest.mark.parametrize("path", sorted(FLEET - {"/v1/fleet/push-object"}))
def test_only_content_may_be_large(path: str) -> None:
    """Of a reply's list of pieces the SuperLink enters one a millisecond, while everybody else waits."""
    gateway = before(Gateway("http://superlink", None), httpx.MockTransport(lambda r: httpx.Response(200)))
    assert ask(gateway, "POST", path, b"x" * LARGEST_CALL).status_code == 200
    assert ask(gateway, "POST", path, b"x" * (LARGEST_CALL + 1)).status_code == 413
    assert ask(gateway, "POST", "/v1/fleet/push-object", b"x" * (LARGEST_CALL + 1)).status_code == 200


def test_the_list_of_a_models_pieces_fits_a_call_many_times() -> None:
    digest = "0" * 64
    reply = PushMessagesRequest(message_object_trees=[ObjectTree(object_id=digest)])
    reply.message_object_trees[0].children.extend(ObjectTree(object_id=digest) for _ in range(500))
    assert reply.ByteSize() < LARGEST_CALL  # 500 pieces of 5 MiB: a model of 2.4 GiB


def test_one_address_cannot_take_all_the_room_there_is() -> None:
    async def go() -> list[int]:
        gateway = before(
            Gateway("http://superlink", None, Limits(body=100, held=200)),
            httpx.MockTransport(lambda r: httpx.Response(200)),
        )
        ends = asyncio.Event()
        slow = [asyncio.create_task(upload(gateway, "10.0.0.1", 60, ends)) for _ in range(3)]
        await asyncio.sleep(0)
        other = await upload(gateway, "10.0.0.2", 60, None)
        ends.set()
        return [*sorted(await asyncio.gather(*slow)), other]

    assert asyncio.run(go()) == [200, 503, 503, 200]


async def upload(gateway: Gateway, address: str, size: int, ends: asyncio.Event | None) -> int:
    """One request, whose last byte comes when `ends` is set; the status."""
    parts = iter((b"x" * size, b""))
    sent: list[Any] = []

    async def receive() -> dict[str, object]:
        part = next(parts)
        if not part and ends is not None:
            await ends.wait()
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    async def send(event: dict[str, object]) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "POST", "raw_path": b"/v1/fleet/push-object", "headers": []}
    await gateway({**scope, "client": (address, 1)}, receive, send)  # type: ignore[arg-type]
    return int(sent[0]["status"])


def test_a_superlink_that_is_down_is_503_which_flower_tries_again() -> None:
    def superlink(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("down")

    gateway = before(Gateway("http://superlink", None), httpx.MockTransport(superlink))
    assert ask(gateway, "GET", "/health").status_code == 503


def test_a_request_that_never_ends_is_cut() -> None:
    sent = []

    async def receive() -> dict[str, object]:
        await asyncio.sleep(5)
        return {}

    async def send(event: object) -> None:
        sent.append(event)

    gateway = Gateway("http://superlink", None, Limits(request_s=0.05))
    scope = {"type": "http", "method": "POST", "raw_path": b"/v1/fleet/push-object", "headers": []}
    asyncio.run(gateway(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


def test_nginx_passes_the_same_paths() -> None:
    config = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    for path in FLEET:
        assert path.removeprefix("/v1/fleet/") in config
    assert "/v1/control" not in config
    assert "return 404" in config


# ---- TLS of its own, with certificates that provisioning made ----


def side(fed: Path, mutual: bool) -> ssl.SSLContext:
    place = ServerPlace.of(fed)
    ca, revoked = (place.ca, place.revoked) if mutual else (None, None)
    return tls(place.certificate, place.key, ca, revoked)


def answer(fed: Path, home: Path, mutual: bool, own: bool) -> tuple[bytes, list[str]]:
    with served(side(fed, mutual), healthy_answer()) as seen:
        try:
            said = call(client_side(home, own), seen.port)
        except OSError:
            said = b""
    return said, seen.refusals


def test_plants_need_no_certificate_unless_it_is_asked_of_them(tmp_path: Path) -> None:
    fed = make(tmp_path, certificates.utc_now())
    north = take_in(fed, "north", certificates.utc_now())
    assert answer(fed, north, mutual=False, own=False)[0]
    said, refusals = answer(fed, north, mutual=True, own=False)
    assert not said
    assert any("PEER_DID_NOT_RETURN_A_CERTIFICATE" in reason for reason in refusals)


def test_a_revoked_plant_gets_no_connection_and_the_others_do(tmp_path: Path) -> None:
    now = certificates.utc_now()
    fed = make(tmp_path, now)
    north, south = take_in(fed, "north", now), take_in(fed, "south", now)
    with opened(fed) as federation:
        revoke(federation, "north", now)
    said, refusals = answer(fed, north, mutual=True, own=True)
    assert not said
    assert any("revoked" in reason for reason in refusals)
    assert answer(fed, south, mutual=True, own=True)[0]
