"""`crossplant simulate` from the command line to a report, on generated plants."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared import catalogue
from shared.bundle.whole import read_bundle
from shared.model import read_model
from shared.schema import SensorSchema
from shared.series import SiteData
from tests.support.command import SMALL, crossplant_here, simulate, simulate_here


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulate") / "run"
    done = simulate(out, "--sites", "3")
    assert done.returncode == 0, done.stderr
    assert "plant-3" in done.stdout
    return out


def test_a_run_leaves_store_models_bundles_results_and_report(run: Path) -> None:
    assert (run / "report.html").stat().st_size > 10_000
    results = json.loads((run / "results.json").read_text())
    assert [site["site"] for site in results["sites"]] == ["plant-1", "plant-2", "plant-3"]
    assert 0 <= results["macro"]["auprc"] <= 1
    assert 0 <= results["macro"]["point_adjusted_f1_random"] <= 1
    for site in results["sites"]:
        bundle = read_bundle(run / "bundles" / f"{site['site']}.bundle")
        assert bundle.provenance.model == bundle.model.digest
        assert bundle.threshold.value == site["threshold"]["value"]


def test_a_run_that_claims_no_privacy_leaves_no_ledger(run: Path) -> None:
    assert not (run / "privacy").exists()
    done = crossplant_here("privacy", "ledger", "--store", run)
    assert (done.returncode, "CP-904" in done.stderr) == (1, True)


def test_a_run_says_what_each_site_got_before_it_trains(run: Path, tmp_path: Path) -> None:
    kept = json.loads((run / "run.json").read_text())["given"]
    assert [site["site"] for site in kept["sites"]] == ["plant-1", "plant-2", "plant-3"]
    assert all(0 < site["unlikeness"] < 5 for site in kept["sites"])
    assert "What each site got" in (run / "report.html").read_text()
    done = simulate_here(tmp_path / "run", "--sites", "2", rounds=1)
    assert 0 <= done.stdout.index("What each site got") < done.stdout.index("round   1")


def test_a_plan_prints_the_same_table_and_writes_nothing(run: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    shown = crossplant_here("simulate", "--plan", "--sites", "3", *SMALL)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "What each site got" in shown.stdout
    done = crossplant_here("simulate", "--plan", "--json", "--sites", "3", *SMALL)
    planned = json.loads(done.stdout)
    assert (planned["dataset"], planned["partition"]) == ("generated", "by-channel")
    kept = json.loads((run / "run.json").read_text())["given"]
    assert {name: planned[name] for name in kept} == kept
    assert list(tmp_path.iterdir()) == []


def test_operating_modes_are_dealt_out_and_trained_on(tmp_path: Path) -> None:
    flags = ("--partition", "by-mode", "--sites", "3", "--concentration", "0.05", "--modes", "4")
    done = simulate_here(tmp_path / "run", *flags, rounds=1)
    assert done.returncode == 0, done.stderr
    planned = crossplant_here("simulate", "--plan", "--json", *SMALL, *flags)
    alike = crossplant_here("simulate", "--plan", "--json", *SMALL, *flags, "--concentration", "1000")
    assert json.loads(planned.stdout)["unlikeness"] > json.loads(alike.stdout)["unlikeness"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [site["site"] for site in results["sites"]] == ["joined-m1", "joined-m2", "joined-m3"]


def test_process_stages_train_together(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Any data set's name will do: what it loads is a plant with SWaT's tags."""
    tags = tuple(tag.name for tag in catalogue.tags("swat"))
    values = np.random.default_rng(0).normal(size=(400, len(tags))).cumsum(axis=0).astype(np.float32)
    plant = SiteData("swat", SensorSchema(tags=tags, period_s=1), values[:300], values[300:], np.arange(100) > 80)
    monkeypatch.setattr("simulations.gather.load", lambda *_: (plant,))
    done = simulate_here(tmp_path / "run", "--dataset", "skab", "--partition", "by-stage", rounds=1)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [site["site"] for site in results["sites"]] == [f"swat-P{at}" for at in range(1, 7)]
    assert "The sites cannot be compared" in done.stdout
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["notes"]
    assert any("swat-P1: P1 knows 5 of 51 tags" in note for note in notes)
    assert any("tags without any training value" in note for note in notes)


def test_rounds_list_shows_every_round_of_every_phase(run: Path) -> None:
    done = crossplant_here("rounds", "list", "--store", run, "--json")
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout)["rounds"]
    assert [r["number"] for r in rounds] == list(range(1, len(rounds) + 1))
    phases = list(dict.fromkeys(r["phase"] for r in rounds))
    assert phases == ["describe", "pretrain", "cluster", "joint", "calibrate"]
    assert all(r["status"] == "committed" and r["rejected"] == [] for r in rounds)
    assert all(r["plants"] == ["plant-1", "plant-2", "plant-3"] for r in rounds)
    losses = [r["metrics"]["train_loss"] for r in rounds if "train_loss" in r["metrics"]]
    assert losses[-1] < losses[0]


def test_an_exported_round_is_a_loadable_model(run: Path, tmp_path: Path) -> None:
    listed = json.loads(crossplant_here("rounds", "list", "--store", run, "--json").stdout)["rounds"]
    done = crossplant_here("rounds", "export", str(listed[-1]["number"]), "--store", run, "--to", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    model = read_model(tmp_path / "model" / "model.safetensors", listed[-1]["model"])
    assert model.clusters is not None
    assert model.clusters.count in (2, 3)  # three at most, as many as the data shows


def test_show_and_compare_speak_of_the_plants(run: Path) -> None:
    shown = crossplant_here("rounds", "show", "2", "--store", run)
    assert shown.returncode == 0
    assert "plant-2" in shown.stdout
    compared = crossplant_here("rounds", "compare", "2", "12", "--store", run, "--json")
    assert compared.returncode == 0, compared.stderr
    json.loads(compared.stdout)


def test_the_same_seed_gives_the_same_models_and_another_seed_does_not(run: Path, tmp_path: Path) -> None:
    def models(folder: Path) -> list[str]:
        listed = crossplant_here("rounds", "list", "--store", folder, "--json")
        return [r["model"] for r in json.loads(listed.stdout)["rounds"]]

    assert simulate_here(tmp_path / "same", "--sites", "3", "--workers", "1").returncode == 0
    assert simulate_here(tmp_path / "other", "--sites", "3", "--seed", "1").returncode == 0
    assert models(tmp_path / "same") == models(run)
    assert models(tmp_path / "other")[-1] != models(run)[-1]


def test_resuming_a_finished_run_measures_again_and_changes_no_round(run: Path) -> None:
    before = crossplant_here("rounds", "list", "--store", run, "--json").stdout
    done = crossplant_here("simulate", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert crossplant_here("rounds", "list", "--store", run, "--json").stdout == before


def test_one_gradient_a_round_with_adam_at_the_server_learns(tmp_path: Path) -> None:
    flags = ("--server-optimizer", "adam", "--weighting", "uniform", "--set", "rounds.server_learning_rate=0.01")
    done = simulate_here(tmp_path / "run", *flags, "--sites", "2", rounds=12)
    assert done.returncode == 0, done.stderr
    rounds = json.loads(crossplant_here("rounds", "list", "--store", tmp_path / "run", "--json").stdout)["rounds"]
    losses = [r["metrics"]["train_loss"] for r in rounds if "train_loss" in r["metrics"]]
    assert losses[-1] < losses[0]


def test_the_paper_preset_runs(tmp_path: Path) -> None:
    done = simulate_here(tmp_path / "run", "--preset", "paper", "--sites", "2", rounds=2)
    assert done.returncode == 0, done.stderr
    bundle = read_bundle(tmp_path / "run" / "bundles" / "plant-1.bundle")
    assert (bundle.threshold.rule, bundle.threshold.fitted_on) == ("mean-sigma", "train")
    assert bundle.scaler.kind == "minmax"


def test_a_store_can_live_at_a_database_url(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    assert simulate_here(tmp_path / "run", "--store", url, "--sites", "2", rounds=1).returncode == 0
    listed = crossplant_here("rounds", "list", "--store", url)
    assert listed.returncode == 0, listed.stderr
    assert "calibrate" in listed.stdout


def test_config_show_says_where_each_setting_came_from(run: Path) -> None:
    preset = crossplant_here("config", "show", "--preset", "paper")
    assert "preset paper" in preset.stdout
    of_run = json.loads(crossplant_here("config", "show", "--run", run, "--json").stdout)
    window = next(row for row in of_run["settings"] if row["name"] == "recipe.detector.window")
    assert (window["value"], window["source"]) == (8, "--set recipe.detector.window")
    assert "--set" in SMALL
