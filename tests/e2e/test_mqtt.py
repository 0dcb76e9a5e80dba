"""The MQTT source against a real Mosquitto: every kind of payload, and everything that goes wrong with a broker."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from client.edge.records import Notice, Sample
from client.edge.sources.base import SourceSettings, open_source
from client.edge.sources.mqtt import MqttSource
from client.edge.sources.payload import MOST_BYTES, read_payload
from shared.errors import FileTrouble, InvalidConfig
from shared.schema import SensorSchema
from tests.support.mosquitto import Mosquitto, broker, needs_mosquitto, password_file
from tests.support.tls import authority, issue

SCHEMA = SensorSchema(tags=("A", "B"), period_s=0.1)
TAGS = {"A": 0, "B": 1}
FAST = {"pause_s": "0.05", "longest_pause_s": "0.2", "keepalive_s": "1", "timeout_s": "1"}


def source(port: int, scheme: str = "mqtt", host: str = "127.0.0.1", **options: str) -> MqttSource:
    found = open_source(SourceSettings(f"{scheme}://{host}:{port}/plant/#", SCHEMA, options={**FAST, **options}))
    assert isinstance(found, MqttSource)
    return found


async def until(found: MqttSource, enough: Callable[[list[Sample | Notice]], bool]) -> list[Sample | Notice]:
    """What a source gives until there is enough."""
    got: list[Sample | Notice] = []
    async with asyncio.timeout(20):
        async for one in found:
            got.append(one)
            if enough(got):
                return got
    raise AssertionError


def kind(name: str) -> Callable[[list[Sample | Notice]], bool]:
    return lambda got: isinstance(got[-1], Notice) and got[-1].kind == name


def rows(count: int) -> Callable[[list[Sample | Notice]], bool]:
    return lambda got: sum(isinstance(one, Sample) for one in got) >= count


def text(got: list[Sample | Notice]) -> str:
    return got[-1].text if isinstance(got[-1], Notice) else ""


async def standing(found: MqttSource) -> None:
    """Wait until it has subscribed."""
    async with asyncio.timeout(10):
        while not found.standing:
            await asyncio.sleep(0.01)


async def say(
    running: Mosquitto, *told: tuple[str, object], retain: bool = False, host: str = "127.0.0.1", **how: Any
) -> None:
    async with aiomqtt.Client(host, running.port, **how) as client:
        for topic, payload in told:
            data = payload if isinstance(payload, bytes | str) else json.dumps(payload)
            await client.publish(topic, data, qos=1, retain=retain)


def run(what: Awaitable[None]) -> None:
    async def whole() -> None:
        await what

    asyncio.run(whole())


@needs_mosquitto
def test_rows_come_in_order_with_their_times(tmp_path: Path) -> None:
    async def test(running: Mosquitto) -> None:
        async with source(running.port) as found:
            await standing(found)
            told = [("plant/line", {"A": k, "B": -k, "time": 1000 + k / 10}) for k in range(50)]
            await say(running, *told)
            got = [one for one in await until(found, rows(50)) if isinstance(one, Sample)]
        assert [one.time for one in got] == [1000 + k / 10 for k in range(50)]
        assert [one.values_D.tolist() for one in got] == [[k, -k] for k in range(50)]

    with broker(tmp_path / "mq") as running:
        run(test(running))


@needs_mosquitto
def test_values_on_topics_of_their_own_are_put_together(tmp_path: Path) -> None:
    (tmp_path / "topics.toml").write_text('[topics]\n"plant/tank/level" = "A"\n')

    async def test(running: Mosquitto) -> None:
        async with source(running.port, topics=str(tmp_path / "topics.toml")) as found:
            await standing(found)
            await say(running, ("plant/tank/level", 1.5), ("plant/B", {"value": 2.5, "quality": "good"}))
            got = await until(found, rows(1))
        assert isinstance(got[-1], Sample)
        assert got[-1].values_D.tolist() == [1.5, 2.5]

    with broker(tmp_path / "mq") as running:
        run(test(running))


@needs_mosquitto
def test_a_sparkplug_like_message_is_read(tmp_path: Path) -> None:
    async def test(running: Mosquitto) -> None:
        async with source(running.port) as found:
            await standing(found)
            metrics = [{"name": "Line/A", "value": 3.0}, {"name": "B", "value": True}, {"name": "x", "value": "y"}]
            await say(running, ("plant/n/DDATA/e", {"timestamp": 1_700_000_000_500, "metrics": metrics, "seq": 1}))
            got = await until(found, rows(1))
        assert isinstance(got[-1], Sample)
        assert (got[-1].time, got[-1].values_D.tolist()) == (1_700_000_000.5, [3.0, 1.0])
        assert found.unknown == 1

    with broker(tmp_path / "mq") as running:
        run(test(running))


@needs_mosquitto
def test_hostile_messages_are_one_notice_and_the_good_ones_count(tmp_path: Path) -> None:
    hostile = [b"", b"\xff\xfe", b"{", b"[" * 100_000, b"null", b'{"A": "x"}', b'{"time": 1}', b"9" * 5000, b"NaN"]

    async def test(running: Mosquitto) -> None:
        async with source(running.port) as found:
            await standing(found)
            await say(running, *[("plant/x", data) for data in hostile], ("plant/x", b"1" * (MOST_BYTES + 1)))
            await say(running, ("plant/x", {"A": 1, "B": 2, "time": 1000}))
            got = await until(found, rows(1))
        assert [one.kind for one in got if isinstance(one, Notice)] == ["rejected"]
        assert found.refused.total == len(hostile) + 1

    with broker(tmp_path / "mq") as running:
        run(test(running))


@needs_mosquitto
def test_a_retained_message_does_not_say_how_late_it_is(tmp_path: Path) -> None:
    async def test(running: Mosquitto) -> None:
        await say(running, ("plant/A", {"value": 7, "time": 500}), retain=True)
        async with source(running.port) as found:
            await standing(found)
            await say(running, ("plant/B", {"value": 8, "time": 1000}))
            got = await until(found, rows(1))
        assert isinstance(got[-1], Sample)
        assert (got[-1].time, got[-1].values_D.tolist()) == (1000, [7, 8])

    with broker(tmp_path / "mq") as running:
        run(test(running))


@needs_mosquitto
def test_a_broker_that_restarts_is_found_again(tmp_path: Path) -> None:
    async def test(running: Mosquitto) -> None:
        async with source(running.port) as found:
            await standing(found)
            await say(running, ("plant/x", {"A": 1, "B": 2, "time": 1000}))
            await until(found, rows(1))
            running.stop()
            await until(found, kind("disconnected"))
            running.start()
            await until(found, kind("reconnected"))
            await say(running, ("plant/x", {"A": 3, "B": 4, "time": 1010}))
            got = await until(found, rows(1))
            assert [one.kind for one in got if isinstance(one, Notice)] == ["gap"]

    with broker(tmp_path / "mq") as running:
        run(test(running))


@needs_mosquitto
def test_a_broker_that_freezes_is_noticed_and_left(tmp_path: Path) -> None:
    async def test(running: Mosquitto) -> None:
        async with source(running.port, stall_s="0.5") as found:
            await standing(found)
            await say(running, ("plant/x", {"A": 1, "B": 2, "time": 1000}))
            await until(found, rows(1))
            running.send(signal.SIGSTOP)
            await until(found, kind("stalled"))
            await until(found, kind("disconnected"))
            running.send(signal.SIGCONT)
            await until(found, kind("reconnected"))

    with broker(tmp_path / "mq") as running:
        run(test(running))


@needs_mosquitto
def test_a_broker_that_accepts_and_says_nothing_costs_no_sockets(tmp_path: Path) -> None:
    async def test(running: Mosquitto) -> None:
        running.send(signal.SIGSTOP)
        async with source(running.port, timeout_s="0.1") as found:
            await until(found, kind("disconnected"))
            before = len(list(Path("/proc/self/fd").iterdir()))
            while found.connections < 12:
                await asyncio.sleep(0.05)
            assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2

    with broker(tmp_path / "mq") as running:
        run(test(running))


@needs_mosquitto
def test_a_kept_session_gets_what_was_sent_meanwhile(tmp_path: Path) -> None:
    async def test(running: Mosquitto) -> None:
        told = [("plant/x", {"A": k, "B": k, "time": 1000 + k / 10}) for k in range(20)]
        async with source(running.port, client_id="edge", session="true") as found:
            await standing(found)
            await say(running, *told[:5])
            await until(found, rows(5))
        await say(running, *told[5:])
        async with source(running.port, client_id="edge", session="true") as found:
            got = [one for one in await until(found, rows(15)) if isinstance(one, Sample)]
        assert [one.time for one in got] == [1000 + k / 10 for k in range(5, 20)]

    with broker(tmp_path / "mq") as running:
        run(test(running))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates: of the broker, a client's, and an authority that signed neither."""
    folder = tmp_path_factory.mktemp("tls")
    ours = authority(folder)
    authority(folder / "other")
    issue(ours, "server")
    issue(ours, "client")
    (folder / "word").write_text("opensesame\n")
    (folder / "wrong").write_text("guess\n")
    return folder


def secured(tls: Path, folder: Path) -> tuple[str, ...]:
    users = password_file(folder, edge="opensesame")
    return (
        "allow_anonymous false", f"password_file {users}", f"cafile {tls / 'ca.pem'}",
        f"certfile {tls / 'server.pem'}", f"keyfile {tls / 'server.key'}", "require_certificate true",
    )  # fmt: skip


def entry(tls: Path, **other: str) -> dict[str, str]:
    return {
        "user": "edge", "password_file": str(tls / "word"), "ca": str(tls / "ca.pem"),
        "certificate": str(tls / "client.pem"), "key": str(tls / "client.key"), **other,
    }  # fmt: skip


@needs_mosquitto
def test_tls_with_password_and_client_certificate(tls: Path, tmp_path: Path) -> None:
    async def test(running: Mosquitto) -> None:
        async with source(running.port, scheme="mqtts", host="localhost", **entry(tls)) as found:
            await standing(found)
            context = found._dial._tls
            who: dict[str, Any] = {"username": "edge", "password": "opensesame", "tls_context": context}
            await say(running, ("plant/x", {"A": 1, "B": 2}), host="localhost", **who)
            await until(found, rows(1))

    with broker(tmp_path / "mq", *secured(tls, tmp_path)) as running:
        run(test(running))


@needs_mosquitto
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")  # paho leaves closing to the interpreter
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password_file": "wrong"}, "the user or password is refused"),
        ({"ca": "other/ca.pem"}, "certificate is not trusted"),
        ({"certificate": "", "key": ""}, ""),
    ],
)
def test_what_a_secured_broker_refuses_is_one_clear_notice(
    change: dict[str, str], says: str, tls: Path, tmp_path: Path
) -> None:
    files = {name: str(tls / file) if file else "" for name, file in change.items()}

    async def test(running: Mosquitto) -> None:
        async with source(running.port, scheme="mqtts", host="localhost", **entry(tls, **files)) as found:
            got = await until(found, kind("disconnected"))
            assert says in text(got), text(got)
            while found.connections < 4:
                await asyncio.sleep(0.05)
            assert len(found._queue) == 0

    with broker(tmp_path / "mq", *secured(tls, tmp_path)) as running:
        run(test(running))


def test_a_broker_that_is_not_there_is_one_notice(tmp_path: Path) -> None:
    async def test() -> None:
        async with source(9) as found:
            got = await until(found, kind("disconnected"))
            assert "refused" in text(got)
            while found.connections < 4:
                await asyncio.sleep(0.02)
            assert len(found._queue) == 0

    run(test())


@pytest.mark.parametrize(
    ("location", "options", "says"),
    [
        ("mqtt://host/", {}, "topic filter"),
        ("mqtt://host/a#", {}, "topic filter"),
        ("mqtt:///a", {}, "names no host"),
        ("mqtt://u:secret@host/a", {}, "must not carry"),
        ("mqtt://host/a", {"qos": "3"}, "qos"),
        ("mqtt://host/a", {"tls": "yes"}, "no option 'tls'"),
        ("mqtt://host/a", {"user": "u"}, "go together"),
        ("mqtt://host/a", {"user": "u", "password_file": "WORD"}, "in the clear"),
        ("mqtt://host/a", {"session": "true"}, "client_id"),
        ("mqtt://host/a", {"ca": "WORD"}, "mqtts"),
        ("mqtts://host/a", {"certificate": "WORD"}, "needs its key"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(
    location: str, options: dict[str, str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "word").write_text("secret")
    given = {name: value.replace("WORD", str(tmp_path / "word")) for name, value in options.items()}
    with pytest.raises(InvalidConfig) as caught:
        open_source(SourceSettings(location, SCHEMA, options=given))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[topics", '[topics]\na = "C"', "topics = 1", "[topics]\na = 1"])
def test_a_topic_map_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "topics.toml").write_text(content)
    with pytest.raises(InvalidConfig, match="topic map"):
        open_source(SourceSettings("mqtt://h/a", SCHEMA, options={"topics": str(tmp_path / "topics.toml")}))
    with pytest.raises(FileTrouble):
        open_source(SourceSettings("mqtt://h/a", SCHEMA, options={"topics": str(tmp_path / "none.toml")}))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"A": 1, "time": "yesterday"}', "its time is none"),
        (b'{"A": 1, "time": "2024-01-01T00:00:00"}', "names no zone"),
        (b'{"A": 1, "time": true}', "its time is none"),
        (b'{"A": [1]}', "A is no number"),
        (b"5", "stands for no tag"),
        (b'{"metrics": [1]}', "without a name"),
        (b'{"metrics": []}', "no tag"),
        (b'{"A": 1, "A": 2}', "a name stands in it twice"),
        (b'{"values": {"A": 1, "B": 3, "A": 2}}', "a name stands in it twice"),
        (b'{"metrics": [{"name": "A", "value": 1, "value": 2}]}', "a name stands in it twice"),
    ],
)
def test_a_payload_that_is_none_says_why(data: bytes, why: str) -> None:
    assert why in str(read_payload(data, None, TAGS))


@pytest.mark.parametrize(
    "data",
    [b'{"A": 1, "time": "2024-01-01T00:00:00Z"}', b'{"metrics": [{"name": "A", "value": 1, "properties": {"Q": 1}}]}'],
)
def test_a_colon_that_ends_no_name_is_no_second_name(data: bytes) -> None:
    found = read_payload(data, None, TAGS)
    assert isinstance(found, list)
    assert found[0].values == {"A": 1.0}


def test_a_bad_quality_is_a_missing_reading() -> None:
    found = read_payload(b'{"value": 5, "quality": "bad"}', "A", TAGS)
    assert isinstance(found, list)
    assert found[0].values["A"] != found[0].values["A"]
