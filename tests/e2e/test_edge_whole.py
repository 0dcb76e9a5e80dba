"""One scorer through all that an edge box is for, as a real process on a twin plant: a bundle with guard and limits,
an attack, a broken sensor, newer bundles, a kill, and the same state folder again.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.edge import read_edge_bundle
from shared.bundle.keys import own_key
from shared.bundle.whole import Live, publish, read_bundle
from shared.catalogue import tags
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData
from simulations.twin.script import Event
from simulations.twin.swat import TWIN
from simulations.twin.swat.plant import REFERENCE
from tests.support.pki import nobody
from tests.support.plants import Loopback, Memory, settings

CROSSPLANT = str(Path(sys.executable).with_name("crossplant"))
TAGS = tuple(tag.name for tag in tags("swat"))
ATTACKED, STUCK = "LIT101", "AIT202"
TRAINED, QUIET, ATTACK = 7200, 400, 100  # rows
START = 1_700_000_000.0
MEMORY_MB = 75.0
TOML = """
[alarms]
hits = 4
among = 6
clear_s = 20
[swap]
look_s = 0.2
shadow_windows = 200
probation_windows = 100
effective = 1
confidence = 0.999999
[sinks.lines]
location = "{out}"
[sinks.history]
location = "{history}"
[sinks.metrics]
location = "metrics://127.0.0.1:{port}"
"""

pytestmark = pytest.mark.timeout(240)


@dataclass
class Plant:
    """A plant with a published bundle, and what it will be like.

    Attributes:
        folder: of bundles; `key` signed them.
        quiet_TD, attack_TD: normal rows after those that were trained on, and rows under attack.
    """

    folder: Path
    key: Path
    quiet_TD: FloatArray
    attack_TD: FloatArray


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    home, first = tmp_path_factory.mktemp("agent"), TRAINED + QUIET
    attack = Event("spoof", ATTACKED, first, first + ATTACK, 900.0)
    run = TWIN.run(REFERENCE, TWIN.attack_begins, first + ATTACK, (attack,), np.random.default_rng(0))
    schema = SensorSchema(tags=TAGS, period_s=1.0)
    sites = [SiteData(name, schema, run.values_TD[:TRAINED], run.values_TD[:0], None) for name in ("twin", "other")]
    base = settings().recipe.model_dump()
    # The network alone: where quiet rows follow quiet rows of another time all tags jump, which a judge rightly sees.
    scoring = {**base["scoring"], "tail": 5, "evidence": False}
    recipe = {**base, "training": {**base["training"], "stride": 60}, "scoring": scoring}
    config = settings(rounds={"pretrain": 1, "joint": 1}, recipe=recipe)
    agents = [PlantAgent(site, home if at == 0 else None) for at, site in enumerate(sites)]
    Coordinator(config, Loopback(agents), Memory()).run(RunState("test", config.digest))
    return Plant(home / "twin.bundle", home / "bundle.pub", run.values_TD[TRAINED:first], run.values_TD[first:])


def publish_next(plant: Plant) -> str:
    """The newest bundle once more, as of the next round; its digest."""
    whole, edge = read_bundle(plant.folder), read_edge_bundle(plant.folder)
    told = structs.replace(whole.provenance, round=whole.provenance.round + 1)
    live = Live(edge.graph, edge.calibration, edge.probe, None, edge.guard, limits=edge.limits)
    return publish(replace(whole, provenance=told), live, plant.folder, own_key(plant.key.with_suffix(".key")))


@dataclass
class Scorer:
    """A running `crossplant client score`, fed through a pipe; its records are read from its file."""

    process: subprocess.Popen[bytes]
    out: Path
    sent: int
    _records: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    def send(self, rows_TD: FloatArray) -> None:
        """Readings, one a second of the plant."""
        assert self.process.stdin is not None
        for row_D in rows_TD.tolist():
            line = json.dumps({"time": START + self.sent, **dict(zip(TAGS, row_D, strict=True))})
            self.process.stdin.write(line.encode() + b"\n")
            self.sent += 1

    def records(self, kind: str = "") -> list[dict[str, Any]]:
        """What was written so far."""
        with self.out.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):
                self._read += len(line)
                self._records.append(json.loads(line))
        return [one for one in self._records if not kind or one["type"] == kind]

    def wait(self, found: Callable[[], Any], seconds: float = 40.0, feed: FloatArray | None = None) -> Any:
        """What there is to be found, once it is there; `feed` is sent meanwhile."""
        ends = time.monotonic() + seconds
        while not (there := found()):
            assert self.process.poll() is None, "the scorer ended"
            assert time.monotonic() < ends, self.records()[-3:]
            if feed is not None:
                self.send(feed[self.sent % len(feed) :][:20])
            time.sleep(0.05)
        return there

    def told(self, kind: str, **fields: str) -> dict[str, Any] | None:
        """The newest record of that type with these fields."""
        fitting = (one for one in self.records(kind) if all(one.get(name) == told for name, told in fields.items()))
        return max(fitting, key=lambda one: one["time"], default=None)

    def caught_up(self) -> None:
        """Wait until the last sample is scored."""
        self.wait(lambda: (scores := self.records("score")) and scores[-1]["time"] == START + self.sent - 1)


@contextmanager
def scoring(plant: Plant, folder: Path, port: int, sent: int) -> Iterator[Scorer]:
    config, out, state = folder / "edge.toml", folder / f"out-{sent}.jsonl", folder / "state"
    config.write_text(TOML.format(out=out, history=folder / "history.sqlite", port=port), encoding="utf-8")
    command = [CROSSPLANT, "client", "score", "--bundle", str(plant.folder), "--trust", str(plant.key), "--source", "-"]
    command += ["--config", str(config), "--state", str(state)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, bufsize=0)
    scorer = Scorer(process, out, sent)
    try:
        ends = time.monotonic() + 40
        while not (out.exists() and scorer.records("notice")):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < ends
            time.sleep(0.05)
        yield scorer
    finally:
        process.kill()
        process.wait(10)
        assert process.stdin is not None
        process.stdin.close()


def client(*arguments: str) -> str:
    done = subprocess.run([CROSSPLANT, "client", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def peak_mb(pid: int) -> float:
    """Highest resident memory of a process so far, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))


def test_a_scorer_does_all_of_its_work_and_survives_a_kill(plant: Plant, tmp_path: Path) -> None:
    state, port = tmp_path / "state", nobody()
    with scoring(plant, tmp_path, port, 0) as scorer:
        alarm = attacked(scorer, plant, state)
        broken_sensor(scorer, plant, alarm)
        second = newer_bundle(scorer, plant)
        corrupted_bundle(scorer, plant)
        scorer.caught_up()
        assert metric(port, "crossplant_edge_samples_total") == scorer.sent
        assert metric(port, "crossplant_edge_latency_seconds_count") == scorer.sent
        assert metric(port, 'crossplant_edge_sink_up{sink="history"}') == 1
        numbers = [one["number"] for one in scorer.records("score")]
        assert numbers == list(range(numbers[0], scorer.sent)), "every sample is scored once, in order"
        scorer.send(plant.attack_TD[:12])
        standing = scorer.wait(lambda: scorer.told("alarm", what="raised", state="active"))
        scorer.wait(lambda: (found := scorer.told("alarm", what="raised")) and found["id"] != alarm and found)
        standing = scorer.told("alarm", what="raised")
        scorer.caught_up()
        scorer.process.send_signal(signal.SIGKILL)
        scorer.process.wait(10)
    assert standing is not None
    after_a_kill(plant, tmp_path, port, scorer.sent, standing["id"], second)
    assert "Traceback" not in (tmp_path / "log").read_text()


def attacked(scorer: Scorer, plant: Plant, state: Path) -> str:
    """An alarm: raised once, naming the tag, acknowledged while the scorer runs, cleared. Its id."""
    scorer.send(plant.quiet_TD[:100])
    scorer.caught_up()
    assert scorer.records("alarm") == []
    scorer.send(plant.attack_TD[:12])
    raised = scorer.wait(lambda: scorer.told("alarm", what="raised"))
    assert ATTACKED in [one["tag"] for one in raised["sensors"][:3]]
    assert raised["id"] in client("alarms", "list", "--state", str(state))
    client("alarms", "ack", raised["id"], "--by", "ann", "--note", "seen", "--state", str(state))
    scorer.wait(lambda: scorer.told("alarm", what="acknowledged", by="ann"))
    scorer.wait(lambda: scorer.told("alarm", what="cleared"), feed=plant.quiet_TD)
    assert [one["what"] for one in scorer.records("alarm")].count("raised") == 1
    return str(raised["id"])


def broken_sensor(scorer: Scorer, plant: Plant, alarm: str) -> None:
    """A sensor that does not move any more is a fault, and no alarm."""
    rows_TD = np.tile(plant.quiet_TD, (2, 1))
    rows_TD[:, TAGS.index(STUCK)] = rows_TD[0, TAGS.index(STUCK)]
    scorer.send(rows_TD)
    fault = scorer.wait(lambda: scorer.told("fault", tag=STUCK, state="active"))
    assert fault["kind"] in ("stuck", "flat")
    assert {one["id"] for one in scorer.records("alarm")} == {alarm}
    scorer.wait(lambda: scorer.told("fault", tag=STUCK, state="cleared"), feed=plant.quiet_TD)


def newer_bundle(scorer: Scorer, plant: Plant) -> str:
    """A bundle that is published while the scorer runs is tried beside the one in force, and adopted. Its digest."""
    digest = publish_next(plant)
    for event in ("shadow", "adopted", "confirmed"):
        scorer.wait(partial(scorer.told, "swap", event=event, bundle=digest[:12]), feed=plant.quiet_TD)
    scorer.caught_up()
    assert scorer.records("score")[-1]["bundle"] == digest[:12]
    return digest


def corrupted_bundle(scorer: Scorer, plant: Plant) -> None:
    """A bundle that is not what was signed is refused with the reason, and scoring goes on."""
    before = scorer.records("score")[-1]["bundle"]
    graph = plant.folder / publish_next(plant) / "graph.onnx"
    sound = graph.read_bytes()
    graph.write_bytes(sound[: len(sound) // 2])
    refused = scorer.wait(lambda: scorer.told("swap", event="refused"), feed=plant.quiet_TD)
    assert "graph.onnx" in refused["text"]
    scorer.send(plant.quiet_TD[:50])
    scorer.caught_up()
    assert scorer.records("score")[-1]["bundle"] == before


def after_a_kill(plant: Plant, folder: Path, port: int, sent: int, alarm: str, digest: str) -> None:
    """The alarm still stands, the bundle is the one that was in force, and everything ends well."""
    with scoring(plant, folder, port, sent) as scorer:
        listed = json.loads(client("alarms", "list", "--json", "--state", str(folder / "state")))
        assert listed["current"]["id"] == alarm
        scorer.wait(lambda: scorer.told("alarm", what="cleared"), feed=plant.quiet_TD)
        cleared = scorer.told("alarm", what="cleared")
        assert cleared is not None
        assert cleared["id"] == alarm
        assert {one["bundle"] for one in scorer.records("score")} == {digest[:12]}
        scorer.process.send_signal(signal.SIGTERM)
        assert scorer.process.wait(20) == 0
    with sqlite3.connect(folder / "history.sqlite") as base:
        (scores,) = base.execute("SELECT sum(count) FROM scores").fetchone()
        alarms = {json.loads(body)["id"] for (body,) in base.execute("SELECT body FROM records WHERE type = 'alarm'")}
    assert scores > 0.9 * sent
    assert alarm in alarms
