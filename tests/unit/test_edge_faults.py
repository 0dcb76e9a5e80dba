"""Sensor faults: each kind is found, a healthy plant has none, and what a process may do is none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import structs

from client.edge.engine import Model
from client.edge.fault_stage import Faults
from client.edge.faults import SOURCE, Fault, FaultRules, FaultState
from client.edge.records import Notice, Record, Sample
from shared.errors import SchemaMismatch, TooFewRows
from shared.schema import SensorSchema
from shared.sensor_limits import NEVER, SensorLimits, fit
from shared.series import FloatArray
from tests.support.edge import Fixed

SCHEMA = SensorSchema(tags=("LIT101", "FIT101", "P101", "AIT101"), period_s=1.0)


def normal(rows: int = 2400, seed: int = 0) -> FloatArray:
    """A level that waves, a flow with noise, a pump that rests for 300 rows, an analyser that never moves."""
    rng, t = np.random.default_rng(seed), np.arange(rows)
    level, flow = 500 + 100 * np.sin(t / 40) + rng.normal(0, 1, rows), 2 + rng.normal(0, 0.1, rows)
    return np.stack([level, flow, t // 300 % 2, np.full(rows, 7.0)], axis=1).astype(np.float32)


LIMITS = fit(normal(), SCHEMA)


def run(rows: Iterable[FloatArray], rules: FaultRules | None = None, stage: Faults | None = None) -> list[Record]:
    stage = stage or Faults(LIMITS, rules)
    return [record for i, row_D in enumerate(rows) for record in stage.feed(Sample(1e9 + i, row_D, i), None)]


def active(records: Iterable[Record]) -> list[tuple[str, str]]:
    return [(r.tag, r.kind) for r in records if isinstance(r, Fault) and r.state == "active"]


def with_fault(rows: int = 400, at: int = 200) -> tuple[FloatArray, slice]:
    return normal(rows, seed=1), slice(at, rows)


def test_a_healthy_plant_has_no_fault() -> None:
    assert run(normal(5000, seed=3)) == []


def test_a_sensor_that_stands_still_is_stuck_and_recovers() -> None:
    rows_TD, _ = with_fault(600)
    rows_TD[200:300, 0] = rows_TD[200, 0]
    records = run(rows_TD)
    assert active(records) == [("LIT101", "stuck")]
    last = records[-1].as_json()
    assert (last["state"], last["since"] - 1e9) == ("cleared", 200 + LIMITS.rest[0] - 1)


def test_a_tag_that_rests_by_nature_is_never_stuck() -> None:
    rows_TD = normal(3000, seed=1)
    rows_TD[:, 2] = 1.0
    assert LIMITS.rest[2:] == (0, 0)
    assert run(rows_TD) == []


def test_a_tag_that_was_constant_and_moves_is_no_fault() -> None:
    rows_TD, late = with_fault()
    rows_TD[late, 3] += np.arange(200)
    assert run(rows_TD) == []


def test_a_reading_beyond_any_range_is_a_fault_after_a_few_rows() -> None:
    rows_TD, late = with_fault()
    rows_TD[late, 0] = 9000 + np.arange(200)
    assert active(run(rows_TD)) == [("LIT101", "range")]
    assert LIMITS.low[0] < 300 < 900 > LIMITS.high[0] * 0.9


def test_only_a_range_that_a_person_gave_takes_a_tags_word_away() -> None:
    rows_TD, late = with_fault()
    rows_TD[late, 0] = 2000 + np.arange(200)
    learnt = Faults(LIMITS)
    run(rows_TD, stage=learnt)
    assert (learnt.tags, learnt.mute, learnt.quiet) == ({"LIT101"}, frozenset(), False)
    given = Faults(LIMITS, FaultRules(ranges={"LIT101": (0.0, 1200.0)}))
    run(rows_TD, stage=given)
    assert given.mute == {"LIT101"}


def test_a_jump_that_stays_is_no_spike_and_one_that_returns_is() -> None:
    rows_TD, late = with_fault()
    wide = FaultRules(ranges={"FIT101": (-50.0, 50.0)})
    rows_TD[late, 1] += 6.0
    assert active(run(rows_TD, wide)) == []
    rows_TD, _ = with_fault()
    rows_TD[200:202, 1] += 6.0
    assert active(run(rows_TD, wide)) == [("FIT101", "spike")]


def test_a_burst_of_noise_is_a_fault_and_a_step_is_none() -> None:
    rows_TD, _ = with_fault(600)
    rows_TD[200:330, 1] += np.where(np.arange(130) % 2, 0.6, -0.6)
    assert active(run(rows_TD)) == [("FIT101", "noise")]


def test_a_sensor_that_hardly_moves_is_flat() -> None:
    rows_TD, late = with_fault()
    rows_TD[late, 1] = 2 + 1e-3 * (np.arange(200) % 3)
    assert active(run(rows_TD)) == [("FIT101", "flat")]


def test_missing_readings_are_a_fault_of_the_tag_and_a_storm_of_them_one_of_the_source() -> None:
    rows_TD, late = with_fault()
    rows_TD[late, 0] = np.nan
    assert active(run(rows_TD)) == [("LIT101", "missing")]
    rows_TD[late] = np.nan
    assert active(run(rows_TD)) == [(SOURCE, "missing")]


def test_a_frozen_source_is_one_fault_and_not_one_a_tag() -> None:
    rows_TD, late = with_fault()
    rows_TD[late] = rows_TD[199]
    assert active(run(rows_TD)) == [(SOURCE, "frozen")]


def test_a_clock_that_stands_still_is_a_fault_and_one_step_back_is_none() -> None:
    def kinds(times: Iterable[float]) -> list[tuple[str, str]]:
        stage = Faults(LIMITS)
        rows = zip(times, normal(100, seed=1), strict=False)
        return active(r for i, (at, row_D) in enumerate(rows) for r in stage.feed(Sample(at, row_D, i), None))

    assert kinds([*range(50), *[50.0] * 50]) == [(SOURCE, "clock")]
    assert kinds([*range(50), *range(-3600, -3550)]) == []


def test_a_gap_begins_every_run_anew() -> None:
    rows_TD, _ = with_fault()
    rows_TD[200:225, 0] = rows_TD[200, 0]
    stage = Faults(LIMITS)
    run(rows_TD[:225], stage=stage)
    stage.heard(Notice(0.0, "gap", ""))
    assert run(np.repeat(rows_TD[224:225], 20, axis=0) + np.float32([0, 0, 0, 0]), stage=stage) == []


def test_a_standing_fault_outlives_a_restart() -> None:
    rows_TD, late = with_fault()
    rows_TD[late, 0] = np.nan
    stage = Faults(LIMITS)
    run(rows_TD, stage=stage)
    after = Faults(LIMITS, state=FaultState.parse(stage.state.json, 4))
    assert after.tags == {"LIT101"}
    assert active(run(rows_TD[-5:], stage=after)) == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": [9, 0, 0, 0], "since": [0, 0, 0, 0], "source": {}}'])
def test_a_damaged_state_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        FaultState.parse(text.encode(), 4)


def test_any_readings_whatever_give_records_that_can_be_written() -> None:
    rng = np.random.default_rng(0)
    rows_TD = normal(800, seed=1)
    wild = rng.random(rows_TD.shape) < 0.1
    rows_TD[wild] = rng.choice(np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 0]), wild.sum())
    for record in run(rows_TD):
        json.dumps(record.as_json(), allow_nan=False)


def test_limits_come_back_from_json_and_keep_to_their_tags() -> None:
    assert SensorLimits.parse(LIMITS.json) == LIMITS
    assert (LIMITS.high[2], LIMITS.high[3], LIMITS.step[2]) == (NEVER, NEVER, NEVER)
    with pytest.raises(SchemaMismatch, match="LIT999"):
        Faults(LIMITS, FaultRules(ranges={"LIT999": (0.0, 1.0)}))
    with pytest.raises(ValueError, match="one number a tag"):
        SensorLimits.of({**LIMITS.as_dict(), "low": [0.0]})


def test_limits_need_rows_and_their_columns() -> None:
    with pytest.raises(TooFewRows):
        fit(normal(50), SCHEMA)
    with pytest.raises(SchemaMismatch):
        fit(normal()[:, :2], SCHEMA)


def test_limits_of_a_tag_without_readings_judge_it_by_nothing() -> None:
    rows_TD = normal()
    rows_TD[:, 1] = np.nan
    found = fit(rows_TD, SCHEMA)
    assert (found.low[1], found.high[1], found.rest[1]) == (-NEVER, NEVER, 0)
    assert found.gap[1] >= 3 * 2400


def in_force(limits: SensorLimits) -> Model:
    """A model of a bundle with these limits."""
    scorer = Fixed([])
    scorer.bundle = SimpleNamespace(digest="1" * 64, limits=limits)  # type: ignore[attr-defined]
    return Model(scorer)


def test_limits_of_a_new_bundle_are_taken_between_two_samples_and_what_was_seen_stays() -> None:
    rows_TD, stage = normal(400, seed=1), Faults(LIMITS)
    rows_TD[200:, 0], rows_TD[300:, 1] = np.nan, rows_TD[300, 1]  # One tag falls silent, one stands still.
    assert active(run(rows_TD[:310], stage=stage)) == [("LIT101", "missing")]
    before = stage.state
    [told] = stage.swapped(in_force(structs.replace(LIMITS, rest=(0, 20, 0, 0))))
    assert "FIT101; sensors are judged" in told.as_json()["text"]
    assert stage.state is before
    assert stage.tags == {"LIT101"}
    records = [record for i in range(310, 325) for record in stage.feed(Sample(1e9 + i, rows_TD[i], i), None)]
    assert [(r.as_json()["tag"], r.as_json()["time"]) for r in records] == [("FIT101", 1e9 + 319)], "20 rows from 300"


def test_limits_that_stay_are_not_told_and_ranges_of_a_person_outlive_those_of_a_bundle() -> None:
    stage = Faults(LIMITS, FaultRules(ranges={"LIT101": (0.0, 550.0)}))
    assert stage.swapped(in_force(LIMITS)) == ()
    assert stage.swapped(Model(Fixed([]))) == (), "a model without a bundle"
    assert len(stage.swapped(in_force(structs.replace(LIMITS, high=(900.0, *LIMITS.high[1:]))))) == 1
    assert active(run(np.float32([[560, 2, 0, 7]] * 4), stage=stage)) == [("LIT101", "range")]
