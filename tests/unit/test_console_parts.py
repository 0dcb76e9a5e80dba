"""The parts that pages are made of: durations, drift, ranks, advice, curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from server.console.advice import advise
from server.console.charts import charts_of
from server.console.compare_page import cells
from server.console.plant_page import drift_of
from server.console.round_page import durations
from server.rounds import Status
from server.store.shown import Candidate, Series
from server.store.store import RoundStore
from tests.support.console_runs import console, rich, round_of
from tests.support.stores import CONFIG, state


def test_the_parts_of_a_round_add_up_to_its_duration() -> None:
    for number in (3, 11, 12):
        record = round_of("a", number)
        parts = durations(record)
        assert sum(part.seconds for part in parts) == pytest.approx(record.seconds)
        assert sum(part.width for part in parts) == pytest.approx(100, abs=0.01)
    odd = replace(record, seconds=float("nan"), timings={"wait": float("inf")}, status=Status.FAILED)
    assert durations(odd) == ()


def test_a_plant_that_is_far_off_its_best_is_told_to_drift() -> None:
    drift = drift_of(Series("holdout_loss", "north", (1, 2, 3, 4), (0.4, 0.1, None, 0.3)))
    assert drift.ratio == pytest.approx(3.0)
    assert (drift.best_round, drift.newest_round, drift.tone) == (2, 4, "bad")
    assert drift_of(Series("holdout_loss", "north", (1, 2), (0.2, 0.21))).tone == "ok"
    assert drift_of(Series("holdout_loss", "north", (1, 2), (0.2, 0.28))).tone == "warn"
    assert drift_of(Series("holdout_loss", "north", (1,), (0.2,))).ratio is None
    assert drift_of(Series("holdout_loss", "north", (1, 2), (0.0, 0.2))).ratio is None


def test_candidates_are_ranked_plant_by_plant() -> None:
    rows = [Candidate(9, "a" * 64, {"north": 0.1, "south": 0.3}), Candidate(7, "b" * 64, {"north": 0.2, "south": 0.1})]
    found = cells(rows, ["north", "south"], higher=False)
    assert (found[0, "north"].rank, found[0, "north"].best, found[0, "south"].rank) == (1, True, 2)
    assert found[1, "south"].best
    assert cells(rows, ["north"], higher=True)[1, "north"].best
    alone = cells([rows[0]], ["north"], higher=False)[0, "north"]
    assert not alone.best


@pytest.mark.parametrize(
    ("reason", "kind", "says"),
    [
        ("late: no reply within 40 s", "late", "deadline"),
        ("absent: not connected", "absent", "preflight"),
        ("refused by the plant: CP-903 BudgetSpent", "refused", "budget"),
        ("refused by the plant: CP-603 kind", "refused", "policy.toml"),
        ("refused by the plant: CP-999 Odd", "refused", "client audit"),
        ("NaN: 3 values of head.bias", "bad values", "gaps"),
        ("schema: CP-203", "other sensors", "tag map"),
        ("replay: bit for bit the update that this plant sent in round 3.", "replay", "keys"),
        ("round 3, expected 4: a stale reply.", "stale", "again"),
        ("something new", "invalid", "version"),
        (None, "invalid", "version"),
    ],
)
def test_every_reason_comes_with_something_to_do(reason: str | None, kind: str, says: str) -> None:
    told = advise(reason)
    assert told.kind == kind
    assert says in f"{told.meaning} {told.cure}"


def test_a_run_of_many_plants_draws_only_those_that_are_asked_for(tmp_path: Path) -> None:
    plants = [f"p{i:02}" for i in range(12)]
    rich(tmp_path / "store", 12, plants=plants)
    reader = console(tmp_path / "store").state.console.reader
    page = reader.page("a")
    few = charts_of(reader, page, plants, None)
    assert [line["label"] for line in few[0].lines] == ["all plants"]
    one = charts_of(reader, page, plants, "p03")
    assert [line["label"] for line in one[0].lines] == ["all plants", "p03"]
    assert "plant=p03" in one[0].lines[1]["url"]
    assert one[0].labels == ("all plants", "p03")


def test_a_curve_that_is_thinned_meets_the_rounds_that_measure(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", CONFIG)
    for number in range(1, 62):
        told = {"holdout_loss": 1 / number} if number % 4 == 0 else {}
        store.commit(replace(round_of("a", number), metrics=told), state("a", number))
    for points in (16, 20, 31):
        series = console(tmp_path, read_only=True).state.console.reader.series("a", "holdout_loss", None, points)
        assert len(series.numbers) <= points
        assert sum(value is not None for value in series.values) >= 2, points
