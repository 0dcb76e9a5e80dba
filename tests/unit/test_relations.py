"""Relations by operating mode, on a tank with a valve, a pump and their controller."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BundleInvalid, SchemaMismatch
from shared.relations import Fitted, Relations, Unfit, fit, from_bytes, to_bytes
from shared.relations.file import MAGIC
from shared.relations.repeats import Repeats
from shared.relations.traces import TIMES, Traces

VALVE, PUMP, LEVEL, FLOW, PRESSURE, SPEED, STILL = range(7)
PERIOD_S = 5.0  # blocks of 2 rows
ALARM = np.log(2)


def tank(rows: int, seed: int) -> np.ndarray:
    """A level between two marks: the valve opens below, closes above, by way of a code 0; the pump drains by turns."""
    noise = np.random.default_rng(seed)
    level, valve, pump, flow, moving = 50.0, 1, 1, 0.0, 0
    found = np.empty((rows, 7), np.float32)
    for t in range(rows):
        if moving:
            moving -= 1
        elif (level < 40 and valve == 1) or (level > 60 and valve == 2):
            valve, moving = 3 - valve, 2
        pump = 2 if level > 52 else 1 if level < 44 else pump
        flow += 0.5 * ((2.0 if valve == 2 and not moving else 0.0) - flow)
        level += 0.15 * (flow - 0.6 * pump)
        read = noise.normal(size=4) * (0.05, 0.02 + 0.02 * valve, 0.01, 0.1)
        shown = 0 if moving else valve
        found[t] = shown, pump, level + read[0], flow + read[1], 3 * flow + read[2], 20 * pump + read[3], 7
    return found


@cache
def fitted() -> Fitted:
    found = fit(tank(22_000, 1), period_s=PERIOD_S)
    assert isinstance(found, Fitted)
    return found


@cache
def live() -> np.ndarray:
    return tank(1500, 2)


def streamed(relations: Relations, rows_TD: np.ndarray) -> np.ndarray:
    """Scores of rows by the stream, held as the batch holds them."""
    stream, held, found = relations.stream(), np.nan, []
    for row_D in rows_TD:
        told = stream.step(row_D)
        held = held if told is None else told
        found.append(held)
    return np.array(found)


def test_normal_rows_that_were_not_learnt_from_stay_below_twice_of_what_normal_rows_showed() -> None:
    scores_T = fitted().relations.scores(tank(6000, 3))
    assert np.nanmax(scores_T) < ALARM
    assert np.isnan(scores_T[:60]).all()
    assert np.isfinite(scores_T[61:]).all()


def test_scores_of_the_normal_rows_come_out_of_fold() -> None:
    scores_T = fitted().scores_T
    assert len(scores_T) == 22_000
    assert np.isnan(scores_T[:100]).all()
    assert np.isfinite(scores_T[200:]).all()
    assert 0 < np.nanmax(scores_T) < ALARM  # above 0: by limits of the other parts
    assert np.nanmax(fitted().relations.scores(tank(22_000, 1))[200:]) <= 1e-9  # by limits that are of them


def bias(rows_TD: np.ndarray) -> None:
    rows_TD[:, PRESSURE] += 0.4


def replay(rows_TD: np.ndarray) -> None:
    rows_TD[:, LEVEL] = live()[100 : 100 + len(rows_TD), LEVEL]


def stuck(rows_TD: np.ndarray) -> None:
    rows_TD[:, SPEED] = rows_TD[0, SPEED]


def leak(rows_TD: np.ndarray) -> None:
    rows_TD[:, FLOW] *= 0.8
    rows_TD[:, FLOW] += 0.2


def forged(rows_TD: np.ndarray) -> None:
    rows_TD[:, VALVE] = 3 - np.where(rows_TD[:, VALVE] == 0, 1, rows_TD[:, VALVE])


@pytest.mark.parametrize(
    ("attack", "tag"), [(bias, PRESSURE), (replay, LEVEL), (stuck, SPEED), (leak, FLOW), (forged, VALVE)]
)
def test_an_attack_is_told_and_so_is_the_tag(attack: Callable[[np.ndarray], None], tag: int) -> None:
    rows_TD = live().copy()
    attack(rows_TD[800:1000])
    stream, parts = fitted().relations.stream(), []
    for row_D in rows_TD[:1000]:
        stream.step(row_D)
        parts.append(stream.part_D)
    scores_T = fitted().relations.scores(rows_TD)
    assert np.nanmax(scores_T[:800]) < ALARM < np.max(scores_T[800:1000])
    assert np.max(parts[800:], axis=0)[tag] > 1


def test_a_controller_that_switches_without_a_cause_stays_suspicious_until_it_is_back() -> None:
    rows_TD = live().copy()
    standing = np.flatnonzero((rows_TD[:-60, PUMP] == rows_TD[60:, PUMP]) & (np.arange(1440) > 200))
    begin = next(int(t) for t in standing if len(np.unique(rows_TD[t - 20 : t + 60, PUMP])) == 1)
    rows_TD[begin : begin + 20, PUMP] = 3 - rows_TD[begin, PUMP]
    stream, parts = fitted().relations.stream(), []
    for row_D in rows_TD[: begin + 40]:
        stream.step(row_D)
        parts.append(stream.part_D[PUMP])
    assert min(parts[begin + 4 : begin + 20]) > 1.5
    assert parts[begin + 24] < 1


@settings(max_examples=15, deadline=None)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, 399),
            st.integers(0, 6),
            st.sampled_from([np.nan, np.inf, -3.0, 0.0, 1.0, 2.0, 5.0, 47.3, 1e30]),
            st.integers(1, 60),
        ),
        max_size=8,
    ),
    first=st.integers(0, 900),
)
def test_a_stream_gives_what_the_batch_gives(edits: list[tuple[int, int, float, int]], first: int) -> None:
    rows_TD = live()[first : first + 401].copy()
    for row, tag, value, count in edits:
        rows_TD[row : row + count, tag] = value
    relations = fitted().relations
    np.testing.assert_allclose(streamed(relations, rows_TD), relations.scores(rows_TD), rtol=0, atol=1e-9)


def test_nothing_is_looked_at_across_recordings() -> None:
    relations, rows_TD = fitted().relations, live()[:700]
    both_T = relations.scores(rows_TD, (0, 333))
    apart = [relations.scores(rows_TD[:333]), relations.scores(rows_TD[333:])]
    np.testing.assert_allclose(both_T, np.concatenate(apart), rtol=0, atol=1e-9)


def test_a_stream_restarts_as_if_it_were_new() -> None:
    relations = fitted().relations
    stream = relations.stream()
    for row_D in live()[500:621]:
        stream.step(row_D)
    stream.restart()
    found = [stream.step(row_D) for row_D in live()[:200]]
    assert found == [new.step(row_D) for new in [relations.stream()] for row_D in live()[:200]]


def test_relations_come_back_from_their_bytes() -> None:
    data = to_bytes(fitted().relations)
    back = from_bytes(data)
    assert to_bytes(back) == data
    assert np.array_equal(back.scores(live()), fitted().relations.scores(live()), equal_nan=True)


def test_bytes_that_were_changed_or_cut_are_refused() -> None:
    data = to_bytes(fitted().relations)
    for bad in (b"", MAGIC, data[:-1], data[:-8] + b"\x07" * 8, b"x" + data, data.replace(b'"block":2', b'"block":0')):
        with pytest.raises(BundleInvalid):
            from_bytes(bad)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", -1.0),
        ("limits", 0.0),
        ("weights", np.nan),
        ("scale.left", 0),
        ("scale.column", 10_000),
        ("hazard.right", 10_000),
        ("hazard.tag", 99),
        ("hazard.plain", 0.0),
        ("kinds.continuous", 7),
        ("kinds.codes", 1.5),
        ("frame.middle", np.inf),
    ],
)
def test_numbers_that_are_no_relations_are_refused(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.relations import file

    parts = {key: np.array(array) for key, array in file._parts(fitted().relations).items()}
    parts[name].ravel()[1] = value
    monkeypatch.setattr(file, "_parts", lambda _: parts)
    with pytest.raises(BundleInvalid, match="no usable relations"):
        from_bytes(to_bytes(fitted().relations))


def test_too_few_rows_or_no_switching_tag_give_none_and_why() -> None:
    few = fit(tank(900, 1), period_s=PERIOD_S)
    assert isinstance(few, Unfit)
    assert "fewer than 10000 blocks" in few.reason
    rows_TD = np.tile(tank(11_000, 1), (2, 1))
    rows_TD[:, [VALVE, PUMP]] = 1
    still = fit(rows_TD, period_s=PERIOD_S)
    assert isinstance(still, Unfit)
    assert "no coded tag" in still.reason


def test_a_constant_tag_and_a_dead_one_change_no_score() -> None:
    rows_TD = np.delete(tank(22_000, 1), STILL, axis=1)
    found = fit(np.column_stack([rows_TD, np.full(len(rows_TD), np.nan, np.float32)]), period_s=PERIOD_S)
    assert isinstance(found, Fitted)
    seen_TD = np.column_stack([np.delete(live(), STILL, axis=1), np.zeros(len(live()), np.float32)])
    np.testing.assert_allclose(found.relations.scores(seen_TD), fitted().relations.scores(live()), atol=1e-9)


def test_fitting_again_gives_the_same_bytes() -> None:
    again = fit(tank(22_000, 1), period_s=PERIOD_S)
    assert isinstance(again, Fitted)
    assert to_bytes(again.relations) == to_bytes(fitted().relations)


def test_a_plant_whose_codes_only_pulse_has_relations_without_controllers() -> None:
    rows_TD = tank(22_000, 1)[:, [PUMP, SPEED, STILL]]
    rows_TD[:, 0] = (np.arange(len(rows_TD)) % 50 < 3).astype(np.float32)  # never held: transit
    rows_TD[:, 1] = 20 * rows_TD[:, 0] + np.random.default_rng(0).normal(size=len(rows_TD))
    found = fit(rows_TD, period_s=PERIOD_S)
    assert isinstance(found, Fitted)
    assert not len(found.relations.frame.kinds.switching_J)
    back, seen_TD = from_bytes(to_bytes(found.relations)), rows_TD[:400].copy()
    seen_TD[300:, 1] = 0
    assert np.nanmax(back.scores(seen_TD)[:300]) < ALARM < np.max(back.scores(seen_TD)[300:])


def test_many_recordings_are_learnt_from_and_scored_apart() -> None:
    starts = tuple(range(0, 22_000, 2200))
    found = fit(tank(22_000, 1), starts, PERIOD_S)
    assert isinstance(found, Fitted)
    unsettled_T = np.isnan(found.scores_T).reshape(10, 2200)
    assert unsettled_T[:, :120].all()
    assert not unsettled_T[:, 121:].any()
    short = fit(tank(22_000, 1), tuple(range(0, 22_000, 100)), PERIOD_S)
    assert isinstance(short, Unfit)
    assert "shorter" in short.reason


def test_rows_of_another_plant_are_refused() -> None:
    with pytest.raises(SchemaMismatch):
        fitted().relations.scores(live()[:, 1:])
    with pytest.raises(SchemaMismatch):
        fitted().relations.stream().step(live()[0, 1:])


def test_traces_are_the_means_of_the_recursion_row_by_row() -> None:
    on_nBI = (np.random.default_rng(0).random((12, 4, 3)) > 0.5).astype(np.float64)
    traces = Traces(4, 3)
    found_nU = np.concatenate([traces.take(on_nBI[:5]), traces.take(on_nBI[5:])])
    for q, time in enumerate(TIMES):
        k, y_I, rows = np.exp(-1 / (4 * time)), on_nBI[0, 0], []
        for on_I in on_nBI.reshape(-1, 3):
            y_I = k * y_I + (1 - k) * on_I
            rows.append(y_I)
        due_nI = np.array(rows).reshape(12, 4, 3).mean(axis=1)
        np.testing.assert_allclose(found_nU[:, 3 * (q + 1) : 3 * (q + 2)], due_nI, atol=1e-12)


def test_a_match_counts_repeated_values_and_forgets_what_is_too_old() -> None:
    fresh_T = np.random.default_rng(0).random(100).astype(np.float32)
    twice_T = np.concatenate([fresh_T, fresh_T[20:60]])
    none_1H = np.full((1, 1), np.nan)
    match_T = Repeats(none_1H, 1000).take(twice_T[:, None, None])[:, 0, 0]
    assert not match_T[:100].any()
    assert match_T[-1] == 40
    assert not Repeats(none_1H, 50).take(twice_T[:, None, None])[:, 0].any()


def test_a_value_at_home_may_stay() -> None:
    values_T = np.array([1, 1, 1, 0, 0, 0], np.float32)[:, None, None]
    assert Repeats(np.array([[0.0]]), 10).take(values_T)[:, 1, 0].tolist() == [1, 2, 3, 0, 0, 0]


def test_what_scores_needs_no_scikit_learn() -> None:
    code = "import sys, shared.relations; sys.exit('sklearn' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
