"""A scorer put together, and what the runtime does around it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.edge import main, runtime
from client.edge.assembly import assemble
from client.edge.engine import Engine, Model
from client.edge.memory import give_back
from client.edge.records import Notice, Record, Sample, Scored
from client.edge.runtime import Job, Outlet, run
from client.edge.settings import Settings, parse_settings
from client.edge.sinks.base import Delivery, SinkSettings
from client.edge.sources.lines import LineParser
from shared.errors import InvalidConfig
from shared.schema import SensorSchema
from tests.support.edge import Fixed, Made, samples, trained


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trained(tmp_path_factory.mktemp("bundles"))


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self, name: str = "kept", trouble: str = "") -> None:
        self.name, self.trouble = name, trouble
        self.told: list[dict[str, Any]] = []
        self.samples: list[float | None] = []
        self.standings: list[dict[str, Delivery]] = []

    async def start(self) -> None: ...

    async def close(self, timeout_s: float) -> None: ...

    def put(self, record: Record) -> None:
        self.told.append(record.as_json())

    def standing(self) -> Delivery:
        return Delivery(len(self.told), 0, 0, self.trouble)


class Counts(Kept):
    def note_sample(self, seconds: float | None = None) -> None:
        self.samples.append(seconds)

    def note_sinks(self, standings: dict[str, Delivery]) -> None:
        self.standings.append(standings)


class Wary:
    """A stage that may object to learning."""

    def __init__(self, quiet: bool, fails: bool = False) -> None:
        self.quiet, self.fails = quiet, fails

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[Record, ...]:
        if self.fails:
            raise RuntimeError("a stage")
        return ()

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        return ()

    def swapped(self, model: Model) -> tuple[Record, ...]:
        return ()


class Learns(Fixed):
    quiet = False


ROW = Sample(0.0, np.zeros(1, np.float32), 0)


@pytest.mark.parametrize(
    ("stages", "learns"),
    [
        ([], False),
        ([Wary(True)], True),
        ([Wary(True), Wary(False)], False),
        ([Wary(True), Wary(True, fails=True)], False),
    ],
)
def test_a_model_learns_only_while_every_stage_is_there_and_says_that_all_is_well(
    stages: list[Wary], learns: bool
) -> None:
    scorer = Learns([0.0])
    engine = Engine(Model(scorer), stages)
    engine.feed(ROW)
    assert scorer.quiet is learns
    engine.replace(Model(Learns([0.0])), 0.0)
    assert scorer.quiet is False


def test_with_a_state_folder_there_is_a_keeper_and_without_one_nothing_is_kept(made: Made, tmp_path: Path) -> None:
    bare = assemble(made.folder, trust=made.key)
    assert bare.keeper is None
    assert "without --state nothing is kept" in bare.start()[0].text
    whole = assemble(made.folder, Settings(), tmp_path / "state", made.key)
    notes = whole.start()
    try:
        for row in samples(made.site.test_TD[:20]):
            whole.engine.feed(row)
        whole.turn(1.7e9)
    finally:
        whole.close()
    assert [note.kind for note in notes] == ["started"]
    assert {path.name for path in (tmp_path / "state").iterdir()} >= {"swap.json", "alarms.json", "watch.json"}
    assert bare.engine.model.scorer.digest == json.loads((tmp_path / "state" / "watch.json").read_text())["bundle"]


def test_every_group_of_the_file_reaches_its_part(tmp_path: Path) -> None:
    toml = b"[alarms]\nhits = 3\n[faults]\nrecover_rows = 5\n[drift]\nfar = 4\n[adapt]\nfree = 0.1\n"
    toml += b"[swap]\nlink = 'l.json'"
    found = parse_settings(toml, tmp_path / "edge.toml")
    assert (found.alarms.hits, found.faults.recover_rows, found.drift.far, found.adapt.free) == (3, 5, 4.0, 0.1)
    assert found.swap.link == str(tmp_path / "l.json")
    for group, key in (("alarms", "hitz"), ("swap", "look"), ("drift", "x")):
        with pytest.raises(InvalidConfig, match=key):
            parse_settings(f"[{group}]\n{key} = 1".encode(), tmp_path / "edge.toml")


def test_a_sink_that_counts_is_told_of_samples_and_of_all_sinks_and_people_of_troubles_once() -> None:
    said: list[str] = []
    counts, broken = Counts("metrics"), Kept("history", "the disk is full")
    outlet = Outlet([counts, broken, Kept("history")], said.append)
    outlet.took(0.5)
    outlet.note()
    outlet.note()
    assert counts.samples == [0.5]
    assert set(counts.standings[-1]) == {"metrics", "history", "history-2"}
    assert [line.partition(" ")[2] for line in said] == ["trouble: sink history: the disk is full"]
    broken.trouble = ""
    outlet.note()
    broken.trouble = "again"
    outlet.note()
    assert len(said) == 2


def test_a_record_is_written_the_same_to_one_sink_and_to_several() -> None:
    record, one, two, three = Notice(1.0, "gap", "a gap"), Kept(), Kept(), Kept()
    Outlet([one], lambda _: None).put([record])
    Outlet([two, three], lambda _: None).put([record])
    assert one.told == two.told == three.told == [record.as_json()]


def test_orders_are_taken_while_the_source_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a turn that fails is said once, and stops nothing."""
    monkeypatch.setattr(runtime, "TURN_S", 0.01)

    class Whole:
        engine, turns = Engine(Model(Fixed([]))), 0

        def turn(self, time: float) -> tuple[Record, ...]:
            self.turns += 1
            if self.turns > 2:
                raise RuntimeError("a full disk")
            return (Notice(time, "shelved", "by ann"),)

    async def turned() -> None:
        task = asyncio.create_task(runtime._turns(whole, Outlet([sink], lambda _: None)))  # type: ignore[arg-type]
        while whole.turns < 5:
            await asyncio.sleep(0.01)
        task.cancel()

    whole, sink = Whole(), Kept()
    asyncio.run(turned())
    assert [one["kind"] for one in sink.told] == ["shelved", "shelved", "trouble"]


def test_without_a_state_folder_spools_are_temporary_and_people_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spools: list[Path] = []

    def ran(job: Job, say: object) -> runtime.Outcome:
        spools.extend(sink.state for sink in job.sinks)
        assert all(path.parent.is_dir() for path in spools)
        return runtime.Outcome(1, 1, {})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "run", ran)
    main.score(main.Parameters(bundle="b", source="-", sinks=("http://127.0.0.1:9/", "mqtt://127.0.0.1/x")))
    assert len(set(spools)) == 2
    assert not any(path.parent.exists() for path in spools)
    assert "without --state" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_state_leaves_nothing_behind(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "out.jsonl"
    lines = [",".join(made.site.schema.tags), *(",".join(map(str, row)) for row in made.site.test_TD[:20])]
    rows.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    job = Job(made.folder, str(rows), (SinkSettings(str(out), tmp_path),), trust=made.key)
    done = run(replace(job, limit=5), said.append)
    assert (done.samples, done.scores) == (12, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.csv"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_code_that_is_given_back_still_runs() -> None:
    assert give_back() > 1e6
    assert float(np.linalg.norm(np.ones(4))) == 2.0


@pytest.mark.parametrize(
    "line",
    [b'{"a": 1, "a": 2}', b'{"a":1,"a" :2}', b'{"time":1,"values":{"a":1,"a":2}}', b'{"time":1,"time":2,"a":1}'],
)
def test_a_name_that_stands_twice_is_refused_however_it_is_written(line: bytes) -> None:
    (notice,) = LineParser(SensorSchema(tags=("a",), period_s=1.0)).feed(line)
    assert isinstance(notice, Notice)
    assert "twice" in notice.text
