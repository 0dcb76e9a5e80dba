"""SMD: one site a machine. There is no real copy here, so the tests write its layout."""

from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import find, load
from shared.errors import DataNotFound, DataUnreadable
from simulations.partition import partition


def write(folder: Path, machines: dict[str, tuple[int, int]], rows: int = 30) -> Path:
    """Machines whose labelled test rows are first to last, inclusive."""
    for part in ("train", "test", "test_label", "interpretation_label"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed, (name, (first, last)) in enumerate(machines.items()):
        rng = np.random.default_rng(seed)
        for part in ("train", "test"):
            lines = (",".join(f"{x:.6f}" for x in row) for row in rng.uniform(0, 1, (rows, 38)))
            (folder / part / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        labels = "\n".join(str(int(first <= row <= last)) for row in range(rows))
        (folder / "test_label" / f"{name}.txt").write_text(labels + "\n", encoding="utf-8")
        (folder / "interpretation_label" / f"{name}.txt").write_text(f"{first}-{last}:1,9,10\n", encoding="utf-8")
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    machines = {"machine-1-1": (3, 5), "machine-1-10": (0, 0), "machine-1-2": (29, 29), "machine-3-1": (7, 9)}
    return write(tmp_path / "ServerMachineDataset", machines)


def test_a_site_is_a_machine_in_natural_order(copy: Path) -> None:
    for path in (copy, copy.parent):
        sites = load("smd", path)
        assert [site.name for site in sites] == ["machine-1-1", "machine-1-2", "machine-1-10", "machine-3-1"]
        assert [site.group for site in sites] == ["machine-1"] * 3 + ["machine-3"]
    labels = [np.flatnonzero(site.labels_T).tolist() for site in sites if site.labels_T is not None]
    assert labels == [[3, 4, 5], [29], [0], [7, 8, 9]]
    first = np.loadtxt(copy / "test" / "machine-1-1.txt", delimiter=",", max_rows=1)
    assert sites[0].test_TD[0].tolist() == pytest.approx(first.tolist(), rel=1e-6)
    assert (sites[0].schema.dim, sites[0].schema.period_s, sites[0].repairs) == (38, 60, ())
    assert [plant.name for plant in partition(sites, "by-subsystem", None)] == ["machine-1", "machine-3"]


def test_recognition_names_what_is_missing(copy: Path) -> None:
    found = find("smd").recognise(copy)
    assert found is not None
    assert (len(found.files), found.missing) == (12, ("24 of 28 machines",))
    assert [figure.published for figure in find("smd").figures(found, load("smd", copy))] == [
        (28,),
        (708_405,),
        (708_420,),
    ]
    assert find("smd").recognise(copy / "train" / "machine-1-1.txt") is not None
    assert find("smd").recognise(copy / "test_label") is None
    with pytest.raises(DataNotFound, match="is one file of SMD"):
        load("smd", copy / "train" / "machine-1-1.txt")
    with pytest.raises(DataNotFound, match="holds no machine"):
        load("smd", copy / "train")


def test_a_machine_without_all_files_is_left_out_and_named(copy: Path) -> None:
    (copy / "test_label" / "machine-3-1.txt").unlink()
    sites = load("smd", copy)
    assert len(sites) == 3
    assert str(sites[0].repairs[0]) == "machine-3-1: no file in test_label: left out (1)"


def test_events_without_labelled_rows_are_said(copy: Path) -> None:
    (copy / "interpretation_label" / "machine-1-1.txt").write_text("3-5:1\n20-25:2,3\n", encoding="utf-8")
    assert [(note.where, note.count) for note in load("smd", copy)[0].repairs] == [("machine-1-1", 1)]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("test/machine-1-1.txt", lambda lines: lines[:-1], "but the test file has 29 rows"),
        ("test_label/machine-1-1.txt", lambda lines: lines[1:], "but the test file has 30 rows"),
        ("test_label/machine-1-1.txt", lambda lines: ["2", *lines[1:]], "line 1: 2 is neither 0 nor 1"),
        ("test_label/machine-1-1.txt", lambda lines: ["NaN", *lines[1:]], "line 1: nan is neither 0 nor 1"),
        ("train/machine-1-1.txt", lambda lines: [*lines[:5], "", *lines[6:]], "line 6 is empty"),
        ("train/machine-1-1.txt", lambda lines: ["0.1,0.2"] * 4, "has 2 columns, SMD has 38"),
        ("train/machine-1-1.txt", lambda lines: [lines[0][:-30], *lines[1:]], "fields where line 1 has"),
        ("train/machine-1-1.txt", lambda lines: ["x" + lines[0], *lines[1:]], "line 1, field 1: 'x0."),
        ("train/machine-1-1.txt", lambda lines: [], "is empty"),
        ("interpretation_label/machine-1-1.txt", lambda lines: ["3-5"], "line 1: '3-5' is not like"),
    ],
)
def test_broken_files_are_refused_with_their_place(copy: Path, name: str, change, says: str) -> None:  # type: ignore[no-untyped-def]
    lines = (copy / name).read_text(encoding="utf-8").splitlines()
    (copy / name).write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    with pytest.raises(DataUnreadable, match=r"machine-1-1\.txt") as caught:
        load("smd", copy)
    assert says in str(caught.value)
