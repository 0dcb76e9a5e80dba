"""`/metrics`: its names are a promise, its format is Prometheus's own, and nobody who asks can hurt the edge."""

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.edge.records import Notice, Part, Scored
from client.edge.sinks.base import Delivery, SinkSettings, open_sink
from client.edge.sinks.prometheus import HELP, Metrics, Prometheus
from shared.errors import InvalidConfig

FROZEN = """
crossplant_edge_alarm_state gauge
crossplant_edge_alarms_total counter
crossplant_edge_anomalous_total counter
crossplant_edge_bundle_info gauge
crossplant_edge_delivered_total counter
crossplant_edge_drift gauge
crossplant_edge_dropped_total counter
crossplant_edge_guard_score gauge
crossplant_edge_guard_threshold gauge
crossplant_edge_last_score_timestamp_seconds gauge
crossplant_edge_latency_seconds histogram
crossplant_edge_mode gauge
crossplant_edge_notices_total counter
crossplant_edge_samples_total counter
crossplant_edge_score gauge
crossplant_edge_scores_total counter
crossplant_edge_sensor_fault gauge
crossplant_edge_shadow_ratio gauge
crossplant_edge_sink_up gauge
crossplant_edge_swaps_total counter
crossplant_edge_threshold gauge
crossplant_edge_waiting gauge
"""


@dataclass
class Told:
    told: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return self.told


SCORED = Scored(5.0, 7, float("inf"), 2.0, 0.01, 0.5, 3, (Part("A", 1.0, 1, 2.0, 1.0),), "abc", guard=1.0)


def opened(location: str = "metrics://127.0.0.1:0", **options: str) -> Prometheus:
    found = open_sink(SinkSettings(location, Path(), options=options))
    assert isinstance(found, Prometheus)
    return found


def lines(metrics: Metrics) -> dict[str, str]:
    told = (line.rsplit(" ", 1) for line in metrics.text().splitlines() if not line.startswith("#"))
    return dict(told)


def test_the_names_are_frozen() -> None:
    assert sorted(f"{name} {kind}" for name, (kind, _) in HELP.items()) == FROZEN.split("\n")[1:-1]


def test_every_value_has_a_metric() -> None:
    metrics = everything()
    assert set(metrics._values) <= set(HELP)


def everything() -> Metrics:
    metrics = Metrics()
    for told in (
        SCORED.as_json(), Notice(0.0, "stalled", "").as_json(),
        {"type": "fault", "tag": "A", "kind": "stuck", "state": "active"},
        {"type": "alarm", "what": "raised", "state": "active"}, {"type": "drift", "tag": "A", "state": "drifting"},
        {"type": "swap", "event": "adopted"}, {"type": "fault", "what": "raised", "state": "active"}, {"type": "other"},
    ):  # fmt: skip
        metrics.take(told)
    metrics.sample(0.002)
    metrics.sample()
    metrics.sinks({"webhook": Delivery(3, 1, 2, "away"), "history": Delivery(9, 0, 0)})
    return metrics


def test_records_are_counted() -> None:
    found = lines(everything())
    assert found["crossplant_edge_score"] == "+Inf"
    assert found['crossplant_edge_anomalous_total{model="federated"}'] == "1"
    assert found['crossplant_edge_bundle_info{bundle="abc"}'] == "1"
    assert found['crossplant_edge_sensor_fault{tag="A",kind="stuck"}'] == "1"
    assert found['crossplant_edge_alarms_total{what="raised"}'] == "2"
    assert found['crossplant_edge_alarm_state{state="active"}'] == "1"
    assert found['crossplant_edge_drift{tag="A"}'] == "1"
    assert found['crossplant_edge_dropped_total{sink="webhook"}'] == "1"
    assert found['crossplant_edge_sink_up{sink="webhook"}'] == "0"
    assert found['crossplant_edge_latency_seconds_bucket{le="0.003"}'] == "1"
    assert found['crossplant_edge_latency_seconds_bucket{le="0.001"}'] == "0"
    assert found["crossplant_edge_samples_total"] == "2"


def test_what_is_over_is_zero() -> None:
    metrics = everything()
    metrics.take({"type": "fault", "tag": "A", "kind": "stuck", "state": "cleared"})
    metrics.take({"type": "drift", "tag": "A", "state": "settled"})
    found = lines(metrics)
    assert found['crossplant_edge_sensor_fault{tag="A",kind="stuck"}'] == "0"
    assert found['crossplant_edge_drift{tag="A"}'] == "0"


def test_prometheus_own_parser_reads_it() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    found = {family.name: family for family in parser.text_string_to_metric_families(everything().text())}
    assert {name.removesuffix("_total") for name in HELP} == set(found)


def test_hostile_names_stay_in_their_label_and_take_no_memory() -> None:
    metrics = Metrics()
    metrics.take({"type": "notice", "kind": 'a"} 1\ncrossplant_edge_score 666\n\\', "time": 0.0, "text": ""})
    assert "crossplant_edge_score" not in lines(metrics)
    for k in range(5000):
        metrics.take({"type": "notice", "kind": str(k), "time": 0.0, "text": ""})
    assert len(metrics._values["crossplant_edge_notices_total"]) == 500


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


def test_it_answers_metrics_and_nothing_else() -> None:
    async def test() -> None:
        sink = opened()
        await sink.start()
        sink.put(SCORED)
        sink.note_sample(0.01)
        answer = await ask(sink.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"crossplant_edge_scores_total 1\n" in answer
        assert (await ask(sink.port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404")
        assert (await ask(sink.port, b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405")
        assert (await ask(sink.port, b"\x16\x03\x01\r\n\r\n")).startswith(b"HTTP/1.1 405")
        assert await ask(sink.port, b"G" * 100_000) == b""
        await sink.close(1.0)

    asyncio.run(test())


def test_a_port_that_is_taken_is_told_and_scoring_goes_on() -> None:
    async def test(port: int) -> None:
        sink = opened(f"metrics://127.0.0.1:{port}")
        await sink.start()
        sink.put(SCORED)
        assert sink.standing().trouble
        assert sink.standing().delivered == 1
        await sink.close(1.0)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        asyncio.run(test(taken.getsockname()[1]))


def test_other_machines_are_kept_out_unless_it_is_said() -> None:
    with pytest.raises(InvalidConfig, match="other machines"):
        opened("metrics://0.0.0.0:0")
    assert opened("metrics://0.0.0.0:0", public="true")
