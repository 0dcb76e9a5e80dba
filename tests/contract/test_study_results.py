"""results.json of `crossplant study`: its rows' fields are frozen, and nothing that failed is left out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from shared.frontdoor import root
from simulations.study import results as files
from simulations.study.cells import Outcome
from simulations.study.contestant import LeftOut
from simulations.study.effective import Asked
from simulations.study.judge import run
from simulations.study.measure import FIELDS, Measured, labels_of, measured
from simulations.study.plan import Cell, StudyPlan
from simulations.study.run import Results
from tests.support.study import Witness, sites

ROW = (
    "dataset, site, detector, mode, seed, auprc, auroc, vus_pr, f1_at_threshold, f1_best, event_recall, "
    "false_alarms_per_day, delay_s, train_s, peak_mb"
)


def found(tmp_path: Path) -> Results:
    given, cell = sites(), Cell("made", "lag", "local", 0)
    judged, _ = run(Witness(), given, "local", 0, tmp_path)
    results = Results(StudyPlan.of(Asked(("made",), ("lag",), ("local",), 1)))
    outcome = Outcome(cell, "0", "code", (judged[0],), (LeftOut("site-2", "too short"),), 1.0, 1.0)
    results.rows = measured(outcome, labels_of(given))
    results.rows.append(Measured(Cell("gone", "lag", "local", 0), None, error="no folder"))
    return results


def test_a_row_has_exactly_the_frozen_fields(tmp_path: Path) -> None:
    assert ", ".join(FIELDS) == ROW
    file = tmp_path / "results.json"
    files.write(file, found(tmp_path), "crossplant study")
    content = json.loads(file.read_text())
    assert [list(row) for row in content["rows"]] == [list(FIELDS)] * 3
    assert content["fields"] == list(FIELDS)


def test_what_failed_is_a_row_of_nulls_with_its_error_beside_it(tmp_path: Path) -> None:
    content = files.content(found(tmp_path), "crossplant study")
    measured_, short, gone = content["rows"]
    assert measured_["auprc"] == 1.0
    assert measured_["peak_mb"] is None or not math.isnan(measured_["peak_mb"])
    for row in (short, gone):
        assert all(row[name] is None for name in FIELDS[5:])
    told = [(one["dataset"], one["site"], one["error"]) for one in content["error"]]
    assert told == [("made", "site-2", "too short"), ("gone", None, "no folder")]


def test_where_figures_come_from_stands_beside_them(tmp_path: Path) -> None:
    results = found(tmp_path)
    told = files.content(results, "crossplant study --out x")["provenance"]
    assert told["digest"] == results.plan.digest
    assert told["command"] == "crossplant study --out x"
    assert {"crossplant", "torch", "numpy"} <= set(told["versions"])
    assert told["machine"]["cores"] >= 1


def test_the_options_of_the_command_are_frozen() -> None:
    command = root.get_command(click.Context(root), "study")
    assert command is not None
    assert sorted(option for one in command.params for option in one.opts) == [
        *("--ablations", "--data", "--datasets", "--detectors", "--epsilon", "--full", "--modes", "--out"),
        *("--quick", "--robustness", "--rounds", "--seeds", "--set", "--workers"),
    ]
