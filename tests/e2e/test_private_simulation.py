"""`crossplant simulate --epsilon`: from the command line to ledgers, results and report, on generated plants; and that
without it nothing of it is there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from shared.privacy.ledger import read_balance
from tests.conftest import REPOSITORY
from tests.support.command import crossplant_here, start

FLAGS = [
    "--sites", "2",
    "--set", "data.rows=6000",
    "--window", "4",
    "--unit", "8",
    "--epsilon", "8",
    "--public-start", "none",
    "--set", "recipe.detector.hidden=4",
    "--set", "recipe.detector.latent=2",
    "--clusters", "2",
    "--workers", "1",
]  # fmt: skip
"""600 records a plant: just enough for epsilon 8."""
RELEASES = 3 + 9 + 3
"""Three training rounds; centre, radius, four seeds, three refinements; three refreshes after the last joint round."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("private") / "run"
    done = crossplant_here("simulate", "--out", out, "--rounds", "3", *FLAGS)
    assert done.returncode == 0, done.stderr
    (out.parent / "said").write_text(done.stdout)
    return out


def ledgers(run: Path) -> list[dict[str, Any]]:
    done = crossplant_here("privacy", "ledger", "--store", run, "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["plants"])


def rounds(run: Path) -> list[dict[str, Any]]:
    done = crossplant_here("rounds", "list", "--store", run, "--json")
    return list(json.loads(done.stdout)["rounds"])


def lines(run: Path) -> list[list[str]]:
    return [path.read_text().splitlines() for path in sorted((run / "privacy").glob("*/ledger.jsonl"))]


def test_every_plant_spends_what_was_planned_no_more_than_was_claimed_and_results_say_so(run: Path) -> None:
    said, found = json.loads((run / "results.json").read_text())["privacy"], ledgers(run)
    assert (said["mode"], said["budget"], said["delta"]) == ("local", 8.0, 1e-5)
    names = ("plant", "epsilon", "delta", "unit")
    assert [[plant[n] for n in names] for plant in said["plants"]] == [[plant[n] for n in names] for plant in found]
    assert [plant["plant"] for plant in found] == ["plant-1", "plant-2"]
    assert 5.0 < found[0]["epsilon"] == found[1]["epsilon"] <= 8.0
    assert found[0]["unit"] == "segment of 8 samples (480 s)"


def test_every_exchange_is_one_line_of_each_ledger(run: Path) -> None:
    assert [plant["releases"] for plant in ledgers(run)] == [RELEASES] * 2


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


def test_the_report_quotes_the_claim(run: Path) -> None:
    page = unescape((run / "report.html").read_text())
    assert json.loads((run / "results.json").read_text())["privacy"]["claim"] in page
    assert "Line chart of epsilon by round" in page


def test_the_console_ends_with_the_claim_and_no_round_tells_a_held_out_loss(run: Path) -> None:
    said = (run.parent / "said").read_text()
    assert "\nprivacy: epsilon " in said
    assert str(run / "privacy") in said
    assert "holdout" not in said


def test_a_round_shows_what_came_under_its_name(run: Path) -> None:
    shown = crossplant_here("rounds", "show", "2", "--store", run).stdout
    for name in ("train_loss", "below", "update_norm", "clip 0.3"):
        assert name in shown
    tables = [line for line in shown.splitlines() if not line.startswith(("started", "model", "config"))]
    assert max(map(len, tables)) <= 80


def test_a_folder_that_was_copied_verifies_and_measuring_it_again_releases_nothing(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(run, copy)
    before = lines(copy)
    done = crossplant_here("simulate", "--resume", copy)
    assert done.returncode == 0, done.stderr
    assert lines(copy) == before
    assert ledgers(copy) == ledgers(run)


def test_a_ledger_that_was_cut_short_is_told_and_carries_no_run_on(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cut"
    shutil.copytree(run, copy)
    path = copy / "privacy" / "plant-2" / "ledger.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    for command in (("privacy", "ledger", "--store", copy), ("simulate", "--resume", copy)):
        done = crossplant_here(*command)
        assert (done.returncode, "CP-904" in done.stderr) == (1, True)
    assert read_balance(copy / "privacy" / "plant-1").releases == RELEASES


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9"])
def test_a_resumed_run_goes_on_with_the_same_ledger_and_another_key(
    blow: signal.Signals, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start("simulate", "--out", out, "--rounds", "3", *FLAGS)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round   9 "):
            break
    os.kill(process.pid, blow)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    kept = lines(out)
    assert all(8 <= len(one) < 16 for one in kept)
    resumed = crossplant_here("simulate", "--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    assert [one[: len(before)] for one, before in zip(lines(out), kept, strict=True)] == kept
    spent, undisturbed = ledgers(out), ledgers(run)
    assert [a["epsilon"] for a in spent] == [b["epsilon"] for b in undisturbed]  # the same requests cost once
    assert rounds(out)[-1]["model"] != rounds(run)[-1]["model"]  # its plants' noise is drawn under other keys


def test_a_run_resumed_from_an_earlier_round_spends_nothing_twice(run: Path, tmp_path: Path) -> None:
    """As after a kill between a plant's answer and the coordinator's commit: the same requests, bytes and weights."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    _roll_back(copy, to=9)
    before, asked_again = ledgers(copy), len(rounds(copy))
    assert asked_again < len(rounds(run))
    done = crossplant_here("simulate", "--resume", copy)
    assert done.returncode == 0, done.stderr
    assert [entry["model"] for entry in rounds(copy)] == [entry["model"] for entry in rounds(run)]
    assert [(plant["epsilon"], plant["releases"]) for plant in ledgers(copy)] == [
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


def test_a_plan_tells_noise_epsilon_and_records_and_writes_nothing(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    done = crossplant_here("simulate", "--plan", "--json", "--rounds", "3", *FLAGS)
    said = json.loads(done.stdout)["privacy"]
    assert (said["training"], said["statistic"], said["budget"]) == (4, 13, 8.0)
    assert said["epsilon"] <= 8
    assert said["noise"].keys() == {"weights", "below", "loss", "statistic"}
    assert [(site["records"], site["declared"]) for site in said["sites"]] == [(600, 512)] * 2
    shown = crossplant_here("simulate", "--plan", "--rounds", "3", *FLAGS).stdout
    assert "Protected: every segment of 8 samples (480 s)." in shown
    assert "600" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "code", "telling"),
    [
        (["--sites", "2", "--epsilon", "3"], "CP-905", "'plant-1' has 53 records"),
        (["--sites", "3", "--epsilon", "3", "--dp", "central"], "CP-906", "z sqrt(d) / n is "),
        (["--epsilon", "0"], "CP-101", "greater than 0"),
        (["--epsilon", "3", "--unit", "10parsec"], "CP-101", "10min"),
        (["--unit", "10min"], "CP-101", "--epsilon"),
        (["--epsilon", "3", "--dp", "none"], "CP-101", "claims nothing"),
        (["--epsilon", "0.001"], "CP-902", "epsilon"),
        ([*FLAGS, "--set", "recipe.detector.dropout=0.2"], "CP-101", "dropout"),
        (["--secure-aggregation"], "CP-907", "0014"),
    ],
)
def test_a_claim_that_cannot_be_kept_is_refused_before_anything_is_written(
    flags: list[str], code: str, telling: str, tmp_path: Path
) -> None:
    done = crossplant_here("simulate", *flags, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith(code)
    assert telling in done.stderr
    assert not (tmp_path / "run").exists()


def test_config_show_prints_the_planned_noise_and_where_it_came_from() -> None:
    done = crossplant_here("config", "show", "--preset", "private", "--json")
    settings = {row["name"]: row for row in json.loads(done.stdout)["settings"]}
    assert settings["recipe.privacy.epsilon"]["source"] == "preset private"
    assert settings["recipe.privacy.noise.weights"]["value"] > 1
    assert settings["recipe.privacy.noise.weights"]["source"] == "the plan for epsilon"
    assert settings["recipe.detector.hidden"]["source"] == "differential privacy"


# ---- without a claim -------------------------------------------------------------------------------------------------

_PLAIN = """
import sys
from pathlib import Path
from tests.support import plants
from tests.support.claims import plant
from dataclasses import replace
for optimizer in ("avg", "adam"):
    config = plants.settings(rounds={"server_optimizer": optimizer})
    plants.federate([plant(60), replace(plant(60, seed=1), name="south")], config, privacy=Path(sys.argv[1]))
of_it = ("cryptography", "opacus", "client.agent.private", "client.training.private")
print([name for name in of_it if name in sys.modules])
"""


def test_without_a_claim_no_folder_is_made_and_nothing_of_it_is_imported(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PLAIN, str(tmp_path / "privacy")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "privacy").exists()
