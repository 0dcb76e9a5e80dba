"""A scorer through a bad day: 24 hours of a plant with one reading a second, at 100x.

`CROSSPLANT_SOAK_S` says how many seconds it takes (864 is the whole day); without it, three minutes. Stalls, times that
go back, storms of missing readings, lines that are none, a broker that restarts, a bundle every hour of the plant (one
in four is broken), and a disk that is full for a while.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from client.edge.page.history import History
from client.edge.state import read_state
from shared.schema import SensorSchema
from tests.support import edge
from tests.support.edge import Made, trained
from tests.support.mosquitto import Mosquitto, broker, needs_mosquitto
from tests.unit.test_edge_swap import publish_again, spoil

SECONDS = float(os.environ.get("CROSSPLANT_SOAK_S", "180"))
SPEED = 100
HOUR_S = 3600 / SPEED  # of the plant, in ours
ALARMS = {"hits": 4, "among": 6, "clear_s": 10.0, "rearm_s": 5.0, "group_s": 10.0}
ROOT = Path(__file__).parents[2]
SWAP = {"look_s": 0.5, "shadow_windows": 800, "probation_windows": 800, "longest_windows": 2000, "effective": 1,
        "confidence": 0.999999}  # fmt: skip

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 300), needs_mosquitto]


@dataclass
class Plant:
    """What the plant does to the scorer, and what was counted."""

    made: Made
    pipe: Any
    sent: int = 0
    wrong: int = 0
    clock: float = 1_700_000_000.0
    troubles: Counter[str] = field(default_factory=Counter)

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
    """Counts what the broker delivers, over its restarts."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.got: list[dict[str, Any]] = []
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="soak", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("plant/#", qos=1)
        self._client.on_message = lambda _c, _u, message: self.got.append(json.loads(message.payload)["record"])
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


def test_a_bad_day_ends_with_everything_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, state = day(monkeypatch, tmp_path / "agent"), tmp_path / "edge"
    state.mkdir()
    lines = ("allow_anonymous true", "persistence true", f"persistence_location {tmp_path}/broker/")
    with broker(tmp_path / "broker", *lines) as mosquitto:
        listener = Listener(mosquitto.port)
        history = state / "history.sqlite"
        parameters = {
            "bundle": str(made.folder), "source": "-", "state": str(state), "trust": str(made.key),
            "sinks": [str(history), f"mqtt://127.0.0.1:{mosquitto.port}/plant"],
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.support.edge_run", json.dumps(parameters)]
        command += [json.dumps(SWAP), json.dumps(ALARMS)]
        with (tmp_path / "log").open("wb") as log:
            scorer = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, cwd=ROOT)
        try:
            plant = Plant(made, scorer.stdin)
            memory = run(plant, scorer.pid, mosquitto, SECONDS)
            assert scorer.stdin is not None
            scorer.stdin.close()
            assert scorer.wait(60) == 0, (tmp_path / "log").read_text()[-2000:]
            time.sleep(2)
        finally:
            scorer.kill()
            scorer.wait()
            listener.close()
    report(plant, memory, tmp_path, state, listener, History(history))


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
        if hour:
            digest = publish_again(plant.made)
            plant.troubles["bundles"] += 1
            if hour % 4 == 3:
                graph = plant.made.folder / digest / "graph.onnx"
                mended = (graph, graph.read_bytes())
                spoil(graph.parent, graph.name)
                plant.troubles["broken bundles"] += 1
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


def report(plant: Plant, memory: list[float], folder: Path, state: Path, listener: Listener, history: History) -> None:
    """Count everything."""
    log = (folder / "log").read_text()
    last = log.strip().splitlines()[-1]
    found = read_state(state)
    assert found is not None
    swaps = Counter(record["event"] for record in history.records("swap", 10_000))
    wanted = {(r["id"], r["what"], r["time"]) for r in history.records("alarm", 100_000)}
    got = Counter((r["id"], r["what"], r["time"]) for r in listener.got if r.get("type") == "alarm")
    half = memory[len(memory) // 2 :]
    growth = float(np.polyfit(np.arange(len(half)), half, 1)[0]) if len(half) > 1 else 0.0
    figures = {
        "sent": plant.sent, "said": last, "troubles": dict(plant.troubles), "swaps": dict(swaps),
        "memory_mb": [round(m, 1) for m in memory], "growth_mb_an_hour": round(growth, 2), "alarm_records": len(wanted),
        "delivered": len(got), "more_than_once": sum(n > 1 for n in got.values()),
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    assert last.startswith(f"{plant.sent} samples"), last
    assert "Traceback" not in log
    assert " is left out" not in log
    assert "records dropped" in last or wanted <= set(got)
    assert not [key for key, count in got.items() if count > 1]
    assert swaps["adopted"] >= 1
    assert swaps["refused"] == plant.troubles["broken bundles"]
    assert wanted, "an alarm was due"
    assert growth < 1.0, memory
