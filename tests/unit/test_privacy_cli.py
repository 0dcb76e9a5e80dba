"""`crossplant privacy`: inventory, plan and ledger, as a user meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared.privacy.accounting import Event
from shared.privacy.claim import claim
from shared.privacy.ledger import PrivacyLedger, Release, read_balance
from shared.wire.inventory import BESIDE, REPLY, REQUEST
from tests.support.command import crossplant_here


def told(*arguments: str | Path) -> str:
    done = crossplant_here("privacy", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "--json" not in arguments)
    return done.stdout


def told_json(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(*arguments, "--json"))
    return found


def refused(*arguments: str | Path) -> str:
    done = crossplant_here("privacy", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    for plant in ("north", "south"):
        opened = PrivacyLedger(tmp_path / "privacy" / plant)
        for number, purpose in enumerate(("weights", "centroids", "weights")):
            event = Event(20.0, 1.0, 1)
            what = Release("run", number, purpose, f"{number}", event, 1e-5, "segment of 60 samples (60 s)", "now")  # type: ignore[arg-type]
            opened.charge(what, 3.0)
    return tmp_path


def test_the_inventory_names_every_field_with_what_protects_it() -> None:
    text, listed = told("inventory"), told_json("inventory")
    for field in REPLY:
        assert re.search(rf"^{re.escape(field.name)}  \(", text, re.MULTILINE)
    assert len(listed["fields"]) == len(REPLY) + len(REQUEST)
    assert len(listed["beside"]) == len(BESIDE)
    gradient = next(row for row in listed["fields"] if row["field"] == "gradient/*")
    assert gradient["direction"] == "from the plant"
    assert gradient["kinds"] == ["train"]
    for key in ("tells", "sensitivity", "without_privacy", "with_privacy"):
        assert gradient[key]
    assert {row["with_privacy"] for row in listed["fields"] if row["field"] == "holdout_loss"} == {"dropped"}


def test_the_ledger_of_a_run_has_the_promised_form(run_folder: Path) -> None:
    plants = told_json("ledger", "--store", run_folder)["plants"]
    assert [plant["plant"] for plant in plants] == ["north", "south"]
    balance = read_balance(run_folder / "privacy" / "north")
    assert {key: plants[0][key] for key in ("epsilon", "delta", "unit")} == {
        "epsilon": balance.epsilon,
        "delta": 1e-5,
        "unit": "segment of 60 samples (60 s)",
    }
    assert plants[0]["claim"]["text"] == claim(balance).text


def test_the_ledger_is_told_with_the_paragraph_to_quote(run_folder: Path) -> None:
    text = told("ledger", "--store", run_folder)
    balance = read_balance(run_folder / "privacy" / "north")
    assert f"north: epsilon {balance.epsilon:.3f} of 3 at delta 1e-05" in text
    assert claim(balance).text in " ".join(text.split())
    assert balance.digest in text.replace("\n    ", "")


def test_looking_at_a_ledger_changes_nothing(run_folder: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run_folder.rglob("*") if path.is_file()}
    told("ledger", "--store", run_folder)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run_folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_plant_that_released_nothing_says_so(tmp_path: Path) -> None:
    PrivacyLedger(tmp_path / "privacy" / "north")
    assert told("ledger", "--store", tmp_path) == "north: nothing was released.\n"
    assert told_json("ledger", "--store", tmp_path)["plants"][0]["epsilon"] == 0.0


def test_folders_without_a_ledger_or_with_a_broken_one_say_so(run_folder: Path, tmp_path: Path) -> None:
    assert refused("ledger", "--store", tmp_path / "no").startswith("CP-101 InvalidConfig: there is no folder")
    (tmp_path / "empty").mkdir()
    assert refused("ledger", "--store", tmp_path / "empty").startswith("CP-904 LedgerBroken")
    (run_folder / "privacy" / "south" / "ledger.jsonl").unlink()
    assert "ledger.jsonl is missing beside a key in use" in refused("ledger", "--store", run_folder)


def test_a_plan_tells_noise_cost_signal_and_the_price_of_longer_records() -> None:
    asked = ("plan", "--epsilon", "3", "--segments", "6000")
    text, found = told(*asked), told_json(*asked)
    assert 2.97 < found["epsilon"] <= 3.0
    assert found["costs"]["clusters"] == pytest.approx(1.2, rel=1e-2)
    assert found["noise"]["weights"] > 0
    assert "Records      6,000 a plant can offer epsilon 1 or more: enough" in text
    assert "Delta        small enough" in text
    assert text.endswith("Nothing was spent.\n")
    assert [row["records"] for row in found["longer"]] == [600, 100, 12, 4]
    assert [row["least_epsilon"] for row in found["longer"]] == [8.0, None, None, None]
    ratios = [row["noise_to_signal"] for row in found["longer"]]
    assert ratios == sorted(ratios)
    assert ratios[0] > found["noise_to_signal"]


def test_a_plan_for_too_few_records_or_too_large_a_delta_says_so() -> None:
    few = told("plan", "--epsilon", "1", "--segments", "600", "--rounds", "20")
    assert "600 a plant can offer epsilon 8 or more: too few" in few
    many = told("plan", "--epsilon", "3", "--segments", "500000", "--rounds", "20")
    assert "Delta        too large: at most 2e-07" in many


def test_a_central_plan_has_no_records() -> None:
    found = told("plan", "--epsilon", "8", "--dp", "central", "--plants", "10", "--rounds", "20")
    assert "for each one plant; dp central" in found
    assert "Records" not in found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--epsilon", "0"), "--epsilon 0.0: Input should be greater than 0"),
        (("--epsilon", "nan"), "--epsilon nan"),
        (("--epsilon", "3", "--delta", "0.5"), "--delta 0.5"),
        (("--epsilon", "3", "--sampling", "2"), "--sampling 2.0"),
        (("--epsilon", "3", "--unit", "soon"), "--unit 'soon' is no length"),
        (("--epsilon", "3", "--unit", "0"), "--unit '0' is no length"),
        (("--epsilon", "3", "--period", "0"), "--period 0.0"),
        (("--epsilon", "3", "--dp", "none"), "--dp none claims nothing"),
        (("--epsilon", "3", "--dp", "both"), "--dp 'both'"),
    ],
)
def test_each_wrong_input_is_named(arguments: tuple[str, ...], said: str) -> None:
    error = refused("plan", *arguments)
    assert error.startswith("CP-101 InvalidConfig: ")
    assert said in error


def test_a_budget_that_buys_nothing_is_said() -> None:
    assert refused("plan", "--epsilon", "0.001", "--rounds", "100000").startswith("CP-902 BudgetTooSmall")
