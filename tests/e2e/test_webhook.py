"""The webhook and the MQTT sink against real receivers: delivered once, in order, whatever happens in between."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from client.edge.sinks.base import Sink, SinkSettings, open_sink
from client.edge.sinks.webhook import signature
from shared.errors import FileTrouble, InvalidConfig
from tests.support.mosquitto import broker, needs_mosquitto
from tests.support.pki import nobody
from tests.support.tls import authority, issue

FAST = {"pause_s": "0.02", "longest_pause_s": "0.1", "timeout_s": "1"}


@dataclass
class Told:
    number: int
    kind: str = "alarm"

    def as_json(self) -> dict[str, Any]:
        return {"type": self.kind, "number": self.number}


@dataclass
class Receiver:
    """What came; `answer` gives the status for a request's number."""

    port: int = 0
    answer: Callable[[int], int] = lambda number: 204
    headers: dict[str, str] = field(default_factory=dict)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def numbers(self) -> list[int]:
        return [json.loads(body)["record"]["number"] for _, body in self.got]


@contextmanager
def receiver(port: int = 0, context: ssl.SSLContext | None = None, **how: Any) -> Iterator[Receiver]:
    seen = Receiver(**how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 2

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = seen.answer(len(seen.got))
            seen.got.append((dict(self.headers), body))
            if status == 0:  # Say nothing, and hang up.
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"Content-Length": "0", **seen.headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, address: object) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    seen.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def opened(location: str, state: Path, **options: str) -> Sink:
    return open_sink(SinkSettings(location, state, options={**FAST, **options}))


async def until(enough: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not enough():
            await asyncio.sleep(0.01)


def test_records_are_posted_in_order_with_id_and_signature(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    (tmp_path / "token").write_text("let-me-in\n")
    files = {"secret_file": str(tmp_path / "secret"), "token_file": str(tmp_path / "token")}

    async def test(seen: Receiver) -> None:
        sink = opened(f"http://127.0.0.1:{seen.port}/hook?a=1", tmp_path, **files)
        await sink.start()
        for k in range(20):
            sink.put(Told(k))
        sink.put(Told(99, "score"))
        await until(lambda: sink.standing().delivered == 20)
        await sink.close(2.0)
        assert seen.numbers() == list(range(20))
        for headers, body in seen.got:
            assert headers["Idempotency-Key"] == json.loads(body)["id"]
            assert headers["Authorization"] == "Bearer let-me-in"
            due = signature("hush", headers["X-Crossplant-Time"], body)
            assert hmac.compare_digest(headers["X-Crossplant-Signature"], due)

    with receiver() as seen:
        asyncio.run(test(seen))


def test_a_receiver_that_is_away_for_a_while_misses_nothing_and_sees_each_id_once(tmp_path: Path) -> None:
    port = nobody()

    async def away() -> None:
        sink = opened(f"http://127.0.0.1:{port}/", tmp_path)
        await sink.start()
        for k in range(100):
            sink.put(Told(k))
        await until(lambda: bool(sink.standing().trouble))
        await sink.close(0.5)

    async def back(seen: Receiver) -> None:
        sink = opened(f"http://127.0.0.1:{port}/", tmp_path)
        await sink.start()
        sink.put(Told(100))
        await until(lambda: sink.standing().delivered == 101)
        assert sink.standing().dropped == 0
        await sink.close(1.0)

    asyncio.run(away())
    with receiver(port) as seen:
        asyncio.run(back(seen))
        assert seen.numbers() == list(range(101))


def test_two_webhooks_in_one_state_folder_keep_their_records_apart(tmp_path: Path) -> None:
    async def test(left: Receiver, right: Receiver) -> None:
        sinks = [opened(f"http://127.0.0.1:{seen.port}/", tmp_path) for seen in (left, right)]
        for sink in sinks:
            await sink.start()
        for k in range(20):
            for sink in sinks:
                sink.put(Told(k))
        await until(lambda: all(sink.standing().delivered == 20 for sink in sinks))
        for sink in sinks:
            await sink.close(1.0)
        assert left.numbers() == right.numbers() == list(range(20))
        assert sinks[0].name != sinks[1].name

    with receiver() as left, receiver() as right:
        asyncio.run(test(left, right))


@pytest.mark.parametrize("status", [0, 301, 401, 404, 408, 429, 500, 503])
def test_what_may_pass_is_tried_again_under_the_same_id(status: int, tmp_path: Path) -> None:
    async def test(seen: Receiver) -> None:
        sink = opened(f"http://127.0.0.1:{seen.port}/", tmp_path)
        await sink.start()
        sink.put(Told(1))
        await until(lambda: sink.standing().delivered == 1)
        await sink.close(1.0)
        assert len(seen.got) == 4
        assert len({headers["Idempotency-Key"] for headers, _ in seen.got}) == 1

    with receiver(answer=lambda number: status if number < 3 else 200) as seen:
        asyncio.run(test(seen))


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_record_that_is_refused_for_good_is_dropped_and_counted(status: int, tmp_path: Path) -> None:
    async def test(seen: Receiver) -> None:
        sink = opened(f"http://127.0.0.1:{seen.port}/", tmp_path)
        await sink.start()
        sink.put(Told(1))
        sink.put(Told(2))
        await until(lambda: sink.standing().delivered == 1)
        assert sink.standing().dropped == 1
        await sink.close(1.0)

    with receiver(answer=lambda number: status if number == 0 else 200) as seen:
        asyncio.run(test(seen))


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    async def test(seen: Receiver) -> None:
        sink = opened(f"http://127.0.0.1:{seen.port}/", tmp_path)
        await sink.start()
        sink.put(Told(1))
        await until(lambda: len(seen.got) == 1)
        await asyncio.sleep(0.5)
        assert len(seen.got) == 1
        await sink.close(0.1)

    with receiver(answer=lambda number: 503, headers={"Retry-After": "30"}) as seen:
        asyncio.run(test(seen))


def test_a_receiver_that_never_answers_does_not_keep_the_edge_from_ending(tmp_path: Path) -> None:
    import socket
    import time

    async def test(port: int) -> None:
        sink = opened(f"http://127.0.0.1:{port}/", tmp_path, timeout_s="60")
        await sink.start()
        sink.put(Told(1))
        await asyncio.sleep(0.3)
        begun = time.monotonic()
        await sink.close(0.2)
        assert time.monotonic() - begun < 2

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(test(silent.getsockname()[1]))


def test_tls_is_verified(tmp_path: Path) -> None:
    ours = authority(tmp_path / "ours")
    other = authority(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issue(ours, "server"))

    async def test(seen: Receiver) -> None:
        wrong = opened(f"https://localhost:{seen.port}/", tmp_path / "a", ca=str(other.folder / "ca.pem"))
        await wrong.start()
        wrong.put(Told(1))
        await until(lambda: "CERTIFICATE_VERIFY_FAILED" in wrong.standing().trouble)
        await wrong.close(0.1)
        right = opened(f"https://localhost:{seen.port}/", tmp_path / "b", ca=str(ours.folder / "ca.pem"))
        await right.start()
        right.put(Told(2))
        await until(lambda: right.standing().delivered == 1)
        await right.close(1.0)
        assert seen.numbers() == [2]

    with receiver(context=context) as seen:
        asyncio.run(test(seen))


@pytest.mark.parametrize(
    ("location", "options", "says"),
    [
        ("http://elsewhere.example/", {}, "in the clear"),
        ("https://u:hunter2@host/", {}, "must not carry"),
        ("https://host/", {"retries": "3"}, "no option"),
        ("https://host/", {"timeout_s": "0"}, "timeout_s"),
        ("http://127.0.0.1/", {"ca": "x"}, "https"),
        ("mqtt://127.0.0.1/", {}, "no topic"),
        ("mqtt://127.0.0.1/a/#", {}, "no topic"),
    ],
)
def test_settings_that_cannot_be_are_refused(location: str, options: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as caught:
        open_sink(SinkSettings(location, tmp_path, options=options))
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="secret file"):
        open_sink(SinkSettings("https://host/", tmp_path, options={"secret_file": str(tmp_path / "none")}))


@needs_mosquitto
def test_mqtt_delivers_over_a_restart_of_the_broker(tmp_path: Path) -> None:
    import aiomqtt

    got: dict[str, int] = {}

    async def listen(port: int) -> None:
        while True:
            try:
                async with aiomqtt.Client("127.0.0.1", port, identifier="ear", clean_session=False) as client:
                    await client.subscribe("plant/#", qos=1)
                    async for message in client.messages:
                        assert message.topic.value == "plant/line/alarm"
                        told = json.loads(message.payload)
                        got[told["id"]] = told["record"]["number"]
            except aiomqtt.MqttError:
                await asyncio.sleep(0.05)

    async def test() -> None:
        with broker(tmp_path / "mq") as running:
            ear = asyncio.create_task(listen(running.port))
            sink = opened(f"mqtt://127.0.0.1:{running.port}/plant/line", tmp_path, keepalive_s="1")
            await sink.start()
            await asyncio.sleep(0.3)
            for k in range(10):
                sink.put(Told(k))
            await until(lambda: len(got) == 10)
            running.stop()
            for k in range(10, 30):
                sink.put(Told(k))
            await until(lambda: bool(sink.standing().trouble))
            running.start()
            await until(lambda: sink.standing().delivered == 30)
            ear.cancel()
            await asyncio.wait([ear])
            await sink.close(1.0)

    asyncio.run(test())
    assert len(got) >= 10


@pytest.mark.parametrize(
    "begins", [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b""]
)
def test_an_answer_that_comes_byte_by_byte_is_cut_off_and_tried_again(begins: bytes, tmp_path: Path) -> None:
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        while not over.is_set():
            with suppress(OSError):
                line, _ = listening.accept()
                with line:
                    line.sendall(begins)
                    while not over.wait(0.05):
                        line.sendall(b"H" if begins else b"HTTP/1.1 100 Continue\r\n\r\n")

    async def test(port: int) -> None:
        sink = opened(f"http://127.0.0.1:{port}/", tmp_path, timeout_s="0.3")
        await sink.start()
        sink.put(Told(1))
        await until(lambda: "did not end within" in sink.standing().trouble)
        assert sink.standing().waiting == 1
        await sink.close(0.5)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        try:
            asyncio.run(test(listening.getsockname()[1]))
        finally:
            over.set()
            thread.join(10)
