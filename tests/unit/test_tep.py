"""The Tennessee Eastman process: a transposed file, faults that begin at row 160, runs that are missing or cut."""

from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import find, load
from client.ingest.tep import TAGS
from shared.errors import DataNotFound, DataUnreadable
from tests.conftest import real


def run(rows: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(50, 1, (rows, len(TAGS)))
    values[:, 1], values[:, 6] = 3_650 + values[:, 1], 2_650 + values[:, 6]
    return values


def write(path: Path, values: np.ndarray) -> None:
    path.write_text("\n".join("   " + "   ".join(f"{x:.7e}" for x in row) for row in values) + "\n", encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    write(tmp_path / "d00.dat", run(500, 0).T)
    write(tmp_path / "d00_te.dat", run(960, 1))
    write(tmp_path / "d05_te.dat", run(960, 2))
    write(tmp_path / "d05.dat", run(480, 3))
    return tmp_path


def test_real_figures(data_root: Path) -> None:
    path = real(data_root, "tep")
    found = find("tep").recognise(path)
    assert found is not None
    assert len(found.files) == 26
    assert [text.split(", ")[0] for text in found.missing] == ["d13.dat", "d13_te.dat"]
    (site,) = load("tep", path)
    assert (site.train_TD.shape, site.test_TD.shape, site.schema.period_s) == ((500, 52), (13 * 960, 52), 180)
    assert site.test_starts == tuple(960 * at for at in range(13))
    assert site.labels_T is not None
    assert int(site.labels_T.sum()) == 12 * 800
    assert not site.labels_T[: 960 + 160].any()
    assert site.labels_T[960 + 160 : 1920].all()
    assert site.train_TD[0, :3].tolist() == pytest.approx([0.24987, 3642.6, 4539.6], rel=1e-3)
    assert [str(note) for note in site.repairs] == [
        "d00.dat: one row a variable (52 x 500): turned to one row a sample (500)",
        "d01.dat to d12.dat: training runs of faults: not used (12)",
    ]
    assert [figure.agrees for figure in find("tep").figures(found, (site,))] == [True, True, False, False]


def test_a_transposed_run_holds_the_same_numbers(copy: Path) -> None:
    (turned,) = load("tep", copy)
    write(copy / "d00.dat", run(500, 0))
    (straight,) = load("tep", copy)
    assert np.array_equal(turned.train_TD, straight.train_TD)
    assert len(turned.repairs) == len(straight.repairs) + 1
    assert turned.labels_T is not None
    assert np.flatnonzero(turned.labels_T).tolist() == list(range(960 + 160, 1920))
    assert turned.schema.tags[:2] + turned.schema.tags[40:42] == ("XMEAS(1)", "XMEAS(2)", "XMEAS(41)", "XMV(1)")


def test_one_run_alone(copy: Path) -> None:
    (site,) = load("tep", copy / "d00.dat")
    assert (len(site.train_TD), len(site.test_TD), site.labels_T) == (500, 0, None)
    assert find("tep").recognise(copy / "d05_te.dat") is not None
    with pytest.raises(DataNotFound, match=r"no normal run d00\.dat"):
        load("tep", copy / "d05_te.dat")


def test_a_run_under_another_name_is_left_out_and_named(copy: Path) -> None:
    (copy / "d05_te.dat").rename(copy / "fault five.dat")
    (site,) = load("tep", copy)
    assert len(site.test_TD) == 960
    assert str(site.repairs[-1]).startswith("fault five.dat: looks like a run, but its name does not say the fault")
    found = find("tep").recognise(copy / "fault five.dat")
    assert found is not None
    assert found.missing == ("file names such as d00.dat, which say the fault",)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("d05_te.dat", lambda lines: lines[1:], "has the shape (959, 52)"),
        ("d05_te.dat", lambda lines: [*lines, lines[-1]], "has the shape (961, 52)"),
        ("d05_te.dat", lambda lines: [lines[3], *lines[1:]], "sample 4 repeats an earlier one"),
        ("d05_te.dat", lambda lines: [*lines[:9], lines[9][:-40], *lines[10:]], "line 10: "),
        ("d05_te.dat", lambda lines: [*lines[:9], lines[9].replace("e+0", "f+0", 1), *lines[10:]], "line 10, field 1:"),
        ("d00.dat", lambda lines: lines[:51], "has the shape (51, 500)"),
    ],
)
def test_a_broken_run_is_refused_with_its_place(copy: Path, name: str, change, says: str) -> None:  # type: ignore[no-untyped-def]
    lines = (copy / name).read_text(encoding="utf-8").splitlines()
    (copy / name).write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    with pytest.raises(DataUnreadable, match=name) as caught:
        load("tep", copy)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("TEP_FaultFree_Training.RData", b"RDX3\nX\n\x00\x00"),
        ("runs.csv", b"faultNumber,simulationRun,sample,xmeas_1,xmv_11\n0,1,1,0.25,18.4\n"),
    ],
)
def test_the_release_of_rieth_is_recognised_and_refused_with_advice(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    found = find("tep").recognise(tmp_path)
    assert found is not None
    assert found.version == "Rieth et al. 2017 (RData), which is not read"
    with pytest.raises(DataUnreadable, match=r"Use the files d00\.dat to d21_te\.dat"):
        load("tep", tmp_path)


def test_other_numbers_are_not_the_process(tmp_path: Path) -> None:
    write(tmp_path / "d00.dat", np.ones((10, 52)))
    write(tmp_path / "d01.dat", np.ones((10, 7)))
    (tmp_path / "d02.dat").write_bytes(b"")
    assert find("tep").recognise(tmp_path) is None
    with pytest.raises(DataNotFound):
        load("tep", tmp_path)
