"""Rollback brings plants back to the chosen model within one round: their own bundles say so."""

from __future__ import annotations

from pathlib import Path

from server.store.auditlog import Actor, entries
from server.store.registry import OrderState, Registry
from server.store.store import RoundStore
from shared.bundle.whole import read_bundle
from tests.support.command import crossplant_here, simulate_here


def test_a_simulations_plants_publish_the_chosen_model_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = simulate_here(run, "--sites", "2", "--set", "rounds.calibrate_every=1", rounds=4)
    assert done.returncode == 0, done.stderr
    with RoundStore.open(str(run)) as store:
        name = store.newest_run()
        records = store.rounds(name)
        chosen = next(r for r in records if r.label == "calibrate 1")
        newest = {bundle.name: read_bundle(bundle).provenance.model for bundle in _bundles(run)}
        Registry(store).rollback(name, Actor("anna", "operator"), "false alarms since Monday", to=chosen.number)
    resumed = crossplant_here("simulate", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    live = {bundle.name: read_bundle(bundle).provenance for bundle in _bundles(run)}
    assert len(live) == 2
    assert {p.model for p in live.values()} == {chosen.model} != set(newest.values())
    assert {p.round for p in live.values()} == {len(records) + 1}
    with RoundStore.open(str(run)) as store:
        assert Registry(store).chosen(name).state is OrderState.DONE
        with store.session() as session:
            carried, asked = entries(session)
        assert (asked.who, asked.detail["why"]) == ("anna", "false alarms since Monday")
        assert carried.detail["plants"] == list(store.rounds(name)[-1].accepted)


def _bundles(run: Path) -> list[Path]:
    return sorted((run / "bundles").glob("*.bundle"))
