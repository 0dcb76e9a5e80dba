"""SECOM: readings and labels in two files or in one table, times that swap day and month."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import find, load
from shared.errors import DataNotFound, DataUnreadable, TooFewRows
from tests.conftest import real

START = datetime(2008, 7, 28, 11, 55)


def write(folder: Path, lots: int = 40, fails: tuple[int, ...] = (2, 25, 39)) -> Path:
    values = np.random.default_rng(0).normal(100, 5, (lots, 590)).round(3)
    text = [
        " ".join("NaN" if (row + at) % 50 == 0 else str(x) for at, x in enumerate(values[row])) for row in range(lots)
    ]
    stamps = [START + timedelta(hours=9 * row) for row in range(lots)]
    labels = [f'{1 if row in fails else -1} "{stamp:%d/%m/%Y %H:%M:%S}"' for row, stamp in enumerate(stamps)]
    (folder / "secom.data").write_text("\n".join(text) + "\n", encoding="utf-8")
    (folder / "secom_labels.data").write_text("\n".join(labels) + "\n", encoding="utf-8")
    return folder


def write_table(folder: Path, swapped: bool) -> Path:
    """The same lots as one table, its times perhaps read with day and month swapped where that is possible."""
    write(folder)
    lines = [",".join(("Time", *map(str, range(590)), "Pass/Fail"))]
    rows = (folder / "secom.data").read_text(encoding="utf-8").splitlines()
    for row, text in enumerate(rows):
        stamp = START + timedelta(hours=9 * row)
        shown = f"{stamp:%Y-%d-%m %H:%M:%S}" if swapped and stamp.day <= 12 else f"{stamp:%Y-%m-%d %H:%M:%S}"
        flag = 1 if row in (2, 25, 39) else -1
        lines.append(",".join((shown, *("" if cell == "NaN" else cell for cell in text.split()), str(flag))))
    target = folder / "kaggle" / "uci-secom.csv"
    target.parent.mkdir()
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_real_part_is_counted_beside_the_published_whole(data_root: Path) -> None:
    path = real(data_root, "secom")
    found = find("secom").recognise(path)
    assert found is not None
    assert (found.version, [file.role for file in found.files], found.missing) == ("UCI", ["readings", "labels"], ())
    sites = load("secom", path)
    figures = find("secom").figures(found, sites)
    assert [(figure.found, figure.published) for figure in figures] == [
        (392, (1_567,)),
        (590, (590,)),
        (26, (104,)),
        (10_834, (41_951,)),
    ]
    (site,) = sites
    assert (site.train_TD.shape, site.test_TD.shape) == ((180, 590), (196, 590))
    assert site.labels_T is not None
    assert int(site.labels_T.sum()) == 10
    assert site.train_TD[0, :2].tolist() == pytest.approx([3095.78, 2465.14])
    assert [str(note) for note in site.repairs] == [
        "secom: a part: 392 of the 1567 published lots (392)",
        "secom: lots of the first half that failed: left out of the training data (16)",
    ]


def test_fails_are_labels_of_the_second_half_and_left_out_of_the_first(tmp_path: Path) -> None:
    (site,) = load("secom", write(tmp_path))
    assert (len(site.train_TD), len(site.test_TD)) == (19, 20)
    assert site.labels_T is not None
    assert np.flatnonzero(site.labels_T).tolist() == [5, 19]
    assert np.isnan(site.train_TD[0, 0])
    assert np.isfinite(site.train_TD[0, 1])


@pytest.mark.parametrize("swapped", [False, True])
def test_one_table_holds_the_same_lots(tmp_path: Path, swapped: bool) -> None:
    table = write_table(tmp_path, swapped)
    ((pair,), (one,)) = load("secom", tmp_path), load("secom", table)
    assert np.array_equal(pair.train_TD, one.train_TD, equal_nan=True)
    assert np.array_equal(pair.test_TD, one.test_TD, equal_nan=True)
    assert one.labels_T is not None
    assert np.flatnonzero(one.labels_T).tolist() == [5, 19]
    assert any("day and month swapped" in note.what for note in one.repairs) == swapped
    found = find("secom").recognise(table)
    assert found is not None
    assert found.version == "Kaggle, one table"


def test_lots_of_a_table_are_put_in_order_with_their_labels(tmp_path: Path) -> None:
    table = write_table(tmp_path, swapped=False)
    (straight,) = load("secom", table)
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([lines[0], *lines[21:], *lines[1:21]]) + "\n", encoding="utf-8")
    (mended,) = load("secom", table)
    assert np.array_equal(straight.test_TD, mended.test_TD, equal_nan=True)
    assert np.array_equal(np.asarray(straight.labels_T), np.asarray(mended.labels_T))
    assert mended.repairs[0].what == "times go back: lots were put in order of time"


def test_labels_out_of_order_in_a_file_of_their_own_are_refused(tmp_path: Path) -> None:
    """Nobody can tell whether the readings were moved with them."""
    path = write(tmp_path) / "secom_labels.data"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:3], lines[4], lines[3], *lines[5:]]) + "\n", encoding="utf-8")
    with pytest.raises(DataUnreadable, match="line 5: this lot is older"):
        load("secom", tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("secom_labels.data", '1 "28/07/2008 11:55:00"\n', "", "has 39 lines, but secom.data has 40"),
        ("secom_labels.data", '-1 "28', '0 "28', "line 1: '0 \"28/07/2008 11:55:00\"' is not like"),
        ("secom_labels.data", "28/07/2008 11", "31/02/2008 11", "line 1: '31/02/2008 11:55:00' is no time"),
        ("secom.data", "NaN", "Bad", "line 1, field 1: 'Bad' is not a number"),
        ("secom.data", "NaN", "NaN 7", "line 2: 590 fields where line 1 has 591"),
    ],
)
def test_broken_files_are_refused_with_their_place(tmp_path: Path, name: str, old: str, new: str, says: str) -> None:
    edit(write(tmp_path) / name, old, new)
    with pytest.raises(DataUnreadable, match="secom") as caught:
        load("secom", tmp_path)
    assert says in str(caught.value)


def test_one_file_alone_names_the_other(tmp_path: Path) -> None:
    write(tmp_path)
    found = find("secom").recognise(tmp_path / "secom.data")
    assert found is not None
    assert found.missing == ("the labels",)
    with pytest.raises(DataNotFound, match="both files are needed"):
        load("secom", tmp_path / "secom.data")
    assert find("secom").recognise(Path(__file__)) is None


def test_nothing_but_fails_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TooFewRows, match="none of the first 20 lots passed"):
        load("secom", write(tmp_path, fails=tuple(range(20))))
