"""SWaT: every way in which its official files and their copies differ."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xlsxwriter

from client.ingest.base import Recognition, find, load
from client.ingest.swat import TAGS, VERSION
from shared import catalogue
from shared.errors import CrossplantError, DataNotFound, DataUnreadable, TooFewRows
from shared.series import SiteData
from tests.support.official import (
    ATTACKED,
    SWAT_ATTACK,
    V0,
    V1,
    Pair,
    Rows,
    stage_row,
    swat,
    swat_rows,
    swat_time,
    text,
    write,
    write_xlsx,
)

LABELLED = sorted(ATTACKED)
ATTACK = swat_rows(SWAT_ATTACK, 20, ATTACKED, first=1000)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return swat(tmp_path)


def one(path: Path) -> SiteData:
    (plant,) = load("swat", path)
    return plant


def recognised(path: Path) -> Recognition:
    found = find("swat").recognise(path)
    assert found is not None
    return found


def labelled(plant: SiteData) -> list[int]:
    assert plant.labels_T is not None
    return [round(float(value)) for value in plant.test_TD[plant.labels_T, 0]]


def notes(plant: SiteData, word: str) -> list[str]:
    return [str(note) for note in plant.repairs if word in note.what]


def edit(path: Path, old: str, new: str, times: int = 1) -> None:
    content = path.read_text(encoding="utf-8")
    assert old in content
    path.write_text(content.replace(old, new, times), encoding="utf-8", newline="")


def check_whole(plant: SiteData) -> None:
    """The small data set of `swat()` as it must come out, however it was written."""
    assert (plant.name, plant.schema.tags, plant.schema.period_s) == ("swat", TAGS, 1)
    assert plant.train_TD.shape == (30, 51)
    assert plant.test_TD.shape == (20, 51)
    assert plant.train_TD.dtype == np.float32
    assert plant.train_TD.flags.c_contiguous
    assert plant.train_TD[3, 12] == np.float32(3.012)
    assert plant.test_TD[19, 50] == np.float32(1019.05)
    assert labelled(plant) == [1000 + row for row in LABELLED]
    assert (plant.train_starts, plant.test_starts) == ((0,), (0,))


def test_files_as_issued(pair: Pair) -> None:
    plant = one(pair.folder)
    check_whole(plant)
    assert notes(plant, "no published attack") == [
        "swat/test: labelled stretches that are no published attack, first 2015-12-28 10:00:03: kept (2)"
    ]
    assert len(plant.repairs) == 1


def test_files_are_known_by_content_whatever_their_names(pair: Pair) -> None:
    (pair.folder / "deep").mkdir()
    pair.normal.rename(pair.folder / "zz.txt")
    pair.attack.rename(pair.folder / "deep" / "aa")
    (pair.folder / "readme.md").write_text("FIT101 is a flow", encoding="utf-8")
    found = recognised(pair.folder)
    assert (found.dataset, found.version, found.missing) == ("swat", VERSION, ())
    assert [(file.path.name, file.role) for file in found.files] == [("zz.txt", "normal v1"), ("aa", "attack")]
    check_whole(one(pair.folder))


@pytest.mark.parametrize("form", ["stage", "plain", "semicolon", "tab", "bom", "utf-16", "lf", "quoted", "unended"])
def test_forms_of_text(tmp_path: Path, form: str) -> None:
    def put(name: str, rows: Rows) -> None:
        rows = [stage_row(), *rows] if form == "stage" else rows
        content = text(rows, end="\n" if form == "lf" else "\r\n")
        if form == "semicolon":
            content = text([[cell.replace(".", ",") for cell in row] for row in rows], ";")
        if form == "tab":
            content = text(rows, "\t")
        if form == "quoted":
            content = "\r\n".join(",".join(f'"{cell}"' for cell in row) for row in rows) + "\r\n"
        if form == "unended":
            content = content.rstrip()
        encoding = {"bom": "utf-8-sig", "utf-16": "utf-16"}.get(form, "utf-8")
        (tmp_path / name).write_text(content, encoding=encoding, newline="")

    put("a.csv", swat_rows(V1, 30))
    put("b.csv", ATTACK)
    plant = one(tmp_path)
    check_whole(plant)
    assert len(notes(plant, "no line end")) == (2 if form == "unended" else 0)


def test_workbooks(tmp_path: Path) -> None:
    texts = (0, 52)
    write_xlsx(tmp_path / "n.xlsx", [stage_row(), *swat_rows(V1, 30)], texts)
    write_xlsx(tmp_path / "a.xlsx", ATTACK, texts, sheet_before=True)
    assert [file.role for file in recognised(tmp_path).files] == ["normal v1", "attack"]
    check_whole(one(tmp_path))


def test_a_workbook_beside_its_text_is_left_out(pair: Pair) -> None:
    write_xlsx(pair.folder / "normal.xlsx", swat_rows(V1, 30), (0, 52))
    plant = one(pair.folder)
    check_whole(plant)
    assert notes(plant, "read instead") == [
        "normal.xlsx: begins as a text file beside it does, which is read instead: left out (1)"
    ]


def test_half_copied_workbooks_are_told(pair: Pair) -> None:
    whole = write_xlsx(pair.folder / "normal.xlsx", swat_rows(V1, 30), (0, 52))
    whole.write_bytes(whole.read_bytes()[:-2000])
    assert notes(one(pair.folder), "without its end")
    pair.normal.unlink()
    pair.attack.unlink()
    with pytest.raises(DataUnreadable, match=r"normal\.xlsx is a workbook without its end"):
        one(pair.folder)


def test_a_workbook_with_an_empty_cell_and_a_word(tmp_path: Path) -> None:
    rows = swat_rows(V1, 5)
    rows[2][7] = ""
    write_xlsx(tmp_path / "n.xlsx", rows, (0, 52))
    plant = one(tmp_path)
    assert np.isnan(plant.train_TD).sum() == 1
    assert np.isnan(plant.train_TD[1, 6])
    rows[3][8] = "Bad Input"
    write_xlsx(tmp_path / "n.xlsx", rows, (0, 52))
    with pytest.raises(DataUnreadable, match=r"n\.xlsx, line 4, column AIT203: 'Bad Input' is not a number"):
        one(tmp_path)


def test_the_other_label_column_of_the_normal_file(pair: Pair) -> None:
    edit(pair.normal, "Normal/Attack", "Normal")
    check_whole(one(pair.folder))


def test_normal_v0_beside_v1_is_left_out(pair: Pair) -> None:
    write(pair.folder / "v0.csv", swat_rows(V0, 40))
    plant = one(pair.folder)
    check_whole(plant)
    assert notes(plant, "v0 lies beside v1") == [
        "v0.csv: normal v0 lies beside v1, which lacks its first half hour: left out (1)"
    ]


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    rows = [[str(at - 1) if at else "Unnamed: 0", *row, ""] for at, row in enumerate(swat_rows(V1, 30))]
    write(tmp_path / "n.csv", rows)
    write(tmp_path / "a.csv", ATTACK)
    plant = one(tmp_path)
    check_whole(plant)
    assert notes(plant, "without a name") == ["n.csv: columns without a name: left out (2)"]


def test_columns_in_another_order(tmp_path: Path) -> None:
    write(tmp_path / "n.csv", [row[::-1] for row in swat_rows(V1, 30)])
    write(tmp_path / "a.csv", ATTACK)
    check_whole(one(tmp_path))


def test_the_missing_seconds_begin_a_new_recording(tmp_path: Path) -> None:
    write(tmp_path / "n.csv", swat_rows(V1, 5))
    late = SWAT_ATTACK + timedelta(seconds=10 + 81)
    write(
        tmp_path / "a.csv",
        [*swat_rows(SWAT_ATTACK, 10), *swat_rows(late, 5, {0: "Attack"}, first=100, header=False)],
    )
    plant = one(tmp_path)
    assert plant.test_starts == (0, 10)
    assert labelled(plant) == [100]
    assert notes(plant, "81 s") == [
        "swat/test: 81 s are missing, before 2015-12-28 10:01:31: a new recording begins there (1)"
    ]


def kaggle() -> tuple[Rows, Rows]:
    """`normal.csv` (v0, v1, the attack run's normal rows) and the body of `attack.csv`, its other rows."""
    v0, half_hour = swat_rows(V0, 1810), 1800
    v1 = [v0[0], *(list(row) for row in v0[1 + half_hour :])]
    quiet = [row for row in ATTACK[1:] if row[-1] == "Normal"]
    return [*v0, *v1[1:], *quiet], [row for row in ATTACK[1:] if row[-1] != "Normal"]


@pytest.mark.parametrize("merged", [False, True])
def test_copies_that_part_normal_rows_from_attacks_are_put_in_order(tmp_path: Path, merged: bool) -> None:
    normal, attacks = kaggle()
    if merged:
        write(tmp_path / "merged.csv", [*normal, *attacks])
    else:
        write(tmp_path / "normal.csv", normal)
        write(tmp_path / "attack.csv", [ATTACK[0], *attacks])
        assert [file.role for file in recognised(tmp_path).files] == ["normal and attack", "attack"]
    plant = one(tmp_path)
    assert len(plant.train_TD) == 1810
    assert plant.train_starts == (0,)
    assert plant.test_TD[:, 0].tolist() == list(range(1000, 1020))
    assert plant.labels_T is not None
    assert np.flatnonzero(plant.labels_T).tolist() == LABELLED
    assert plant.test_starts == (0,)
    assert notes(plant, "twice") == ["swat/train: rows are there twice, with equal readings: taken once (10)"]
    assert notes(plant, "time goes back")


def test_rows_of_one_time_that_differ_are_refused(tmp_path: Path) -> None:
    normal, attacks = kaggle()
    normal[1815][5] = "7.5"
    write(tmp_path / "merged.csv", [*normal, *attacks])
    with pytest.raises(DataUnreadable, match=r"line 1806 and .*line 1816: two rows with other readings") as caught:
        one(tmp_path)
    assert "2015-12-22 16:30:04" in str(caught.value)


def stamped(pair: Pair, changes: dict[int, Callable[[datetime], datetime]]) -> None:
    """Give rows of the attack file other times."""
    rows = [list(row) for row in ATTACK]
    for row, change in changes.items():
        rows[row + 1][0] = swat_time(change(SWAT_ATTACK + timedelta(seconds=row)))
    write(pair.attack, rows)


def half_day(moment: datetime) -> datetime:
    return moment + timedelta(hours=12)


def test_a_slip_between_am_and_pm_is_put_right(pair: Pair) -> None:
    stamped(pair, dict.fromkeys((6, 7, 8), half_day))
    plant = one(pair.folder)
    check_whole(plant)
    assert notes(plant, "AM and PM") == [
        "SWaT_Dataset_Attack_v0.csv: AM and PM were swapped from line 8 on: put right (3)"
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict.fromkeys(range(15, 20), half_day), "line 17: time jumps by twelve hours"),
        (dict.fromkeys(range(3), half_day), "line 5: time jumps by twelve hours"),
        ({6: lambda moment: moment + timedelta(minutes=50)}, "line 8: the row from 2015-12-28 10:50:06 stand"),
        ({6: lambda moment: moment - timedelta(seconds=3)}, "line 8: the row from 2015-12-28 10:00:03 stand"),
    ],
)
def test_times_that_cannot_be_put_right_are_refused(
    pair: Pair, changes: dict[int, Callable[[datetime], datetime]], says: str
) -> None:
    stamped(pair, changes)
    with pytest.raises(DataUnreadable) as caught:
        one(pair.folder)
    assert says in str(caught.value)


def test_a_second_logged_twice_is_kept_and_stated(pair: Pair) -> None:
    stamped(pair, {6: lambda moment: moment - timedelta(seconds=1)})
    plant = one(pair.folder)
    assert labelled(plant) == [1000 + row for row in LABELLED]
    assert plant.test_starts == (0, 7)
    assert notes(plant, "the time of the row before")


def test_swapped_lines_are_put_in_order_with_their_labels(tmp_path: Path) -> None:
    rows = list(ATTACK)
    rows[10], rows[11] = rows[11], rows[10]
    write(tmp_path / "n.csv", swat_rows(V1, 30))
    write(tmp_path / "a.csv", rows)
    plant = one(tmp_path)
    check_whole(plant)
    assert notes(plant, "time goes back") == ["a.csv: time goes back, first in line 12: rows are put in order (1)"]


def test_other_ways_to_write_a_time(tmp_path: Path) -> None:
    for name, begin, rows in (("n.csv", V1, swat_rows(V1, 30)), ("a.csv", SWAT_ATTACK, [list(row) for row in ATTACK])):
        for row, cells in enumerate(rows[1:]):
            cells[0] = f"{begin + timedelta(seconds=row):%Y-%m-%d %H:%M:%S}"
        write(tmp_path / name, rows)
    check_whole(one(tmp_path))


def test_the_normal_file_alone_is_a_site_without_tests(pair: Pair) -> None:
    plant = one(pair.normal)
    assert (len(plant.train_TD), len(plant.test_TD), plant.labels_T) == (30, 0, None)
    assert recognised(pair.normal).missing == ("attack run",)
    assert notes(plant, "no rows of the attack run")


def test_the_attack_file_alone_has_nothing_to_train_on(pair: Pair) -> None:
    assert recognised(pair.attack).missing == ("normal run",)
    with pytest.raises(TooFewRows, match="nothing to train on"):
        one(pair.attack)


def test_later_releases_are_refused_by_name(tmp_path: Path) -> None:
    names = ["t_stamp", *(f"{tag[:-3]} {tag[-3:]}.Pv" for tag in TAGS), "P1_STATE"]
    write(tmp_path / "later.csv", [names, ["2019-07-20T04:30:00Z", *["1"] * 52]])
    assert recognised(tmp_path).version == "SWaT.A4 2019 or later"
    with pytest.raises(DataUnreadable, match=r"Only SWaT\.A1 & A2 Dec 2015 is supported"):
        one(tmp_path)
    swat(tmp_path)
    assert recognised(tmp_path).version == VERSION
    assert notes(one(tmp_path), "later") == ["later.csv: is of SWaT.A4 2019 or later: left out (1)"]


BROKEN = [
    ("A ttack", "Atack", r"line 7, column Normal/Attack: 'Atack' is neither Normal nor Attack"),
    ("A ttack", "", r"line 7, column Normal/Attack: an empty cell is neither"),
    ("A ttack", "1", r"line 7, column Normal/Attack: '1' is neither"),
    (",1004.003,", ",Bad Input,", r"line 7, column P101: 'Bad Input' is not a number"),
    (",1004.003,", ",1_004.003,", r"line 7, column P101: '1_004.003' is not a number"),
    (",1004.003,", ",", r"line 7: 52 fields where the header has 53"),
    (",1004.003,", ",1,2,", r"line 7: 54 fields where the header has 53"),
    (",1004.003,", ",10\x0004.003,", r"line 7: a NUL byte"),
    (",1004.003,", ",10\r04.003,", r"line 7: a carriage return inside the line"),
    (" 28/12/2015 10:00:04 AM", "2015-12-28 10:00:04", r"line 7, column Timestamp: '2015-12-28 10:00:04' is no time"),
    (" 28/12/2015 10:00:04 AM", "28/13/2015 10:00:04 AM", r"line 7, column Timestamp: '28/13/2015 10:00:04 AM' is no"),
    (" 28/12/2015 10:00:04 AM", "", r"line 7, column Timestamp: an empty cell is no time"),
    ("FIT101", "FIT1O1", r"line 2: 1 columns are missing: FIT101"),
    ("LIT101", "FIT101", r"line 2: 1 columns are missing: LIT101"),
    ("Normal/Attack", "Unnamed: 52", r"line 2: no column called Normal/Attack"),
]


@pytest.mark.parametrize(("old", "new", "says"), BROKEN)
def test_a_broken_table_is_refused_with_its_place(pair: Pair, old: str, new: str, says: str) -> None:
    edit(pair.attack, old, new)
    with pytest.raises(DataUnreadable, match=rf"SWaT_Dataset_Attack_v0\.csv, {says}"):
        one(pair.folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"28/12/2015 \xff 10", "line 21: byte 0xff is no UTF-8 text"),
        (b" 28/12/2015 10:00:18 A", "line 21: 1 fields where the header has 53"),
        (b"\0\0\0\0", "line 21: a NUL byte"),
    ],
)
def test_a_half_copied_file_is_refused(pair: Pair, content: bytes, says: str) -> None:
    lines = pair.attack.read_bytes().split(b"\n")
    pair.attack.write_bytes(b"\n".join([*lines[:20], content]))
    with pytest.raises(DataUnreadable, match=says):
        one(pair.folder)


def test_rows_above_the_header_are_refused(tmp_path: Path) -> None:
    header, *body = ATTACK
    write(tmp_path / "a.csv", [*body[:2], header, *body[2:]])
    with pytest.raises(DataUnreadable, match=r"a\.csv, line 1: a row of readings stands above the header"):
        one(tmp_path)


def test_an_attack_in_the_normal_run_is_refused(pair: Pair) -> None:
    edit(pair.normal, "Normal\n", "Attack\n")
    with pytest.raises(DataUnreadable, match="line 3: the row is labelled Attack but lies in the normal run"):
        one(pair.folder)


def test_missing_readings_and_blanks_around_numbers(pair: Pair) -> None:
    edit(pair.attack, ",1004.003,", ",,")
    edit(pair.attack, ",1005.003,", ", 1005.003 ,")
    edit(pair.attack, ",1006.003,", ",1e99,")
    plant = one(pair.folder)
    assert np.isnan(plant.test_TD[4, 3])
    assert plant.test_TD[5, 3] == np.float32(1005.003)
    assert np.isinf(plant.test_TD[6, 3])
    assert labelled(plant) == [1000 + row for row in LABELLED]


def test_a_header_without_rows_and_no_table_at_all(tmp_path: Path) -> None:
    write(tmp_path / "n.csv", swat_rows(V1, 0))
    with pytest.raises(DataUnreadable, match="has a header but no rows"):
        one(tmp_path)
    (tmp_path / "n.csv").write_bytes(b"\x00\x01")
    assert find("swat").recognise(tmp_path) is None
    with pytest.raises(DataNotFound, match="no table with SWaT's tags"):
        one(tmp_path)


def published_labels(shift_s: int = 0, without: int = -1) -> tuple[np.ndarray, np.ndarray]:
    from client.ingest.clock import local

    seconds_T = local(SWAT_ATTACK) + np.arange(450_000)
    labels_T = np.zeros(450_000, dtype=np.bool_)
    for at, attack in enumerate(catalogue.attacks("swat")):
        if at != without:
            begin = local(attack.begin) - int(seconds_T[0]) + (shift_s if at == 2 else 0)
            labels_T[begin : local(attack.end) - int(seconds_T[0])] = True
    return seconds_T, labels_T


def test_labels_are_compared_with_the_published_attacks() -> None:
    from client.ingest.attacks import compare, segments
    from client.ingest.swat import published

    assert len(published()) == 34
    seconds_T, labels_T = published_labels()
    assert len(segments(labels_T)) == 34
    assert list(compare("t", seconds_T, labels_T, published())) == []
    assert list(compare("t", *published_labels(shift_s=60), published())) == []
    (note,) = compare("t", *published_labels(shift_s=61), published())
    assert str(note) == (
        "t: the labels of attack 3 begin at 2015-12-28 11:23:01, published is 2015-12-28 11:22:00: kept (61)"
    )
    (note,) = compare("t", *published_labels(without=2), published())
    assert str(note) == "t: attack 3 from 2015-12-28 11:22:00 has no labelled rows: kept (1)"
    (note,) = compare("t", seconds_T, np.zeros_like(labels_T), published())
    assert str(note) == "t: of 34 published attacks these are not labelled, or at other times: the labels are kept (34)"


def test_figures_stand_beside_the_published_ones(pair: Pair) -> None:
    figures = find("swat").figures(recognised(pair.folder), load("swat", pair.folder))
    assert [(figure.what, figure.found, figure.agrees) for figure in figures] == [
        ("rows of the normal run", 30, False),
        ("rows of the attack run", 20, False),
        ("rows labelled as attacks", 4, False),
        ("labelled stretches", 2, False),
    ]
    assert figures[0].published == (496_800, 495_000)
    assert len(find("swat").figures(recognised(pair.normal), load("swat", pair.normal))) == 1


def test_blocks_join_seamlessly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swat(tmp_path)
    whole = one(tmp_path)
    for size in (700, 1_000, 4_096):
        monkeypatch.setattr("client.ingest.lines.BLOCK", size)
        again = one(tmp_path)
        assert np.array_equal(whole.train_TD, again.train_TD)
        assert labelled(again) == labelled(whole)
    edit(tmp_path / "SWaT_Dataset_Attack_v0.csv", ",1004.003,", ",x,")
    with pytest.raises(CrossplantError, match="line 7, column P101: 'x'"):
        one(tmp_path)


@pytest.mark.parametrize("title", [(0, 0), (30, 0), None])
def test_a_table_that_begins_in_another_column_of_the_sheet(
    pair: Pair, tmp_path: Path, title: tuple[int, int] | None
) -> None:
    """Whether other cells lie left of it or not, which changes where readers of workbooks begin to count."""
    pair.attack.unlink()
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as book:
        sheet = book.add_worksheet()
        if title:
            sheet.write_string(*title, "note")
        for line, row in enumerate(ATTACK, start=2):
            for column, cell in enumerate(row, start=3):
                number = line > 2 and 3 < column < 55
                sheet.write(line, column, float(cell) if number else cell)
    check_whole(one(pair.folder))


def test_other_sheets_are_not_passed_over_in_silence(pair: Pair) -> None:
    pair.attack.unlink()
    write_xlsx(pair.folder / "a.xlsx", ATTACK, (0, 52), sheet_before=True)
    assert notes(one(pair.folder), "other sheets") == ["a.xlsx: other sheets of the workbook, 'notes': not read (1)"]


def test_tags_in_small_letters(tmp_path: Path) -> None:
    write(tmp_path / "n.csv", swat_rows(V1, 30))
    write(tmp_path / "a.csv", [[cell.lower() for cell in ATTACK[0]], *ATTACK[1:]])
    check_whole(one(tmp_path))
