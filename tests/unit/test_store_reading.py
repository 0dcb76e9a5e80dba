"""What people look at in a store: pages of rounds, curves, plants and candidates."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

from server.rounds import Phase, PlantReport, Status
from server.store import totals
from server.store.auditlog import Actor
from server.store.queries import stride
from server.store.reading import Reader
from server.store.registry import Registry
from server.store.rows import read_state
from server.store.store import RoundStore
from server.store.tables import PlantRow, RoundRow, TallyRow
from shared.errors import RoundNotFound, StoreUnreadable
from tests.support.big_store import RUN, fill, plant_names
from tests.support.stores import CONFIG, NORTH, SOUTH, alter, commit, filled, model

ADA = Actor("ada", "operator")


# ---- pages ----


def test_runs_and_rounds_come_in_pages_the_newest_first(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=7)
    for name in ("b", "c"):
        store.start_run(name, CONFIG)
    reader = Reader(RoundStore.open(str(tmp_path), look=True))
    assert [(o, info.name, info.rounds) for o, info in reader.runs(limit=2)] == [(3, "c", 0), (2, "b", 0)]
    assert [(o, info.name, info.rounds) for o, info in reader.runs(before=2)] == [(1, "a", 7)]
    assert [line.number for line in reader.rounds("a", limit=3)] == [7, 6, 5]
    assert [line.number for line in reader.rounds("a", before=5, limit=500)] == [4, 3, 2, 1]
    assert [line.number for line in reader.rounds("a", before=2**70, limit=-5)] == [7]
    assert reader.rounds("a", before=-(2**70)) == []
    assert reader.rounds("b") == []
    page = reader.page("b")
    assert (page.newest, page.phases, page.metrics, reader.series("b", "loss").numbers) == (None, {}, (), ())


def test_a_line_tells_what_the_round_does(tmp_path: Path) -> None:
    store = filled(tmp_path)
    late = PlantReport("west", False, "joined: from round 5 on", bytes_up=7)
    made = commit(store, 4, (NORTH, SOUTH, late), 4, status=Status.SKIPPED, reason="1 of 2 plants counted")
    line = Reader(store).rounds("a", limit=1)[0]
    for name in ("number", "label", "reason", "started", "seconds", "model", "metrics", "timings"):
        assert getattr(line, name) == getattr(made, name)
    assert (line.phase, line.status) == ("joint", "skipped")
    assert (line.asked, line.accepted, line.joined, line.bytes) == (2, 1, 1, made.bytes_total)
    assert [found.number for found in Reader(store).rounds("a", status="skipped")] == [4]
    assert [found.number for found in Reader(store).rounds("a", status="committed", before=3)] == [2, 1]
    assert Reader(store).rounds("a", status="\ud800\0") == []
    assert Reader(store).round("a", 4).plants[2] == late


def test_a_run_counts_its_phases_and_names_its_figures(tmp_path: Path) -> None:
    store = filled(tmp_path)
    commit(store, 4, (NORTH,), 4, phase=Phase.CALIBRATE, label="calibrate", status=Status.FAILED, metrics={"z": 1.0})
    page = Reader(store).page("a")
    assert (list(page.phases.items()), page.statuses) == (
        [("joint", 3), ("calibrate", 1)],
        {"committed": 3, "failed": 1},
    )
    assert (page.metrics, page.plant_metrics) == (("holdout_loss", "train_loss", "z"), ("holdout_loss", "train_loss"))
    assert page.newest is not None
    assert (page.info.name, page.newest.number) == ("a", 4)


def test_a_curve_is_thinned_evenly_and_keeps_its_ends(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=9)
    reader = Reader(store)
    whole = reader.series("a", "holdout_loss")
    assert whole.numbers == tuple(range(1, 10))
    assert whole.values == tuple(0.7 / n for n in range(1, 10))
    few = reader.series("a", "holdout_loss", points=3)
    assert (few.numbers, few.values) == ((1, 5, 9), (0.7, 0.7 / 5, 0.7 / 9))
    assert reader.series("a", "nothing", points=2).values == (None, None)
    assert reader.series("a", "holdout_loss", points=-1).numbers == (9,)
    assert reader.series("a", "train_loss", plant="north", points=2).values == (0.5, 0.5)
    with pytest.raises(RoundNotFound, match="has no plant 'east'"):
        reader.series("a", "train_loss", plant="east")


@given(st.integers(1, 10_000), st.integers(2, 500))
def test_a_stride_leaves_at_most_so_many_points_with_the_last(count: int, points: int) -> None:
    taken = {*range(0, count, stride(count - 1, points)), count - 1}
    assert min(points, count) / 2 <= len(taken) <= points


def test_the_curve_of_a_plant_that_was_away_is_thinned_over_its_own_rounds(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=1)
    for number in range(2, 12):
        commit(store, number, (NORTH, SOUTH) if number % 2 else (SOUTH,), None)
    assert Reader(store).series("a", "train_loss", "north").numbers == (1, 3, 5, 7, 9, 11)
    assert Reader(store).series("a", "train_loss", "north", points=3).numbers == (1, 7, 11)
    losses, nothing = Reader(store).curves("a", ("train_loss", "x"), "north", points=2)
    assert (losses.numbers, losses.values, nothing.values) == ((1, 11), (0.5, 0.5), (None, None))
    alter(tmp_path, "DELETE FROM updates WHERE number = 5")
    alter(tmp_path, "DELETE FROM rounds WHERE number = 5")
    assert Reader(store).series("a", "train_loss").numbers == (1, 2, 3, 4, 6, 7, 8, 9, 10, 11)
    assert Reader(store).series("a", "train_loss", points=4).numbers == (1, 6, 11)  # 1, 1 + 4, and one more each second


def test_a_plants_rounds_come_in_pages(tmp_path: Path) -> None:
    reader = Reader(filled(tmp_path, rounds=5))
    assert [a.number for a in reader.attempts("a", "north", before=4, limit=2)] == [3, 2]
    assert reader.attempts("a", "north", refused=True) == []
    last = reader.attempts("a", "south", refused=True, limit=1)[0]
    assert (last.number, last.accepted, last.reason, last.seconds) == (5, False, SOUTH.reason, 1.0)
    assert last.started == "2024-05-01T10:00:00.000+00:00"
    with pytest.raises(RoundNotFound, match="has no plant"):
        reader.plant("a", "\ud800")


# ---- candidates ----


def _measures(plant: str, loss: float) -> PlantReport:
    return PlantReport(plant, True, None, {"holdout_loss": loss})


def test_candidates_stand_with_what_plants_measured_one_round_later(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=2)  # the second left model 2
    commit(store, 3, (_measures("north", 3.0), _measures("south", 3.5)), 3)
    commit(store, 4, (PlantReport("north", True, None, {}),), 4, metrics={}, label="refresh 1/1")  # measures nothing
    commit(store, 5, (_measures("north", 5.0),), 4, status=Status.SKIPPED, metrics={})  # the model stays
    commit(store, 6, (_measures("north", 6.0), _measures("south", 6.5)), 6)
    found = [(c.number, c.model, dict(c.values)) for c in Reader(store).matrix("a")]
    assert found == [
        (4, model(4).digest, {"north": 6.0, "south": 6.5}),  # measured twice: the last counts
        (2, model(2).digest, {"north": 3.0, "south": 3.5}),
    ]
    assert [c.number for c in Reader(store).matrix("a", last=1)] == [4]
    assert Reader(store).matrix("a", metric="nothing") == []


def test_a_chosen_model_is_measured_by_the_round_that_brings_it(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=4)
    order = Registry(store).promote("a", 2, ADA, "best on north")
    commit(store, 5, (_measures("north", 2.5),), 4, order.id, phase=Phase.CALIBRATE, label=order.label)
    assert [(c.number, dict(c.values)) for c in Reader(store).matrix("a", last=1)] == [(2, {"north": 2.5})]


# ---- when to look again ----


def test_the_version_changes_with_rounds_status_and_orders_and_with_nothing_else(tmp_path: Path) -> None:
    store = filled(tmp_path)
    reader, registry = Reader(store), Registry(store)
    seen = [reader.version("a")]
    store.start_run("b", CONFIG)
    assert reader.version("a") == seen[0]
    assert reader.version("b") != seen[0]
    order = registry.promote("a", 2, ADA, "why")
    seen.append(reader.version("a"))
    commit(store, 4, (NORTH,), 4, order.id, phase=Phase.CALIBRATE, label=order.label)
    seen.append(reader.version("a"))
    store.finish_run("a", "finished", "note")
    seen.append(reader.version("a"))
    registry.fail(registry.rollback("a", ADA, "back", to=2).id, "no plant came")
    seen.append(reader.version("a"))
    assert len(set(seen)) == 5


# ---- what is damaged, hostile or not there ----

_DAMAGE = (
    *("metrics = '[1]'", "metrics = '{'", "metrics = 'null'", "metrics = 5", "metrics = x'ff00'"),
    *('timings = \'{"a": "b"}\'', "started = x'35'", "started = x'ff'", "seconds = 'soon'", "model = x'00'"),
    "metrics = '{\"a\": ' || replace(hex(zeroblob(100000)), '00', '[') || '}'",
    "metrics = '{\"a\": 1' || replace(hex(zeroblob(3000)), '00', '00') || '}'",
    "metrics = '{\"a\": 1' || replace(hex(zeroblob(300)), '00', '00') || '}'",
)


@pytest.mark.parametrize("column", _DAMAGE)
def test_a_damaged_round_is_one_clear_error(tmp_path: Path, column: str) -> None:
    reader = Reader(filled(tmp_path))
    alter(tmp_path, f"UPDATE rounds SET {column} WHERE number = 3")
    looks = (reader.page, reader.rounds, lambda run: reader.round(run, 3))
    for look in looks if "zeroblob(300)" not in column else looks[2:]:
        with pytest.raises(StoreUnreadable) as caught:
            look("a")
        assert len(str(caught.value)) < 800
    assert [line.number for line in reader.rounds("a", before=3)] == [2, 1]


@pytest.mark.parametrize("column", [c for c in _DAMAGE if c.startswith("metrics") and "zeroblob(300)" not in c])
def test_a_damaged_part_is_one_clear_error(tmp_path: Path, column: str) -> None:
    reader = Reader(filled(tmp_path))
    alter(tmp_path, f"UPDATE updates SET {column} WHERE number = 3")
    looks = (
        reader.page,
        lambda run: reader.attempts(run, "north"),
        lambda run: reader.series(run, "train_loss", "north"),
        reader.matrix,
    )
    for look in looks:
        with pytest.raises(StoreUnreadable):
            look("a")
    assert len(reader.plants("a")) == 2


@pytest.mark.parametrize("column", ["rounds = 'many'", "seen = x'35'", "last_round = 1.5", "live_model = x'00'"])
def test_damaged_totals_are_one_clear_error(tmp_path: Path, column: str) -> None:
    reader = Reader(filled(tmp_path))
    alter(tmp_path, f"UPDATE plants SET {column}")
    with pytest.raises(StoreUnreadable, match="plant 'north'"):
        reader.plants("a")


@pytest.mark.parametrize("column", ["status = 'bogus'", "created = x'35'", "models_dir = x'2f'", "note = x'ff'"])
def test_a_damaged_run_is_one_clear_error(tmp_path: Path, column: str) -> None:
    reader = Reader(filled(tmp_path))
    alter(tmp_path, f"UPDATE runs SET {column}")
    for look in (lambda: reader.page("a"), reader.runs):
        with pytest.raises(StoreUnreadable):
            look()


def test_damaged_settings_stop_nobody_who_does_not_ask_for_them(tmp_path: Path) -> None:
    store = filled(tmp_path)
    alter(tmp_path, "UPDATE runs SET config = '{'")
    assert Reader(store).page("a").info.rounds == 3
    with pytest.raises(StoreUnreadable, match="not JSON"):
        store.config("a")


def test_figures_that_json_lacks_read_as_none(tmp_path: Path) -> None:
    reader = Reader(filled(tmp_path))
    for table in ("rounds", "updates"):
        alter(tmp_path, f'UPDATE {table} SET metrics = \'{{"holdout_loss": NaN, "x": -1e999, "y": null}}\'')
    nothing: Mapping[str, None] = {"holdout_loss": None, "x": None, "y": None}
    assert reader.rounds("a")[0].metrics == nothing
    assert reader.attempts("a", "north")[0].metrics == nothing
    assert reader.series("a", "x").values == (None, None, None)
    assert reader.matrix("a") == []
    alter(tmp_path, "UPDATE rounds SET seconds = 9e999")
    assert reader.rounds("a")[0].seconds is None


@pytest.mark.parametrize("name", ["", "b", "'; DROP TABLE rounds --", "\0", "\ud800", "x" * 10_000, "../../etc"])
def test_a_run_that_is_not_there(tmp_path: Path, name: str) -> None:
    reader = Reader(filled(tmp_path))
    looks = (
        *(reader.page, reader.rounds, reader.plants, reader.matrix, reader.version),
        *(lambda run: reader.series(run, "x"), lambda run: reader.attempts(run, "x"), lambda run: reader.round(run, 1)),
    )
    for look in looks:
        with pytest.raises(RoundNotFound):
            look(name)


@contextmanager
def _statements() -> Iterator[list[tuple[str, Any]]]:
    """What the database is asked meanwhile, with its parameters."""
    told: list[tuple[str, Any]] = []

    def note(*event: Any) -> None:
        told.append((str(event[2]), event[3]))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield told
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def _look_at_everything(reader: Reader, run: str, plant: str) -> None:
    for look in (reader.page, reader.rounds, reader.plants, reader.matrix, reader.version):
        look(run)
    for who in (None, plant):
        reader.series(run, "holdout_loss", who, 5)
    for refused in (False, True):
        reader.attempts(run, plant, refused=refused)
    reader.rounds(run, status="skipped")
    reader.round(run, 2)
    reader.plant(run, plant)
    reader.runs()


def test_no_page_reads_a_state_or_goes_through_all_rows(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    fill(store, 40, 3)
    with _statements() as told:
        _look_at_everything(Reader(store), RUN, plant_names(3)[1])
    read = [(text, given) for text, given in told if text.startswith(("SELECT", "WITH")) and "sqlite_" not in text]
    assert len(read) > 20
    assert not [text for text, _ in read if "rounds.state" in text]
    with closing(sqlite3.connect(tmp_path / "rounds.sqlite")) as connection:
        plans = [row[3] for text, given in read for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", given)]
    assert len(plans) > 20
    assert not [plan for plan in plans if plan.startswith(("SCAN rounds", "SCAN updates", "SCAN tallies"))]


def test_a_store_that_was_filled_for_measuring_is_like_one_of_a_run(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    fill(store, 40, 3)
    records = store.rounds(RUN)
    assert ([r.number for r in records], len(records[0].plants)) == (list(range(1, 41)), 3)
    assert {plant.reason for r in records for plant in r.rejected}
    with store.session() as session:
        kept = {row["plant"]: dict(row) for row in session.execute(select(PlantRow.__table__)).mappings()}
        assert kept == {row["plant"]: row for row in totals.derive_plants(session, RUN)}
        counts = {row.number: (row.asked, row.accepted) for row in session.scalars(select(TallyRow))}
    assert counts == {r.number: (3, len(r.accepted)) for r in records}
    read_state(_last_row(store))


def _last_row(store: RoundStore) -> RoundRow:
    with store.session() as session:
        row = session.get_one(RoundRow, (RUN, 40))
        session.expunge(row)
        return row
