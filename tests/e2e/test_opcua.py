"""The OPC UA source against a real server in a process of its own, fed by a twin: what goes wrong with plants."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.edge.records import Notice, Sample
from client.edge.sinks.base import SinkSettings, open_sink
from client.edge.sources.base import SourceSettings, open_source
from client.edge.sources.opcua import OpcuaSource
from shared.catalogue import tags
from shared.errors import FileTrouble, InvalidConfig
from shared.schema import SensorSchema
from simulations.twin.make import simulate
from tests.support.opcua_plant import Plant, plant
from tests.support.pki import nobody
from tests.support.tls import authority, issue

THREE = SensorSchema(tags=("A", "B", "C"), period_s=0.1)
TABLE = np.arange(3000, dtype=np.float32).reshape(1000, 3)
PATIENT = {"pause_s": "0.05", "longest_pause_s": "0.2", "timeout_s": "15", "stall_s": "10", "publishing_s": "0.05"}
"""For a machine that is busy with other things: what is due comes as fast as it can, silence is far off."""
SOON = {"timeout_s": "2", "stall_s": "1.5"}
"""For tests that wait for silence."""
READ_ONLY = {
    "GetEndpointsRequest", "CreateSessionRequest", "ActivateSessionRequest", "BrowseRequest", "BrowseNextRequest",
    "CreateSubscriptionRequest", "CreateMonitoredItemsRequest", "PublishRequest", "ReadRequest",
    "DeleteSubscriptionsRequest", "CloseSessionRequest", "CloseSecureChannelRequest",
}  # fmt: skip


def source(served: Plant, schema: SensorSchema = THREE, options: dict[str, str] | None = None) -> OpcuaSource:
    found = open_source(SourceSettings(served.url, schema, options={**PATIENT, **(options or {})}))
    assert isinstance(found, OpcuaSource)
    return found


async def until(
    found: OpcuaSource, enough: Callable[[Sample | Notice], bool], most_s: float = 90
) -> list[Sample | Notice]:
    got: list[Sample | Notice] = []
    async with asyncio.timeout(most_s):
        async for one in found:
            got.append(one)
            if enough(one):
                return got
    raise AssertionError


def kind(name: str) -> Callable[[Sample | Notice], bool]:
    return lambda one: isinstance(one, Notice) and one.kind == name


def number(least: int) -> Callable[[Sample | Notice], bool]:
    return lambda one: isinstance(one, Sample) and one.number >= least


def samples(got: list[Sample | Notice]) -> list[Sample]:
    return [one for one in got if isinstance(one, Sample)]


def kinds(got: list[Sample | Notice]) -> list[str]:
    return [one.kind for one in got if isinstance(one, Notice)]


async def soon(true: Callable[[], bool], most_s: float = 60) -> None:
    async with asyncio.timeout(most_s):
        while not true():
            await asyncio.sleep(0.02)


def sockets() -> int:
    """Open sockets of this process; collected garbage closes none of a test that has switched the collector off."""
    return sum(os.readlink(f"/proc/self/fd/{name}").startswith("socket:") for name in open_files())


def open_files() -> list[str]:
    return [name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which would close what the source forgets."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def run(what: Awaitable[None]) -> None:
    async def whole() -> None:
        await what

    asyncio.run(whole())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with plant(tmp_path_factory.mktemp("running") / "plant", THREE.tags, TABLE, period_s=0.1) as found:
        yield found


@pytest.fixture
def served(running: Plant) -> Plant:
    """A plant that works, as a test before may have left it: a server takes seconds to start."""
    (running.folder / "services").unlink(missing_ok=True)
    running.tell("move")
    running.tell("period", 0.1)
    running.tell("quality", "B", "0")
    return running


def test_a_twin_in_real_time_comes_row_by_row_and_nothing_is_written(tmp_path: Path) -> None:
    schema = SensorSchema(tags=tuple(tag.name for tag in tags("swat")), period_s=0.5)  # Twice as fast as it is.
    table = simulate(1, 0.01, "swat", 1)[0].values_TD
    missing = np.isnan(table)

    async def test(found: Plant) -> None:
        async with source(found, schema, {"publishing_s": "0", "lateness_s": "10"}) as live:
            got = await until(live, number(5))
        assert kinds(got) == []
        row = samples(got)
        assert np.diff([one.time for one in row]) == pytest.approx(0.5, abs=0.02)
        at = [np.flatnonzero((np.abs(table - one.values_D) < 1e-4).all(1)) for one in row[1:]]
        assert all(len(k) for k in at)
        assert np.diff([k[0] for k in at]).tolist() == [1] * (len(at) - 1)
        assert found.services() <= READ_ONLY

    assert not missing.any()
    with plant(tmp_path / "plant", schema.tags, table, period_s=0.5, nested=True) as found:
        run(test(found))


def test_a_replay_at_fifty_rows_a_second_loses_none(served: Plant) -> None:
    schema = SensorSchema(tags=THREE.tags, period_s=0.02)

    async def test() -> None:
        served.tell("period", 0.02)
        async with source(served, schema, {"lateness_s": "10", "queue": "1000"}) as live:  # The machine may be busy.
            got = samples(await until(live, number(110)))[10:]  # Before, the plant's row of 0.1 s may be among them.
        steps = np.diff([one.values_D[0] for one in got]) % TABLE.size  # It begins again after the last row.
        assert steps.tolist() == [3.0] * (len(got) - 1)

    run(test())


@pytest.mark.parametrize(("code", "how"), [(0x80000000, "bad"), (0x40000000, "uncertain"), (0x808A0000, "bad")])
def test_a_reading_of_bad_quality_is_missing_and_counted(code: int, how: str, served: Plant) -> None:
    async def test() -> None:
        async with source(served) as live:
            await until(live, number(2))
            served.tell("quality", "B", hex(code))
            got = await until(live, lambda one: isinstance(one, Sample) and bool(np.isnan(one.values_D[1])))
            assert not np.isnan(samples(got)[-1].values_D[[0, 2]]).any()
            served.tell("quality", "B", "0")
            await until(live, lambda one: isinstance(one, Sample) and not np.isnan(one.values_D[1]))
        assert getattr(live, how) > 0

    run(test())


def test_uncertain_readings_can_be_taken(served: Plant) -> None:
    async def test() -> None:
        served.tell("quality", "B", "0x40000000")
        async with source(served, options={"uncertain": "take"}) as live:
            got = samples(await until(live, number(5)))
        assert not np.isnan(got[-1].values_D).any()
        assert live.uncertain > 0

    run(test())


def test_a_text_where_a_number_should_be_is_missing_and_told_once(served: Plant, tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text('[nodes]\nA = "ns=2;s=A"\nB = "ns=2;s=B"\nC = "i=2261"\n')  # the name of the server's product

    async def test() -> None:
        async with source(served, options={"nodes": str(path)}) as live:
            got = await until(live, number(5))
        assert math.isnan(samples(got)[-1].values_D[2])
        assert kinds(got).count("rejected") == 1

    run(test())


@pytest.mark.usefixtures("uncollected")
def test_a_server_that_restarts_is_found_by_a_fresh_client(served: Plant) -> None:
    async def test() -> None:
        async with source(served) as live:
            await until(live, number(3))
            served.stop()
            await until(live, kind("disconnected"))
            await asyncio.to_thread(served.start)
            back = await until(live, kind("reconnected"))
            assert samples(back) == []
            await until(live, lambda one: isinstance(one, Sample))

    before = sockets()
    run(test())
    assert sockets() == before


@pytest.mark.usefixtures("uncollected")
def test_a_server_that_freezes_is_silence_then_a_lost_connection_then_a_gap_where_rows_are_missing(
    served: Plant,
) -> None:
    async def test() -> None:
        async with source(served, options=SOON) as live:
            last = samples(await until(live, number(3)))[-1]
            served.send(signal.SIGSTOP)
            try:
                got = await until(live, kind("stalled"))
                got += await until(live, kind("disconnected"))
            finally:
                served.send(signal.SIGCONT)
            last = [last, *samples(got)][-1]
            told = await until(live, kind("reconnected"))
            assert samples(told) == []
            told = await until(live, lambda one: isinstance(one, Sample))
            assert ("gap" in kinds(told)) == (samples(told)[-1].time - last.time > 0.15)  # It may go on where it was.
            assert kinds(got)[-2:] == ["stalled", "disconnected"]

    before = sockets()
    run(test())
    assert sockets() == before


@pytest.mark.usefixtures("uncollected")
def test_a_client_that_finds_its_server_silent_by_itself_leaves_no_socket(served: Plant) -> None:
    async def test() -> None:
        made: list[Any] = []
        async with source(served) as live:
            fresh = live._client

            async def recorded() -> Any:
                made.append(await fresh())
                return made[-1]

            live._client = recorded  # type: ignore[method-assign]
            await until(live, lambda one: isinstance(one, Sample))
            transport = made[0].uaclient.protocol.transport
            served.send(signal.SIGSTOP)
            made[0].uaclient.mark_disconnected()  # What asyncua's watchdog does.
            try:
                await until(live, kind("disconnected"))
                assert transport.is_closing()
            finally:
                served.send(signal.SIGCONT)

    run(test())


@pytest.mark.usefixtures("uncollected")
def test_a_source_that_is_left_while_it_connects_leaves_no_socket_and_no_task(served: Plant) -> None:
    async def test() -> None:
        before = sockets()
        for k in range(16):
            async with source(served):
                await asyncio.sleep(0.005 * k)
            await soon(lambda: len(asyncio.all_tasks()) == 1 and sockets() == before, 5)

    run(test())


def test_a_plant_whose_readings_stand_still_is_silence_though_the_server_answers(served: Plant) -> None:
    async def test() -> None:
        async with source(served, options={"stall_s": "1.5"}) as live:
            await until(live, number(3))
            served.tell("still")
            got = await until(live, kind("stalled"))
            assert len(samples(got)) < 30
            served.tell("move")
            assert kinds(await until(live, lambda one: isinstance(one, Sample))) == ["resumed", "gap"]
            assert live.connections == 1

    run(test())


def test_a_quiet_plant_goes_on_while_its_server_is_there(served: Plant) -> None:
    async def test() -> None:
        async with source(served, options={"quiet": "true", "stall_s": "1.5"}) as live:
            await until(live, number(3))
            served.tell("still")
            assert kinds(await until(live, number(25))) == []

    run(test())


def test_memory_is_flat_over_connections_that_break_and_subscriptions_that_expire(served: Plant) -> None:
    async def test() -> None:
        made: list[weakref.ref[Any]] = []
        async with source(served, options=SOON) as live:
            subscribe = live._subscribe

            async def recorded(client: Any, columns: Any, heard: Any) -> None:
                made.extend((weakref.ref(client), weakref.ref(heard)))
                await subscribe(client, columns, heard)

            live._subscribe = recorded  # type: ignore[method-assign]
            tasks = 0
            for command in ("drop", "expire", "drop", "expire", "drop"):
                await until(live, lambda one: isinstance(one, Sample))
                tasks = tasks or len(asyncio.all_tasks())
                served.tell(command)
                await until(live, kind("reconnected"))
            await soon(lambda: len(asyncio.all_tasks()) <= tasks)
            await soon(lambda: gc.collect() >= 0 and sum(one() is not None for one in made) <= 2)
            assert len(made) >= 12

    run(test())


def test_a_plant_whose_clock_is_set_back_is_told_and_followed(served: Plant) -> None:
    async def test() -> None:
        async with source(served) as live:
            before = samples(await until(live, number(3)))[-1].time
            served.tell("clock", -3600)
            got = await until(live, lambda one: isinstance(one, Sample) and one.time < before - 3000)
            assert "clock" in kinds(got)

    run(test())


def test_tags_are_found_by_name_or_by_the_node_map(served: Plant, tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text('[nodes]\nA = "ns=2;s=C"\nB = "ns=2;s=B"\nC = "ns=2;s=A"\n')

    async def test() -> None:
        async with source(served, options={"nodes": str(path)}) as live:
            got = samples(await until(live, number(3)))[-1]
        assert got.values_D[2] + 2 == got.values_D[0]
        assert "BrowseRequest" not in served.services()

    run(test())


def test_a_tag_that_the_server_lacks_is_named_and_the_others_go_on(served: Plant) -> None:
    schema = SensorSchema(tags=("A", "B", "NOT_THERE"), period_s=0.1)

    async def test() -> None:
        async with source(served, schema) as live:
            got = await until(live, number(3))
        assert "rejected" in kinds(got)
        assert any("NOT_THERE" in one.text for one in got if isinstance(one, Notice))
        assert np.isnan(samples(got)[-1].values_D).tolist() == [False, False, True]

    run(test())


@dataclass
class Told:
    told: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return self.told


def test_the_alarm_server_shows_scores_and_alarms_and_cannot_be_written(tmp_path: Path) -> None:
    from asyncua import Client
    from asyncua.ua.uaerrors import BadUserAccessDenied

    heard: list[Any] = []

    class Ear:
        def event_notification(self, event: Any) -> None:
            heard.append(event)

    async def test() -> None:
        url = f"opc.tcp://127.0.0.1:{nobody()}"
        sink = open_sink(SinkSettings(url, tmp_path))
        await sink.start()
        await soon(lambda: not sink.standing().trouble)
        async with Client(url + "/crossplant", timeout=30) as client:
            ear = await client.create_subscription(50, Ear())
            await ear.subscribe_events(client.get_node("ns=2;s=Crossplant"))
            score = {"type": "score", "time": 5.0, "score": "inf", "threshold": 2.0, "anomalous": ["guard"], "mode": 3}
            sink.put(Told({**score, "bundle": "abc"}))
            sink.put(Told({"type": "alarm", "time": 5.0, "what": "raised", "state": "active", "id": "a-1"}))
            await soon(lambda: bool(heard))
            found = {}
            for name in ("Score", "Threshold", "Anomalous", "Mode", "AlarmState", "ActiveAlarm", "AlarmsRaised"):
                found[name] = await client.get_node(f"ns=2;s=Crossplant.{name}").read_value()
            assert found == {"Score": math.inf, "Threshold": 2.0, "Anomalous": True, "Mode": 3, "AlarmState": "active",
                             "ActiveAlarm": True, "AlarmsRaised": 1}  # fmt: skip
            assert '"a-1"' in heard[0].Message.Text
            with pytest.raises(BadUserAccessDenied):
                await client.get_node("ns=2;s=Crossplant.Score").write_value(0.0)
        await sink.close(20.0)
        assert sink.standing().delivered == 2

    run(test())


def test_a_record_that_the_alarm_server_cannot_publish_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client.edge.sinks.opcua import OpcuaSink

    publish, failed = OpcuaSink._publish, list[str]()

    async def failing(self: OpcuaSink, server: Any, nodes: Any, events: Any, told: dict[str, Any]) -> None:
        if not failed:
            failed.append(told["id"])
            raise OSError("the library failed")
        await publish(self, server, nodes, events, told)

    monkeypatch.setattr(OpcuaSink, "_publish", failing)
    monkeypatch.setattr("client.edge.sinks.opcua._RETRY_S", 0.05)

    async def test() -> None:
        sink = open_sink(SinkSettings(f"opc.tcp://127.0.0.1:{nobody()}", tmp_path))
        await sink.start()
        for name in ("a-1", "a-2"):
            sink.put(Told({"type": "alarm", "time": 5.0, "what": "raised", "state": "active", "id": name}))
        await soon(lambda: sink.standing().delivered == 1 and not sink.standing().waiting)
        assert (failed, sink.standing().dropped) == (["a-1"], 1)
        await sink.close(20.0)

    run(test())


def test_the_alarm_server_lets_in_who_signs_encrypts_and_knows_the_password(pki: Path, tmp_path: Path) -> None:
    url = f"opc.tcp://127.0.0.1:{nobody()}"
    files = {"certificate": str(pki / "server.pem"), "key": str(pki / "server.key")}
    with pytest.raises(InvalidConfig, match="other machines"):
        open_sink(SinkSettings("opc.tcp://0.0.0.0:4841", tmp_path, options={**files, "public": "true"}))

    async def test() -> None:
        sink = open_sink(
            SinkSettings(url, tmp_path, options={**files, "user": "edge", "password_file": str(pki / "word")})
        )
        await sink.start()
        await soon(lambda: not sink.standing().trouble)
        schema = SensorSchema(tags=("Threshold",), period_s=0.2)
        right = SourceSettings(url + "/crossplant", schema, options={**PATIENT, **entry(pki), "quiet": "true"})
        live = open_source(right)
        assert isinstance(live, OpcuaSource)
        async with live:
            await soon(lambda: live.standing)
        wrong = open_source(
            SourceSettings(
                url + "/crossplant", schema, options={**PATIENT, **entry(pki, password_file=str(pki / "wrong"))}
            )
        )
        assert isinstance(wrong, OpcuaSource)
        async with wrong:
            got = await until(wrong, kind("disconnected"))
            assert "refused" in got[-1].text  # type: ignore[union-attr]
        await sink.close(20.0)

    run(test())


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    ours = authority(folder)
    issue(ours, "server", "urn:test:plant")
    issue(ours, "other", "urn:test:plant")
    issue(ours, "client", "urn:test:edge")
    (folder / "word").write_text("opensesame\n")
    (folder / "wrong").write_text("guess\n")
    return folder


def entry(pki: Path, **other: str) -> dict[str, str]:
    return {
        "certificate": str(pki / "client.pem"), "key": str(pki / "client.key"),
        "server_certificate": str(pki / "server.pem"), "user": "edge", "password_file": str(pki / "word"), **other,
    }  # fmt: skip


@pytest.fixture(scope="module")
def secured(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    files = {"certificate": str(pki / "server.pem"), "key": str(pki / "server.key")}
    told = {**files, "user": "edge", "password": "opensesame"}
    with plant(tmp_path_factory.mktemp("secured") / "plant", THREE.tags, TABLE, period_s=0.1, **told) as found:
        yield found


def test_signed_and_encrypted_with_a_password(secured: Plant, pki: Path) -> None:
    async def test() -> None:
        async with source(secured, options=entry(pki)) as live:
            assert kinds(await until(live, number(5))) == []

    run(test())
    assert secured.services() <= READ_ONLY


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password_file": "wrong"}, "user or password is refused"),
        ({"server_certificate": "other.pem", "timeout_s": "0.5"}, "server_certificate"),
    ],
)
def test_what_does_not_fit_is_one_clear_notice(change: dict[str, str], says: str, secured: Plant, pki: Path) -> None:
    async def test() -> None:
        given = {name: value if name == "timeout_s" else str(pki / value) for name, value in change.items()}
        async with source(secured, options=entry(pki, **given)) as live:
            got = await until(live, kind("disconnected"))
            assert says in got[-1].text, got  # type: ignore[union-attr]
            await soon(lambda: live.connections >= 3)
            assert len(live._queue) == 0

    run(test())


def test_a_server_without_encryption_is_not_talked_to_when_it_is_asked_for(served: Plant, pki: Path) -> None:
    async def test() -> None:
        async with source(served, options={**entry(pki), "timeout_s": "0.5"}) as live:
            got = await until(live, kind("disconnected"))
            assert samples(got) == []
        assert "ActivateSessionRequest" not in served.services()

    run(test())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"certificate": "client.pem"}, "encryption needs"),
        ({"user": "u"}, "go together"),
        ({"user": "u", "password_file": "word"}, "in the clear"),
        ({"nodes": "word"}, "node map"),
        ({"uncertain": "maybe"}, "uncertain"),
        ({"queue": "0"}, "queue"),
        ({"write": "yes"}, "no option"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(options: dict[str, str], says: str, pki: Path) -> None:
    files = {"certificate", "password_file", "nodes"}
    given = {name: str(pki / value) if name in files else value for name, value in options.items()}
    with pytest.raises(InvalidConfig) as caught:
        open_source(SourceSettings("opc.tcp://plc.example:4840", THREE, options=given))
    assert says in str(caught.value)


@pytest.mark.parametrize("content", ["", "[nodes]\nA = 1", '[nodes]\nA = "i=1"', '[nodes]\nD = "i=1"', "[[[["])
def test_a_node_map_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(content)
    with pytest.raises(InvalidConfig, match="node map"):
        open_source(SourceSettings("opc.tcp://h", THREE, options={"nodes": str(tmp_path / "nodes.toml")}))
    with pytest.raises(FileTrouble):
        open_source(SourceSettings("opc.tcp://h", THREE, options={"nodes": str(tmp_path / "none.toml")}))
