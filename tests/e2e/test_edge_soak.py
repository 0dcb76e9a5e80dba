"""`crossplant client score` through a bad day: 24 hours of a plant with one reading a second, at 100x.

`CROSSPLANT_SOAK_S` says how many seconds it takes (864 is the whole day); without it, three minutes. Stalls, times that
go back, storms of missing readings, lines that are none, a broker that restarts, a bundle every hour of the plant (one
in four is broken), and a disk that is full for a while.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from client.edge.page.history import History
from shared.schema import SensorSchema
from tests.support import edge
from tests.support.edge import Made, trained
from tests.support.mosquitto import Mosquitto, broker, needs_mosquitto
from tests.unit.test_edge_swap import publish_again, spoil

SECONDS = float(os.environ.get("CROSSPLANT_SOAK_S", "180"))
SPEED = 100
HOUR_S = 3600 / SPEED  # of the plant, in ours
WINDOW = 8  # samples, as the bundle has it
CROSSPLANT = str(Path(sys.executable).with_name("crossplant"))
TOML = """
[alarms]
hits = 4
among = 6
clear_s = 10
rearm_s = 5
group_s = 10
[swap]
look_s = 0.5
shadow_windows = 800
probation_windows = 800
longest_windows = 2000
effective = 1
confidence = 0.999999
[sinks.told]
location = "-"
types = ["alarm", "swap"]
[sinks.history]
location = "{history}"
[sinks.broker]
location = "mqtt://127.0.0.1:{port}/plant"
"""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 300), needs_mosquitto]


@dataclass
class Plant:
    """What the plant does to the scorer, and what was counted; `whole` and `broken` name the bundles it published."""

    made: Made
    pipe: Any
    sent: int = 0
    wrong: int = 0
    clock: float = 1_700_000_000.0
    troubles: Counter[str] = field(default_factory=Counter)
    whole: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    def hour(self, rng: np.random.Generator, seconds: float) -> None:
        """Readings for some of our seconds, with this hour's troubles."""
        rows_TD, tags = self.made.site.train_TD, self.made.site.schema.tags
        begun, count = time.monotonic(), int(seconds * SPEED)
        attack, storm, back, stall = rng.integers(count, size=4)
        for number in range(count):
            row = [float(value) for value in rows_TD[(self.sent + number) % len(rows_TD)]]
            if 0 <= number - attack < 120:
                row[tags.index("LIT301")] += 2.0
            if 0 <= number - storm < 60:
                row = [float("nan") if rng.uniform() < 0.8 else value for value in row]
            if number == back:
                self.clock -= 5.0
                self.troubles["times back"] += 1
            if number == stall:
                time.sleep(1.5)
                self.clock += 150.0
                self.troubles["stalls"] += 1
            self.clock += 1.0
            self._send(json.dumps({"time": self.clock, **dict(zip(tags, row, strict=True))}).replace("NaN", "null"))
            if number % 500 == 0:
                self.wrong += 1
                self.pipe.write(b'{"time": "yesterday", \n')
            wait = begun + number / SPEED - time.monotonic()
            if wait > 0.02:
                self.pipe.flush()
                time.sleep(wait)
        self.troubles["storms"] += 1
        self.troubles["attacks"] += 1
        self.pipe.flush()
        self.sent += count

    def _send(self, line: str) -> None:
        self.pipe.write(line.encode() + b"\n")


class Listener:
    """Keeps what the broker delivers, over its restarts."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.got: list[dict[str, Any]] = []
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="soak", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("plant/#", qos=1)
        self._client.on_message = lambda _c, _u, message: self.got.append(json.loads(message.payload))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def day(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Made:
    """A plant with a reading a second."""
    sites = edge._sites(2000, 3)
    schema = SensorSchema(tags=sites[0].schema.tags, period_s=1.0)
    monkeypatch.setattr(edge, "_sites", lambda rows, seed: tuple(replace(site, schema=schema) for site in sites))
    return trained(folder, rows=2000, rounds=3, seed=3, preprocess='{"max_imputed": 0.9}')


def restart(mosquitto: Mosquitto) -> None:
    """A broker that is gone for three seconds, and keeps what it must."""
    assert mosquitto.process is not None
    mosquitto.send(signal.SIGTERM)
    mosquitto.process.wait(10)
    time.sleep(3)
    mosquitto.start()


class Told(threading.Thread):
    """What the scorer says on standard output: the witness that no full disk and no broker comes in the way of."""

    def __init__(self, stream: Any) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.records: list[dict[str, Any]] = []
        self.start()

    def run(self) -> None:
        for line in self._stream:
            self.records.append(json.loads(line))


def test_a_bad_day_ends_with_everything_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, state = day(monkeypatch, tmp_path / "agent"), tmp_path / "edge"
    lines = ("allow_anonymous true", "persistence true", f"persistence_location {tmp_path}/broker/")
    with broker(tmp_path / "broker", *lines) as mosquitto:
        listener, history = Listener(mosquitto.port), tmp_path / "history.sqlite"
        config = tmp_path / "edge.toml"
        config.write_text(TOML.format(history=history, port=mosquitto.port))
        command: list[str | Path] = [
            CROSSPLANT,
            "client",
            "score",
            "--bundle",
            made.folder,
            "--source",
            "-",
            "--config",
            config,
        ]
        command += ["--state", state, "--trust", made.key]
        with (tmp_path / "log").open("wb") as log:
            pipe = subprocess.PIPE
            scorer = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log)
        with scorer:
            try:
                told, plant = Told(scorer.stdout), Plant(made, scorer.stdin)
                memory = run(plant, scorer.pid, mosquitto, SECONDS)
                plant.pipe.close()
                assert scorer.wait(60) == 0, (tmp_path / "log").read_text()[-2000:]
                told.join(10)
                time.sleep(2)
            finally:
                scorer.kill()
                listener.close()
    report(plant, memory, (tmp_path / "log").read_text(), told.records, listener.got, History(history))


def run(plant: Plant, pid: int, mosquitto: Mosquitto, seconds: float) -> list[float]:
    """All hours; the scorer's memory after each of them, in MB."""
    rng, memory, process = np.random.default_rng(0), [], psutil.Process(pid)
    free = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    hours = max(2, round(seconds / HOUR_S))
    mended: tuple[Path, bytes] | None = None
    for hour in range(hours):
        beside = None
        if mended is not None:
            mended[0].write_bytes(mended[1])  # Its publisher reads it for the next one.
            mended = None
        if hour % 4 == 3:
            mended = publish_broken(plant, process)
        elif hour:
            plant.whole.add(publish_again(plant.made)[:12])
        plant.troubles["bundles"] += hour > 0
        if hour % 3 == 1:
            beside = threading.Thread(target=restart, args=(mosquitto,))
            beside.start()
            plant.troubles["broker restarts"] += 1
        full = hour % 5 == 2
        if full:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, free[1]))
            plant.troubles["full disks"] += 1
        plant.hour(rng, HOUR_S / 3)
        if full:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, free)
        plant.hour(rng, HOUR_S * 2 / 3)
        if beside is not None:
            beside.join(30)
        memory.append(process.memory_info().rss / 2**20)
    return memory


def publish_broken(plant: Plant, process: psutil.Process) -> tuple[Path, bytes]:
    """Publish a bundle whose graph is spoilt before the scorer can look; the graph's file, and what it should hold."""
    process.suspend()
    digest = publish_again(plant.made)
    graph = plant.made.folder / digest / "graph.onnx"
    whole = graph.read_bytes()
    spoil(graph.parent, graph.name)
    process.resume()
    plant.broken.add(digest[:12])
    plant.troubles["broken bundles"] += 1
    return graph, whole


def alarms(records: Iterable[dict[str, Any]]) -> Counter[str]:
    """Alarm records, and how often each of them came."""
    return Counter(json.dumps(record, sort_keys=True) for record in records if record["type"] == "alarm")


def report(
    plant: Plant, memory: list[float], log: str, told: list[dict[str, Any]], got: list[dict[str, Any]], history: History
) -> None:
    """Count everything."""
    last = log.strip().splitlines()[-1]
    dropped = int(found[1]) if (found := re.search(r"(\d+) records dropped", last)) else 0
    said, kept = alarms(told), alarms(history.records("alarm", 100_000))
    delivered = alarms({one["id"]: one["record"] for one in got}.values())
    swaps = Counter(record["event"] for record in told if record["type"] == "swap")
    half = memory[len(memory) // 2 :]
    growth = float(np.polyfit(np.arange(len(half)), half, 1)[0]) if len(half) > 1 else 0.0
    figures = {
        "sent": plant.sent, "said": last, "troubles": dict(plant.troubles), "swaps": dict(swaps),
        "memory_mb": [round(m, 1) for m in memory], "growth_mb_an_hour": round(growth, 2), "dropped": dropped,
        "alarm_records": said.total(), "delivered": delivered.total(), "in_history": kept.total(),
        "sent_again_under_their_id": len(got) - len({one["id"] for one in got}),
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    windowless = (WINDOW - 1) * (plant.troubles["stalls"] + 1)  # samples of a recording before its first window
    assert last.startswith(f"{plant.sent} samples, {plant.sent - windowless} scores"), last
    assert "Traceback" not in log
    assert " is left out" not in log
    assert said, "an alarm was due"
    assert set(said.values()) == {1}, "an alarm was told twice"
    assert not delivered - said, "what nobody said, or said once, was delivered"
    assert (said - delivered).total() + (said - kept).total() <= dropped, "an alarm was lost and not counted"
    events = Counter((record["bundle"], record["event"]) for record in told if record["type"] == "swap")
    assert set(events.values()) == {1}, "nothing happens twice to one bundle"
    assert {bundle for bundle, event in events if event == "refused"} == plant.broken
    adopted = {bundle for bundle, event in events if event == "adopted"}
    assert plant.whole <= adopted <= plant.whole | plant.broken, "a broken one is tried again once it is mended"
    assert not swaps["rolled back"]
    assert growth < 1.0, memory
