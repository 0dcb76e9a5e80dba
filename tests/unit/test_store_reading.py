"""What people look at in a store: pages of rounds, curves, plants and candidates, and the totals behind them."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

from server.rounds import Phase, PlantReport, RoundRecord, Status
from server.store import totals
from server.store.auditlog import Actor
from server.store.queries import stride
from server.store.reading import Reader
from server.store.registry import Registry
from server.store.store import RoundStore
from server.store.tables import PlantRow, TallyRow
from shared.errors import RoundNotFound, StoreError, StoreUnreadable
from tests.support.stores import CONFIG, NORTH, SOUTH, filled, model, record, state

ADA = Actor("ada", "operator")


def _alter(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "rounds.sqlite", isolation_level=None)) as connection:
        connection.execute(statement)


def _commit(
    store: RoundStore,
    number: int,
    plants: Sequence[PlantReport],
    seed: int | None,
    order: int | None = None,
    **fields: Any,
) -> RoundRecord:
    """Round `number` with the model of that seed."""
    after = dataclasses.replace(state("a", number), model=None if seed is None else model(seed))
    made = dataclasses.replace(record(after, tuple(plants)), **fields)
    store.commit(made, after, order)
    return made


# ---- totals: what is written with each round is what its rows amount to ----

_REASONS = (None, "late: 3 s", "joined: from round 3 on", "Joined: not the word", "schema: 3 tags")
_LABELS = (
    *((Phase.JOINT, "train 1/9"), (Phase.JOINT, "calibrate 2"), (Phase.CALIBRATE, "calibrate")),
    *((Phase.CALIBRATE, "moments"), (Phase.DESCRIBE, "describe"), (Phase.CALIBRATE, "rollback to round 1")),
)
_report = st.builds(
    lambda plant, accepted, reason, down, up: PlantReport(
        plant, accepted, None if accepted else reason, {}, 9, down, up
    ),
    st.sampled_from(("north", "south", "Öst", "we\ud800st", "x'; DROP TABLE plants --")),
    st.booleans(),
    st.sampled_from(_REASONS),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)
_round = st.fixed_dictionaries(
    {
        "plants": st.lists(_report, max_size=5, unique_by=lambda report: report.plant),
        "where": st.sampled_from(_LABELS),
        "status": st.sampled_from(Status),
        "seed": st.sampled_from((None, 1, 2)),
    }
)


def _expected(records: Sequence[RoundRecord]) -> dict[str, dict[str, Any]]:
    """The totals by their definition, one plant after the other."""
    names = {p.plant for r in records for p in r.plants}
    return {name: _of_plant([(r, p) for r in records for p in r.plants if p.plant == name], records) for name in names}


def _of_plant(parts: Sequence[tuple[RoundRecord, PlantReport]], records: Sequence[RoundRecord]) -> dict[str, Any]:
    counted = [r for r, p in parts if p.accepted]
    live = [r for r in counted if r.label.startswith(("calibrate", "rollback"))]
    sent = None if not live else records[0] if live[-1].label.startswith("rollback") else live[-1]
    if sent is not None and sent.model is None:
        sent = live[-1]  # round 1 has no model, so nobody can have ordered it
    return {
        "rounds": sum(not p.joined for _, p in parts),
        "accepted": len(counted),
        "bytes_down": sum(p.bytes_down for _, p in parts),
        "bytes_up": sum(p.bytes_up for _, p in parts),
        "last_round": parts[-1][0].number,
        "last_reason": parts[-1][1].reason,
        "seen_round": counted[-1].number if counted else None,
        "seen": counted[-1].started if counted else None,
        "live_round": live[-1].number if live else None,
        "live_model": None if sent is None else sent.model,
    }


def _rows(store: RoundStore, derived: bool) -> tuple[list[tuple[Any, ...]], dict[str, dict[str, Any]]]:
    with store.session() as session:
        tallies = totals.derive_tallies("a") if derived else select(TallyRow.__table__)
        kept = list(session.execute(select(PlantRow.__table__)).mappings())
        plants = totals.derive_plants(session, "a") if derived else kept
        found = {row["plant"]: {k: row[k] for k in row if k not in ("run", "plant")} for row in plants}
        return sorted(map(tuple, session.execute(tallies).all())), found


@settings(max_examples=15)
@given(st.lists(_round, min_size=1, max_size=6))
def test_totals_are_what_the_rounds_amount_to(history: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        store = RoundStore.create(folder)
        store.start_run("a", CONFIG)
        for number, r in enumerate(history, 1):
            phase, label = r["where"]
            started = f"2024-05-01T10:00:{number:02}+00:00"
            fields = {"phase": phase, "label": label, "status": r["status"], "started": started}
            _commit(store, number, sorted(r["plants"], key=lambda p: p.plant), r["seed"], **fields)
        records = store.rounds("a")
        written, derived = _rows(store, derived=False), _rows(store, derived=True)
        tallies = [
            ("a", r.number, len(r.plants) - len(r.joined), len(r.accepted), len(r.joined), r.bytes_total)
            for r in records
        ]
        assert written == derived == (tallies, _expected(records))
        reader = Reader(store)
        assert {line.plant: line.rounds for line in reader.plants("a")} == {
            name: fields["rounds"] for name, fields in _expected(records).items()
        }


@pytest.mark.parametrize("table", ["rounds", "updates", "tallies", "plants"])
def test_totals_that_cannot_be_written_leave_no_round_and_a_round_no_totals(tmp_path: Path, table: str) -> None:
    store = filled(tmp_path)
    _alter(tmp_path, f"CREATE TRIGGER stop BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'stopped'); END")
    before = _rows(store, derived=False)
    with pytest.raises(StoreError, match="stopped"):
        _commit(store, 4, (NORTH, SOUTH, PlantReport("west", True)), 4)
    assert len(store.rounds("a")) == 3
    assert _rows(store, derived=False) == before == _rows(store, derived=True)


def test_rounds_that_an_older_version_wrote_in_between_are_told_at_once_and_counted_later(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=4)
    whole = (_rows(store, derived=False), Reader(store).plants("a"), Reader(store).rounds("a"))
    _alter(tmp_path, "DELETE FROM tallies WHERE number > 2")
    _alter(tmp_path, "UPDATE plants SET rounds = 2, last_round = 2")
    assert (Reader(store).plants("a"), Reader(store).rounds("a")) == whole[1:]
    RoundStore.create(str(tmp_path))
    assert _rows(store, derived=False) == whole[0]
    _alter(tmp_path, "DELETE FROM tallies WHERE number = 4")
    _commit(store, 5, (NORTH,), 5)
    assert _rows(store, derived=False) == _rows(store, derived=True)
    assert Reader(store).plant("a", "north").rounds == 5


# ---- which model plants score by ----


def test_an_order_decides_which_model_is_live_until_the_next(tmp_path: Path) -> None:
    store = filled(tmp_path)
    registry, reader = Registry(store), Reader(store)

    def calibrated(number: int, order: int | None, label: str) -> str | None:
        _commit(store, number, (NORTH, SOUTH), number, order, phase=Phase.CALIBRATE, label=label)
        assert _rows(store, derived=False) == _rows(store, derived=True)
        assert reader.plant("a", "south").live_model is None  # its answer did not count
        assert reader.plant("a", "north").live_round == number
        return reader.plant("a", "north").live_model

    assert calibrated(4, None, "calibrate") == model(4).digest
    order = registry.promote("a", 2, ADA, "best on north")
    assert calibrated(5, order.id, order.label) == model(2).digest
    assert calibrated(6, None, "calibrate") == model(2).digest
    order = registry.follow("a", ADA, "go on")
    assert calibrated(7, order.id, order.label) == model(6).digest
    assert calibrated(8, None, "calibrate") == model(8).digest


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
    made = _commit(store, 4, (NORTH, SOUTH, late), 4, status=Status.SKIPPED, reason="1 of 2 plants counted")
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
    _commit(store, 4, (NORTH,), 4, phase=Phase.CALIBRATE, label="calibrate", status=Status.FAILED, metrics={"z": 1.0})
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
        _commit(store, number, (NORTH, SOUTH) if number % 2 else (SOUTH,), None)
    assert Reader(store).series("a", "train_loss", "north").numbers == (1, 3, 5, 7, 9, 11)
    assert Reader(store).series("a", "train_loss", "north", points=3).numbers == (1, 7, 11)
    losses, nothing = Reader(store).curves("a", ("train_loss", "x"), "north", points=2)
    assert (losses.numbers, losses.values, nothing.values) == ((1, 11), (0.5, 0.5), (None, None))
    _alter(tmp_path, "DELETE FROM updates WHERE number = 5")
    _alter(tmp_path, "DELETE FROM rounds WHERE number = 5")
    assert Reader(store).series("a", "train_loss").numbers == (1, 2, 3, 4, 6, 7, 8, 9, 10, 11)
    assert Reader(store).series("a", "train_loss", points=4).numbers == (1, 6, 10, 11)


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
    _commit(store, 3, (_measures("north", 3.0), _measures("south", 3.5)), 3)
    _commit(store, 4, (PlantReport("north", True, None, {}),), 4, metrics={}, label="refresh 1/1")  # measures nothing
    _commit(store, 5, (_measures("north", 5.0),), 4, status=Status.SKIPPED, metrics={})  # the model stays
    _commit(store, 6, (_measures("north", 6.0), _measures("south", 6.5)), 6)
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
    _commit(store, 5, (_measures("north", 2.5),), 4, order.id, phase=Phase.CALIBRATE, label=order.label)
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
    _commit(store, 4, (NORTH,), 4, order.id, phase=Phase.CALIBRATE, label=order.label)
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
    _alter(tmp_path, f"UPDATE rounds SET {column} WHERE number = 3")
    looks = (reader.page, reader.rounds, lambda run: reader.round(run, 3))
    for look in looks if "zeroblob(300)" not in column else looks[2:]:
        with pytest.raises(StoreUnreadable) as caught:
            look("a")
        assert len(str(caught.value)) < 800
    assert [line.number for line in reader.rounds("a", before=3)] == [2, 1]


@pytest.mark.parametrize("column", [c for c in _DAMAGE if c.startswith("metrics") and "zeroblob(300)" not in c])
def test_a_damaged_part_is_one_clear_error(tmp_path: Path, column: str) -> None:
    reader = Reader(filled(tmp_path))
    _alter(tmp_path, f"UPDATE updates SET {column} WHERE number = 3")
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
    _alter(tmp_path, f"UPDATE plants SET {column}")
    with pytest.raises(StoreUnreadable, match="plant 'north'"):
        reader.plants("a")


@pytest.mark.parametrize(
    "column", ["status = 'bogus'", "created = x'35'", "models_dir = x'2f'", "note = x'ff'", "config = '{'"]
)
def test_a_damaged_run_is_one_clear_error(tmp_path: Path, column: str) -> None:
    reader = Reader(filled(tmp_path))
    _alter(tmp_path, f"UPDATE runs SET {column}")
    with pytest.raises(StoreUnreadable):
        reader.page("a")
    if not column.startswith("config"):  # nobody lists settings
        with pytest.raises(StoreUnreadable):
            reader.runs()


def test_figures_that_json_lacks_read_as_none(tmp_path: Path) -> None:
    reader = Reader(filled(tmp_path))
    for table in ("rounds", "updates"):
        _alter(tmp_path, f'UPDATE {table} SET metrics = \'{{"holdout_loss": NaN, "x": -1e999, "y": null}}\'')
    nothing: Mapping[str, None] = {"holdout_loss": None, "x": None, "y": None}
    assert reader.rounds("a")[0].metrics == nothing
    assert reader.attempts("a", "north")[0].metrics == nothing
    assert reader.series("a", "x").values == (None, None, None)
    assert reader.matrix("a") == []
    _alter(tmp_path, "UPDATE rounds SET seconds = 9e999")
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


def test_no_page_reads_a_state(tmp_path: Path) -> None:
    reader = Reader(filled(tmp_path))
    statements: list[str] = []

    def note(*told: Any) -> None:
        statements.append(str(told[2]))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for look in (reader.page, reader.rounds, reader.plants, reader.matrix, reader.version):
            look("a")
        reader.series("a", "x"), reader.attempts("a", "north"), reader.plant("a", "north"), reader.runs()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    read = [statement for statement in statements if "rounds" in statement]
    assert len(read) > 8
    assert not [statement for statement in read if "rounds.state" in statement]
