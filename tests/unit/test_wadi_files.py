"""WADI's files as the twin writes them: the official text, and read back unchanged by the loader."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng

from client.ingest import base
from shared.catalogue import tags
from shared.errors import InvalidConfig
from simulations.twin import wadi_files
from simulations.twin.network import TWIN, published
from simulations.twin.network.plant import reference
from simulations.twin.recording import Recording
from simulations.twin.script import Event

TAGS = [tag.name for tag in tags("wadi")]
EMPTY = ["2_LS_001_AL", "2_LS_002_AL", "2_P_001_STATUS", "2_P_002_STATUS"]
NORMAL_S, ATTACK_S = 2500, 6000


@pytest.fixture(scope="module")
def normal() -> Recording:
    """Ends a second before the attack run, crosses noon."""
    begin = TWIN.attack_begins - timedelta(seconds=NORMAL_S)
    return TWIN.run(reference(), begin, NORMAL_S, (), default_rng(1))


@pytest.fixture(scope="module")
def attack() -> Recording:
    """The first published attack, cut off by the end of the recording."""
    events = (Event("override", "1_MV_001_STATUS", 5139, ATTACK_S, 2.0),)
    return TWIN.run(reference(), TWIN.attack_begins, ATTACK_S, events, default_rng(2))


def test_a2_normal_file_has_the_official_text(tmp_path: Path, normal: Recording, attack: Recording) -> None:
    TWIN.write(tmp_path, normal, attack, xlsx=False)
    lines = (tmp_path / "WADI_14days_new.csv").read_text().splitlines()
    assert lines[0] == ",".join(["Row", "Date", "Time", *TAGS])
    assert len(lines) == 1 + NORMAL_S
    assert lines[1].startswith("1,10/9/2017,5:18:20.000 PM,")
    assert lines[-1].startswith(f"{NORMAL_S},10/9/2017,5:59:59.000 PM,")
    cells = lines[1].split(",")
    assert [tag for tag, cell in zip(TAGS, cells[3:], strict=True) if cell == ""] == EMPTY
    assert cells[3 + TAGS.index("1_MV_001_STATUS")] in ("0", "1", "2")
    assert cells[3 + TAGS.index("3_AIT_002_PV")] == "8279.1"


def test_a2_attack_file_has_its_traps(tmp_path: Path, normal: Recording, attack: Recording) -> None:
    TWIN.write(tmp_path, normal, attack, xlsx=False)
    lines = (tmp_path / "WADI_attackdataLABLE.csv").read_text().split("\n")
    assert lines[0].strip(",") == ""
    names = next(csv.reader([lines[1]]))
    assert names[:3] == ["Row ", "Date ", "Time"]
    assert names[-1] == "Attack LABLE (1:No Attack, -1:Attack)"
    assert lines[2].startswith("1,10/9/2017,6:00:00.000 PM,")
    assert lines[2 + 5138].endswith(",1")
    assert lines[2 + 5139].endswith(",-1")
    empty = "," * (3 + len(TAGS))
    assert lines[-3:] == [empty, empty, ""]
    assert len(lines) == 2 + ATTACK_S + 2 + 1


def test_a2_is_read_back_unchanged(tmp_path: Path, normal: Recording, attack: Recording) -> None:
    TWIN.write(tmp_path, normal, attack, xlsx=False)
    (site,) = base.load("wadi", tmp_path)
    np.testing.assert_array_equal(site.train_TD, normal.values_TD)
    np.testing.assert_array_equal(site.test_TD, attack.values_TD)
    assert site.labels_T is not None
    np.testing.assert_array_equal(site.labels_T, attack.labels_T)
    assert site.schema.tags == tuple(TAGS)


def test_a1_has_its_prefixes_and_is_read_back_with_labels(tmp_path: Path, normal: Recording, attack: Recording) -> None:
    wadi_files.write(tmp_path, normal, attack, version="A1")
    lines = (tmp_path / "WADI_14days.csv").read_text().splitlines()
    prefix = "\\\\WIN-25J4RO10SBF\\LOG_DATA\\SUTD_WADI\\LOG_DATA\\"
    assert len(prefix) == 46
    assert lines[3] == ""
    assert lines[4].split(",")[:4] == ["Row", "Date", "Time", prefix + "1_AIT_001_PV"]
    assert (tmp_path / "WADI_attackdata.csv").read_text().startswith("Row,Date,Time," + prefix)
    (site,) = base.load("wadi", tmp_path)
    np.testing.assert_array_equal(site.train_TD, normal.values_TD)
    np.testing.assert_array_equal(site.test_TD, attack.values_TD)
    assert site.labels_T is not None
    np.testing.assert_array_equal(site.labels_T, attack.labels_T)


def test_dates_are_not_padded_and_pass_midnight_noon_and_a_month(tmp_path: Path, normal: Recording) -> None:
    few = replace(
        normal, begin=datetime(2017, 9, 30, 23, 59, 59), values_TD=normal.values_TD[:2], labels_T=normal.labels_T[:2]
    )
    noon = replace(few, begin=datetime(2017, 10, 10, 11, 59, 59))
    wadi_files.write(tmp_path, few, noon)
    stamps = [line.split(",")[1:3] for line in (tmp_path / "WADI_14days_new.csv").read_text().splitlines()[1:]]
    assert stamps == [["9/30/2017", "11:59:59.000 PM"], ["10/1/2017", "12:00:00.000 AM"]]
    stamps = [line.split(",")[1:3] for line in (tmp_path / "WADI_attackdataLABLE.csv").read_text().splitlines()[2:4]]
    assert stamps == [["10/10/2017", "11:59:59.000 AM"], ["10/10/2017", "12:00:00.000 PM"]]


def test_long_recordings_are_written_in_chunks(
    tmp_path: Path, normal: Recording, attack: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, chunk in ((whole, 50_000), (parts, 999)):
        folder.mkdir()
        monkeypatch.setattr(wadi_files, "CHUNK", chunk)
        wadi_files.write(folder, normal, attack)
    for name in wadi_files.NAMES["A2"]:
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_a1_refuses_attacks_at_other_times(tmp_path: Path, normal: Recording, attack: Recording) -> None:
    moved = replace(attack, labels_T=np.roll(attack.labels_T, 1))
    with pytest.raises(InvalidConfig, match="A1 has no label column"):
        wadi_files.write(tmp_path, normal, moved, version="A1")
    with pytest.raises(InvalidConfig, match="A1 has no label column"):
        wadi_files.write(tmp_path, normal, replace(attack, begin=datetime(2017, 10, 9, 18, 0, 1)), version="A1")
    assert not list(tmp_path.iterdir())


def test_a_normal_file_with_attacks_is_refused(tmp_path: Path, attack: Recording) -> None:
    with pytest.raises(InvalidConfig, match="normal stretch holds attacks"):
        wadi_files.write(tmp_path, attack, attack)


def test_there_is_no_wadi_workbook(tmp_path: Path, normal: Recording, attack: Recording) -> None:
    with pytest.raises(InvalidConfig, match="CSV, not as xlsx"):
        TWIN.write(tmp_path, normal, attack, xlsx=True)


def test_published_attacks_cover_the_published_seconds() -> None:
    events = published.attacks(reference())
    marked_T = np.zeros(published.SECONDS, dtype=bool)
    for event in events:
        marked_T[event.first_s : event.end_s] = True
    assert (published.SECONDS, int(marked_T.sum()), len(published.RANGES)) == (172_801, 9_902, 14)
