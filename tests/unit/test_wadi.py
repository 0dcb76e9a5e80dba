"""WADI: two releases with other oddities, labels from rows, from ranges or from nowhere."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import Recognition, find, load
from client.ingest.wadi import A1, A2, RANGES, TAGS
from shared import catalogue
from shared.errors import DataNotFound, DataUnreadable, TooFewRows
from shared.series import SiteData
from tests.support.official import (
    A1_JUNK,
    A1_PREFIX,
    A2_LABEL,
    WADI,
    WADI_ATTACK,
    WADI_EMPTY,
    Pair,
    text,
    wadi_a1,
    wadi_a2,
    wadi_rows,
    write,
    write_xlsx,
)

NORMAL = datetime(2017, 9, 25, 18)


def one(path: Path) -> SiteData:
    (plant,) = load("wadi", path)
    return plant


def recognised(path: Path) -> Recognition:
    found = find("wadi").recognise(path)
    assert found is not None
    return found


def labelled(plant: SiteData) -> list[int]:
    assert plant.labels_T is not None
    return [round(float(value)) - 1000 for value in plant.test_TD[plant.labels_T, 0]]


def notes(plant: SiteData, word: str) -> list[str]:
    return [str(note) for note in plant.repairs if word in note.what]


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_bytes().decode()
    assert old in content
    path.write_bytes(content.replace(old, new, 1).encode())


def check_values(plant: SiteData) -> None:
    assert (plant.name, plant.schema.tags, plant.schema.period_s, plant.schema.dim) == ("wadi", TAGS, 1, 127)
    assert plant.train_TD[3, 12] == np.float32(3.012)
    assert plant.test_TD[7, 126] == np.float32(1007.126)
    empty = {tag for at, tag in enumerate(WADI) if np.isnan(plant.train_TD[:, at]).any()}
    assert empty == set(WADI_EMPTY)
    assert len(notes(plant, "2_LS_001_AL, 2_LS_002_AL, 2_P_001_STATUS, 2_P_002_STATUS")) == 2


def test_the_release_of_2017(tmp_path: Path) -> None:
    wadi_a1(tmp_path)
    found = recognised(tmp_path)
    assert (found.version, found.missing) == (A1, ())
    assert [(file.path.name, file.role) for file in found.files] == [
        ("WADI_14days.csv", "normal"),
        ("WADI_attackdata.csv", "attack"),
    ]
    plant = one(tmp_path)
    check_values(plant)
    assert (len(plant.train_TD), len(plant.test_TD)) == (30, 5200)
    assert labelled(plant) == list(range(5139, 5200))
    assert notes(plant, "published attack ranges") == [
        "WADI_attackdata.csv: the release has no labels: made from the published attack ranges by each row's time (61)"
    ]
    assert len(plant.repairs) == 3


def test_labels_go_by_time_not_by_row(tmp_path: Path) -> None:
    write(tmp_path / "n.csv", wadi_rows(NORMAL, 10, A1_PREFIX), before=A1_JUNK)
    rows = wadi_rows(WADI_ATTACK, 5200, A1_PREFIX, first=1000)
    write(tmp_path / "a.csv", [*rows[:101], *rows[201:]])
    plant = one(tmp_path)
    assert labelled(plant) == list(range(5139, 5200))
    assert plant.labels_T is not None
    assert int(np.flatnonzero(plant.labels_T)[0]) == 5039
    assert plant.test_starts == (0, 100)
    assert notes(plant, "100 s are missing, before 2017-10-09 18:03:20")


def test_the_published_ranges() -> None:
    begin = int((WADI_ATTACK - datetime(1970, 1, 1)).total_seconds())
    assert [(each.begin_s - begin, each.end_s - begin) for each in RANGES][:3] == [
        (5139, 6625),
        (59050, 59641),
        (60900, 62641),
    ]
    assert len(RANGES) == 14
    assert sum(each.end_s - each.begin_s for each in RANGES) == 9902
    tags = set(WADI)
    stems = {"_".join(tag.split("_")[:3]) for tag in tags}
    assert {point for attack in catalogue.attacks("wadi") for point in attack.points} <= stems


def test_labels_are_not_made_for_other_days(tmp_path: Path) -> None:
    write(tmp_path / "n.csv", wadi_rows(NORMAL, 10, A1_PREFIX))
    write(tmp_path / "a.csv", wadi_rows(datetime(2018, 1, 1), 10, A1_PREFIX))
    plant = one(tmp_path)
    assert plant.labels_T is None
    assert notes(plant, "no labels are used")


def test_the_labelled_copy_of_2017_is_read_instead(tmp_path: Path) -> None:
    wadi_a1(tmp_path, attack_rows=20)
    rows = wadi_rows(WADI_ATTACK, 20, "", "attack", {2: "1", 3: "1.0"}, otherwise="0", first=1000)
    write(tmp_path / "WADI_attackdata_labelled.csv", rows)
    assert recognised(tmp_path).version == A1
    plant = one(tmp_path)
    assert labelled(plant) == [2, 3]
    assert len(notes(plant, "has the same run with labels")) == 1


def test_the_release_of_2019(tmp_path: Path) -> None:
    wadi_a2(tmp_path)
    found = recognised(tmp_path)
    assert (found.version, found.missing) == (A2, ())
    assert [(file.path.name, file.role) for file in found.files] == [
        ("WADI_14days_new.csv", "normal"),
        ("WADI_attackdataLABLE.csv", "attack, labelled"),
    ]
    plant = one(tmp_path)
    check_values(plant)
    assert labelled(plant) == [3, 4, 9]
    assert notes(plant, "after the last row") == [
        "WADI_attackdataLABLE.csv: lines after the last row hold nothing: left out (2)"
    ]


@pytest.mark.parametrize("after", ["\r\n\r\n", "\r\n", "\n\n\n"])
def test_empty_lines_at_the_end(tmp_path: Path, after: str) -> None:
    pair = wadi_a2(tmp_path)
    rows = wadi_rows(WADI_ATTACK, 20, "", A2_LABEL, {3: "-1"}, first=1000)
    write(pair.attack, rows, after=after)
    assert labelled(one(tmp_path)) == [3]


def test_a_label_name_cut_in_two_by_its_comma(tmp_path: Path) -> None:
    pair = wadi_a2(tmp_path)
    rows = wadi_rows(WADI_ATTACK, 20, "", A2_LABEL, {3: "-1"}, first=1000)
    pair.attack.write_text("\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")
    assert recognised(tmp_path).version == A2
    assert labelled(one(tmp_path)) == [3]


def test_rows_taken_out_of_the_normal_run_begin_new_recordings(tmp_path: Path) -> None:
    pair = wadi_a2(tmp_path)
    rows = wadi_rows(NORMAL, 30)
    write(pair.normal, [*rows[:11], *rows[16:21], *rows[26:]])
    plant = one(tmp_path)
    assert plant.train_starts == (0, 10, 15)
    assert notes(plant, "10 s are missing, the first of 2 before 2017-09-25 18:00:15")


def test_times_without_hours(tmp_path: Path) -> None:
    for name, begin, label in (("n.csv", NORMAL, ""), ("a.csv", WADI_ATTACK, A2_LABEL)):
        rows = wadi_rows(begin + timedelta(minutes=59, seconds=55), 20, "", label, {4: "-1"}, first=1000)
        for at, row in enumerate(rows[1:]):
            row[1] = f"{begin.month}/{begin.day}/{begin:%y}"
            row[2] = f"{begin + timedelta(minutes=59, seconds=55 + at + (7 if at > 9 else 0)):%M:%S}.0"
        write(tmp_path / name, rows)
    plant = one(tmp_path)
    assert labelled(plant) == [4]
    assert (plant.train_starts, plant.test_starts) == ((0, 10), (0, 10))
    assert len(notes(plant, "times hold no hours")) == 2


def test_both_releases_in_one_folder_are_told_and_refused(tmp_path: Path) -> None:
    wadi_a1(tmp_path / "A1", attack_rows=10)
    wadi_a2(tmp_path / "A2")
    assert recognised(tmp_path).version == f"{A1} and {A2}"
    with pytest.raises(DataUnreadable, match="holds files of two releases") as caught:
        one(tmp_path)
    assert str(tmp_path / "A1") in str(caught.value)
    assert str(tmp_path / "A2") in str(caught.value)


def test_two_normal_files_are_refused(tmp_path: Path) -> None:
    pair = wadi_a2(tmp_path)
    write(tmp_path / "copy.csv", wadi_rows(NORMAL, 5))
    with pytest.raises(DataUnreadable, match=r"several files of the normal run: .*WADI_14days_new\.csv, .*copy\.csv"):
        one(tmp_path)
    pair.normal.unlink()
    assert len(one(tmp_path).train_TD) == 5


def test_one_file_alone(tmp_path: Path) -> None:
    pair = wadi_a2(tmp_path)
    plant = one(pair.normal)
    assert (len(plant.train_TD), len(plant.test_TD), plant.labels_T) == (30, 0, None)
    assert recognised(pair.normal).version == f"{A1} or {A2}"
    assert recognised(pair.attack).missing == ("normal run",)
    with pytest.raises(TooFewRows, match="nothing to train on"):
        one(pair.attack)
    with pytest.raises(DataNotFound, match="no table with WADI's tags"):
        load("wadi", write(tmp_path / "x" / "other.csv", [["a", "b"], ["1", "2"]]).parent)


def test_the_description_of_attacks_is_not_used(tmp_path: Path) -> None:
    wadi_a1(tmp_path, attack_rows=10)
    table = [["WADI attacks"], ["S.No", "Starting Time", "Ending Time"], ["1", "9/10/2016 19.25.00", "19.50.16"]]
    write_xlsx(tmp_path / "attack_description.xlsx", table, (0, 1, 2))
    (tmp_path / "table_WADI.pdf").write_bytes(b"%PDF-1.4\n\xff\x00")
    assert notes(one(tmp_path), "describes the attacks")


def test_am_and_pm_put_right_and_backward_times_refused(tmp_path: Path) -> None:
    pair = wadi_a1(tmp_path, attack_rows=5200)
    edit(pair.attack, "10/9/2017,6:00:03.000 PM", "10/9/2017,6:00:03.000 AM")
    plant = one(tmp_path)
    assert labelled(plant) == list(range(5139, 5200))
    assert notes(plant, "AM and PM were swapped from line 5 on")
    edit(pair.attack, "10/9/2017,6:00:06.000 PM", "10/9/2017,6:00:01.000 PM")
    with pytest.raises(DataUnreadable, match=r"WADI_attackdata\.csv, line 8: the row from 2017-10-09 18:00:01"):
        one(tmp_path)
    edit(pair.attack, "10/9/2017,6:00:01.000 PM", "10/9/2017,6:00:00.000 PM")
    edit(pair.attack, "10/9/2017,6:00:07.000 PM", "10/9/2017,6:00:01.000 PM")
    with pytest.raises(DataUnreadable, match="line 8: "):
        one(tmp_path)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return wadi_a2(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",-1\r\n", ",2\r\n", r"line 6, column Attack LABLE \(1:No Attack, -1:Attack\): '2' is neither 1 "),
        (",-1\r\n", ",0\r\n", r"line 6, column Attack .*: '0' is neither 1 \(no attack\) nor -1 \(attack\)"),
        (",-1\r\n", ",\r\n", r"line 6, column Attack .*: an empty cell is neither"),
        (",-1\r\n", "\r\n", r"line 6: 130 fields where the header has 131"),
        (",1003.003,", ",Bad,", r"line 6, column 1_AIT_004_PV: 'Bad' is not a number"),
        ("10/9/2017,6:00:03.000 PM", "10/9/2017,late", r"line 6, column Date, Time: '10/9/2017 late' is no time like"),
        ("10/9/2017,6:00:03.000 PM", ",6:00:03.000 PM", r"line 6, column Date, Time: ' 6:00:03.000 PM' is no time"),
        (
            "10/9/2017,6:00:03.000 PM",
            "19/9/2017,6:00:03.000 PM",
            r"line 6, column Date, Time: '19/9/2017 6:00:03.000 PM' is no",
        ),
        ("1_AIT_003_PV", "1_AIT_002_PV", r"line 2: 1 columns are missing: 1_AIT_003_PV"),
        ("Date ", "Day", r"line 2: 1 columns are missing: Date"),
    ],
)
def test_a_broken_table_is_refused_with_its_place(pair: Pair, old: str, new: str, says: str) -> None:
    edit(pair.attack, old, new)
    with pytest.raises(DataUnreadable, match=rf"WADI_attackdataLABLE\.csv, {says}"):
        one(pair.folder)


def test_a_file_cut_in_the_middle_is_refused(pair: Pair) -> None:
    content = pair.attack.read_bytes()
    pair.attack.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataUnreadable, match="fields where the header has 131"):
        one(pair.folder)


def test_normal_rows_of_the_other_release_are_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.ingest.wadi.NORMAL_ROWS", {A1: 30, A2: 40})
    with pytest.raises(DataUnreadable, match=f"has the 30 rows of {A1}, .* is of {A2}"):
        one(pair.folder)


def test_figures_stand_beside_those_of_the_release(pair: Pair, tmp_path: Path) -> None:
    loader = find("wadi")
    figures = loader.figures(recognised(pair.folder), load("wadi", pair.folder))
    assert [(figure.what, figure.found, figure.published) for figure in figures] == [
        ("rows of the normal run", 30, (784_571,)),
        ("rows of the attack run", 20, (172_801,)),
        ("rows labelled as attacks", 3, (9_977,)),
    ]
    wadi_a1(tmp_path / "a1", attack_rows=10)
    figures = loader.figures(recognised(tmp_path / "a1"), load("wadi", tmp_path / "a1"))
    assert [figure.published for figure in figures] == [(1_209_601,), (172_801,), (9_902,), (14,)]


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    wadi_a2(tmp_path)
    rows = [
        [cell.replace(".", ",") if at > 2 else cell for at, cell in enumerate(row)] for row in wadi_rows(NORMAL, 30)
    ]
    (tmp_path / "WADI_14days_new.csv").write_text(text(rows, ";"), encoding="utf-8")
    check_values(one(tmp_path))


def test_attack_rows_in_a_file_without_labels_are_not_trained_on(tmp_path: Path) -> None:
    """Both runs in one file; and the attack run alone with its days written first, 9/10/2017, which is 10 September."""
    normal = wadi_rows(datetime(2017, 10, 9, 17, 59, 50), 10)
    write(tmp_path / "merged" / "all.csv", [*normal, *wadi_rows(WADI_ATTACK, 20, first=1000)[1:]])
    with pytest.raises(DataUnreadable, match=r"line 13: the file begins in the normal run .* 2017-10-09 18:00:01"):
        one(tmp_path / "merged")
    rows = wadi_rows(datetime(2017, 10, 9, 23, 59, 50), 20)
    for row in rows[1:]:
        month, day, year = row[1].split("/")
        row[1] = f"{day}/{month}/{year}"
    with pytest.raises(DataUnreadable, match="month first"):
        one(write(tmp_path / "day-first" / "attack.csv", rows))


def test_the_normal_run_ends_in_the_second_in_which_the_attack_run_begins(tmp_path: Path) -> None:
    assert len(one(write(tmp_path / "n.csv", wadi_rows(datetime(2017, 10, 9, 17, 59, 50), 11))).train_TD) == 11


def test_two_columns_of_labels_are_refused(tmp_path: Path) -> None:
    rows = wadi_rows(WADI_ATTACK, 20, "", "attack", {3: "1"}, "0")
    write(tmp_path / "a.csv", [[*row, "label" if at == 0 else "0"] for at, row in enumerate(rows)])
    write(tmp_path / "n.csv", wadi_rows(NORMAL, 10))
    with pytest.raises(DataUnreadable, match=r"a\.csv, line 1: several columns of labels: 'attack', 'label'"):
        one(tmp_path)
