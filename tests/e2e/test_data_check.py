"""`crossplant data check` on every real folder, and on everything that a user has in hand instead of a data set."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY, real, write_telemanom
from tests.support.command import crossplant_here


def _checked(path: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of a check; the text form must agree with both."""
    done = crossplant_here("data", "check", path, "--json")
    assert done.stderr == "", done.stderr
    told = crossplant_here("data", "check", path)
    assert told.returncode == done.returncode
    assert told.stderr == ""
    report = json.loads(done.stdout)
    assert f"usable: {'yes' if report['usable'] else 'no'}" in told.stdout
    assert done.returncode == (0 if report["usable"] else 1)
    return done.returncode, report


def _said(report: dict[str, Any]) -> str:
    """Everything that findings say, in one text."""
    found = [*report["findings"], *(one for section in report["sections"] for one in section["findings"])]
    return "\n".join(f"{one['where']}: {one['what']} -> {one['action']}" for one in found)


# ---- the real folders ----


@pytest.mark.parametrize(
    ("folder", "datasets", "train", "test", "labelled"),
    [
        ("telemanom", ["msl", "smap"], 58_317, 73_729, 7_766),
        ("batadal", ["batadal"], 8_761, 4_177, 492),
        ("skab", ["skab"], 6_400, 11_760, 6_309),
        ("tep", ["tep"], 500, 12_480, 9_600),
        ("secom", ["secom"], 180, 196, 10),
        ("petrobras", ["historian"], None, None, None),
    ],
)
def test_every_real_folder_is_recognised_and_usable(
    folder: str, datasets: list[str], train: int | None, test: int | None, labelled: int | None, data_root: Path
) -> None:
    code, report = _checked(real(data_root, folder))
    assert code == 0, _said(report)
    assert [section["dataset"] for section in report["sections"]] == datasets
    sites = report["sections"][0]["sites"]
    if train is not None:
        assert sum(site["train_rows"] for site in sites) == train
        assert sum(site["test_rows"] for site in sites) == test
        assert sum(site["labelled_rows"] for site in sites) == labelled
    assert all(section["next"].startswith("crossplant simulate --dataset ") for section in report["sections"])


def test_the_known_faults_of_msl_are_told(data_root: Path) -> None:
    _, report = _checked(real(data_root, "telemanom"))
    msl = report["sections"][0]
    found = {(one["kind"], one["where"], one["count"]) for one in msl["findings"]}
    assert ("outlying", "M-6/test", 186) in found
    assert ("twin-sites", "P-14/test", 6_100) in found
    assert "T-10: no row in labeled_anomalies.csv" in _said(report)
    assert all(figure["agrees"] for figure in msl["figures"])
    still = [len(site["constant_tags"]) for site in msl["sites"]]
    assert (min(still), max(still)) == (36, 47)


def test_the_next_command_of_a_small_data_set_works(data_root: Path, tmp_path: Path) -> None:
    """TEP has 500 training rows: eight blocks of them would be too short for a window."""
    _, report = _checked(real(data_root, "tep"))
    words = report["sections"][0]["next"].replace("--out DIR", f"--out {tmp_path / 'run'}").split()
    done = crossplant_here(*words[1:], "--rounds", "1", "--stride", "8", "--set", "recipe.detector.hidden=8")
    assert done.returncode == 0, done.stderr


def test_list_finds_every_real_folder(data_root: Path) -> None:
    done = crossplant_here("data", "list", "--data", data_root, "--json")
    held = {one["name"]: one["path"] for one in json.loads(done.stdout)["datasets"] if one["path"]}
    for folder, dataset in (("telemanom", "msl"), ("skab", "skab"), ("secom", "secom"), ("petrobras", "historian")):
        if (data_root / folder).is_dir():
            assert held[dataset] == str(data_root / folder)


def test_show_draws_a_real_channel(data_root: Path, tmp_path: Path) -> None:
    flags = ["--dataset", "msl", "--site", "M-6", "--out", tmp_path / "m6.html"]
    done = crossplant_here("data", "show", real(data_root, "telemanom"), *flags)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "m6.html").read_text()
    assert "-1 to 258.11" in page
    assert 'class="shade"' in page


# ---- what users have in hand instead ----


def test_a_half_copied_table_of_a_real_data_set(data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(real(data_root, "batadal"), tmp_path / "batadal")
    file = tmp_path / "batadal" / "BATADAL_dataset03.csv"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:1_000_003])
    code, report = _checked(tmp_path / "batadal")
    assert code == 1
    assert "BATADAL_dataset03.csv: is cut short" in _said(report)
    assert "CP-2" in _said(report)


def test_a_half_copied_array(tmp_path: Path) -> None:
    data = write_telemanom(tmp_path / "msl", {"A-1": "[[3, 5]]", "A-2": "[[3, 5]]"})
    file = data / "train" / "A-2.npy"
    file.write_bytes(file.read_bytes()[:-777])
    code, report = _checked(data)
    assert code == 1
    assert "A-2.npy: is cut short" in _said(report)


def test_a_renamed_file_is_recognised_by_content(data_root: Path, tmp_path: Path) -> None:
    secom = real(data_root, "secom")
    shutil.copy(secom / "secom.data", tmp_path / "readings (1).txt")
    shutil.copy(secom / "secom_labels.data", tmp_path / "labels.txt")
    code, report = _checked(tmp_path)
    # Either it is loaded by what is in it, or the report says which names are needed: never silence.
    assert [section["dataset"] for section in report["sections"]] == ["secom"] or code == 1
    assert report["sections"] or _said(report)


def _zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "SKAB-master.zip", "w") as archive:
        archive.writestr("data/valve1/0.csv", "datetime;a\n")


def _decimal_commas(folder: Path) -> None:
    rows = [
        f"2024-01-01 00:{at // 60:02d}:{at % 60:02d};{at % 7},5;{at * 1.5:.2f}".replace(".", ",") for at in range(900)
    ]
    (folder / "export.csv").write_text("Zeit;LIT101;FIT101\n" + "\n".join(rows) + "\n")


def _text(folder: Path) -> None:
    rng = np.random.default_rng(0)
    words = np.array(["open", "closed", "Inp OutRange", "bad", "manual"])
    lines = [",".join(rng.choice(words, 200)) for _ in range(50)]
    (folder / "text.csv").write_text(",".join(f"col{at}" for at in range(200)) + "\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda folder: None, "is an empty folder"),
        (lambda folder: (folder / "inner").mkdir(), "is a folder without files"),
        (_zip, "a zip archive"),
        (_text, "a table of 200 columns of text"),
        (lambda folder: (folder / "a.csv").write_bytes(b""), "an empty file"),
        (lambda folder: (folder / "a.csv").write_text("<html><title>Sign in</title></html>"), "a web page"),
        (lambda folder: (folder / "a.pkl").write_bytes(b"\x80\x04K\x01."), "a Python pickle"),
        (lambda folder: (folder / "a.csv").write_text("a,b\n" + "1,2\n" * 30), "no timestamp column"),
        (lambda folder: (folder / "notes.txt").write_text("Call Anna about the valve.\nThen go home.\n"), "plain text"),
        (lambda folder: (folder / "a.csv").write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    ],
)
@pytest.mark.parametrize("as_file", [False, True], ids=["folder", "file"])
def test_what_is_no_data_set_gets_a_verdict(
    write: Callable[[Path], object], told: str, as_file: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)
    files = [file for file in folder.iterdir() if file.is_file()]
    path = files[0] if as_file and files else folder
    code, report = _checked(path)
    assert code == 1
    assert told in _said(report)
    assert all(finding["action"] for finding in report["findings"])


def test_semicolons_and_decimal_commas_get_a_verdict(tmp_path: Path) -> None:
    _decimal_commas(tmp_path)
    code, report = _checked(tmp_path)
    assert code == 0, _said(report)
    (section,) = report["sections"]
    assert section["dataset"] == "historian"
    assert sum(site["train_rows"] + site["test_rows"] for site in section["sites"]) == 900


def test_a_path_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr("client.ingest.doctor.examination.recognise", refuse)
    code, report = _checked(tmp_path)
    assert code == 1
    assert "Permission denied" in _said(report)


@pytest.mark.parametrize("name", ["new\nline", "[red]", "sp ace", "quo'te", "\udcff", "ü" * 60])
def test_odd_paths(name: str, tmp_path: Path) -> None:
    data = write_telemanom(tmp_path / name, {"A-1": "[[3, 5]]", "A-2": "[[3, 5]]"})
    code, report = _checked(data)
    assert code == 0, _said(report)


def test_a_pipe_that_closes_early_is_no_error(tmp_path: Path) -> None:
    data = write_telemanom(tmp_path / "msl", {"A-1": "[[3, 5]]", "A-2": "[[3, 5]]"})
    line = f"crossplant data check {data} | head -1; exit ${{PIPESTATUS[0]}}"
    environment_path = REPOSITORY / ".venv" / "bin"
    done = subprocess.run(
        ["bash", "-c", f'PATH="{environment_path}:$PATH"; {line}'], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
