"""`crossplant client alarms`: what people see and do, through the state folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from client.edge import alarms_cli
from client.edge.alarm_files import STATE, AlarmFiles
from client.edge.alarm_values import Ack, AlarmRules, Confirm, Order, Shelve, Unshelve
from client.edge.alarms import step
from client.edge.alarms_cli import alarms_app
from shared.errors import CrossplantError
from tests.unit.test_edge_alarms import START, judged, run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(alarms_cli, "_WAIT_S", 0.0)
    state, _ = run([2, 2])
    AlarmFiles(tmp_path).save(state)
    return tmp_path


def call(home: Path, *arguments: str) -> str:
    done = CliRunner().invoke(alarms_app, [*arguments, "--state", str(home)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def orders(home: Path) -> tuple[Order, ...]:
    found, told = AlarmFiles(home).orders(0.0)
    assert told == ()
    return found


def test_the_list_names_the_sensors_and_the_figures(home: Path) -> None:
    text = call(home, "list")
    assert text.startswith("active\n")
    assert "LIT101 +100%" in text
    assert "score 2 > 1, p 0.001" in text
    assert max(map(len, text.splitlines())) <= 80
    assert json.loads(call(home, "list", "--json"))["current"]["state"] == "active"


def test_an_alarm_of_the_guard_alone_does_not_say_that_the_score_is_above_its_threshold(home: Path) -> None:
    state = AlarmFiles(home).load()[0]
    (alarm,) = state.listed
    guard = replace(alarm, by=("guard",), score=0.2, threshold=2.57, guard=16.1, guard_threshold=1.3)
    assert "score 0.2 <= 2.57" in alarms_cli._line(guard)
    assert "guard 16.1 > 1.3" in alarms_cli._line(guard)
    assert max(map(len, alarms_cli._line(replace(guard, acked_by="ann", state="acknowledged")).splitlines())) <= 80


def test_what_is_shelved_is_listed(home: Path) -> None:
    state, _ = run([2, 2])
    for order in (Shelve("P101", "ann", "cleaning", for_s=60.0), Shelve("P102", "bob", "repair")):
        from client.edge.alarm_values import Ordered

        state, _ = step(state, Ordered(START, order), AlarmRules())
    AlarmFiles(home).save(step(state, judged(3, 0), AlarmRules())[0])
    text = call(home, "list")
    assert "P101  shelved until 2023-11-14T22:14:20Z, by ann: cleaning; 0 alarms held back" in text
    assert "P102  out of service, by bob: repair" in text


def test_an_alarm_or_its_incident_is_acknowledged(home: Path) -> None:
    (alarm,) = AlarmFiles(home).load()[0].listed
    for name in (alarm.id, alarm.incident):
        assert "no scorer has taken it yet" in call(home, "ack", name, "--by", "ann", "--note", "seen")
        assert orders(home) == (Ack(name, "ann", "seen"),)


def test_orders_are_what_was_said(home: Path) -> None:
    call(home, "shelve", "P101", "--for", "2h", "--by", "ann", "--note", "cleaning")
    call(home, "shelve", "ALL", "--until", "1970-01-02T00:00Z", "--by", "ann", "--note", "start-up")
    call(home, "unshelve", "P101", "--by", "ann")
    call(home, "out-of-service", "P101", "--by", "ann", "--note", "repair")
    call(home, "confirm-normal", "--from", "1970-01-01T00:00Z", "--to", "1970-01-02T00:00Z", "--by", "ann")
    assert orders(home) == (
        Shelve("P101", "ann", "cleaning", for_s=7200.0),
        Shelve("ALL", "ann", "start-up", until=86_400.0),
        Unshelve("P101", "ann"),
        Shelve("P101", "ann", "repair"),
        Confirm(0.0, 86_400.0, "ann"),
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ack", "a-9", "--by", "ann"], "CP-102"),
        (["shelve", "P101", "--by", "ann", "--note", "x"], "CP-101"),
        (["shelve", "P101", "--by", "ann", "--note", "x", "--for", "2h", "--until", "2026-01-01"], "CP-101"),
        (["shelve", "P101", "--by", "ann", "--note", "x", "--for", "soon"], "CP-101"),
        (["shelve", "P101", "--by", "ann", "--note", "x", "--for", "-2h"], "CP-101"),
        (["shelve", "P101", "--by", "ann", "--note", "x", "--for", "0s"], "CP-101"),
        (["shelve", "P101", "--by", "ann", "--note", "x", "--for", "9" * 400 + "d"], "CP-101"),
        (["shelve", "P101", "--by", "ann", "--note", "x", "--until", "soon"], "CP-101"),
        (["shelve", "P101", "--by", "ann", "--note", " ", "--for", "2h"], "CP-101"),
        (["unshelve", "P101", "--by", " "], "CP-101"),
        (["confirm-normal", "--from", "2026-01-02", "--to", "2026-01-01", "--by", "ann"], "CP-101"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_ordered(home: Path, arguments: list[str], code: str) -> None:
    with pytest.raises(CrossplantError) as refused:
        call(home, *arguments)
    assert refused.value.code == code
    assert orders(home) == ()


def test_a_folder_that_is_none_and_a_damaged_state_are_refused(home: Path) -> None:
    with pytest.raises(CrossplantError, match="no state folder"):
        call(home / "nowhere", "list")
    (home / STATE).write_bytes(b"{")
    with pytest.raises(CrossplantError, match="cannot be read"):
        call(home, "list")
    assert (home / STATE).read_bytes() == b"{"


def test_the_command_waits_until_a_scorer_takes_the_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms_cli, "_WAIT_S", 5.0)
    monkeypatch.setattr("time.sleep", lambda _: orders(home))
    assert "taken" in call(home, "unshelve", "P101", "--by", "ann")
