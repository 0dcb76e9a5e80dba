"""The alarm stage, its files and its orders: what a runtime sees of them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.edge.alarm_files import MOST_WINDOWS, ORDERS, STATE, WINDOWS, AlarmFiles, parse_order, place_order
from client.edge.alarm_stage import Alarms
from client.edge.alarm_values import Ack, AlarmRules, AlarmState, Shelve, Told
from client.edge.engine import Engine, Model
from client.edge.records import Notice, Part, Record, Sample
from shared.errors import FileTrouble
from shared.scoring import RobustScale, ScoreScale
from tests.support.edge import Fixed, scored

RULES = AlarmRules(hits=1, among=1, clear_s=0.0)
TAGS = ("LIT101", "P101")
T0 = 1_700_000_000.0


def sample(number: int) -> Sample:
    return Sample(T0 + number, np.float32([number, np.nan]), number)


def fed(stage: Alarms, number: int, score: float, **more: object) -> tuple[Record, ...]:
    return stage.feed(sample(number), scored(number, score, tags=TAGS, time=T0 + number, **more))


def made(keeping: AlarmFiles | None = None, **more: object) -> Alarms:
    return Alarms(RULES, TAGS, 1.0, window=3, keeping=keeping, state=keeping and keeping.load()[0], **more)  # type: ignore[arg-type]


def test_the_rows_that_raised_an_alarm_are_kept_beside_it(tmp_path: Path) -> None:
    stage = made(AlarmFiles(tmp_path))
    for number in range(5):
        fed(stage, number, 0.0)
    (record,) = fed(stage, 5, 2.0)
    window = json.loads((tmp_path / record.as_json()["window"]).read_text())
    assert (window["tags"], window["times"], window["rows"]) == (
        list(TAGS), [T0 + 3, T0 + 4, T0 + 5], [[3.0, None], [4.0, None], [5.0, None]],
    )  # fmt: skip


def test_windows_are_bounded(tmp_path: Path) -> None:
    files = AlarmFiles(tmp_path)
    for number in range(MOST_WINDOWS + 5):
        assert files.keep_window(f"a-{number:04}", {})
    kept = sorted(path.name for path in (tmp_path / WINDOWS).iterdir())
    assert (len(kept), kept[0]) == (MOST_WINDOWS, "a-0005.json")


def test_an_alarm_whose_rows_cannot_be_kept_points_at_no_file(tmp_path: Path) -> None:
    files = AlarmFiles(tmp_path)
    (tmp_path / WINDOWS).rmdir()
    (tmp_path / WINDOWS).write_text("in the way")
    (record,) = fed(made(files), 0, 2.0)
    assert record.as_json()["window"] == ""
    assert files.failures == 1


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    before = made(AlarmFiles(tmp_path))
    fed(before, 0, 2.0)
    after = made(AlarmFiles(tmp_path))
    assert after.state == before.state
    assert fed(after, 1, 2.0) == ()
    (record,) = fed(after, 2, 0.0)
    assert isinstance(record, Told)
    assert (record.what, record.alarm.id) == ("cleared", before.state.listed[0].id)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"number": "x"}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_state_begins_anew_and_says_so(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / STATE).write_bytes(damage)
    state, trouble = AlarmFiles(tmp_path).load()
    assert state == AlarmState()
    assert trouble.startswith("alarms begin anew")
    assert (tmp_path / f"{STATE}.damaged").read_bytes() == damage


def test_a_full_disk_stops_no_alarm(tmp_path: Path) -> None:
    files = AlarmFiles(tmp_path / "state")
    files.folder = tmp_path / "gone"
    assert len(fed(made(files), 0, 2.0)) == 1
    assert files.trouble


def test_an_order_is_taken_once_and_in_order(tmp_path: Path) -> None:
    files = AlarmFiles(tmp_path)
    for number in range(3):
        place_order(tmp_path, Ack(f"a-{number}", "ann"))
    orders, told = files.orders(0.0)
    assert [order.id for order in orders] == ["a-0", "a-1", "a-2"]  # type: ignore[union-attr]
    assert (told, files.orders(0.0)) == ((), ((), ()))


HOSTILE = [
    b"", b"{}", b"null", b'{"type": "ack", "id": "a-1"}', b'{"type": "ack", "id": "a-1", "by": "  "}',
    b'{"type": "drop", "by": "ann"}', b'{"type": "shelve", "tag": "A", "by": "ann", "note": ""}',
    b'{"type": "ack", "id": "a", "by": "a\\u0007nn"}', b'{"type": "ack", "id": "a", "by": "' + b"x" * 600 + b'"}',
    b'{"type": "ack", "id": 3, "by": "ann"}', b"\xff", b"[" * 10_000, b"x" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE)
def test_what_is_no_order_is_removed_and_told(tmp_path: Path, data: bytes) -> None:
    files = AlarmFiles(tmp_path)
    (tmp_path / ORDERS / "1.json").write_bytes(data)
    orders, told = files.orders(0.0)
    assert (orders, [one.kind for one in told]) == ((), ["rejected"])
    assert list((tmp_path / ORDERS).iterdir()) == []


def test_a_pipe_or_a_folder_in_the_place_of_an_order_holds_nothing_up(tmp_path: Path) -> None:
    files = AlarmFiles(tmp_path)
    os.mkfifo(tmp_path / ORDERS / "1.json")
    (tmp_path / ORDERS / "2.json").mkdir()
    place_order(tmp_path, Ack("a-1", "ann"))
    orders, _ = files.orders(0.0)
    assert len(orders) == 1


def test_an_order_for_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="no state folder"):
        place_order(tmp_path / "nowhere", Ack("a-1", "ann"))
    assert parse_order(b'{"type":"shelve","tag":"A","by":"ann","note":"x","for_s":5}') == Shelve("A", "ann", "x", 5.0)


def test_a_shelf_for_a_tag_that_is_not_there_is_refused() -> None:
    (record,) = made().told(Shelve("LIT999", "ann", "x", 5.0), T0)
    assert isinstance(record, Notice)
    assert record.kind == "rejected"


def alarmed(stage: Alarms, *shares: float, **more: object) -> str:
    parts = tuple(Part(tag, share, 1, 2.0, 1.0) for tag, share in zip(TAGS, shares, strict=True))
    found = stage.feed(sample(0), replace(scored(0, 2.0, time=T0), parts=parts, **more))
    return str(found[0].as_json()["type"]) if found else ""


def test_what_a_faulty_tag_alone_raises_is_a_fault() -> None:
    def kind(*shares: float) -> str:
        return alarmed(made(faulty=lambda: frozenset({"LIT101"})), *shares)

    assert kind(0.9, 0.1) == "fault"  # 0.2 of an error of 2 is left, below the threshold of 1
    assert kind(0.4, 0.6) == "alarm"
    assert alarmed(made(), 0.9, 0.1) == "alarm"


def test_the_guards_alarm_by_a_faulty_tag_is_a_fault_too() -> None:
    stage = made(faulty=lambda: frozenset({"LIT101"}))
    assert alarmed(stage, 0.9, 0.1, score=0.0, error=0.1, guard=5.0, guard_threshold=1.0) == "fault"
    stage = made(faulty=lambda: frozenset({"LIT101"}))
    assert alarmed(stage, 0.7, 0.3, score=0.0, error=0.1, guard=5.0, guard_threshold=1.0) == "alarm"


def test_a_standardised_score_is_looked_at_without_the_tag_on_its_own_scale() -> None:
    scale = ScoreScale(entropy_weight=0.0, error=RobustScale(median=0.0, spread=1.0))
    stage = made(scale=scale, faulty=lambda: frozenset({"LIT101"}))
    assert alarmed(stage, 0.5, 0.5) == "alarm"  # ln 0.5 = -0.7 off a score of 2
    stage = made(scale=scale, faulty=lambda: frozenset({"LIT101"}))
    assert alarmed(stage, 0.7, 0.3) == "fault"  # ln 0.3 = -1.2


def test_a_stage_in_an_engine_raises_clears_and_restarts_at_a_gap() -> None:
    stage = made()
    engine = Engine(Model(Fixed([0, 2, 2, 0])), [stage])
    records = [record for number in range(4) for record in engine.feed(sample(number))]
    assert [r.what for r in records if isinstance(r, Told)] == ["raised", "cleared"]
    engine.heard(Notice(T0 + 5, "gap", ""))
    assert len(stage._rows) == 0


def test_a_stalled_source_is_told_of_by_the_stage() -> None:
    stage = made()
    fed(stage, 0, 2.0)
    (told,) = stage.heard(Notice(T0 + 60, "stalled", ""))
    assert isinstance(told, Notice)
    assert "not known" in told.text
    assert stage.state.standing == "active"


def test_time_that_passes_without_scores_clears_nothing() -> None:
    stage = Alarms(AlarmRules(hits=1, among=1, clear_s=30.0), TAGS, 1.0)
    fed(stage, 0, 2.0)
    fed(stage, 1, 0.0)
    fed(stage, 4000, 0.0)
    assert stage.state.standing == "active"
    for number in range(4001, 4031):
        fed(stage, number, 0.0)
    assert stage.state.standing == "cleared"
