"""Prometheus: `/metrics` on 127.0.0.1, the text format written by hand (prometheus_client costs 10 MB).

Names are frozen by a test. Everything is counted from the records; the runtime may add what no record says by
`note_sample` and `note_sinks`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from client.edge.options import Place, one_line, read_options, read_place
from client.edge.records import Record
from client.edge.sinks.base import Delivery, SinkSettings
from shared.artefact import Artefact
from shared.errors import InvalidConfig
from shared.exposition import labelled, number

_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_MOST_REQUEST = 8192
_REQUEST_S = 5.0
_MOST_LINES = 64  # connections at the same time
_LABELS_MOST = 500  # different tags or bundles that are remembered
_RETRY_S = 5.0

HELP = {
    "crossplant_edge_samples_total": ("counter", "Samples that came in."),
    "crossplant_edge_scores_total": ("counter", "Windows that were scored."),
    "crossplant_edge_anomalous_total": ("counter", "Scored windows above the threshold, by model."),
    "crossplant_edge_notices_total": ("counter", "Notices of the source and the runtime, by kind."),
    "crossplant_edge_alarms_total": ("counter", "Changes of alarms, by what happened."),
    "crossplant_edge_alarm_state": ("gauge", "1 for the state that the alarm is in."),
    "crossplant_edge_score": ("gauge", "Newest score of the federated model."),
    "crossplant_edge_threshold": ("gauge", "Its threshold."),
    "crossplant_edge_guard_score": ("gauge", "Newest score of the plant's local guard."),
    "crossplant_edge_guard_threshold": ("gauge", "Its threshold."),
    "crossplant_edge_shadow_ratio": ("gauge", "Score of the model in shadow divided by its threshold."),
    "crossplant_edge_mode": ("gauge", "Operating mode, the nearest cluster."),
    "crossplant_edge_last_score_timestamp_seconds": ("gauge", "Time of the newest scored sample."),
    "crossplant_edge_bundle_info": ("gauge", "1 for the bundle in force."),
    "crossplant_edge_sensor_fault": ("gauge", "1 while a sensor fault of that kind is on, by tag."),
    "crossplant_edge_drift": ("gauge", "1 while drift is on, by tag or `score`."),
    "crossplant_edge_swaps_total": ("counter", "Events of model swaps, by event."),
    "crossplant_edge_latency_seconds": ("histogram", "From a sample's arrival to its records."),
    "crossplant_edge_delivered_total": ("counter", "Records delivered, by sink."),
    "crossplant_edge_dropped_total": ("counter", "Records dropped, by sink."),
    "crossplant_edge_waiting": ("gauge", "Records that wait, by sink."),
    "crossplant_edge_sink_up": ("gauge", "0 while a sink has trouble."),
}
STATES = ("normal", "pending", "active", "acknowledged", "cleared")


class PrometheusOptions(Artefact, frozen=True, kw_only=True):
    """Options of `/metrics`.

    Attributes:
        public: allow an address that other machines reach; there is no password.
    """

    public: bool = False


def open_prometheus(settings: SinkSettings) -> Prometheus:
    """The sink for `metrics://HOST:PORT`; port 9464 when none is given, a free one for port 0.

    Raises:
        InvalidConfig: an option, or an address that other machines reach.
    """
    free = settings.location.endswith(":0")
    place = read_place(settings.location.removesuffix(":0"), {"metrics": 9464})
    options = read_options(PrometheusOptions, settings.options, "metrics")
    if not place.loopback and not options.public:
        raise InvalidConfig(f"{place.host} is reached from other machines.", "Use 127.0.0.1, or say `public = true`.")
    return Prometheus(place, settings.types, 0 if free else place.port)


class Metrics:
    """The numbers; pure.

    Example:
        >>> metrics = Metrics()
        >>> metrics.take({"type": "notice", "kind": "stalled", "time": 0.0, "text": ""})
        >>> [line for line in metrics.text().splitlines() if "notices" in line and line[0] != "#"]
        ['crossplant_edge_notices_total{kind="stalled"} 1']
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        self._latencies = Counter[int]()
        self._latency_sum = 0.0
        self._latency_count = 0

    def take(self, told: Mapping[str, Any]) -> None:
        """A record as it is written."""
        what = getattr(self, f"_{told['type']}", None)
        if what is not None:
            what(told)

    def sample(self, seconds: float | None = None) -> None:
        """A sample came in, and took so long."""
        self._add("samples_total")
        if seconds is not None:
            self._latencies[bisect_left(_BUCKETS_S, seconds)] += 1
            self._latency_sum += seconds
            self._latency_count += 1

    def sinks(self, standings: Mapping[str, Delivery]) -> None:
        """How the sinks stand."""
        for name, one in standings.items():
            self._set("delivered_total", one.delivered, sink=name)
            self._set("dropped_total", one.dropped, sink=name)
            self._set("waiting", one.waiting, sink=name)
            self._set("sink_up", 0 if one.trouble else 1, sink=name)

    def text(self) -> str:
        """Text format 0.0.4: every metric with help and type, those without a value too."""
        lines: list[str] = []
        for name, (kind, told) in HELP.items():
            lines += (f"# HELP {name} {told}", f"# TYPE {name} {kind}")
            if kind == "histogram":
                lines += self._histogram(name)
            lines += (
                f"{name}{labelled(labels)} {number(value)}" for labels, value in self._values.get(name, {}).items()
            )
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str) -> Iterable[str]:
        total = 0
        for k, edge in enumerate(_BUCKETS_S):
            total += self._latencies[k]
            yield f'{name}_bucket{{le="{edge:g}"}} {total}'
        yield f'{name}_bucket{{le="+Inf"}} {self._latency_count}'
        yield f"{name}_sum {number(self._latency_sum)}"
        yield f"{name}_count {self._latency_count}"

    def _score(self, told: Mapping[str, Any]) -> None:
        self._add("scores_total")
        for model in told.get("anomalous") or ():
            self._add("anomalous_total", model=str(model))
        pairs = {
            "score": "score", "threshold": "threshold", "guard": "guard_score", "guard_threshold": "guard_threshold",
            "shadow": "shadow_ratio", "mode": "mode", "time": "last_score_timestamp_seconds",
        }  # fmt: skip
        for field, name in pairs.items():
            if told.get(field) is None:
                self._values.pop(f"crossplant_edge_{name}", None)
            else:
                self._set(name, float(told[field]))
        self._values["crossplant_edge_bundle_info"] = {(("bundle", str(told.get("bundle", ""))),): 1.0}

    def _notice(self, told: Mapping[str, Any]) -> None:
        self._add("notices_total", kind=str(told.get("kind")))

    def _alarm(self, told: Mapping[str, Any]) -> None:
        self._add("alarms_total", what=str(told.get("what") or told.get("state")))
        for state in STATES:
            self._set("alarm_state", float(told.get("state") == state), state=state)

    def _fault(self, told: Mapping[str, Any]) -> None:
        if "tag" in told:
            on = float(told.get("state") != "cleared")
            self._set("sensor_fault", on, tag=str(told["tag"]), kind=str(told.get("kind", "")))
        else:  # An alarm that sensor faults raised.
            self._alarm(told)

    def _drift(self, told: Mapping[str, Any]) -> None:
        self._set("drift", float(told.get("state") != "settled"), tag=str(told.get("tag", "")))

    def _swap(self, told: Mapping[str, Any]) -> None:
        self._add("swaps_total", event=str(told.get("event")))

    def _add(self, name: str, **labels: str) -> None:
        self._set(name, 1.0 + self._values.get(f"crossplant_edge_{name}", {}).get(tuple(labels.items()), 0.0), **labels)

    def _set(self, name: str, value: float, **labels: str) -> None:
        found = self._values.setdefault(f"crossplant_edge_{name}", {})
        key = tuple(labels.items())
        if key in found or len(found) < _LABELS_MOST:
            found[key] = value


class Prometheus:
    """The sink: counts records and answers GET /metrics.

    Attributes:
        port: where it listens; set by `start`.
        metrics: the numbers.
    """

    name = "metrics"

    def __init__(self, place: Place, types: frozenset[str], port: int) -> None:
        self.metrics, self.port = Metrics(), port
        self._place, self._types = place, types
        self._count, self._trouble = 0, ""
        self._server: asyncio.Server | None = None
        self._lines = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; a port that is taken is tried again, and told by `standing`."""
        if not await self._listen():
            self._task = asyncio.create_task(self._again())

    def put(self, record: Record) -> None:
        """Count a record."""
        told = record.as_json()
        if not self._types or told["type"] in self._types:
            self.metrics.take(told)
            self._count += 1

    def note_sample(self, seconds: float | None = None) -> None:
        """A sample came in, and took so long to its records."""
        self.metrics.sample(seconds)

    def note_sinks(self, standings: Mapping[str, Delivery]) -> None:
        """How all sinks stand."""
        self.metrics.sinks(standings)

    def standing(self) -> Delivery:
        """How it stands; nothing ever waits here."""
        return Delivery(self._count, 0, 0, self._trouble)

    async def close(self, timeout_s: float) -> None:
        """Listen no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), timeout_s)

    async def _listen(self) -> bool:
        try:
            self._server = await asyncio.start_server(self._answer, self._place.host, self.port, limit=_MOST_REQUEST)
        except OSError as error:
            self._trouble = f"{self._place.host}:{self.port}: {one_line(error)}"
            return False
        self.port, self._trouble = self._server.sockets[0].getsockname()[1], ""
        return True

    async def _again(self) -> None:
        while not await self._listen():
            await asyncio.sleep(_RETRY_S)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines += 1
        try:
            if self._lines <= _MOST_LINES:
                async with asyncio.timeout(_REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._said(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # Whoever asks wrongly gets no answer.
        finally:
            self._lines -= 1
            writer.close()

    def _said(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        path = words[1].partition(b"?")[0] if len(words) == 3 else b""
        if words[0] not in (b"GET", b"HEAD") or path != b"/metrics":
            return _response("404 Not Found" if words[0] in (b"GET", b"HEAD") else "405 Method Not Allowed", b"")
        body = self.metrics.text().encode()
        return _response("200 OK", body, words[0] == b"GET")


def _response(status: str, body: bytes, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\nDate: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}\r\n\r\n"  # noqa: E501
    )
    return head.encode() + (body if with_body else b"")
