"""`/metrics` of the console: fixed names, figures that are those of the store, and bounded whatever is in it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from server.console import metrics
from server.console.app import create_app
from server.console.context import Console
from server.console.exported import FAMILIES, LONGEST, Samples
from server.console.settings import ConsoleSettings
from server.rounds import PlantReport, Status
from server.run.place import ServerPlace
from server.store.auditlog import Actor
from server.store.reading import Reader
from server.store.registry import Registry
from server.store.store import RoundStore
from shared.privacy.accounting import Event
from shared.privacy.ledger import PrivacyLedger, Release, read_bound
from tests.support import pki, stores

FROZEN = """
crossplant_build_info gauge version
crossplant_federation_certificate_expiry_timestamp_seconds gauge certificate
crossplant_order_open gauge run,action
crossplant_order_open_since_timestamp_seconds gauge run
crossplant_plant_accepted_rounds_total counter run,plant
crossplant_plant_bytes_total counter run,plant,direction
crossplant_plant_certificate_expiry_timestamp_seconds gauge plant
crossplant_plant_holdout_loss gauge run,plant
crossplant_plant_last_seen_timestamp_seconds gauge run,plant
crossplant_plant_live_round gauge run,plant
crossplant_plant_missed_rounds gauge run,plant
crossplant_plant_rounds_total counter run,plant
crossplant_plant_waited_for gauge run,plant
crossplant_privacy_epsilon_budget gauge plant
crossplant_privacy_epsilon_spent gauge plant
crossplant_run_created_timestamp_seconds gauge run
crossplant_run_holdout_loss gauge run
crossplant_run_info gauge run,status,config
crossplant_run_last_round_activity_seconds gauge run,activity
crossplant_run_last_round_bytes gauge run
crossplant_run_last_round_plants gauge run,part
crossplant_run_last_round_seconds gauge run
crossplant_run_last_round_timestamp_seconds gauge run
crossplant_run_privacy_epsilon_budget gauge run
crossplant_run_round gauge run
crossplant_run_round_deadline_seconds gauge run
crossplant_run_rounds_planned gauge run
crossplant_run_rounds_total counter run,status
crossplant_run_running gauge run
crossplant_run_train_loss gauge run
crossplant_run_waiting_deadline_timestamp_seconds gauge run
crossplant_run_waiting_plants gauge run
crossplant_run_waiting_round gauge run
crossplant_run_waiting_since_timestamp_seconds gauge run
crossplant_store_read_seconds gauge 
crossplant_store_up gauge 
"""  # noqa: W291
HOSTILE = 'a"b\\c\n{x="y"} 1 \ud800</script>'
Found = dict[tuple[str, tuple[str, ...]], float]


def console(folder: Path) -> Console:
    store = RoundStore.open(str(folder), look=True)
    federation = folder if (folder / "federation.toml").is_file() else None
    return Console(str(folder), store, Reader(store), Registry(store), False, federation)


def scrape(folder: Path) -> Found:
    """What Prometheus' own parser makes of it, by name and the labels' values."""
    shown = console(folder)
    with shown.store:
        text = metrics.text(shown).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = tuple(sample.labels[label] for label in FAMILIES[sample.name].labels)
            assert len(values) == len(sample.labels)
            found[sample.name, values] = sample.value
    return found


def test_the_names_are_frozen() -> None:
    told = sorted(f"{name} {family.kind} {','.join(family.labels)}" for name, family in FAMILIES.items())
    assert told == FROZEN.split("\n")[1:-1]


def test_a_run_its_rounds_and_its_plants_are_told(tmp_path: Path) -> None:
    stores.filled(tmp_path, rounds=3).finish_run("a", "finished")
    found = scrape(tmp_path)
    assert found["crossplant_store_up", ()] == 1
    assert found["crossplant_run_info", ("a", "finished", stores.CONFIG.digest)] == 1
    assert found["crossplant_run_running", ("a",)] == 0
    assert found["crossplant_run_round", ("a",)] == 3
    assert found["crossplant_run_rounds_planned", ("a",)] > 3
    assert found["crossplant_run_rounds_total", ("a", "committed")] == 3
    assert found["crossplant_run_round_deadline_seconds", ("a",)] == stores.CONFIG.rounds.deadline_s
    assert found["crossplant_run_last_round_seconds", ("a",)] == 2.5
    assert found["crossplant_run_last_round_timestamp_seconds", ("a",)] == 1714557602.5
    assert found["crossplant_run_last_round_activity_seconds", ("a", "wait")] == 2.0
    assert found["crossplant_run_last_round_plants", ("a", "asked")] == 2
    assert found["crossplant_run_last_round_plants", ("a", "accepted")] == 1
    assert found["crossplant_run_last_round_bytes", ("a",)] == 3400
    assert found["crossplant_run_holdout_loss", ("a",)] == pytest.approx(0.7 / 3)
    assert found["crossplant_run_train_loss", ("a",)] == 0.5
    assert found["crossplant_plant_rounds_total", ("a", "south")] == 3
    assert found["crossplant_plant_accepted_rounds_total", ("a", "south")] == 0
    assert found["crossplant_plant_missed_rounds", ("a", "south")] == 3
    assert found["crossplant_plant_missed_rounds", ("a", "north")] == 0
    assert found["crossplant_plant_bytes_total", ("a", "north", "up")] == 2400
    assert found["crossplant_plant_last_seen_timestamp_seconds", ("a", "north")] == 1714557600
    assert ("crossplant_plant_last_seen_timestamp_seconds", ("a", "south")) not in found
    assert found["crossplant_plant_holdout_loss", ("a", "north")] == 0.7


def test_a_round_without_losses_does_not_hide_the_newest_ones(tmp_path: Path) -> None:
    store = stores.filled(tmp_path, rounds=3)
    after = stores.state("a", 4)
    quiet = tuple(replace(plant, metrics={}) for plant in (stores.NORTH, stores.SOUTH))
    skipped = replace(stores.record(after, quiet), metrics={}, status=Status.SKIPPED, reason="no quorum")
    store.commit(skipped, after)
    found = scrape(tmp_path)
    assert found["crossplant_run_rounds_total", ("a", "skipped")] == 1
    assert found["crossplant_run_holdout_loss", ("a",)] == pytest.approx(0.7 / 3)
    assert found["crossplant_plant_holdout_loss", ("a", "north")] == 0.7


def test_the_newest_runs_only_and_plants_of_the_newest_and_of_those_under_way(tmp_path: Path) -> None:
    store = stores.filled(tmp_path, rounds=1, run="r1")
    store.finish_run("r1", "finished")
    for name in ("r2", "r3", "r4"):
        store.start_run(name, stores.CONFIG)
        store.commit(stores.record(stores.state(name, 1)), stores.state(name, 1))
        if name != "r2":
            store.finish_run(name, "finished")
    found = scrape(tmp_path)
    assert {labels[0] for name, labels in found if name == "crossplant_run_round"} == {"r2", "r3", "r4"}
    assert {labels[0] for name, labels in found if name == "crossplant_plant_rounds_total"} == {"r2", "r4"}


def test_an_empty_store_is_readable(tmp_path: Path) -> None:
    RoundStore.create(str(tmp_path))
    found = scrape(tmp_path)
    assert found["crossplant_store_up", ()] == 1
    assert not any(name.startswith("crossplant_run") for name, _ in found)


def test_a_store_that_cannot_be_read_is_told_and_not_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.filled(tmp_path, rounds=1)
    shown = console(tmp_path)
    with shown.store:
        for path in tmp_path.glob("*.sqlite*"):
            path.write_bytes(b"no database" * 1000)
        text = metrics.text(shown).decode()
    assert "crossplant_store_up 0.0" in text
    assert "crossplant_run_round{" not in text


def test_hostile_names_stay_in_their_label(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", stores.CONFIG)
    name = HOSTILE.replace("\ud800", "")
    plants = (
        PlantReport(name, True, None, {"holdout_loss": 0.5}, 1, 1, 1, 1.0),
        replace(stores.SOUTH, plant="x" * 255),
    )
    store.commit(stores.record(stores.state("a", 1), plants), stores.state("a", 1))
    found = scrape(tmp_path)
    assert found["crossplant_plant_holdout_loss", ("a", name)] == 0.5
    assert {labels[1] for key, labels in found if key == "crossplant_plant_rounds_total"} == {name, "x" * 255}


def test_labels_are_cut_and_made_readable_and_a_second_sample_is_left_out() -> None:
    samples = Samples()
    samples.put("crossplant_run_round", 1, HOSTILE)
    samples.put("crossplant_run_round", 2, "y" * 300)
    samples.put("crossplant_run_round", 3, "y" * 299)
    samples.put("crossplant_run_round", None, "z")
    samples.put("crossplant_run_round", float("nan"), "z")
    (family,) = [family for family in samples.families() if family.name == "crossplant_run_round"]
    assert [(sample.labels["run"], sample.value) for sample in family.samples] == [
        (HOSTILE.replace("\ud800", "?"), 1),
        ("y" * LONGEST, 2),
    ]
    with pytest.raises(ValueError, match="has the labels"):
        samples.put("crossplant_run_round", 1)


def test_an_open_order_is_told_until_it_is_carried_out(tmp_path: Path) -> None:
    store = stores.filled(tmp_path, rounds=3)
    Registry(store).promote("a", 2, Actor("ann", "operator"), "better")
    found = scrape(tmp_path)
    assert found["crossplant_order_open", ("a", "promote")] == 1
    assert abs(found["crossplant_order_open_since_timestamp_seconds", ("a",)] - time.time()) < 60


def test_a_federations_folder_tells_who_is_waited_for_and_which_certificates_end(tmp_path: Path) -> None:
    folder = pki.make(tmp_path, pki.NOW)
    pki.take_in(folder, "north", pki.NOW)
    stores.filled(folder, rounds=1)
    place = ServerPlace.of(folder)
    place.prepare()
    now = time.time()
    waits = {"run": "a", "round": 2, "plants": ["south"], "more": 3, "since": now - 5, "until": now + 60, "told": now}
    place.waits.write_text(json.dumps(waits), encoding="utf-8")
    found = scrape(folder)
    assert found["crossplant_run_waiting_round", ("a",)] == 2
    assert found["crossplant_run_waiting_plants", ("a",)] == 4
    assert found["crossplant_plant_waited_for", ("a", "south")] == 1
    assert found["crossplant_run_waiting_deadline_timestamp_seconds", ("a",)] == pytest.approx(now + 60)
    ends = {labels: value for (name, labels), value in found.items() if "certificate_expiry" in name}
    assert set(ends) == {("authority",), ("server",), ("north",)}
    assert all(value > now + 86_400 for value in ends.values())


def test_the_console_tells_of_a_federation_that_lies_elsewhere(tmp_path: Path) -> None:
    folder = pki.make(tmp_path, pki.NOW)
    stores.filled(tmp_path / "store", rounds=1)
    app = create_app(str(tmp_path / "store"), ConsoleSettings(federation=folder))
    with app.state.console.store:
        told = metrics.text(app.state.console).decode()
    assert 'crossplant_federation_certificate_expiry_timestamp_seconds{certificate="server"}' in told


def test_ledgers_beside_the_store_tell_what_was_spent(tmp_path: Path) -> None:
    stores.filled(tmp_path, rounds=1)
    ledger = PrivacyLedger(tmp_path / "privacy" / "north")
    ledger.charge(Release("a", 1, "weights", "0" * 64, Event(9.0, 1.0, 1), 1e-5, "row", "2026-11-22"), 3.0)
    (tmp_path / "privacy" / "torn").mkdir()
    (tmp_path / "privacy" / "torn" / "ledger.jsonl").write_bytes(b"{}\n")
    found = scrape(tmp_path)
    assert found["crossplant_privacy_epsilon_budget", ("north",)] == 3.0
    assert found["crossplant_privacy_epsilon_spent", ("north",)] == read_bound(tmp_path / "privacy" / "north")[0] > 0.1
    assert ("crossplant_privacy_epsilon_spent", ("torn",)) not in found


def test_a_scrape_costs_a_few_queries_however_many_rounds_there_are(tmp_path: Path) -> None:
    counts = []
    for rounds in (3, 12):
        stores.filled(tmp_path / str(rounds), rounds=rounds)
        shown, said = console(tmp_path / str(rounds)), list[str]()
        with shown.store:
            event.listen(shown.store._engine, "before_cursor_execute", lambda *told, said=said: said.append(told[2]))
            metrics.text(shown)
        counts.append(len(said))
    assert counts[0] == counts[1] < 60


def test_the_route_answers_in_prometheus_text_format(tmp_path: Path) -> None:
    stores.filled(tmp_path, rounds=2)
    app = FastAPI()
    app.include_router(metrics.router)
    app.state.console = console(tmp_path)

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/metrics")

    with app.state.console.store:
        answer = asyncio.run(get())
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'crossplant_run_round{run="a"} 2.0' in answer.text
    for name in FAMILIES:
        assert f"# HELP {name} " in answer.text
