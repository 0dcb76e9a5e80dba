"""The treatment plant: water is conserved, controllers believe what they see, attacks move what physics says."""

import time
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from shared.errors import InvalidConfig, UnknownName
from simulations.twin.make import simulate
from simulations.twin.recording import Recording
from simulations.twin.script import KINDS, Event
from simulations.twin.swat import TWIN
from simulations.twin.swat.attacks import HIDDEN, targets
from simulations.twin.swat.bench import COLUMN, TAGS
from simulations.twin.swat.control import ACTUATORS
from simulations.twin.swat.plan import plan
from simulations.twin.swat.plant import REFERENCE, draw
from simulations.twin.swat.process import Trace
from simulations.twin.swat.process import run as run_water

BEGIN = datetime(2015, 12, 28, 10)
HOURS_4 = 14_400
FIRST, END = 6000, 7500  # of most attacks below

Column = NDArray[np.float64]


def record(*events: Event, seconds: int = HOURS_4, seed: int = 5) -> Recording:
    return TWIN.run(REFERENCE, BEGIN, seconds, events, default_rng(seed))


def water(*events: Event, seconds: int = HOURS_4, seed: int = 5, stride: int = 1024) -> Trace:
    return run_water(REFERENCE, seconds, events, default_rng(seed), stride)


def tag(recording: Recording, name: str) -> Column:
    return recording.values_TD[:, COLUMN[name]].astype(np.float64)


@pytest.fixture(scope="module")
def calm() -> Recording:
    return record()


@pytest.fixture(scope="module")
def calm_water() -> Trace:
    return water()


@pytest.fixture(scope="module")
def filling(calm: Recording) -> int:
    """The second at which MV101 has just opened, some time into the recording."""
    opened = np.flatnonzero((np.diff(tag(calm, "MV101")) == 2) & (np.arange(HOURS_4 - 1) > 3000))
    return int(opened[0]) + 1


# ---- the plant itself


def test_a_recording_has_51_finite_float32_columns(calm: Recording) -> None:
    assert calm.values_TD.shape == (HOURS_4, 51)
    assert calm.values_TD.dtype == np.float32
    assert np.isfinite(calm.values_TD).all()
    assert not calm.labels_T.any()
    for name in ACTUATORS:
        assert set(np.unique(tag(calm, name))) <= ({0, 1, 2} if name.startswith("MV") else {1, 2}), name


def test_no_reading_is_less_than_nothing() -> None:
    day = record(seconds=86_400)
    assert tag(day, "AIT401").min() == 0  # its daily rinse
    assert day.values_TD.min() == 0


def test_the_same_seed_gives_the_same_recording_and_another_another(calm: Recording) -> None:
    assert np.array_equal(calm.values_TD, record().values_TD)
    assert not np.array_equal(calm.values_TD, record(seed=6).values_TD)


def test_jumping_between_switchings_equals_scanning_every_second() -> None:
    """The property that makes the simulation fast: nothing happens between two scans."""
    events = (
        Event("spoof", "LIT101", 900, 1500, 480.0),
        Event("stuck", "LIT301", 2000, 3100),
        Event("bias", "LIT401", 3500, 4200, 90.0),
        Event("override", "P302", 5000, 5400, 1.0),
        Event("leak", "LIT101", 5600, 6500, 3.0),
        Event("stealthy", "MV101", 7000, 7900, 1.0),
        Event("drift", "LIT101", 8200, 9000, -600.0),
        Event("spoof", "FIT401", 9300, 9900, 0.1),
        Event("spoof", "DPIT301", 10_200, 10_500, 60.0),
        Event("spoof", "LIT301", 10_700, 11_900, 700.0),
    )
    jumped, stepped = water(*events, seconds=12_000), water(*events, seconds=12_000, stride=1)
    assert np.array_equal(jumped.codes_TA, stepped.codes_TA)
    assert np.array_equal(jumped.open_T5, stepped.open_T5)
    np.testing.assert_allclose(jumped.level_T3, stepped.level_T3, atol=1e-3)
    np.testing.assert_allclose(jumped.seen_T3, stepped.seen_T3, atol=1e-3)
    assert jumped.replays == stepped.replays


@pytest.mark.parametrize(
    ("level", "area", "inflow", "outflow", "share"),
    [
        ("LIT101", REFERENCE.tanks[0].area_m2, "FIT101", "FIT201", 1.0),
        ("LIT301", REFERENCE.tanks[1].area_m2, "FIT201", "FIT301", 1.0),
    ],
)
def test_a_tank_keeps_its_water(
    calm: Recording, level: str, area: float, inflow: str, outflow: str, share: float
) -> None:
    """Over ten minutes a level rises by what flows in less what flows out, to the meters' noise and lag."""
    net = (share * tag(calm, inflow) - tag(calm, outflow)) / 3.6 / area
    rise = tag(calm, level)[600::600] - tag(calm, level)[:-600:600][: len(tag(calm, level)[600::600])]
    due = net.reshape(-1, 600).sum(axis=1)[: len(rise)]
    np.testing.assert_allclose(rise, due, atol=6.0)


def test_the_valve_opens_at_the_low_mark_and_closes_at_the_high_one(calm: Recording) -> None:
    valve, level = tag(calm, "MV101"), tag(calm, "LIT101")
    starts = np.flatnonzero((valve[:-1] != 0) & (valve[1:] == 0))
    marks = {int(valve[at]): level[at + 1] for at in starts}
    assert marks[1] == pytest.approx(500, abs=2)
    assert marks[2] == pytest.approx(800, abs=2)


def test_permeate_and_reject_make_up_the_feed(calm: Recording) -> None:
    apart = tag(calm, "FIT501") + tag(calm, "FIT504") - tag(calm, "FIT503") - tag(calm, "FIT502")
    assert np.abs(apart.mean()) < 0.05


def test_plants_differ_and_every_one_keeps_running() -> None:
    lows, sizes = set(), set()
    for seed in range(25):
        plant = draw(default_rng(seed))
        trace = run_water(plant, 64_800, (), default_rng(seed))
        level_T3 = trace.level_T3[10_800:]
        for at, tank in enumerate(plant.tanks):
            assert level_T3[:, at].min() > tank.low_mm - 60, (seed, at)
            assert level_T3[:, at].max() < tank.high_mm + 40, (seed, at)
        backwashes = (np.diff(trace.codes_TA[:, ACTUATORS.index("P602")]) == 1).sum()
        assert 6 <= backwashes <= 30, seed
        lows.add(plant.tanks[0].low_mm)
        sizes.add(round(plant.ro.rate, 4))
    assert len(lows) > 15
    assert len(sizes) == 25
    assert 0.7 * REFERENCE.ro.rate < min(sizes)
    assert max(sizes) < 1.35 * REFERENCE.ro.rate


def test_a_plant_day_takes_two_seconds_of_one_core() -> None:
    begin = time.process_time()
    record(seconds=86_400)
    assert time.process_time() - begin < 2.0


# ---- what is done to it


def test_labels_are_the_events_and_nothing_changes_before(calm: Recording) -> None:
    events = (Event("override", "P101", FIRST, END, 1.0), Event("bias", "AIT203", 9000, 9100, 50.0))
    attacked = record(*events)
    expected = np.zeros(HOURS_4, dtype=bool)
    expected[FIRST:END] = expected[9000:9100] = True
    assert np.array_equal(attacked.labels_T, expected)
    assert np.array_equal(attacked.values_TD[:FIRST], calm.values_TD[:FIRST])
    assert not np.array_equal(attacked.values_TD[FIRST:END], calm.values_TD[FIRST:END])


def test_a_level_spoofed_low_keeps_the_inlet_open_until_the_tank_overflows(calm_water: Trace, filling: int) -> None:
    opened = calm_water.codes_TA[:, ACTUATORS.index("MV101")] == 2
    at = int(np.flatnonzero(~opened[3000:-1] & opened[3001:])[0]) + 3001
    trace = water(Event("spoof", "LIT101", at, HOURS_4, 520.0))
    assert (trace.codes_TA[at:, ACTUATORS.index("MV101")] == 2).all()
    assert trace.level_T3[-1, 0] == REFERENCE.tanks[0].brim_mm > 806 > calm_water.level_T3[:, 0].max()
    assert trace.seen_T3[at:, 0].std() < 1
    recorded = record(Event("spoof", "LIT101", filling, filling + 5000, 520.0))
    assert (tag(recorded, "FIT101")[filling + 60 : filling + 5000] > 2).all()
    assert tag(recorded, "LIT101")[filling + 5001] > 820


def test_a_level_spoofed_high_empties_the_tank_and_the_pump_runs_dry(calm_water: Trace) -> None:
    trace = water(Event("spoof", "LIT101", 8000, 14_000, 820.0))
    assert trace.level_T3[13_000, 0] < 10 < calm_water.level_T3[13_000, 0]
    dry = (trace.level_T3[8000:14_000, 0] <= 5) & (trace.codes_TA[8000:14_000, ACTUATORS.index("P101")] == 2)
    assert dry.sum() > 100
    assert (trace.open_T5[8000:14_000, 1][dry] == 0).mean() > 0.4


def test_a_stuck_level_keeps_the_pump_running_beyond_the_mark(calm: Recording, calm_water: Trace) -> None:
    running = int(np.flatnonzero((tag(calm, "P101") == 2) & (np.arange(HOURS_4) > FIRST))[100])
    stuck = record(Event("stuck", "LIT301", running, running + 1800))
    inside = slice(running, running + 1800)
    assert np.unique(tag(stuck, "LIT301")[inside]).tolist() == [tag(calm, "LIT301")[running - 1]]
    assert (tag(stuck, "P101")[inside] == 2).all()
    pump = ACTUATORS.index("P101")
    at = int(np.flatnonzero(calm_water.codes_TA[4000:, pump] == 2)[100]) + 4000
    trace = water(Event("stuck", "LIT301", at, HOURS_4))
    assert (trace.codes_TA[at:, pump] == 2).all()
    assert trace.level_T3[at:, 1].max() > 1050 > 1002 > calm_water.level_T3[:, 1].max()


def test_a_biased_level_moves_the_switching_points() -> None:
    trace = water(Event("bias", "LIT301", 2000, HOURS_4, 60.0))
    later = slice(7000, HOURS_4)
    assert trace.level_T3[later, 1].max() == pytest.approx(940, abs=5)
    assert trace.level_T3[later, 1].min() == pytest.approx(736, abs=5)


def test_a_drifting_level_grows_by_its_size_an_hour(calm_water: Trace) -> None:
    trace = water(Event("drift", "LIT401", FIRST, FIRST + 1800, 40.0))
    apart = (trace.seen_T3 - trace.level_T3)[FIRST + 1799, 2]
    assert apart == pytest.approx(20, abs=1)
    assert (calm_water.seen_T3 - calm_water.level_T3)[FIRST + 1799, 2] == pytest.approx(0, abs=1)


def test_stopping_the_transfer_pump_lets_the_next_tank_fall(calm: Recording) -> None:
    off = record(Event("override", "P101", FIRST, END, 1.0))
    assert (tag(off, "P101")[FIRST:END] == 1).all()
    assert (tag(off, "FIT201")[FIRST + 60 : END] == 0).all()
    assert (tag(off, "P203")[FIRST + 20 : END] == 1).all()
    assert tag(off, "LIT301")[END - 1] < tag(calm, "LIT301")[END - 1] - 100


def test_an_open_inlet_fills_the_tank_beyond_its_mark(calm: Recording) -> None:
    opened = record(Event("override", "MV101", 3000, 9000, 2.0))
    assert tag(opened, "LIT101")[:9000].max() > 850 > 806 > tag(calm, "LIT101").max()


def test_a_leak_breaks_the_balance_that_meters_show(calm: Recording) -> None:
    leak = record(Event("leak", "LIT101", FIRST, END, 1.5))
    lost = 1.5 / 3.6 / REFERENCE.tanks[0].area_m2 * (END - FIRST)
    for recording, due in ((calm, 0.0), (leak, -lost)):
        net = (tag(recording, "FIT101") - tag(recording, "FIT201"))[FIRST:END].sum() / 3.6 / REFERENCE.tanks[0].area_m2
        rise = tag(recording, "LIT101")[END] - tag(recording, "LIT101")[FIRST]
        assert rise - net == pytest.approx(due, abs=15)


def test_a_leak_in_a_pipe_starves_the_tank_behind_the_meter(calm_water: Trace) -> None:
    trace = water(Event("leak", "FIT301", FIRST, FIRST + 600, 1.0))
    fell = calm_water.level_T3[FIRST + 600, 2] - trace.level_T3[FIRST + 600, 2]
    filtering = (trace.open_T5[FIRST : FIRST + 600, 3] > 0).sum()
    assert fell == pytest.approx(filtering / 3.6 / REFERENCE.tanks[2].area_m2, rel=0.05)
    assert fell > 50


def test_a_stealthy_attack_replays_earlier_readings_while_the_true_level_runs_away() -> None:
    event = Event("stealthy", "MV101", 9000, 10_500, 1.0)
    trace = water(event)
    (replayed, behind), *_ = trace.replays
    assert replayed == event
    assert np.array_equal(trace.seen_T3[9000:10_500, 0], trace.seen_T3[9000 - behind : 10_500 - behind, 0])
    assert (trace.codes_TA[9010:10_500, ACTUATORS.index("MV101")] == 1).all()
    assert abs(trace.seen_T3[10_499, 0] - trace.level_T3[10_499, 0]) > 50
    recorded = record(Event("stealthy", "MV101", 9000, 10_500, 1.0))
    hidden = recorded.values_TD[9000:10_500][:, [COLUMN[name] for name in HIDDEN["MV101"]]]
    assert any(
        np.array_equal(hidden, recorded.values_TD[at : at + 1500][:, [COLUMN[name] for name in HIDDEN["MV101"]]])
        for at in range(7500)
    )


def test_stopping_the_ro_pump_stops_the_high_pressure_pump_too(calm: Recording) -> None:
    off = record(Event("override", "P402", FIRST, END, 1.0))
    inside = slice(FIRST + 120, END)
    for name in ("FIT401", "FIT501", "FIT502", "FIT503"):
        assert (tag(off, name)[inside] == 0).all(), name
    assert (tag(off, "P501")[FIRST + 2 : END] == 1).all()
    assert tag(off, "PIT501")[inside].max() < 0.1 * tag(calm, "PIT501").min()
    assert tag(off, "LIT401")[END - 1] > tag(calm, "LIT401")[END - 1]


def test_a_feed_meter_spoofed_low_trips_the_ro() -> None:
    tripped = record(Event("spoof", "FIT401", FIRST, END, 0.2))
    assert (tag(tripped, "P501")[FIRST:END] == 1).mean() > 0.8
    assert (tag(tripped, "P501")[END + 400 :] == 2).all()


def test_a_spoofed_pressure_calls_for_a_backwash(calm: Recording) -> None:
    quiet = int(np.flatnonzero((tag(calm, "MV302") == 2) & (np.arange(HOURS_4) > FIRST))[300])
    washed = record(Event("spoof", "DPIT301", quiet, quiet + 120, 45.0))
    assert (tag(washed, "P602")[quiet : quiet + 120] == 2).sum() == REFERENCE.pump_s
    assert (tag(calm, "P602")[quiet : quiet + 120] == 1).all()


def test_dosing_believes_its_analyser_and_the_water_changes(calm: Recording) -> None:
    running = int(np.flatnonzero((tag(calm, "P205") == 2) & (np.arange(HOURS_4) > 3000))[0])
    spoofed = record(Event("spoof", "AIT203", running, running + 1800, 700.0))
    assert (tag(spoofed, "P205")[running : running + 1800] == 1).all()
    after = running + 1820
    assert tag(spoofed, "AIT203")[after] < tag(calm, "AIT203")[after] - 10
    lamp = record(Event("override", "UV401", FIRST, END, 1.0))
    assert tag(lamp, "AIT502")[END] > tag(calm, "AIT502")[END] + 5


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Event("leak", "P101", 0, 10, 1.0), "cannot be done to P101"),
        (Event("override", "LIT101", 0, 10, 1.0), "cannot be done to LIT101"),
        (Event("override", "MV101", 0, 10, 0.0), "cannot be held at 0"),
        (Event("bias", "LIT101", 50, 50, 1.0), "lies outside"),
        (Event("bias", "LIT101", 50, HOURS_4 + 1, 1.0), "lies outside"),
        (Event("bias", "LIT101", 50, 60, float("nan")), "size nan"),
        (Event("stealthy", "P101", 0, 10_000, 1.0), "finds no 10000 s of normal operation"),
    ],
)
def test_events_that_cannot_be_are_refused(event: Event, words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        record(event)


def test_an_unknown_tag_is_refused() -> None:
    with pytest.raises(UnknownName, match="LIT999"):
        record(Event("bias", "LIT999", 0, 10, 1.0))


# ---- the random plan


def test_a_plan_has_every_kind_at_every_stage_and_no_overlap() -> None:
    days = [plan(draw(default_rng(seed)), 86_400, default_rng(seed)) for seed in range(30)]
    events = [event for day in days for event in day]
    assert {event.kind for event in events} == set(KINDS)
    assert {TAGS.index(event.target) // 17 for event in events} == {0, 1, 2}
    for day in days:
        assert 8 <= len(day) <= 12
        assert all(120 <= event.end_s - event.first_s <= 1800 for event in day)
        assert all(event.target in targets(event.kind) for event in day)
        assert all(one.end_s + 300 <= two.first_s for one, two in pairwise(day))
        assert day[-1].end_s <= 86_400
    assert plan(REFERENCE, 600, default_rng(0)) == ()


def outside_training_range(normal: Recording, attack: Recording) -> float:
    """AUPRC of the score that needs no model: the largest distance of a tag from its training range, in ranges."""
    low, high = normal.values_TD.min(axis=0), normal.values_TD.max(axis=0)
    scale = np.where(high > low, high - low, 1.0)
    beyond = np.maximum(np.maximum(low - attack.values_TD, attack.values_TD - high), 0)
    return float(average_precision_score(attack.labels_T, (beyond / scale).max(axis=1)))


def test_leaving_the_training_range_does_not_give_attacks_away() -> None:
    found = []
    for seed in range(8):
        normal, attack = simulate(1, 4.0, "swat", seed)
        found.append(outside_training_range(normal, attack))
        print(f"seed {seed}: AUPRC {found[-1]:.3f}, labelled {attack.labels_T.mean():.3f}")
    assert max(found) < 0.9
    assert 0.2 < np.mean(found) < 0.7
