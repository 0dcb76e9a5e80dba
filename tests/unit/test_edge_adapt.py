"""A threshold that follows: not while anything is wrong, not far without a person, never out of its cage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.edge.adapt import Adaptation, Adapting, AdaptRules, follow
from client.edge.alarm_files import AlarmFiles, place_order
from client.edge.alarm_values import AlarmRules, Confirm, Shelve
from client.edge.engine import Engine, Model
from client.edge.loading import make_model
from client.edge.records import Notice, Record, Sample
from client.edge.watch import FILE, Watch, WatchRules
from shared.config import ThresholdConfig
from shared.sensor_limits import fit as fit_limits
from shared.thresholds import Threshold, fit
from shared.thresholds.tracking import HIGHEST
from tests.support.edge import Fixed, samples, scored, trained

NORMAL = np.random.default_rng(0).gamma(4.0, size=2000)


def threshold(rule: str = "ewma") -> Threshold:
    return fit(rule, NORMAL, ThresholdConfig(memory=200))


def taught(moves: Adaptation, factor: float, quiet: bool = True, first: float = 0.0) -> list[Record]:
    told: list[Record] = []
    for number, score in enumerate((factor * NORMAL).tolist()):
        moves.step(score, None, quiet)
        told += moves.tell(first + 10.0 * number)
    return told


def kinds(records: list[Record] | tuple[Record, ...]) -> list[str]:
    return [record.kind for record in records if isinstance(record, Notice)]


def test_it_moves_a_little_by_itself_and_asks_a_person_for_more() -> None:
    moves = Adaptation(threshold())
    told = taught(moves, 1.15)
    assert moves.position == 0.05
    assert kinds(told) == ["confirm"]


def test_what_is_not_quiet_teaches_nothing() -> None:
    moves = Adaptation(threshold())
    assert taught(moves, 1.15, quiet=False) == []
    assert moves.position == 0.0


def test_a_slow_attack_moves_the_threshold_by_no_more_than_what_is_granted() -> None:
    moves, base = Adaptation(threshold()), threshold().value
    in_force = [moves.step(float(score * (1 + number / 4000))) for number, score in enumerate(np.tile(NORMAL, 20))]
    assert max(in_force) <= 1.05 * base
    assert in_force[-1] < (1 + 40_000 / 4000) * np.quantile(NORMAL, 0.5)


def test_a_person_grants_what_was_learnt_in_the_time_they_confirm_and_no_more() -> None:
    moves = Adaptation(threshold(), AdaptRules(mark_s=100.0))
    taught(moves, 1.15)
    at_end = moves._tracker.position
    (record,) = moves.confirm(Confirm(0.0, 5000.0, "ann"), 20_000.0, lambda a, b: False)
    assert kinds((record,)) == ["confirmed"]
    assert 0.05 < moves.position <= at_end <= HIGHEST


@pytest.mark.parametrize(
    ("first", "last", "alarmed"), [(0.0, 5000.0, True), (0.0, 9e9, False), (5.0, 1.0, False), (-9.0, -1.0, False)]
)
def test_a_time_with_an_alarm_or_that_is_not_over_cannot_be_confirmed(first: float, last: float, alarmed: bool) -> None:
    moves = Adaptation(threshold(), AdaptRules(mark_s=100.0))
    taught(moves, 1.15)
    told = moves.confirm(Confirm(first, last, "ann"), 20_000.0, lambda a, b: alarmed)
    assert (kinds(told), moves.position) == (["rejected"], 0.05)


def test_at_the_end_of_the_cage_it_says_that_recalibration_is_required_once() -> None:
    told = taught(Adaptation(threshold(), AdaptRules(free=0.2)), 1.6)
    assert kinds(told).count("recalibration") == 1
    assert "recalibration required" in [record.text for record in told if isinstance(record, Notice)][-1]


def test_it_goes_on_where_it_was_and_refuses_another_thresholds_state() -> None:
    moves = Adaptation(threshold())
    taught(moves, 1.15)
    after = Adaptation(threshold())
    after.resume(moves.json)
    assert (after.position, after.granted, after.json) == (moves.position, moves.granted, moves.json)
    for text in ("", "{}", moves.json.replace("0.05", "0.9")):
        with pytest.raises(ValueError, match=r"."):
            Adaptation(threshold()).resume(text)
    with pytest.raises(ValueError, match="another threshold"):
        Adaptation(threshold("moving-percentile")).resume(moves.json)


def test_a_guard_that_alarms_keeps_the_threshold_where_it_is() -> None:
    stage = Adapting(Adaptation(threshold()))
    sample = Sample(0.0, np.zeros(1, np.float32), 0)
    stage.feed(sample, scored(0, 0.5, guard=2.0, guard_threshold=1.0))
    assert not stage.quiet
    stage.feed(sample, scored(1, 0.5, guard=0.5, guard_threshold=1.0))
    assert stage.quiet


def test_a_threshold_that_does_not_move_is_left_alone() -> None:
    model = Model(Fixed([0.0]))
    assert follow(model, AdaptRules()).adjusted(3.0) == 3.0


# ---- all of it together ----------------------------------------------------------------------------------------------


RULES = WatchRules(alarms=AlarmRules(hits=2, among=3, clear_s=60.0))


def watch(folder: Path, home: Path | None) -> tuple[Watch, Engine, list[Sample]]:
    made = trained(folder)
    bundle = made.read()
    model = make_model(bundle)
    found = Watch(model, bundle, home, RULES, fit_limits(made.site.train_TD, made.site.schema))
    return found, Engine(model, found.stages), samples(made.site.test_TD)


def test_everything_together_raises_alarms_takes_orders_and_restarts(tmp_path: Path) -> None:
    home = tmp_path / "state"
    found, engine, rows = watch(tmp_path / "bundles", home)
    records = [record.as_json() for row in rows for record in engine.feed(row)]
    assert not [record for record in records if record.get("kind") == "trouble"]
    alarms = [record for record in records if record["type"] == "alarm"]
    assert alarms
    tag = alarms[0]["sensors"][0]["tag"]
    place_order(home, Shelve(tag, "ann", "cleaning", for_s=3600.0))
    assert kinds(found.turn(rows[-1].time)) == ["shelved"]
    again, _, _ = watch(tmp_path / "again", home)
    assert again.troubles == []
    assert again.alarms.state == found.alarms.state
    assert again.drifts.json == found.drifts.json


def test_a_person_confirms_through_the_state_folder(tmp_path: Path) -> None:
    found, _, _ = watch(tmp_path / "bundles", tmp_path / "state")
    place_order(tmp_path / "state", Confirm(0.0, 1.0, "ann"))
    assert kinds(found.turn(1e9)) == ["rejected"]


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"faults": "x", "drift": 3, "bundle": ""}', b"\xff"])
def test_a_damaged_file_begins_anew_and_says_so(tmp_path: Path, damage: bytes) -> None:
    home = tmp_path / "state"
    AlarmFiles(home)
    (home / FILE).write_bytes(damage)
    found, engine, rows = watch(tmp_path / "bundles", home)
    assert found.troubles
    assert engine.feed(rows[0]) == ()


def test_without_a_state_folder_nothing_is_kept(tmp_path: Path) -> None:
    found, engine, rows = watch(tmp_path / "bundles", None)
    for row in rows[:50]:
        engine.feed(row)
    found.save()
    assert found.turn(0.0) == ()
