"""BATADAL: stray blanks, days before months, and labels that are not labels."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import find, load
from client.ingest.batadal import TAGS
from shared.errors import DataNotFound, DataUnreadable
from tests.conftest import real

STARTS = {"03": datetime(2014, 1, 6), "04": datetime(2016, 7, 4), "test": datetime(2017, 1, 4)}


def table(rows: int, flags: dict[int, str], rest: str = "0", blank: str = "", end: str = "\n", part: str = "03") -> str:
    lines = ["DATETIME," + ",".join(blank + tag for tag in TAGS) + ",ATT_FLAG"]
    for row in range(rows):
        stamp = STARTS[part] + timedelta(hours=row)
        values = ",".join(f"{row + column / 100:.2f}" for column in range(len(TAGS)))
        lines.append(f"{stamp:%d/%m/%y %H},{values},{flags.get(row, rest)}")
    return end.join(lines) + end


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "BATADAL_dataset03.csv").write_text(table(300, {}, end="\r\n"), encoding="utf-8", newline="")
    (tmp_path / "dataset04_fully_labelled.csv").write_text(table(30, {4: "1", 5: "1.00"}, part="04"), encoding="utf-8")
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_real_figures(data_root: Path) -> None:
    (town,) = load("batadal", real(data_root, "batadal"))
    assert (town.name, town.schema.dim, town.schema.period_s) == ("c-town", 43, 3600)
    assert (len(town.train_TD), len(town.test_TD)) == (8_761, 4_177)
    assert town.labels_T is not None
    assert int(town.labels_T.sum()) == 492
    assert town.train_TD[0, :3].tolist() == pytest.approx([0.5097299, 2.0490029, 3.1911452], rel=1e-6)
    assert [str(note) for note in town.repairs] == [
        "BATADAL_dataset04.csv: dataset04, known attacks only: left out (1)",
        "BATADAL_test_dataset.csv: test data set without labels (not used): left out (1)",
    ]


def test_real_files_are_recognised_and_counted(data_root: Path) -> None:
    path = real(data_root, "batadal")
    found = find("batadal").recognise(path)
    assert found is not None
    assert [(file.path.name, file.role) for file in found.files] == [
        ("BATADAL_dataset03.csv", "normal year (dataset03)"),
        ("dataset04_fully_labelled.csv", "dataset04, every row labelled"),
        ("BATADAL_dataset04.csv", "dataset04, known attacks only"),
        ("BATADAL_test_dataset.csv", "test data set without labels (not used)"),
    ]
    assert found.missing == ()
    figures = find("batadal").figures(found, load("batadal", path))
    assert [figure.found for figure in figures] == [8_761, 4_177, 492, 4_177, 219, 2_089]
    assert all(figure.agrees for figure in figures)


def test_real_files_under_other_names_are_the_same_plant(data_root: Path, tmp_path: Path) -> None:
    source = real(data_root, "batadal")
    for name, old in (("a.csv", "dataset04_fully_labelled.csv"), ("b.txt", "BATADAL_dataset03.csv")):
        (tmp_path / name).symlink_to(source / old)
    ((renamed,), (official,)) = load("batadal", tmp_path), load("batadal", source)
    assert np.array_equal(renamed.train_TD, official.train_TD)
    assert np.array_equal(renamed.test_TD, official.test_TD)
    assert renamed.labels_T is not None
    assert official.labels_T is not None
    assert np.array_equal(renamed.labels_T, official.labels_T)


def test_one_file_alone_is_recognised_and_what_else_is_needed_is_said(copy: Path) -> None:
    found = find("batadal").recognise(copy / "BATADAL_dataset03.csv")
    assert found is not None
    assert found.missing == ("dataset04", "test data set without labels (not used)")
    with pytest.raises(DataNotFound, match="holds no dataset04, but BATADAL_dataset03"):
        load("batadal", copy / "BATADAL_dataset03.csv")
    assert find("batadal").recognise(Path(__file__).parent) is None


def test_a_damaged_file_that_is_not_needed_counts_no_rows(copy: Path) -> None:
    text = table(20, {}, part="test")
    (copy / "BATADAL_test_dataset.csv").write_text(text.replace(",ATT_FLAG", "")[:-30], encoding="utf-8")
    found = find("batadal").recognise(copy)
    assert found is not None
    assert find("batadal").figures(found, load("batadal", copy))[-1].found == 0


def test_a_test_set_with_labels_is_used_before_one_whose_labels_are_unknown(copy: Path) -> None:
    (copy / "dataset04_fully_labelled.csv").write_text(table(30, {4: "1"}, rest="-999", part="04"), encoding="utf-8")
    (copy / "x.csv").write_text(table(20, {7: "1"}, part="test"), encoding="utf-8")
    (town,) = load("batadal", copy)
    assert town.labels_T is not None
    assert np.flatnonzero(town.labels_T).tolist() == [7]
    assert [note.where for note in town.repairs] == ["dataset04_fully_labelled.csv"]


def test_the_official_test_file_has_no_usable_labels(data_root: Path, tmp_path: Path) -> None:
    source = real(data_root, "batadal")
    for name in ("BATADAL_dataset03.csv", "BATADAL_dataset04.csv"):
        (tmp_path / name).symlink_to(source / name)
    (town,) = load("batadal", tmp_path)
    assert town.labels_T is None
    assert [(note.where, note.count) for note in town.repairs] == [("BATADAL_dataset04.csv", 3_958)]


def test_copies_that_say_zero_for_unlabelled_rows_are_found_out(copy: Path) -> None:
    flagged = dict.fromkeys(range(219), "1")
    (copy / "dataset04_fully_labelled.csv").write_text(table(4_177, flagged, part="04"), encoding="utf-8")
    (town,) = load("batadal", copy)
    assert town.labels_T is None
    assert "the unlabelled rows say 0" in town.repairs[0].what


def test_blanks_before_names_and_floats_as_flags(copy: Path) -> None:
    text = table(30, {4: "1", 5: " 1.00"}, blank=" ", part="04")
    (copy / "dataset04_fully_labelled.csv").write_text(text, encoding="utf-8")
    (town,) = load("batadal", copy)
    assert town.labels_T is not None
    assert np.flatnonzero(town.labels_T).tolist() == [4, 5]
    assert town.test_TD[2, 1] == np.float32(2.01)


def test_an_empty_cell_is_kept_as_missing(copy: Path) -> None:
    edit(copy / "BATADAL_dataset03.csv", ",0.01,", ",,")
    assert np.isnan(load("batadal", copy)[0].train_TD[0, 1])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("18/01/14 11", "18/01/14 12", "line 301: '18/01/14 12' comes 2 hours after"),
        ("06/01/14 03", "06/01/14 02", "line 5, column DATETIME: '06/01/14 02' does not come after"),
        ("06/01/14 03", "2014-01-06 03:00", "line 5, column DATETIME: '2014-01-06 03:00' is no time"),
        ("06/01/14 03", "", "line 5, column DATETIME: an empty cell is no time"),
        (",2.05,", ",Bad Input,", "line 4, column L_T6: 'Bad Input' is not a number"),
        (",2.05,", ",2,05,", "line 4: 46 fields where the header has 45"),
        ("L_T6", "L_T5", "1 columns are missing: L_T6"),
        ("ATT_FLAG", "ATT_FLAG,ATT_FLAG", "the column 'ATT_FLAG' occurs twice"),
        (",2.42,0", ",2.42,2", "line 4, column ATT_FLAG: '2' is none of 0, 1, -999"),
        (",2.42,0", ",2.42,", "line 4, column ATT_FLAG: an empty cell is none of"),
        (",2.42,0", ",2.42,1", "line 4: ATT_FLAG is 1 in the normal year"),
    ],
)
def test_a_broken_table_is_refused_with_its_place(copy: Path, old: str, new: str, says: str) -> None:
    edit(copy / "BATADAL_dataset03.csv", old, new)
    with pytest.raises(DataUnreadable, match="BATADAL_dataset03") as caught:
        load("batadal", copy)
    assert says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"DATETIME\n"])
def test_a_file_that_is_no_table_is_refused(copy: Path, content: bytes) -> None:
    (copy / "BATADAL_dataset03.csv").write_bytes(content)
    with pytest.raises(DataUnreadable, match="BATADAL_dataset03"):
        load("batadal", copy)


def test_a_cut_last_line_is_refused(copy: Path) -> None:
    path = copy / "BATADAL_dataset03.csv"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataUnreadable, match="line 301: "):
        load("batadal", copy)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="holds no normal year"):
        load("batadal", tmp_path)
