"""`crossplant client thresholds`: the table, the file, the plot, and what it refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.agent.service import PlantAgent
from client.ingest.folder import write_site
from shared.bundle.whole import read_bundle
from shared.config import Recipe, ThresholdConfig
from shared.detectors import build
from shared.lag.pooled import LagSum, tag
from shared.lag.sums import moments
from shared.model import GlobalModel
from shared.schema import SensorSchema
from shared.series import SiteData
from shared.thresholds import fit, known
from shared.thresholds.compare import Labelled, Series, compare, series_of_thresholds
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request
from tests.support.command import crossplant_here

ROWS = 1500
RECIPE = Recipe.model_validate(
    {
        "detector": {"window": 6, "hidden": 4, "layers": 1, "latent": 3},
        "training": {"holdout": 0.5},
        "clustering": {"unit": 20},
        "threshold": {"memory": 100, "false_alarm_rate": 0.05},
    }
)


def site(labelled: bool = True, rows: int = ROWS) -> SiteData:
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(count, 2)).astype(np.float32) for count in (rows, 200))
    labels = np.zeros(200, bool)
    test[100:110], labels[100:110] = 40.0, True
    return SiteData("north", SensorSchema(tags=("a", "b"), period_s=60), train, test, labels if labelled else None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plant whose agent has published a bundle."""
    folder = tmp_path_factory.mktemp("plant")
    write_site(folder / "site", site())
    torch.manual_seed(0)
    model = GlobalModel(build(RECIPE.detector, 2).weights())
    request = Request(Kind.CALIBRATE, "run", 1, RECIPE, model.digest, model)
    PlantAgent(site(), folder / "home" / "bundles").answer(encode_request(request))
    (folder / "plant.toml").write_text('name = "north"\ndata = "site"\n', encoding="utf-8")
    return folder


def test_the_tables_name_every_rule_and_mark_what_has_labels(home: Path) -> None:
    done = crossplant_here("client", "thresholds", "--config", home / "plant.toml")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1,495 normal windows, worth")  # all of 1,500 rows, windows of 6, each judged unseen
    own, labelled = (at for at, line in enumerate(lines) if line.startswith("rule "))
    for begin in (own, labelled):
        assert [line.split()[0] for line in lines[begin + 1 : begin + 1 + len(known())]] == known()
    assert "LABELLED" not in "\n".join(lines[: own + 1 + len(known())])
    assert "LABELLED: events found" in lines[labelled]
    assert all("100%" in line for line in lines[labelled + 1 : labelled + 1 + len(known())])  # 40 sd away
    assert "at the value set on normal data alone" in done.stdout


def test_a_weak_rule_has_a_star_and_its_reason(home: Path) -> None:
    done = crossplant_here("client", "thresholds", "--config", home / "plant.toml")
    starred = {line.split()[0] for line in done.stdout.splitlines() if line.split()[1:2] == ["*"]}
    assert "pot" in starred
    told = " ".join(done.stdout.split("intervals.")[1].split("LABELLED")[0].split())
    assert "quantile" not in starred
    assert all(rule in told for rule in starred)


@pytest.mark.parametrize("options", [(), ("--budget", "0.001"), ("--rate", "0.000001")], ids=str)
def test_the_tables_fit_80_columns(home: Path, options: tuple[str, ...]) -> None:
    done = crossplant_here("client", "thresholds", "--config", home / "plant.toml", *options)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_values_are_those_of_the_bundle(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert crossplant_here("client", "thresholds", "--config", home / "plant.toml", "--out", out).returncode == 0
    found = json.loads(out.read_bytes())
    assert found["asked"] == 0.05
    values = {row["threshold"]["rule"]: row["threshold"]["value"] for row in found["rules"]}
    published = read_bundle(home / "home" / "bundles" / "north.bundle").threshold
    assert published.rule == "daily"
    assert values["daily"] == pytest.approx(published.value, rel=1e-6)
    assert values["daily"] > values["conformal"]  # a day has room for fewer than 5 % of them
    unseen = {row["threshold"]["rule"]: row["unseen"] for row in found["rules"]}
    assert unseen["conformal"]["size"] == 1495 - 747 - 5  # the second half, without windows that share rows
    assert 0.01 < unseen["conformal"]["rate"] < 0.15
    moving = {row["threshold"]["rule"] for row in found["rules"] if row["moving"]}
    assert moving <= {"ewma", "moving-percentile", "dspot", "settled"}
    assert {"ewma", "moving-percentile"} <= moving


@pytest.mark.parametrize("lent", [False, True])
def test_a_judge_that_was_lent_other_plants_moments_is_said_to_be_another(tmp_path: Path, lent: bool) -> None:
    """They come with the request to calibrate, and are not kept. A plant with more rows would hardly borrow any."""
    few = site(rows=150)
    write_site(tmp_path / "site", few)
    (tmp_path / "plant.toml").write_text('name = "north"\ndata = "site"\n', encoding="utf-8")
    torch.manual_seed(0)
    model = GlobalModel(build(RECIPE.detector, 2).weights())
    others = moments(np.random.default_rng(5).normal(size=(9000, 2)).clip(-3, 3), lags=RECIPE.lag.lags)
    lag = LagSum(others.vector_Q, {tag("run", "south"): 1.0}) if lent else None
    request = Request(Kind.CALIBRATE, "run", 1, RECIPE, model.digest, model, lag=lag)
    PlantAgent(few, tmp_path / "home" / "bundles").answer(encode_request(request))
    done = crossplant_here("client", "thresholds", "--config", tmp_path / "plant.toml")
    assert done.returncode == 0, done.stderr
    assert ("was lent other plants' moments" in " ".join(done.stdout.split())) is lent
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_rate_that_the_data_cannot_carry_is_said_with_the_hours(home: Path) -> None:
    done = crossplant_here("client", "thresholds", "--config", home / "plant.toml", "--rate", "0.001")
    told = " ".join(done.stdout.split())  # it is wrapped
    assert "asked: a rate of 0.001, which they do not carry: about" in told
    assert "hours more of normal operation are wanted" in told


def test_a_budget_becomes_a_rate(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    done = crossplant_here("client", "thresholds", "--config", home / "plant.toml", "--budget", "8", "--out", out)
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_bytes())
    assert 1 < told["asked"] / (8 / 1440) < 4  # windows in an alarm: what comes back within 300 s is the same one
    thresholds = {row["threshold"]["rule"]: row["threshold"] for row in told["rules"]}
    assert thresholds["daily"]["false_alarm_rate"] == told["asked"]
    assert thresholds["daily"]["value"] == thresholds["conformal"]["value"]


def test_the_plot_is_a_picture(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.png"
    assert crossplant_here("client", "thresholds", "--config", home / "plant.toml", "--out", out).returncode == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["found.png"]


def test_without_matplotlib_the_extra_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = crossplant_here("client", "thresholds", "--config", home / "plant.toml", "--out", tmp_path / "found.png")
    assert done.returncode == 1
    assert "crossplant[simulation]" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "found.txt"], "neither a .png nor a .json"),
        (["--rate", "0"], "no share of windows"),
        (["--rate", "nan"], "no share of windows"),
        (["--budget", "inf"], "no number of alarms a day"),
        (["--budget", "-1"], "no number of alarms a day"),
        (["--budget", "1", "--rate", "0.1"], "contradict each other"),
        (["--bundle", "nowhere"], "CP-601"),
        (["--config", "nowhere.toml"], "CP-101"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(home: Path, options: list[str], said: str) -> None:
    config: list[str | Path] = [] if "--config" in options else ["--config", home / "plant.toml"]
    done = crossplant_here("client", "thresholds", *config, *options)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False)


@pytest.mark.parametrize("where", ["no/such/folder.json", "no/such/folder.png"])
def test_a_file_that_cannot_be_written_is_said(home: Path, tmp_path: Path, where: str) -> None:
    done = crossplant_here("client", "thresholds", "--config", home / "plant.toml", "--out", tmp_path / where)
    assert (done.returncode, "cannot be written" in done.stderr) == (1, True)


def test_data_that_is_not_that_of_the_bundle_is_refused(home: Path, tmp_path: Path) -> None:
    """Its held-out part may be what the model was trained on."""
    changed = replace(site(), train_TD=site().train_TD[::-1].copy())
    other = replace(site(), schema=SensorSchema(tags=("a", "c"), period_s=60))
    for number, (data, said) in enumerate(((changed, "not what its bundle was made from"), (other, "other tags"))):
        folder = tmp_path / str(number)
        write_site(folder / "site", data)
        (folder / "plant.toml").write_text('name = "north"\ndata = "site"\n', encoding="utf-8")
        bundle = home / "home" / "bundles" / "north.bundle"
        done = crossplant_here("client", "thresholds", "--config", folder / "plant.toml", "--bundle", bundle)
        assert (done.returncode, said in done.stderr) == (1, True)


# ---- the comparison itself -------------------------------------------------------------------------------------------


def test_no_rule_sees_what_it_is_judged_on() -> None:
    """The second half is another distribution: every threshold of the first is crossed as often as that says."""
    rng = np.random.default_rng(1)
    scores = np.concatenate([rng.uniform(size=2000), 10 + rng.uniform(size=2000)])
    for row in compare(Series(scores, None, 1.0), ThresholdConfig(), overlap=29):
        assert row.unseen is not None
        assert (row.unseen.size, row.unseen.rate) == (1971, 1.0)
        assert row.threshold.calibration_size == 4000


def test_labels_choose_no_threshold() -> None:
    rng = np.random.default_rng(2)
    normal = Series(rng.gamma(4.0, size=4000), None, 60.0)
    scores = np.append(np.full(9, np.nan), rng.gamma(4.0, size=1991))
    labels = np.zeros(2000, bool)
    labels[500:510] = True
    scores[505] = 99.0
    found = compare(normal, ThresholdConfig(), labelled=Labelled(Series(scores, None, 60.0), labels))
    flipped = compare(normal, ThresholdConfig(), labelled=Labelled(Series(scores, None, 60.0), ~labels))
    assert [row.threshold for row in found] == [row.threshold for row in flipped]
    assert all(row.found is not None and row.found.event_recall == 1.0 for row in found)


def test_too_little_to_halve_has_no_rehearsal() -> None:
    (row,) = compare(Series(np.arange(7.0), None, 1.0), ThresholdConfig(), rules=["conformal"])
    assert (row.unseen, row.moving, row.found) == (None, None, None)


def test_the_threshold_in_force_follows_the_mode() -> None:
    modes = np.arange(4000) % 2
    series = Series(np.random.default_rng(3).normal(size=4000) + 5.0 * modes, modes, 1.0)
    threshold = fit("context", series.scores_N, ThresholdConfig(), modes)
    assert series_of_thresholds(threshold, series).tolist() == [threshold.by_mode[mode] for mode in modes]
