"""Sites of two data sets in one federation, as a researcher runs it: killed, resumed, scored live by what came out."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.edge.loading import load_edge
from client.edge.scorer import Scorer
from client.ingest.folder import read_site
from shared.bundle.whole import read_bundle
from shared.detectors.adapter import OWN
from simulations.evaluate import score_rows
from tests.conftest import real
from tests.support.command import SMALL, crossplant_here, start
from tests.support.edge import samples

SITES = ("generated-plant-1", "generated-plant-2", "skab-valve1-0", "skab-valve1-1")


def flags(data_root: Path) -> list[str | Path]:
    real(data_root, "skab")
    mixed = ["--datasets", "generated,skab", "--data", str(data_root), "--sites", "2", "--workers", "1"]
    sharing = {"adapter": 6, "keep": '"better"', "alone_epochs": 1, "personal_epochs": 1, "proximal": 0.01}
    return [*mixed, *(flag for name, value in sharing.items() for flag in ("--set", f"recipe.sharing.{name}={value}"))]


@pytest.fixture(scope="module")
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mixed") / "run"
    done = crossplant_here("simulate", "--out", out, "--rounds", "3", *SMALL, *flags(data_root))
    assert done.returncode == 0, done.stderr
    return out


def results(run: Path) -> list[dict[str, Any]]:
    return list(json.loads((run / "results.json").read_text())["sites"])


def test_every_site_of_every_set_is_measured_and_says_what_it_kept(run: Path) -> None:
    sites = results(run)
    assert tuple(site["site"] for site in sites) == SITES
    assert [site["group"] for site in sites] == ["generated", "generated", "skab", "skab"]
    for site in sites:
        assert 0 <= site["metrics"]["auprc"] <= 1
        assert site["model"]["holdout_loss"].keys() == {"federated", "personal", "alone"}
        assert f"{site['site']} keeps" in (run / "report.html").read_text(encoding="utf-8")


def test_plants_have_one_trunk_and_adapters_of_their_own(run: Path) -> None:
    bundles = [read_bundle(run / "bundles" / f"{name}.bundle") for name in SITES]
    shapes = [bundle.model.weights[f"{OWN}inlet.weight"].shape for bundle in bundles]
    assert [shape[0] for shape in shapes] == [6] * 4
    assert len({shape[1] for shape in shapes}) == 2
    trunks = [{n: w.shape for n, w in b.model.weights.items() if not n.startswith(OWN)} for b in bundles]
    assert all(trunk == trunks[0] for trunk in trunks)


@pytest.mark.parametrize("name", SITES[::2])
def test_the_edge_scores_what_training_scores(run: Path, name: str) -> None:
    site = read_site(run / "plants" / name)
    bundle = read_bundle(run / "bundles" / f"{name}.bundle")
    rows_TD = np.asarray(site.test_TD, np.float32)[:150]
    scorer = Scorer(load_edge(run / "bundles" / f"{name}.bundle", None))
    found = [scored.score for one in samples(rows_TD) if (scored := scorer.feed(one)) is not None]
    due_T = score_rows(site, bundle, torch.device("cpu"))[:150]
    np.testing.assert_allclose(found, due_T[np.isfinite(due_T)][: len(found)], rtol=0, atol=1e-5)


def test_a_killed_run_ends_with_the_same_bundles(run: Path, data_root: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    process = start("simulate", "--out", again, "--rounds", "3", *SMALL, *flags(data_root))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round  12 "):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    resumed = crossplant_here("simulate", "--resume", again)
    assert resumed.returncode == 0, resumed.stderr
    assert results(again) == results(run)
    for name in SITES:
        one, other = (read_bundle(folder / "bundles" / f"{name}.bundle") for folder in (run, again))
        assert one.model.digest == other.model.digest


def test_sites_of_other_tags_are_not_made_to_share_everything(data_root: Path, tmp_path: Path) -> None:
    whole = [*flags(data_root), "--set", "recipe.sharing.share=all"]
    done = crossplant_here("simulate", "--out", tmp_path / "run", *SMALL, *whole)
    assert done.returncode != 0
    assert "CP-203 SchemaMismatch" in done.stderr
    assert "recipe.sharing.share=trunk" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_site_can_begin_with_little_data(tmp_path: Path) -> None:
    done = crossplant_here("simulate", "--plan", "--json", *SMALL, "--sites", "3", "--late", "plant-2:0.5")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    rows = [site["train_rows"] for site in plan["sites"]]
    whole = crossplant_here("simulate", "--plan", "--json", *SMALL, "--sites", "3")
    before = [site["train_rows"] for site in json.loads(whole.stdout)["sites"]]
    assert rows == [before[0], round(before[1] / 2), before[2]]
    assert any("data.shrink, 50% are kept" in note for note in plan["notes"])
    for late, told in (
        ("nobody:.5", "is no site of the run"),
        ("plant-1:.0001", "none of its"),
        ("plant-1:2", "shrink"),
    ):
        wrong = crossplant_here("simulate", "--plan", *SMALL, "--late", late)
        assert told in wrong.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--dataset", "skab", "--datasets", "skab,generated"], "not both"),
        (["--dataset", "mixed"], "no data sets"),
        (["--datasets", "generated,nothing"], "nothing"),
        (["--datasets", "generated", "--partition", "by-time"], "stay as they are"),
    ],
)
def test_a_mixed_federation_that_cannot_be_is_refused(given: list[str], told: str, tmp_path: Path) -> None:
    done = crossplant_here("simulate", "--out", tmp_path / "run", *SMALL, *given)
    assert done.returncode != 0
    assert told in done.stderr
