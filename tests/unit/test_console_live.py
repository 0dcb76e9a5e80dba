"""What a page tells of a run under way, of a federation, of privacy, of labelled data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from server.console import (
    templating,
)
from server.provision.change import revoke
from server.provision.federation import opened
from server.store.rows import RunStatus
from server.store.store import RoundStore
from shared.config import RunConfig
from tests.support import pki
from tests.support.console_html import seen
from tests.support.console_runs import Visitor, commit, console, rich, round_of
from tests.support.stores import CONFIG, state


@pytest.fixture
def own(tmp_path: Path) -> Visitor:
    rich(tmp_path / "store", 14)
    return Visitor(console(tmp_path / "store"))


def test_htmx_gets_the_live_part_alone(own: Visitor) -> None:
    own.log_in("vera")
    part = own.get("/runs/a", **{"hx-request": "true"})
    assert part.status_code == 200
    assert "<html" not in part.text
    assert "data-said=" in part.text
    assert "Round 14" in part.text
    commit(own.app.state.console.store, 15)
    assert "Round 15" in own.get("/runs/a", **{"hx-request": "true"}).text


def test_a_run_that_stands_still_says_so(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", CONFIG)
    made = replace(round_of("a", 1), started="2024-05-01T10:00:00+00:00")
    store.commit(made, state("a", 1))
    there = Visitor(console(tmp_path)).log_in()
    assert "Nothing has been finished for long" in seen(there, "/runs/a").text
    store.finish_run("a", RunStatus.FAILED, "too few plants")
    text = seen(there, "/runs/a").text
    assert "The run failed" in text
    assert "too few plants" in text
    store.finish_run("a", RunStatus.INTERRUPTED)
    assert "when it is resumed" in seen(there, "/runs/a").text
    store.finish_run("a", RunStatus.FINISHED)
    assert "The run is finished" in seen(there, "/runs/a").text


def test_figures_on_labelled_data_are_those_of_results_json_beside_the_store(own: Visitor) -> None:
    own.log_in("vera")
    figures_ = {"auprc": 0.4572, "false_alarms_per_day": 5.62, "delay_s": None, "vus_pr": "much"}
    spent = {"mode": "local", "epsilon": 2.5, "budget": 3.0, "delta": 1e-5, "plants": [], "claim": "Whoever sees all"}
    content = {"run": "a", "sites": [{"site": "north", "metrics": figures_}], "macro": figures_, "privacy": spent}
    file = own.app.state.console.store.folder / "results.json"
    file.write_text(json.dumps(content))
    text = seen(own, "/runs/a").text
    assert "0.4572" in text
    assert "5.62" in text
    assert "2.5 of 3" in text
    file.write_text(json.dumps(content | {"run": "another"}))
    assert "0.4572" not in seen(own, "/runs/a").text
    for damaged in ("{", "[]", json.dumps({"run": "a", "sites": 7, "macro": [], "privacy": "x"}), "[" * 10_000):
        file.write_text(damaged)
        assert "No labelled test data here" in seen(own, "/runs/a").text


def test_certificates_come_from_the_federations_folder_and_say_what_to_do(tmp_path: Path) -> None:
    folder = pki.make(tmp_path, pki.NOW - 340 * pki.DAY)
    for name in ("north", "south", "east"):
        pki.take_in(folder, name, pki.NOW - (340 * pki.DAY if name == "north" else 0 * pki.DAY))
    with opened(folder) as federation:
        revoke(federation, "east", pki.NOW)
    rich(folder, 14, plants=("north", "south", "east", "../sites/north"))
    there = Visitor(console(folder)).log_in()
    page = seen(there, "/runs/a/plants/north")
    assert "provision renew water north" in page.text
    assert "in 25 days" in page.text.replace("\u00a0", " ")
    assert "provision renew" not in seen(there, "/runs/a/plants/south").text
    assert "It was revoked" in seen(there, "/runs/a/plants/east").text
    odd = seen(there, templating.path("runs", "a", "plants", "../sites/north")).text
    assert "not in the federation's folder" in odd
    assert "Certificate lapses" in seen(there, "/runs/a/plants").text
    (folder / "sites" / "south" / "site.toml").write_text("damaged")
    assert "not in the federation's folder" in seen(there, "/runs/a/plants/north").text


def test_a_private_run_tells_its_promise_and_what_was_told_of_it(tmp_path: Path) -> None:
    recipe = {
        "detector": {"dropout": 0.0},
        "clustering": {"unit": 60, "clip": "cloud"},
        "privacy": {"mode": "local", "epsilon": 3.0},
    }
    rounds = {"server_optimizer": "adam", "weighting": "uniform"}
    config = RunConfig.model_validate({"recipe": recipe, "rounds": rounds})
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", config)
    for number, epsilon in ((1, {}), (2, {"epsilon": 1.25})):
        after = replace(state("a", number), config_digest=config.digest)
        made = replace(round_of("a", number), config=config.digest, metrics=epsilon)
        store.commit(made, after)
    there = Visitor(console(tmp_path)).log_in()
    text = seen(there, "/runs/a/rounds/1").text
    assert "local differential privacy" in text
    assert "crossplant privacy ledger" in text
    told = seen(there, "/runs/a/rounds/2").text
    assert "1.25" in told
    assert "tells nobody what it spent" not in told
