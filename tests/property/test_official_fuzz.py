"""Whatever happens to an official SWaT or WADI file: it is read or refused in words, and no label leaves its row."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ingest.base import find, load
from shared.errors import CrossplantError
from shared.series import SiteData
from tests.support.official import (
    A1_PREFIX,
    SWAT_ATTACK,
    V1,
    WADI_ATTACK,
    Rows,
    swat,
    swat_rows,
    wadi_a2,
    wadi_rows,
    write,
    write_xlsx,
)

Damage = Callable[[bytes], bytes]
Row = tuple[bytes, bool]
HOSTILE = (
    b"",
    b"\n",
    b"\r\n",
    b";",
    b",",
    b'"',
    b"\0",
    b"\xff",
    b"nan",
    b"1e999",
    b"-",
    b"9" * 30,
    b"\r",
    b" ",
    b"Attack",
)


@st.composite
def bytewise(draw: st.DrawFn) -> Damage:
    """A cut, overwrite, insertion, removal or flip at a relative place."""
    kind = draw(st.sampled_from(["cut", "overwrite", "insert", "remove", "flip"]))
    place = draw(st.floats(0, 1, exclude_max=True))
    what = draw(st.one_of(st.sampled_from(HOSTILE), st.binary(min_size=1, max_size=6)))
    length, bit = draw(st.integers(1, 400)), draw(st.integers(0, 7))

    def damage(content: bytes) -> bytes:
        at = int(place * len(content))
        if kind == "flip":
            return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]
        rest = {"cut": len(content), "overwrite": at + len(what), "insert": at, "remove": at + length}[kind]
        return content[:at] + (b"" if kind in ("cut", "remove") else what) + content[rest:]

    return damage


@st.composite
def linewise(draw: st.DrawFn) -> Damage:
    """Lines removed, doubled, swapped, moved to the end, or blank ones put between, by relative places."""
    kind = draw(st.sampled_from(["remove", "double", "swap", "move", "blank"]))
    one, other = draw(st.floats(0, 1, exclude_max=True)), draw(st.floats(0, 1, exclude_max=True))
    length = draw(st.integers(1, 4))

    def damage(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        at, to = int(one * len(lines)), int(other * len(lines))
        some = lines[at : at + length]
        if kind == "swap":
            lines[at], lines[to] = lines[to], lines[at]
            return b"".join(lines)
        rest = {"remove": lines[at + length :], "double": [*some, *lines[at:]], "blank": [b"\r\n", *lines[at:]]}
        return b"".join([*lines[:at], *rest.get(kind, [*lines[at + length :], *some])])

    return damage


@contextmanager
def damaged(folder: Path, name: str, damage: Damage) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / folder.name
        shutil.copytree(folder, copy)
        (copy / name).write_bytes(damage((copy / name).read_bytes()))
        yield copy


def attempt(dataset: str, path: Path) -> SiteData | None:
    """The site, checked for its form; None when it was refused."""
    find(dataset).recognise(path)
    try:
        (plant,) = load(dataset, path)
    except CrossplantError:
        return None
    assert plant.train_TD.dtype == plant.test_TD.dtype == np.float32
    assert plant.labels_T is None or plant.labels_T.shape == (len(plant.test_TD),)
    return plant


def rows_of(plant: SiteData) -> Counter[Row]:
    """All rows with their labels, values as bytes."""
    assert plant.labels_T is not None or not len(plant.test_TD)
    labels = np.zeros(0, np.bool_) if plant.labels_T is None else plant.labels_T
    train = [(values.tobytes(), False) for values in plant.train_TD]
    return Counter([*train, *((row.tobytes(), bool(label)) for row, label in zip(plant.test_TD, labels, strict=True))])


def rows_in(folder: Path, width: int, first: int, attack: str) -> Counter[Row]:
    """The same, read from the text without any of the code under test: cells by commas, the label last."""
    rows: Counter[Row] = Counter()
    for path in sorted(folder.iterdir()):
        for line in path.read_bytes().decode("utf-8", errors="replace").split("\n"):
            cells = [cell.strip(' "\r') for cell in line.split(",")]
            labelled = len(cells) == width + first + 1
            try:
                with np.errstate(over="ignore"):
                    values = [float(cell or "nan") for cell in cells[first : first + width]]
                    row = np.array(values, dtype=np.float64).astype(np.float32)
            except ValueError:
                continue
            if len(row) < width or np.isnan(row).all():
                continue
            rows[row.tobytes(), labelled and "".join(cells[-1].split()).lower() == attack] += 1
    return rows


def taken_once(plant: SiteData) -> int:
    return sum(note.count for note in plant.repairs if "taken once" in note.what)


@pytest.fixture(scope="module")
def small_swat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swat")
    swat(folder, normal_rows=12, attack_rows=12)
    return folder


@pytest.fixture(scope="module")
def small_wadi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wadi")
    wadi_a2(folder, normal_rows=8, attack_rows=12)
    return folder


SWAT_FILES = st.sampled_from(["SWaT_Dataset_Normal_v1.csv", "SWaT_Dataset_Attack_v0.csv"])
WADI_FILES = st.sampled_from(["WADI_14days_new.csv", "WADI_attackdataLABLE.csv"])
DAMAGES = st.one_of(bytewise(), linewise())


def check_labels_stay(plant: SiteData, copy: Path, width: int, first: int, attack: str) -> None:
    """Every row that was read stands in the files with that label, and none that stands there is lost unsaid."""
    found, there = rows_of(plant), rows_in(copy, width, first, attack)
    assert not found - there
    if not any("was found" in note.what or "were found" in note.what for note in plant.repairs):
        assert there.total() == found.total() + taken_once(plant)


@settings(max_examples=150)
@given(name=SWAT_FILES, damage=DAMAGES)
def test_labels_of_a_damaged_swat_stay_with_their_rows(small_swat: Path, name: str, damage: Damage) -> None:
    with damaged(small_swat, name, damage) as copy:
        if plant := attempt("swat", copy):
            check_labels_stay(plant, copy, width=51, first=1, attack="attack")


@settings(max_examples=100)
@given(name=WADI_FILES, damage=DAMAGES)
def test_labels_of_a_damaged_wadi_stay_with_their_rows(small_wadi: Path, name: str, damage: Damage) -> None:
    with damaged(small_wadi, name, damage) as copy:
        if plant := attempt("wadi", copy):
            check_labels_stay(plant, copy, width=127, first=3, attack="-1")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WADI.A1 around the beginning of its first attack, which row 9 begins."""
    folder = tmp_path_factory.mktemp("a1")
    write(folder / "normal.csv", wadi_rows(WADI_ATTACK - timedelta(days=1), 5, A1_PREFIX))
    write(folder / "attack.csv", wadi_rows(WADI_ATTACK + timedelta(seconds=5130), 18, A1_PREFIX, first=1000))
    return folder


@settings(max_examples=60)
@given(damage=linewise())
def test_labels_made_from_times_stay_with_their_rows(unlabelled: Path, damage: Damage) -> None:
    with damaged(unlabelled, "attack.csv", damage) as copy:
        plant = attempt("wadi", copy)
        if plant is not None and plant.labels_T is not None:
            assert plant.labels_T.tolist() == (plant.test_TD[:, 0] >= 1009).tolist()


@settings(max_examples=60)
@given(damage=bytewise())
def test_a_damaged_unlabelled_wadi_is_read_or_refused(unlabelled: Path, damage: Damage) -> None:
    with damaged(unlabelled, "attack.csv", damage) as copy:
        attempt("wadi", copy)


def table(begin_row: int) -> Rows:
    return swat_rows(V1 if begin_row < 1000 else SWAT_ATTACK, 6, {2: "Attack"} if begin_row else {}, begin_row)


@pytest.fixture(scope="module")
def workbooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xlsx")
    write_xlsx(folder / "normal.xlsx", table(0), (0, 52))
    write_xlsx(folder / "attack.xlsx", table(1000), (0, 52))
    return folder


@settings(max_examples=80)
@given(name=st.sampled_from(["normal.xlsx", "attack.xlsx"]), damage=bytewise())
def test_a_damaged_workbook_is_read_or_refused(workbooks: Path, name: str, damage: Damage) -> None:
    with damaged(workbooks, name, damage) as copy:
        plant = attempt("swat", copy)
        if plant is not None and plant.labels_T is not None:
            assert plant.test_TD[plant.labels_T, 0].tolist() == [1002.0]
