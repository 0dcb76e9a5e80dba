"""`crossplant data export`: a site's rows as readings that a scorer takes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from client.ingest.folder import write_site
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.show.choose import View
from simulations.show.readings import PAUSE, rows
from tests.support.command import crossplant_here


def site() -> SiteData:
    train, test = ((np.arange(n * 2).reshape(n, 2) / 7).astype(np.float32) for n in (6, 5))
    test[1, 0] = np.nan
    return SiteData("north", SensorSchema(tags=("a,b", "c"), period_s=60), train, test, None)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    write_site(tmp_path / "north", site())
    return tmp_path / "north"


def test_the_file_holds_every_reading_to_the_bit_and_a_missing_one_as_an_empty_cell(
    stored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "readings.csv"
    done = crossplant_here("data", "export", stored, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    with out.open(encoding="utf-8", newline="") as file:
        head, *body = csv.reader(file)
    assert head == ["time", "a,b", "c"]
    assert [line[0] for line in body[:2]] == ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"]
    assert body[1][1] == ""
    read = np.array([[cell or "nan" for cell in line[1:]] for line in body], np.float32)
    np.testing.assert_array_equal(read, site().test_TD)


def test_on_standard_output_they_are_json_lines(stored: Path) -> None:
    done = crossplant_here("data", "export", stored, "--out", "-", "--from", "1", "--to", "2")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == {
        "time": "2026-01-01T00:00:00Z",
        "values": {"a,b": None, "c": pytest.approx(3 / 7, rel=1e-6)},
    }


def test_between_two_recordings_lies_a_gap_and_training_rows_come_first() -> None:
    two = replace(site(), train_starts=(0, 4))
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    found = [(datetime.fromisoformat(at) - begin).seconds // 60 for at, _ in rows(two, View("both"), begin)]
    assert found == [0, 1, 2, 3, 4 + PAUSE, 5 + PAUSE, *range(6 + 2 * PAUSE, 11 + 2 * PAUSE)]
    assert next(at for at, _ in rows(two, View("train", first=4), begin)) == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--out", "readings.txt"], 2, "must end in .csv"),
        (["--out", "no/such/place.csv"], 1, "CP-106"),
        (["--out", "a.csv", "--from", "99"], 1, "CP-101"),
        (["--out", "a.csv", "--from", "3", "--to", "3"], 2, "greater than --from"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = crossplant_here("data", "export", stored, *options)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["north"]


def test_a_folder_that_is_neither_a_plant_nor_a_data_set_is_refused(tmp_path: Path) -> None:
    done = crossplant_here("data", "export", tmp_path, "--out", tmp_path / "a.csv")
    assert (done.returncode, done.stderr[:6]) == (1, "CP-201")
