"""The totals of rounds and plants: what is written with each round is what its rows amount to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from server.rounds import Phase, PlantReport, RoundRecord, Status
from server.store import totals
from server.store.auditlog import Actor
from server.store.reading import Reader
from server.store.registry import Registry
from server.store.store import RoundStore
from server.store.tables import PlantRow, TallyRow
from shared.errors import StoreError
from tests.support.stores import CONFIG, NORTH, SOUTH, alter, commit, filled, model

ADA = Actor("ada", "operator")


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
            commit(store, number, sorted(r["plants"], key=lambda p: p.plant), r["seed"], **fields)
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
    alter(tmp_path, f"CREATE TRIGGER stop BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'stopped'); END")
    before = _rows(store, derived=False)
    with pytest.raises(StoreError, match="stopped"):
        commit(store, 4, (NORTH, SOUTH, PlantReport("west", True)), 4)
    assert len(store.rounds("a")) == 3
    assert _rows(store, derived=False) == before == _rows(store, derived=True)


def test_rounds_that_an_older_version_wrote_in_between_are_told_at_once_and_counted_later(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=4)
    whole = (_rows(store, derived=False), Reader(store).plants("a"), Reader(store).rounds("a"))
    alter(tmp_path, "DELETE FROM tallies WHERE number > 2")
    alter(tmp_path, "UPDATE plants SET rounds = 2, last_round = 2")
    assert (Reader(store).plants("a"), Reader(store).rounds("a")) == whole[1:]
    RoundStore.create(str(tmp_path))
    assert _rows(store, derived=False) == whole[0]
    alter(tmp_path, "DELETE FROM tallies WHERE number = 4")
    commit(store, 5, (NORTH,), 5)
    assert _rows(store, derived=False) == _rows(store, derived=True)
    assert Reader(store).plant("a", "north").rounds == 5


# ---- which model plants score by ----


def test_an_order_decides_which_model_is_live_until_the_next(tmp_path: Path) -> None:
    store = filled(tmp_path)
    registry, reader = Registry(store), Reader(store)

    def calibrated(number: int, order: int | None, label: str) -> str | None:
        commit(store, number, (NORTH, SOUTH), number, order, phase=Phase.CALIBRATE, label=label)
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
