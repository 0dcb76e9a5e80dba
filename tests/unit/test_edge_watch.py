"""When the states of an edge are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.edge.alarm_files import place_order
from client.edge.alarm_values import Shelve
from client.edge.watch import FILE
from tests.unit.test_edge_adapt import watch


def test_a_replay_that_runs_fast_keeps_its_states_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("client.edge.watch.monotonic", lambda: clock[0])
    home = tmp_path / "state"
    found, _, _ = watch(tmp_path / "bundles", home)
    kept = []
    for second in range(25):  # at a thousand times the plant's pace
        clock[0] = float(second)
        found.turn(1000.0 * second)
        kept.append((home / FILE).exists())
        (home / FILE).unlink(missing_ok=True)
    assert [second for second, one in enumerate(kept) if one] == [0, 10, 20]


def test_a_plant_keeps_its_states_once_a_minute_and_with_every_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("client.edge.watch.monotonic", lambda: clock[0])
    home = tmp_path / "state"
    found, _, _ = watch(tmp_path / "bundles", home)
    kept = []
    for second in range(130):
        clock[0] = float(second)
        if second == 65:
            place_order(home, Shelve("LIT101", "ann", "cleaning", for_s=3600.0))
        found.turn(1.7e9 + second)
        kept.append((home / FILE).exists())
        (home / FILE).unlink(missing_ok=True)
    assert [second for second, one in enumerate(kept) if one] == [0, 60, 65, 125]
