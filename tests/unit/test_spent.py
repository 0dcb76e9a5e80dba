"""What a run says of its privacy: read from its ledgers, on the console, in results.json and in the report."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from server.rounds import Phase, RoundRecord
from shared.config import RunConfig
from shared.errors import LedgerBroken
from shared.privacy.accounting import Event
from shared.privacy.claim import claim
from shared.privacy.defaults import PRIVATE
from shared.privacy.ledger import PrivacyLedger, Purpose, Release, read_balance
from simulations.private import LeftOut, PrivateSite
from simulations.report.losses import HELD_BACK, losses
from simulations.spent import Spent, clip_course, course, spent
from tests.unit.test_report import changed, finished, report, whole

UNIT = "segment of 60 samples (60 s)"
NOISE = {"weights": 2.0, "below": 20.0, "loss": 10.0, "statistic": 20.0}
SITES = (PrivateSite(site="north", records=1612, declared=1024, sampled=102.4),)
OUT = (LeftOut(site="west", records=300, epsilon=None, why="plant 'west' has 300 records <b>"),)
PRIVATE_CONFIG = RunConfig.model_validate(
    {
        **PRIVATE,
        "recipe": {**PRIVATE["recipe"], "privacy": {"mode": "local", "epsilon": 3.0, "noise": NOISE}},
        "rounds": {**PRIVATE["rounds"], "pretrain": 2, "joint": 2},
    }
)


def charge(root: Path, plant: str, run: str, number: int, purpose: Purpose = "weights") -> None:
    event = Event(2.0, 0.1, 1) if purpose == "weights" else Event(20.0, 1.0, 1)
    request = f"{run}/{number}/{purpose}".encode().hex()
    release = Release(run, number, purpose, request, event, 1e-5, UNIT, "2026-01-01T00:00:00+00:00")
    PrivacyLedger(root / "privacy" / plant).charge(release, 3.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in (2, 3, 5, 6):
        charge(tmp_path, "north", "a", number)
    charge(tmp_path, "north", "a", 4, "centroids")
    charge(tmp_path, "south", "a", 2)
    return tmp_path


def rounds() -> list[RoundRecord]:
    """As a private run leaves them: no held-out loss, the clip beside the noised ones."""
    trained = {"train_loss": 1.5, "below": 0.4}
    records = [finished(1, Phase.DESCRIBE)]
    for number in (2, 3, 5, 6):
        records.append(changed(finished(number, Phase.PRETRAIN), metrics={**trained, "clip": 0.3 + 0.01 * number}))
    return [changed(records[0], metrics={}), *records[1:]]


def found(root: Path) -> Spent:
    said = spent(root, "a", PRIVATE_CONFIG, rounds(), SITES, OUT)
    assert said is not None
    return said


def test_a_run_that_claims_nothing_has_spent_nothing(root: Path) -> None:
    assert spent(root, "a", RunConfig(), rounds(), (), ()) is None


def test_epsilon_comes_from_the_ledgers_and_the_plant_that_spent_most_makes_the_claim(root: Path) -> None:
    said = found(root)
    north, south = (read_balance(root / "privacy" / name) for name in ("north", "south"))
    assert [plant.balance for plant in said.plants] == [north, south]
    assert said.worst == north
    assert north.epsilon > south.epsilon > 0
    assert said.claim == claim(north)


def test_the_course_ascends_to_what_the_ledger_says(root: Path) -> None:
    points = course(root / "privacy" / "north", "a", 1e-5)
    assert [number for number, _ in points] == [2, 3, 4, 5, 6]
    spending = [epsilon for _, epsilon in points]
    assert spending == sorted(set(spending))
    assert spending[-1] == read_balance(root / "privacy" / "north").epsilon


def test_what_other_runs_spent_comes_before_the_first_round(root: Path) -> None:
    first = dict(course(root / "privacy" / "north", "a", 1e-5))
    charge(root, "north", "b", 2)
    later = dict(course(root / "privacy" / "north", "b", 1e-5))
    assert later[0] == pytest.approx(first[6])
    assert later[2] > first[6]


def test_a_folder_that_was_copied_says_the_same(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(root, copy)
    assert found(copy).to_dict() == found(root).to_dict()


def test_a_ledger_that_was_changed_makes_no_claim(root: Path) -> None:
    path = root / "privacy" / "north" / "ledger.jsonl"
    path.write_text(path.read_text().replace('"multiplier":2.0', '"multiplier":9.0', 1))
    with pytest.raises(LedgerBroken):
        found(root)


def test_results_hold_the_claim_and_every_plants_figures(root: Path) -> None:
    said = json.loads(json.dumps(found(root).to_dict(), allow_nan=False))
    assert (said["mode"], said["budget"], said["delta"], said["unit"]) == ("local", 3.0, 1e-5, UNIT)
    assert [plant["plant"] for plant in said["plants"]] == ["north", "south"]
    assert {"plant", "epsilon", "delta", "unit"} <= said["plants"][1].keys()
    assert said["epsilon"] >= max(plant["epsilon"] for plant in said["plants"])
    assert said["claim"] == claim(read_balance(root / "privacy" / "north")).text
    assert said["left_out"] == [{"site": "west", "records": 300, "epsilon": None, "why": OUT[0].why}]


def test_the_console_ends_with_epsilon_delta_unit_and_where_the_ledger_lies(root: Path) -> None:
    lines = found(root).short
    assert f"epsilon {found(root).to_dict()['epsilon']:g} of 3 at delta 1e-05" in lines[0]
    assert UNIT in lines[1]
    assert str(root / "privacy") in lines[2]
    assert all(len(line.replace(str(root), "runs/a")) <= 80 for line in lines)


def test_the_clip_is_read_from_the_rounds() -> None:
    assert clip_course(PRIVATE_CONFIG, rounds()) == tuple((n, 0.3 + 0.01 * n) for n in (2, 3, 5, 6))


def test_the_report_quotes_the_claim_near_the_top_and_says_all_that_goes_with_it(root: Path, tmp_path: Path) -> None:
    said = found(root)
    out = tmp_path / "page"
    out.mkdir()
    page = report(out, dataclasses.replace(whole(), config=PRIVATE_CONFIG, records=rounds(), spent=said))
    assert said.claim is not None
    assert page.text.index(said.claim.text) < page.text.index("Timelines", page.text.index("Settings"))
    for term in ("Unit (record)", "Neighbouring", "Delta", "Sampling", "Covered", "Not covered"):
        assert term in page.text
    assert UNIT in page.text
    assert "Line chart of epsilon by round" in page.html
    assert "The clip went from 0.320 to 0.360" in page.html
    assert "300 records <b>" in page.text
    assert "none up to 8" in page.text


def test_under_privacy_the_report_draws_no_loss_without_saying_that_it_is_noised(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    out.mkdir()
    page = report(out, dataclasses.replace(whole(), config=PRIVATE_CONFIG, records=rounds(), spent=found(root)))
    assert HELD_BACK in page.text
    assert "training, with the noise of differential privacy" in page.text
    assert "standard deviation of 0.39" in page.text  # 10 x 4 / 102.4
    assert "held-out normal data (the model" not in page.html


def test_a_noised_loss_is_drawn_with_its_mean_over_several_rounds() -> None:
    records = [changed(finished(number), metrics={"train_loss": 1.5}) for number in range(1, 40)]
    drawn = losses(records, noise=0.3)
    assert drawn is not None
    assert "its mean over 15 rounds" in drawn.svg
    assert "its mean over" not in (losses(records) or drawn).svg


def test_a_central_claim_is_of_plants_and_of_all_of_them(tmp_path: Path) -> None:
    event = Event(20.0, 1.0, 1)
    release = Release("a", 2, "weights", "00", event, 1e-5, "one plant", "2026-01-01T00:00:00+00:00")
    PrivacyLedger(tmp_path / "privacy" / "all-plants").charge(release, 3.0)
    central = PRIVATE_CONFIG.recipe.privacy.model_copy(update={"mode": "central"})
    config = PRIVATE_CONFIG.model_copy(update={"recipe": PRIVATE_CONFIG.recipe.model_copy(update={"privacy": central})})
    said = spent(tmp_path, "a", config, [changed(one, metrics={}) for one in rounds()], (), ())
    assert said is not None
    assert "for all plants together" in said.short[0]
    assert said.short[1] == "  for each plant"
    out = tmp_path / "page"
    out.mkdir()
    page = report(out, dataclasses.replace(whole(), config=config, records=[finished(1)], spent=said))
    assert "but not against the coordinator" in page.text
    assert "clip C" not in page.text


def test_without_privacy_the_report_says_nothing_of_it(tmp_path: Path) -> None:
    page = report(tmp_path, whole())
    assert 'id="privacy"' not in page.html
    assert "noised" not in page.text
