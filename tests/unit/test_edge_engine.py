"""The engine with stand-ins: order, swaps, and that no part's fault stops the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.edge.engine import Engine, Heard, Model
from client.edge.loading import make_model
from client.edge.records import Notice, Part, Record, Sample, Scored
from client.edge.settings import Settings, parse_settings, read_settings
from shared.errors import FileTrouble, InvalidConfig
from tests.support.edge import Fixed, samples, trained

ROWS = samples(np.zeros((6, 1), np.float32))


@dataclass
class Log:
    """A stage that remembers what it was told."""

    calls: list[Any] = field(default_factory=list)
    fails_at: int = -1

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[Record, ...]:
        if sample.number == self.fails_at:
            raise ZeroDivisionError("a fault of its own")
        self.calls.append((sample.number, None if scored is None else scored.score))
        return (Notice(sample.time, "log", str(sample.number)),)

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        self.calls.append(notice.kind)
        return ()

    def swapped(self, model: Model) -> tuple[Record, ...]:
        self.calls.append(("swapped", model.scorer.digest))
        return (Notice(0.0, "swapped", model.scorer.digest),)


@dataclass
class Hears:
    """A guard."""

    score: float | None
    restarts: int = 0
    fails: bool = False

    def feed(self, sample: Sample) -> Heard | None:
        if self.fails:
            raise RuntimeError("guard")
        parts = (Part("G", 1.0, 1, 1.0, 0.0),)
        return None if self.score is None else Heard(self.score, 2.0, parts if self.score > 2 else ())

    def restart(self) -> None:
        self.restarts += 1


@dataclass
class Candidate:
    """A shadow that succeeds after a sample."""

    model: Model | None
    at: int
    number: int = -1

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[float | None, tuple[Record, ...]]:
        self.number = sample.number
        return 0.5, ()

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        return ()

    def successor(self) -> Model | None:
        if self.number != self.at:
            return None
        model, self.model = self.model, None
        return model


def kinds(records: tuple[Record, ...]) -> list[str]:
    return [one.kind if isinstance(one, Notice) else "score" for one in records]


def test_a_sample_goes_through_all_parts_and_its_score_comes_first() -> None:
    log = Log()
    engine = Engine(Model(Fixed([None, 3.0])), [log])
    assert kinds(engine.feed(ROWS[0])) == ["log"]
    assert kinds(engine.feed(ROWS[1])) == ["score", "log"]
    assert log.calls == [(0, None), (1, 3.0)]
    assert (engine.samples, engine.scores) == (2, 1)


def test_a_stage_that_fails_is_left_out_and_told_once_and_the_others_go_on() -> None:
    bad, good = Log(fails_at=1), Log()
    engine = Engine(Model(Fixed([0.0] * 6)), [bad, good])
    found = [kinds(engine.feed(row)) for row in ROWS[:4]]
    assert found == [["score", "log", "log"], ["score", "trouble", "log"], ["score", "log"], ["score", "log"]]
    assert len(good.calls) == 4


def test_a_scorer_that_fails_costs_one_score_and_begins_its_windows_anew() -> None:
    class Failing(Fixed):
        def feed(self, sample: Sample) -> Scored | None:
            if sample.number == 2:
                raise RuntimeError("a broken graph")
            return super().feed(sample)

    scorer = Failing([0.0] * 6)
    engine = Engine(Model(scorer))
    assert [kinds(engine.feed(row)) for row in ROWS[:4]] == [["score"], ["score"], ["trouble"], ["score"]]
    assert scorer.restarts == 1


@pytest.mark.parametrize(
    ("score", "heard", "by", "tag"),
    [(0.0, 1.0, (), "LIT101"), (0.0, 3.0, ("guard",), "G"), (9.0, 3.0, ("federated", "guard"), "G"),
     (9.0, None, ("federated",), "LIT101")],
)  # fmt: skip
def test_either_model_calls_a_window_anomalous_and_the_one_that_does_explains(
    score: float, heard: float | None, by: tuple[str, ...], tag: str
) -> None:
    (found,) = Engine(Model(Fixed([score]), Hears(heard))).feed(ROWS[0])
    assert isinstance(found, Scored)
    assert found.raised_by == by
    assert found.parts[0].tag == tag
    assert found.guard == heard


class Names(Hears):
    """A guard that names tags whether it alarms or not."""

    def named(self, sample: Sample) -> tuple[Part, ...]:
        if self.fails:
            raise RuntimeError("names")
        return (Part("N", 1.0, 1, 1.0, 0.0),)


@pytest.mark.parametrize(
    ("score", "heard", "sensor", "part"),
    [(9.0, 1.0, "N", "LIT101"), (9.0, 3.0, "G", "G"), (0.0, 1.0, "LIT101", "LIT101"), (0.0, 3.0, "G", "G")],
)
def test_the_guard_names_the_sensors_of_the_federated_models_own_alarm(
    score: float, heard: float, sensor: str, part: str
) -> None:
    """Its shares stay the federated model's: by them is reckoned what a shelved tag takes out of the score."""
    (found,) = Engine(Model(Fixed([score]), Names(heard))).feed(ROWS[0])
    assert isinstance(found, Scored)
    assert (found.sensors[0].tag, found.parts[0].tag) == (sensor, part)


def test_a_guard_that_fails_is_left_out_and_scoring_goes_on() -> None:
    engine = Engine(Model(Fixed([0.0] * 6), Hears(1.0, fails=True)))
    assert [kinds(engine.feed(row)) for row in ROWS[:3]] == [["score", "trouble"], ["score"], ["score"]]


def test_a_gap_restarts_the_windows_and_other_notices_do_not() -> None:
    scorer, guard, log = Fixed([0.0] * 6), Hears(1.0), Log()
    engine = Engine(Model(scorer, guard), [log])
    for kind in ("clock", "stalled", "resumed", "rejected"):
        assert kinds(engine.heard(Notice(0.0, kind, ""))) == [kind]
    assert (scorer.restarts, guard.restarts) == (0, 0)
    engine.heard(Notice(0.0, "gap", ""))
    assert (scorer.restarts, guard.restarts) == (1, 1)
    assert log.calls[-1] == "gap"


def test_a_model_is_swapped_between_two_samples_without_losing_one() -> None:
    new, log = Model(Fixed([7.0] * 6, digest="1" * 64)), Log()
    engine = Engine(Model(Fixed([0.0] * 6)), [log], Candidate(new, at=2))
    found = [record for row in ROWS for record in engine.feed(row) if isinstance(record, Scored)]
    assert [one.bundle[0] for one in found] == ["0", "0", "0", "1", "1", "1"]
    assert [one.number for one in found] == [0, 1, 2, 3, 4, 5]
    assert {one.shadow for one in found} == {0.5}
    assert log.calls[3] == ("swapped", "1" * 64)


def test_a_shadow_that_fails_is_left_out() -> None:
    class Bad(Candidate):
        def feed(self, sample: Sample, scored: Scored | None) -> tuple[float | None, tuple[Record, ...]]:
            raise MemoryError

    engine = Engine(Model(Fixed([0.0] * 6)), [], Bad(None, at=9))
    assert [kinds(engine.feed(row)) for row in ROWS[:2]] == [["score", "trouble"], ["score"]]


def test_the_same_samples_give_the_same_records(tmp_path: Path) -> None:
    made = trained(tmp_path)
    rows = samples(made.site.test_TD[:60])
    runs = []
    for _ in range(2):
        engine = Engine(make_model(made.read()))
        runs.append([record.as_json() for row in rows for record in engine.feed(row)])
    assert runs[0] == runs[1]
    assert len(runs[0]) == 53
    assert any(one["guard"] is not None for one in runs[0])


# ---- edge.toml -------------------------------------------------------------------------------------------------------


def test_an_edge_toml_is_read_and_its_state_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text('state = "s"\ntop = 3\n[source]\nlocation = "-"\n[sinks.history]\nlocation = "h.sqlite"\n')
    found = read_settings(path)
    assert (found.state, found.top, found.source.location) == (str(tmp_path / "s"), 3, "-")
    assert found.sinks["history"].location == "h.sqlite"
    assert read_settings(None) == Settings()


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        (b"tops = 3", "tops"),
        (b"top = 'three'", "top: Expected `int`"),
        (b"top = 0", "top"),
        (b"[source]\nlocation = 3", "source.location"),
        (b"[sinks.a]\ntypes = []", "location"),
        (b"[[", "edge.toml"),
        (b"\xff", "edge.toml"),
        (b"a = " + b"[" * 5000, "edge.toml"),
    ],
)
def test_a_wrong_edge_toml_is_refused_with_its_name_and_key(text: bytes, telling: str) -> None:
    with pytest.raises(InvalidConfig, match=r"edge\.toml") as caught:
        parse_settings(text, Path("edge.toml"))
    assert telling in str(caught.value)


def test_an_edge_toml_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="nowhere"):
        read_settings(tmp_path / "nowhere.toml")
    with pytest.raises(FileTrouble):
        read_settings(tmp_path)
