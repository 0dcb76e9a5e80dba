"""`crossplant simulate --epsilon`: from the command line to a claim; and that without it nothing of it is there."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.privacy.ledger import read_balance
from tests.conftest import REPOSITORY
from tests.support.command import crossplant_here

_FEW = [
    "--set", "recipe.detector.window=4",
    "--set", "recipe.detector.hidden=4",
    "--set", "recipe.detector.latent=2",
    "--set", "recipe.clustering.clusters=2",
    "--set", "recipe.clustering.refresh_every=0",
    "--set", "data.rows=6000",
    "--sites", "2",
]  # fmt: skip
PRIVATE = ["--epsilon", "8", "--unit", "8", "--public-start", "none", *_FEW]


def simulate(out: Path, *flags: str, rounds: int = 4) -> subprocess.CompletedProcess[str]:
    return crossplant_here("simulate", "--out", out, *flags, "--rounds", str(rounds))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("private") / "run"
    done = simulate(out, *PRIVATE)
    assert done.returncode == 0, done.stderr
    assert "epsilon" in done.stdout
    return out


def ledger(run: Path) -> list[dict[str, Any]]:
    done = crossplant_here("privacy", "ledger", "--store", run, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["plants"]
    return found


def rounds(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(crossplant_here("rounds", "list", "--store", run, "--json").stdout)[
        "rounds"
    ]
    return found


# ---- what a run spends -----------------------------------------------------------------------------------------------


def test_every_plant_spends_what_was_planned_and_no_more_than_was_claimed(run: Path) -> None:
    plants = ledger(run)
    assert [plant["plant"] for plant in plants] == ["plant-1", "plant-2"]
    for plant in plants:
        assert 5.0 < plant["epsilon"] <= 8.0
        assert plant["delta"] == 1e-5
        assert re.fullmatch(r"segment of 8 samples \(\S+ s\)", plant["unit"])
        assert plant["releases"] == 4 + 9 + 3  # training, first clusters, after the last joint round
    assert plants[0]["epsilon"] == plants[1]["epsilon"]


def test_the_claim_is_one_paragraph_to_be_quoted(run: Path) -> None:
    text = crossplant_here("privacy", "ledger", "--store", run).stdout
    told = " ".join(text.partition("\n\n")[2].partition("\n\n")[0].split())
    said = (
        "1e-05)-differentially private",
        "disjoint segment of 8 samples",
        "differ by one",
        "independently",
        "Covered",
    )
    for words in (*said, "Not covered", "k times epsilon"):
        assert words in told


def test_all_rounds_counted_and_bundles_are_there(run: Path) -> None:
    assert {entry["status"] for entry in rounds(run)} == {"committed"}
    assert sorted(path.name for path in (run / "bundles").glob("*.bundle")) == ["plant-1.bundle", "plant-2.bundle"]
    assert "psilon" in (run / "report.html").read_text()


def test_the_same_run_again_has_other_weights_since_its_plants_have_other_keys(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    assert simulate(again, *PRIVATE).returncode == 0
    assert rounds(again)[-1]["model"] != rounds(run)[-1]["model"]
    assert [plant["epsilon"] for plant in ledger(again)] == [plant["epsilon"] for plant in ledger(run)]


def test_a_run_resumed_from_an_earlier_round_spends_nothing_twice(run: Path, tmp_path: Path) -> None:
    """As after a kill between a plant's answer and the coordinator's commit: the same requests, bytes and weights."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    _roll_back(copy, to=9)
    before, asked_again = ledger(copy), len(rounds(copy))
    assert asked_again < len(rounds(run))
    done = crossplant_here("simulate", "--resume", copy)
    assert done.returncode == 0, done.stderr
    assert [entry["model"] for entry in rounds(copy)] == [entry["model"] for entry in rounds(run)]
    assert [(plant["epsilon"], plant["releases"]) for plant in ledger(copy)] == [
        (plant["epsilon"], plant["releases"]) for plant in before
    ]


def _roll_back(run: Path, to: int) -> None:
    """The store as it was after a round."""
    with sqlite3.connect(run / "rounds.sqlite") as store:
        tables = {
            name: [column[1] for column in store.execute(f"PRAGMA table_info({name})")]
            for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        for name, columns in tables.items():
            number = next((c for c in ("number", "round", "round_number", "finished") if c in columns), None)
            if number is not None and name != "runs":
                store.execute(f"DELETE FROM {name} WHERE {number} > ?", (to,))
        store.execute("UPDATE runs SET status = 'interrupted'")
    store.close()


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_plants_with_too_few_records_are_told_what_they_could_offer(tmp_path: Path) -> None:
    done = simulate(tmp_path / "run", *PRIVATE, "--epsilon", "1")
    assert done.returncode != 0
    assert "CP-905" in done.stderr + done.stdout
    assert re.search(r"plant-1.*records", done.stderr + done.stdout, re.DOTALL)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("ledger.jsonl"))


def test_a_claim_that_its_settings_contradict_is_refused(tmp_path: Path) -> None:
    done = simulate(tmp_path / "run", *PRIVATE, "--set", "recipe.detector.dropout=0.2")
    assert done.returncode != 0
    assert "dropout" in done.stderr
    assert not (tmp_path / "run").exists()


# ---- without a claim -------------------------------------------------------------------------------------------------

_PLAIN = """
import sys
from pathlib import Path
from tests.support import plants
from tests.support.claims import plant
from dataclasses import replace
config = plants.settings(rounds={"server_optimizer": sys.argv[2]})
plants.federate([plant(60), replace(plant(60, seed=1), name="south")], config, privacy=Path(sys.argv[1]))
of_it = ("cryptography", "opacus", "client.agent.private", "client.training.private")
print([name for name in of_it if name in sys.modules])
"""


@pytest.mark.parametrize("optimizer", ["avg", "adam"])
def test_without_a_claim_no_folder_is_made_and_nothing_of_it_is_imported(optimizer: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PLAIN, str(tmp_path / "privacy"), optimizer]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "privacy").exists()


def test_a_run_without_a_claim_leaves_no_ledger(tmp_path: Path) -> None:
    assert simulate(tmp_path / "run", *_FEW, rounds=1).returncode == 0
    assert not (tmp_path / "run" / "privacy").exists()
    done = crossplant_here("privacy", "ledger", "--store", tmp_path / "run")
    assert done.returncode != 0
    assert "CP-904" in done.stderr


def test_a_ledger_that_was_cut_stops_the_run(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    book = copy / "privacy" / "plant-1" / "ledger.jsonl"
    book.write_bytes(b"".join(book.read_bytes().splitlines(keepends=True)[:-2]))
    done = crossplant_here("privacy", "ledger", "--store", copy)
    assert done.returncode != 0
    assert "CP-904" in done.stderr
    assert read_balance(copy / "privacy" / "plant-2").releases == 16
