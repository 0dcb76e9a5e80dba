"""MSL and SMAP: the official layout, its known faults, and broken copies."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import find, known, load
from client.ingest.telemanom_labels import read_labels
from shared.errors import DataNotFound, DataUnreadable, UnknownName
from tests.conftest import real, write_telemanom

TWO = {"C-2": "[[3, 5]]", "C-10": "[[0, 0], [38, 39]]"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return write_telemanom(tmp_path / "telemanom", TWO)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_real_msl_has_the_published_figures(data_root: Path) -> None:
    sites = load("msl", real(data_root, "telemanom"))
    labels = np.concatenate([site.labels_T for site in sites if site.labels_T is not None])
    events = sum(
        int((np.diff(np.concatenate([[0], site.labels_T.astype(int)])) == 1).sum())
        for site in sites
        if site.labels_T is not None
    )
    assert len(sites) == 27
    assert sum(len(site.train_TD) for site in sites) == 58_317
    assert sum(len(site.test_TD) for site in sites) == len(labels) == 73_729
    assert round(100 * float(labels.mean()), 2) == 10.53
    assert events == 36
    assert {site.schema.fingerprint for site in sites} == {sites[0].schema.fingerprint}
    assert sites[0].schema.dim == 55
    assert {site.group for site in sites} == set("CDFMPST")
    assert all(site.train_TD.dtype == np.float32 and site.train_TD.flags.c_contiguous for site in sites)
    assert [site.name for site in sites][:3] == ["C-1", "C-2", "D-14"]


def test_real_msl_faults_are_stated_and_kept(data_root: Path) -> None:
    sites = {site.name: site for site in load("msl", real(data_root, "telemanom"))}
    notes = [str(note) for site in sites.values() for note in site.repairs]
    assert "T-10: no row in labeled_anomalies.csv: left out (1)" in notes
    assert "M-6/test: telemetry scaled to -1..1 jumps to 258.11: kept (186)" in notes
    assert "P-14/test: equals P-10/test: kept; keep both on one side of any split (6100)" in notes
    assert float(sites["M-6"].test_TD[:, 0].max()) == pytest.approx(258.108, abs=1e-3)


def test_real_smap_says_how_many_channels_are_missing(data_root: Path) -> None:
    sites = load("smap", real(data_root, "telemanom"))
    assert len(sites) == 27
    assert all(site.schema.dim == 25 for site in sites)
    assert [(note.what, note.count) for note in sites[0].repairs] == [
        ("of 54 SMAP channels these have no files: left out", 27)
    ]


def test_real_folder_is_recognised_as_both_spacecraft(data_root: Path) -> None:
    path = real(data_root, "telemanom")
    msl, smap = find("msl").recognise(path), find("smap").recognise(path)
    assert msl is not None
    assert smap is not None
    assert (msl.version, msl.missing, len(msl.files)) == ("telemanom", (), 57)  # 27 + T-10, train and test, and labels
    assert [text.partition(":")[0] for text in smap.missing] == ["27 of 54 channels"]
    assert [figure.agrees for figure in find("msl").figures(msl, load("msl", path))] == [True] * 5
    channels = find("smap").figures(smap, load("smap", path))[0]
    assert (channels.what, channels.found, channels.published) == ("channels", 27, (54, 55))


def test_real_label_file_lists_p2_twice_and_both_count(data_root: Path) -> None:
    row = read_labels(real(data_root, "telemanom") / "labeled_anomalies.csv")["P-2"]
    assert row.sequences == ((5350, 6575), (5300, 6420))
    assert "occurs twice" in row.repairs[0].what


def test_labels_are_end_inclusive_and_sites_are_in_natural_order(copy: Path) -> None:
    two, ten = load("msl", copy)
    assert (two.name, ten.name) == ("C-2", "C-10")
    assert two.labels_T is not None
    assert ten.labels_T is not None
    assert np.flatnonzero(two.labels_T).tolist() == [3, 4, 5]
    assert np.flatnonzero(ten.labels_T).tolist() == [0, 38, 39]
    assert two.schema.tags[:3] == ("telemetry", "command01", "command02")
    assert (two.schema.period_s, two.group) == (60, "C")


@pytest.mark.parametrize("nesting", ["data", "data/data"])
@pytest.mark.parametrize("labels_beside", [True, False])
def test_nested_layouts_of_the_public_zip(copy: Path, tmp_path: Path, nesting: str, labels_beside: bool) -> None:
    root = tmp_path / "zip"
    (root / nesting).mkdir(parents=True)
    for part in ("train", "test"):
        shutil.move(copy / part, root / nesting / part)
    shutil.move(copy / "labeled_anomalies.csv", root.parent if labels_beside else root)
    assert len(load("msl", root)) == 2


def test_a_label_file_under_another_name_is_found_by_its_header(copy: Path) -> None:
    (copy / "labeled_anomalies.csv").rename(copy / "labels of 2018.csv")
    assert len(load("msl", copy)) == 2
    found = find("msl").recognise(copy)
    assert found is not None
    assert found.files[0].path.name == "labels of 2018.csv"


def test_parts_are_recognised_and_what_is_missing_is_named(copy: Path) -> None:
    lone = find("msl").recognise(copy / "labeled_anomalies.csv")
    assert lone is not None
    assert lone.missing == ("the folders train and test",)
    assert find("msl").recognise(copy / "test" / "C-2.npy") is not None
    assert find("smap").recognise(copy / "test" / "C-2.npy") is None
    (copy / "labeled_anomalies.csv").unlink()
    found = find("msl").recognise(copy)
    assert found is not None
    assert found.missing == ("labeled_anomalies.csv",)
    assert find("smap").recognise(copy) is None


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).uniform(-1, 1, (70, 55))
    folder = tmp_path / "joined"
    folder.mkdir()
    np.save(folder / "MSL_train.npy", values[:30])
    np.save(folder / "MSL_test.npy", values[30:])
    np.save(folder / "MSL_test_label.npy", np.arange(40) >= 35)
    np.save(folder / "SMAP_train.npy", values[:, :25])
    return folder


def test_channels_laid_end_to_end_are_one_site(joined: Path) -> None:
    found = find("msl").recognise(joined)
    assert found is not None
    assert (found.version, found.missing) == ("channels laid end to end", ())
    (site,) = load("msl", joined)
    assert site.labels_T is not None
    assert np.flatnonzero(site.labels_T).tolist() == [35, 36, 37, 38, 39]
    assert (site.name, site.train_TD.shape, site.test_TD.shape) == ("msl", (30, 55), (40, 55))
    assert next(iter(find("msl").figures(found, (site,)))).what == "training rows"
    smap = find("smap").recognise(joined)
    assert smap is not None
    assert smap.missing == ("test", "test labels")
    assert load("smap", joined)[0].test_TD.shape == (0, 25)


def test_labels_of_another_length_than_the_joined_test_rows_are_refused(joined: Path) -> None:
    np.save(joined / "MSL_test_label.npy", np.zeros(39))
    with pytest.raises(DataUnreadable, match="the test file has 40 rows"):
        load("msl", joined)
    np.save(joined / "MSL_test_label.npy", np.full(40, 2))
    with pytest.raises(DataUnreadable, match="row 0: 2 is neither 0 nor 1"):
        load("msl", joined)
    np.save(joined / "MSL_test_label.npy", np.full(40, None), allow_pickle=True)
    with pytest.raises(DataUnreadable, match="no NumPy array file"):
        load("msl", joined)


def test_pickled_files_are_recognised_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "MSL_train.pkl").write_bytes(b"cos\nabort\n(tR.")  # would end the process
    found = find("msl").recognise(tmp_path)
    assert found is not None
    assert found.version == "pickled channels laid end to end, which are not read"
    assert find("smap").recognise(tmp_path) is None
    with pytest.raises(DataUnreadable, match="never opened"):
        load("msl", tmp_path)


def test_missing_channels_are_stated(copy: Path) -> None:
    edit(copy / "labeled_anomalies.csv", "C-10,MSL", "C-11,MSL")
    (copy / "train" / "C-10.npy").rename(copy / "train" / "C-11.npy")
    (only,) = load("msl", copy)
    assert [str(note) for note in only.repairs] == [
        "C-11: has a train file but no test file: left out (1)",
        "labeled_anomalies.csv: of 2 MSL channels these have no files: left out (1)",
        "C-10: no row in labeled_anomalies.csv: left out (1)",
    ]


def test_a_range_past_the_end_is_cut_and_stated(copy: Path) -> None:
    edit(copy / "labeled_anomalies.csv", "[38, 39]", "[38, 41]")
    ten = load("msl", copy)[1]
    assert ten.labels_T is not None
    assert np.flatnonzero(ten.labels_T).tolist() == [0, 38, 39]
    assert [(note.where, note.count) for note in ten.repairs] == [("C-10/test", 2)]


def test_not_a_number_is_kept_for_later_filling(copy: Path) -> None:
    values = np.load(copy / "train" / "C-2.npy")
    values[3, 0], values[4, 0] = np.nan, 1e300
    np.save(copy / "train" / "C-2.npy", values)
    train_TD = load("msl", copy)[0].train_TD
    assert np.isnan(train_TD[3, 0])
    assert np.isinf(train_TD[4, 0])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[[3, 5]]", "[[5, 3]]", "ends before it begins"),
        ("[[3, 5]]", "[[50, 60]]", "lies past its 40 test rows"),
        ("[[3, 5]]", "__import__('os')", "no list of"),
        ("[[3, 5]]", "[" * 5000, "no list of"),
        ("[[3, 5]]", "[[3, 5, 7]]", "no list of"),
        ("[[3, 5]]", "[3, 5]", "no list of"),
        ('contextual]",40\nC-10', 'contextual]",41\nC-10', "gives 41 rows to the channel C-2, but test/C-2.npy has 40"),
        ('contextual]",40\nC-10', 'contextual]",-1\nC-10', "num_values of C-2 is '-1'"),
        ("C-2,MSL", "../C-2,MSL", "is no channel name"),
        ("C-2,MSL", "C-2,MSL,more", "6 fields where the header has 5"),
        ("chan_id", "channel", "the column chan_id is missing"),
        ("C-10,MSL", "C-2,SMAP", "occurs twice, with different"),
        ("C-2", "C\0-2", "no "),
    ],
)
def test_a_broken_label_file_is_refused_with_its_place(copy: Path, old: str, new: str, says: str) -> None:
    edit(copy / "labeled_anomalies.csv", old, new)
    with pytest.raises(DataUnreadable, match=r"labeled_anomalies\.csv") as caught:
        load("msl", copy)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((40, 25)), "has the shape (40, 25), MSL needs (rows, 55)"),
        (np.zeros(40), "has the shape (40,)"),
        (np.zeros((0, 55)), "has the shape (0, 55)"),
        (np.zeros((40, 55), dtype=complex), "holds complex128"),
        (np.full((40, 55), "x"), "holds <U1"),
        (np.full((40, 55), None), "is no NumPy array file"),
    ],
)
def test_a_wrong_array_is_refused(copy: Path, values: np.ndarray, says: str) -> None:
    np.save(copy / "test" / "C-2.npy", values, allow_pickle=True)
    with pytest.raises(DataUnreadable, match=r"C-2\.npy") as caught:
        load("msl", copy)
    assert says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"not an array", b"\x80\x04K\x01."])
def test_a_file_that_is_no_array_is_refused(copy: Path, content: bytes) -> None:
    (copy / "train" / "C-2.npy").write_bytes(content)
    with pytest.raises(DataUnreadable, match="is no NumPy array file"):
        load("msl", copy)


@pytest.mark.parametrize("change", [-1, -55 * 8, +8])
def test_a_file_of_another_length_than_its_header_is_refused(copy: Path, change: int) -> None:
    path = copy / "train" / "C-2.npy"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(DataUnreadable, match=r"train/C-2\.npy"):
        load("msl", copy)


def test_what_is_missing_is_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="none of the 0 SMAP channels"):
        load("smap", copy)
    with pytest.raises(DataNotFound, match="does not exist"):
        load("msl", tmp_path / "nowhere")
    with pytest.raises(DataNotFound, match="is one file of telemanom"):
        load("msl", copy / "labeled_anomalies.csv")
    with pytest.raises(DataNotFound, match="no folders train and test"):
        load("msl", copy / "train")
    with pytest.raises(DataNotFound, match="Give it with --data"):
        load("msl", None)
    (copy / "labeled_anomalies.csv").unlink()
    with pytest.raises(DataNotFound, match=r"no labeled_anomalies\.csv"):
        load("msl", copy)


def test_an_unknown_data_set_lists_the_known_ones(tmp_path: Path) -> None:
    assert {"msl", "smap", "batadal", "skab", "smd", "secom", "tep", "historian"} <= set(known())
    with pytest.raises(UnknownName, match="no data set called 'msll'") as caught:
        load("msll", tmp_path)
    assert f"Known: {', '.join(known())}." in str(caught.value)
