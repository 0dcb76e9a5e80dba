"""SKAB: one site an experiment."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import find, load
from client.ingest.skab import TAGS
from shared.errors import DataNotFound, DataUnreadable, TooFewRows
from tests.conftest import real


def write(path: Path, rows: int = 420, pause_after: int | None = None, anomalous: tuple[int, ...] = (410, 411)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [";".join(("datetime", *TAGS, "anomaly", "changepoint"))]
    stamp = datetime(2020, 3, 9, 10, 14, 33)
    for row in range(rows):
        stamp += timedelta(seconds=60 if row == pause_after else 1)
        values = ";".join(str(row + column / 10) for column in range(len(TAGS)))
        lines.append(f"{stamp:%Y-%m-%d %H:%M:%S};{values};{float(row in anomalous)};0.0")
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")


def test_real_figures(data_root: Path) -> None:
    sites = load("skab", real(data_root, "skab"))
    assert [site.name for site in sites][:3] == ["valve1-0", "valve1-1", "valve1-2"]
    assert len(sites) == 16
    assert all(len(site.train_TD) == 400 and site.schema.dim == 8 for site in sites)
    assert sum(len(site.test_TD) for site in sites) == 11_760
    assert sum(int(site.labels_T.sum()) for site in sites if site.labels_T is not None) == 6_309
    paused = {
        site.name: (site.train_starts, site.test_starts)
        for site in sites
        if any("pause" in note.what for note in site.repairs)
    }
    assert set(paused) == {"valve1-2", "valve1-4", "valve1-7"}


def test_real_experiments_are_recognised_and_what_is_missing_is_named(data_root: Path) -> None:
    path = real(data_root, "skab")
    found = find("skab").recognise(path)
    assert found is not None
    assert found.missing == ("4 of 4 experiments of valve2", "14 of 14 experiments of other")
    assert len(found.files) == 17
    sites = load("skab", path)
    assert [(figure.what, figure.found, figure.agrees) for figure in find("skab").figures(found, sites)] == [
        ("experiments", 16, False),
        ("experiments of valve1", 16, True),
        ("rows of the anomaly-free run", 9_405, True),
    ]
    unused = "a normal run without labels: not used, as in the published protocol"
    assert (sites[0].repairs[0].what, sites[0].repairs[0].count) == (unused, 9_405)


def test_one_experiment_under_another_name_is_a_site(tmp_path: Path) -> None:
    write(tmp_path / "pump room (1).csv")
    (site,) = load("skab", tmp_path / "pump room (1).csv")
    assert (site.name, len(site.test_TD)) == ("pump-room--1", 20)
    assert find("skab").recognise(tmp_path / "pump room (1).csv") is not None


def test_a_folder_of_one_kind_alone_is_read(tmp_path: Path) -> None:
    write(tmp_path / "valve2" / "3.csv")
    assert [site.name for site in load("skab", tmp_path / "valve2")] == ["valve2-3"]


def test_another_table_in_a_folder_of_the_same_name_is_not_skab(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "1.csv").write_text("time;x\n1;2\n", encoding="utf-8")
    assert find("skab").recognise(tmp_path) is None


def test_split_labels_and_groups(tmp_path: Path) -> None:
    for name in ("valve1/10", "valve1/2", "other/1"):
        write(tmp_path / "data" / f"{name}.csv")
    sites = load("skab", tmp_path)
    assert [(site.name, site.group) for site in sites] == [
        ("other-1", "other"),
        ("valve1-2", "valve1"),
        ("valve1-10", "valve1"),
    ]
    assert (sites[0].train_TD.shape, sites[0].test_TD.shape) == ((400, 8), (20, 8))
    assert sites[0].test_TD[0, 0] == 400
    assert sites[0].labels_T is not None
    assert np.flatnonzero(sites[0].labels_T).tolist() == [10, 11]


@pytest.mark.parametrize(
    ("pause", "train_starts", "test_starts"),
    [(100, (0, 100), (0,)), (400, (0,), (0,)), (405, (0,), (0, 5)), (None, (0,), (0,))],
)
def test_a_pause_begins_a_new_recording(
    tmp_path: Path, pause: int | None, train_starts: tuple[int, ...], test_starts: tuple[int, ...]
) -> None:
    write(tmp_path / "valve1" / "0.csv", pause_after=pause)
    (site,) = load("skab", tmp_path)
    assert (site.train_starts, site.test_starts) == (train_starts, test_starts)
    assert len(site.repairs) == (pause is not None)


def test_other_names_are_left_out_and_anomalous_training_rows_stated(tmp_path: Path) -> None:
    write(tmp_path / "valve1" / "0.csv", anomalous=(3, 410))
    write(tmp_path / "valve1" / "0 (copy).csv")
    (site,) = load("skab", tmp_path)
    assert [str(note) for note in site.repairs] == [
        "valve1/0 (copy).csv: name is no number: left out (1)",
        "valve1-0: training rows that are labelled anomalous: kept (1)",
    ]


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"no experiments like valve1/0\.csv"):
        load("skab", tmp_path)
    path = tmp_path / "valve1" / "0.csv"
    write(path, rows=400)
    with pytest.raises(TooFewRows, match="has 400 rows"):
        load("skab", tmp_path)
    write(path)
    path.write_text(path.read_text(encoding="utf-8").replace(";", ","), encoding="utf-8")
    with pytest.raises(DataUnreadable, match="10 columns are missing: datetime"):
        load("skab", tmp_path)
    write(path)
    path.write_text(path.read_text(encoding="utf-8").replace(";0.0;0.0", ";0.5;0.0", 1), encoding="utf-8")
    with pytest.raises(DataUnreadable, match="is none of 0, 1"):
        load("skab", tmp_path)
