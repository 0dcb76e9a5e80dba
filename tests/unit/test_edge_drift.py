"""Drift: the detectors are those of the literature, held to river's; the stage tells it with hysteresis."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import pytest

from client.edge.drift import Adwin, PageHinkley
from client.edge.drift_stage import Drift, DriftRules, Drifts, Reference
from client.edge.records import Record, Sample
from shared.series import FloatArray
from tests.support.edge import scored

RULES = DriftRules(every=10, far=1.5, near=0.75)
SHIFTS = np.linspace(0.6, 3.0, 9)


def steps(shift: float, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    return [*rng.normal(0, 1, 1500), *rng.normal(shift, 1, 1500)]


@pytest.mark.parametrize("shift", SHIFTS)
def test_adwin_cuts_where_rivers_does(shift: float) -> None:
    river = pytest.importorskip("river.drift").ADWIN()
    ours, theirs, mine = Adwin(), [], []
    for at, value in enumerate(steps(shift, int(10 * shift))):
        river.update(value)
        theirs += [at] if river.drift_detected else []
        mine += [at] if ours.update(value) else []
    assert len(theirs) >= 1
    assert abs(mine[0] - theirs[0]) <= 64  # two looks
    assert abs(ours.mean - river.estimation) < 0.1
    assert 0.8 < ours.width / river.width < 1.25


def test_adwin_leaves_a_steady_stream_alone_as_rivers_does() -> None:
    river, ours = pytest.importorskip("river.drift").ADWIN(), Adwin()
    for value in np.random.default_rng(5).normal(size=20_000).tolist():
        river.update(value)
        ours.update(value)
    assert (ours.cuts, river.n_detections) == (0, 0)
    assert (ours.width, river.width) == (20_000, 20_000)
    assert ours.mean == pytest.approx(river.estimation)


def test_adwins_memory_is_logarithmic() -> None:
    ours = Adwin(clock=10_000)
    for value in range(100_000):
        ours.update(float(value % 7))
    assert sum(len(buckets) for buckets in ours._sizes) < 100


@pytest.mark.parametrize("shift", SHIFTS)
def test_page_hinkley_is_rivers(shift: float) -> None:
    river = pytest.importorskip("river.drift").PageHinkley(threshold=30.0)
    ours, theirs, mine = PageHinkley(threshold=30.0), [], []
    for at, value in enumerate(steps(shift, int(10 * shift))):
        river.update(value)
        theirs += [at] if river.drift_detected else []
        mine += [at] if ours.update(value) else []
    assert mine == theirs
    assert mine


@pytest.mark.parametrize("made", [Adwin, PageHinkley])
def test_a_detector_goes_on_where_it_was(made: type[Adwin] | type[PageHinkley]) -> None:
    values, whole, cut = steps(2.0, 1), made(), made()
    expected = [whole.update(value) for value in values]
    found = [cut.update(value) for value in values[:700]]
    after = made()
    after.resume(cut.json)
    assert found + [after.update(value) for value in values[700:]] == expected


@pytest.mark.parametrize("text", ["", "3", "[]", "[1, 2]", '[1, 0, [[["a", 1]]]]', "[1, 0, [[[1e999, 0]]]]", "[[[["])
def test_a_damaged_detector_is_refused(text: str) -> None:
    for made in (Adwin(), PageHinkley()):
        with pytest.raises(ValueError, match=r"."):
            made.resume(text)


def stage(dim: int = 2, rules: DriftRules = RULES) -> Drifts:
    reference = Reference(np.zeros(dim), np.ones(dim), 0.0, 1.0)
    return Drifts(tuple(f"T{d}" for d in range(dim)), reference, rules)


def run(made: Drifts, rows_TD: FloatArray, score: float = 0.0, first: int = 0) -> list[Record]:
    return [
        record
        for i, row_D in enumerate(rows_TD, first)
        for record in made.feed(Sample(float(i), row_D, i), scored(i, score, threshold=9.0))
    ]


def rows(count: int, *means: float, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(means, 1.0, (count, len(means))).astype(np.float32)


def named(records: Iterable[Record]) -> list[tuple[str, str]]:
    return [(r.tag, r.state) for r in records if isinstance(r, Drift)]


def test_a_steady_plant_does_not_drift() -> None:
    assert run(stage(), rows(20_000, 0, 0)) == []


def test_a_tag_that_moves_away_drifts_and_settles_when_it_comes_back() -> None:
    made = stage()
    run(made, rows(4000, 0, 0))
    away = run(made, rows(4000, 0, 3.0, seed=1), first=4000)
    assert named(away) == [("T1", "drifting")]
    assert made.drifting["T1"] > RULES.far
    assert named(run(made, rows(4000, 0, 0, seed=2), first=8000)) == [("T1", "settled")]


def test_between_near_and_far_nothing_is_told() -> None:
    made = stage()
    assert run(made, rows(4000, 0, 0)) == []
    assert run(made, rows(8000, 0, 1.1, seed=1), first=4000) == []
    assert made.drifting == {}


def test_a_tag_that_is_far_off_from_the_beginning_drifts_though_nothing_changes() -> None:
    assert named(run(stage(), rows(2000, 0, 3.0))) == [("T1", "drifting")]


def test_scores_that_rise_drift_and_alarmed_ones_do_not_count() -> None:
    made = stage()
    run(made, rows(2000, 0, 0), score=0.0)
    assert named(run(made, rows(2000, 0, 0), score=4.0, first=2000)) == [("score", "drifting")]
    made = stage()
    run(made, rows(2000, 0, 0))
    assert run(made, rows(2000, 0, 0), score=20.0, first=2000) == []
    assert run(made, rows(2000, 0, 0), score=float("inf"), first=4000) == []


def test_a_tag_that_never_moved_and_missing_readings_are_not_judged() -> None:
    made = stage()
    rows_TD = rows(6000, 0, 0)
    rows_TD[3000:, 1] = np.nan
    assert run(made, rows_TD) == []
    still = Drifts(("T0",), Reference(np.zeros(1), np.zeros(1), 0.0, 1.0), RULES)
    assert run(still, rows(4000, 5.0)) == []


def test_a_stage_goes_on_where_it_was_and_refuses_what_is_none() -> None:
    made, values = stage(), rows(8000, 0, 2.5)
    expected = run(stage(), values)
    found = run(made, values[:50])
    after = stage()
    after.resume(made.json)
    assert named(found + run(after, values[50:], first=50)) == named(expected)
    for text in ("", "{}", "[]", made.json.replace("windows", "x")):
        with pytest.raises(ValueError, match=r"."):
            after.resume(text)


def test_a_hundred_and_twenty_three_tags_cost_less_than_a_tenth_of_a_millisecond() -> None:
    made, values = stage(123, DriftRules()), rows(3000, *[0.0] * 123)
    began = time.process_time()
    for i, row_D in enumerate(values):
        made.feed(Sample(float(i), row_D, i), None)
    assert (time.process_time() - began) / len(values) < 3e-4  # measured 0.06 ms; a busy machine has three times that


def test_rules_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="near must be"):
        DriftRules(far=1.0, near=2.0)
