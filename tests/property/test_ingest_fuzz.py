"""Whatever happens to a file, it is read or refused in words; labels never move."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ingest.base import find, known, load
from client.ingest.folder import read_site, write_site
from client.ingest.telemanom_labels import LabelRow, label_rows
from shared.errors import CrossplantError
from shared.series import SiteData
from tests.conftest import site, write_telemanom
from tests.unit import test_batadal, test_historian, test_secom, test_skab, test_smd, test_tep

Damage = Callable[[bytes], bytes]
CHANNELS = {"C-1": "[[3, 5]]", "M-2": "[[0, 0], [20, 39]]"}
EXPECTED = {"C-1": [3, 4, 5], "M-2": [0, *range(20, 40)]}
HOSTILE = (b"", b"\n", b";", b",", b'"', b"\0", b"\xff", b"nan", b"1e999", b"-", b"[", b"9" * 30, b"\r", b"'")


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """One cut, overwrite, insertion, removal or flipped bit at a relative position."""
    kind = draw(st.sampled_from(["cut", "overwrite", "insert", "remove", "flip"]))
    bit = draw(st.integers(0, 7))
    where = draw(st.one_of(st.floats(0, 1), st.floats(0, 0.02)))  # headers deserve more than their share
    piece = draw(st.one_of(st.sampled_from(HOSTILE), st.binary(min_size=1, max_size=8)))
    length = draw(st.integers(1, 200))

    def damage(content: bytes) -> bytes:
        at = int(where * len(content))
        if kind == "cut":
            return content[:at]
        if kind == "remove":
            return content[:at] + content[at + length :]
        if kind == "flip":
            return content[:at] + bytes(byte ^ (1 << bit) for byte in content[at : at + 1]) + content[at + 1 :]
        return content[:at] + piece + content[at + (len(piece) if kind == "overwrite" else 0) :]

    return damage


@st.composite
def moved_lines(draw: st.DrawFn) -> Damage:
    """One line dropped, repeated somewhere, or swapped with another; what each line says stays as it was."""
    kind = draw(st.sampled_from(["drop", "repeat", "swap"]))
    where, other = draw(st.floats(0, 0.999)), draw(st.floats(0, 0.999))

    def damage(content: bytes) -> bytes:
        lines = content.split(b"\n")[:-1]
        at, to = int(where * len(lines)), int(other * len(lines))
        if kind == "drop":
            del lines[at]
        elif kind == "repeat":
            lines.insert(to, lines[at])
        else:
            lines[at], lines[to] = lines[to], lines[at]
        return b"\n".join(lines) + b"\n"

    return damage


@contextmanager
def damaged(whole: Path, name: str, damage: Damage) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        shutil.copytree(whole, copy)
        (copy / name).write_bytes(damage((whole / name).read_bytes()))
        yield copy


def attempt(read: Callable[[], tuple[SiteData, ...]]) -> tuple[SiteData, ...]:
    """The sites, or none after a refusal; anything but a CrossplantError is a bug and passes through."""
    try:
        sites = read()
    except CrossplantError as error:
        return _in_words(error)
    for made in sites:
        assert made.train_TD.dtype == made.test_TD.dtype == np.float32
        assert made.train_TD.shape[1] == made.test_TD.shape[1] == made.schema.dim
        assert made.labels_T is None or made.labels_T.shape == (len(made.test_TD),)
    return sites


def _in_words(error: CrossplantError) -> tuple[()]:
    assert error.cause
    assert "\n" not in str(error)
    return ()


@pytest.fixture(scope="module")
def telemanom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_telemanom(tmp_path_factory.mktemp("telemanom"), CHANNELS)


@given(name=st.sampled_from(["train/C-1.npy", "test/C-1.npy", "test/M-2.npy"]), damage=damages())
def test_damaged_arrays_never_move_labels(telemanom: Path, name: str, damage: Damage) -> None:
    with damaged(telemanom, name, damage) as copy:
        for made in attempt(lambda: load("msl", copy)):
            assert made.labels_T is not None
            assert np.flatnonzero(made.labels_T).tolist() == EXPECTED[made.name]


@given(share=st.floats(0, 1))
def test_a_cut_label_file_never_moves_labels(telemanom: Path, share: float) -> None:
    with damaged(telemanom, "labeled_anomalies.csv", lambda content: content[: int(share * len(content))]) as copy:
        for made in attempt(lambda: load("msl", copy)):
            assert made.labels_T is not None
            assert np.flatnonzero(made.labels_T).tolist() == EXPECTED[made.name]


@given(damage=damages())
def test_a_damaged_label_file_is_read_or_refused(telemanom: Path, damage: Damage) -> None:
    with damaged(telemanom, "labeled_anomalies.csv", damage) as copy:
        attempt(lambda: load("msl", copy))


@given(text=st.text(alphabet="[](),0123456789 -.eE'\"_jx{}:\\\n", max_size=60))
def test_any_text_as_sequences_is_read_or_refused(telemanom: Path, text: str) -> None:
    quoted = text.replace('"', '""').encode()
    with damaged(telemanom, "labeled_anomalies.csv", lambda content: content.replace(b"[[3, 5]]", quoted)) as copy:
        attempt(lambda: load("msl", copy))


@given(pairs=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=5), rows=st.integers(1, 50))
def test_labels_are_the_rows_named(pairs: list[tuple[int, int]], rows: int) -> None:
    sequences = tuple((first, first + length) for first, length in pairs)
    if any(first >= rows for first, _ in sequences):
        with pytest.raises(CrossplantError):
            label_rows("C-1", LabelRow("MSL", sequences, rows))
        return
    labels_T, notes = label_rows("C-1", LabelRow("MSL", sequences, rows))
    assert labels_T.tolist() == [any(a <= row <= b for a, b in sequences) for row in range(rows)]
    assert len(notes) == sum(last >= rows for _, last in sequences)


@pytest.fixture(scope="module")
def batadal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batadal")
    (folder / "BATADAL_dataset03.csv").write_text(test_batadal.table(30, {}), encoding="utf-8")
    text = test_batadal.table(30, {4: "1"}, blank=" ", part="04")
    (folder / "BATADAL_dataset04.csv").write_text(text, encoding="utf-8")
    return folder


@given(name=st.sampled_from(["BATADAL_dataset03.csv", "BATADAL_dataset04.csv"]), damage=damages())
def test_a_damaged_table_is_read_or_refused(batadal: Path, name: str, damage: Damage) -> None:
    with damaged(batadal, name, damage) as copy:
        attempt(lambda: load("batadal", copy))


@given(name=st.sampled_from(["BATADAL_dataset03.csv", "BATADAL_dataset04.csv"]), damage=moved_lines())
def test_moved_lines_of_a_table_never_move_labels(batadal: Path, name: str, damage: Damage) -> None:
    """The first tag counts the rows; row 4 is an attack."""
    with damaged(batadal, name, damage) as copy:
        for made in attempt(lambda: load("batadal", copy)):
            assert made.labels_T is not None
            assert ((made.test_TD[:, 0] == 4) == made.labels_T).all()


@pytest.fixture(scope="module")
def skab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skab")
    test_skab.write(folder / "valve1" / "0.csv")
    return folder


@settings(max_examples=50)
@given(damage=damages())
def test_a_damaged_experiment_is_read_or_refused(skab: Path, damage: Damage) -> None:
    with damaged(skab, "valve1/0.csv", damage) as copy:
        attempt(lambda: load("skab", copy))


@settings(max_examples=30)
@given(damage=moved_lines())
def test_moved_lines_of_an_experiment_never_move_labels(skab: Path, damage: Damage) -> None:
    """The first sensor counts the rows; rows 410 and 411 are anomalous."""
    with damaged(skab, "valve1/0.csv", damage) as copy:
        for made in attempt(lambda: load("skab", copy)):
            assert made.labels_T is not None
            assert (np.isin(made.test_TD[:, 0], (410, 411)) == made.labels_T).all()


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joined")
    values = np.random.default_rng(0).uniform(-1, 1, (70, 55))
    for name, array in (("train", values[:30]), ("test", values[30:]), ("test_label", np.arange(40) == 7)):
        np.save(folder / f"MSL_{name}.npy", array)
    return folder


@given(name=st.sampled_from(["MSL_train.npy", "MSL_test.npy"]), damage=damages())
def test_damaged_joined_arrays_never_move_labels(joined: Path, name: str, damage: Damage) -> None:
    with damaged(joined, name, damage) as copy:
        for made in attempt(lambda: load("msl", copy)):
            assert made.labels_T is None or np.flatnonzero(made.labels_T).tolist() == [7]


@given(damage=damages())
def test_damaged_joined_labels_are_read_or_refused(joined: Path, damage: Damage) -> None:
    with damaged(joined, "MSL_test_label.npy", damage) as copy:
        attempt(lambda: load("msl", copy))


@pytest.fixture(scope="module")
def tep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tep")
    test_tep.write(folder / "d00.dat", test_tep.run(500, 0).T)
    test_tep.write(folder / "d03_te.dat", test_tep.run(960, 1))
    return folder


@settings(max_examples=30)
@given(name=st.sampled_from(["d00.dat", "d03_te.dat"]), damage=st.one_of(damages(), moved_lines()))
def test_a_damaged_run_never_moves_labels(tep: Path, name: str, damage: Damage) -> None:
    with damaged(tep, name, damage) as copy:
        for made in attempt(lambda: load("tep", copy)):
            assert made.labels_T is None or np.flatnonzero(made.labels_T).tolist() == list(range(160, 960))


@pytest.fixture(scope="module")
def smd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return test_smd.write(tmp_path_factory.mktemp("smd"), {"machine-1-1": (3, 5), "machine-2-1": (20, 29)})


@given(part=st.sampled_from(["train", "test"]), damage=st.one_of(damages(), moved_lines()))
def test_a_damaged_machine_never_moves_labels(smd: Path, part: str, damage: Damage) -> None:
    with damaged(smd, f"{part}/machine-1-1.txt", damage) as copy:
        for made in attempt(lambda: load("smd", copy)):
            rows = [3, 4, 5] if made.name == "machine-1-1" else list(range(20, 30))
            assert made.labels_T is not None
            assert np.flatnonzero(made.labels_T).tolist() == rows


@given(part=st.sampled_from(["test_label", "interpretation_label"]), damage=st.one_of(damages(), moved_lines()))
def test_damaged_labels_of_a_machine_are_read_or_refused(smd: Path, part: str, damage: Damage) -> None:
    with damaged(smd, f"{part}/machine-1-1.txt", damage) as copy:
        attempt(lambda: load("smd", copy))


@pytest.fixture(scope="module")
def secom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return test_secom.write(tmp_path_factory.mktemp("secom"), lots=20, fails=(2, 15))


@settings(max_examples=50)
@given(name=st.sampled_from(["secom.data", "secom_labels.data"]), damage=damages())
def test_damaged_lots_are_read_or_refused(secom: Path, name: str, damage: Damage) -> None:
    with damaged(secom, name, damage) as copy:
        attempt(lambda: load("secom", copy))


@settings(max_examples=50)
@given(damage=moved_lines())
def test_moved_labels_of_lots_are_refused(secom: Path, damage: Damage) -> None:
    """Of its own file a label that moved would be that of another lot."""
    with damaged(secom, "secom_labels.data", damage) as copy:
        for made in attempt(lambda: load("secom", copy)):
            assert made.labels_T is not None
            assert np.flatnonzero(made.labels_T).tolist() == [5]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    cells = lambda row: f"{row},{'attack' if row in (50, 51) else 'normal'},{'Bad' if row == 7 else row / 2}"  # noqa: E731
    test_historian.write(folder / "a.csv", test_historian.stamps(60), cells, "time,row,state,level")
    test_historian.settings(folder, 'label = "state"\ntest_from = 2024-03-05T06:40:00\n')
    return folder


@given(damage=moved_lines())
def test_moved_lines_of_an_export_never_move_labels(export: Path, damage: Damage) -> None:
    """The tag `row` counts the rows; rows 50 and 51 are attacks."""
    with damaged(export, "a.csv", damage) as copy:
        for made in attempt(lambda: load("historian", copy)):
            assert made.labels_T is not None
            known = np.isfinite(made.test_TD[:, 0])
            assert (np.isin(made.test_TD[known, 0], (50, 51)) == made.labels_T[known]).all()


@given(name=st.sampled_from(["a.csv", "historian.toml"]), damage=damages())
def test_a_damaged_export_is_read_or_refused(export: Path, name: str, damage: Damage) -> None:
    with damaged(export, name, damage) as copy:
        attempt(lambda: load("historian", copy))


@pytest.mark.parametrize("form", ["parquet", "xlsx"])
@settings(max_examples=15)
@given(damage=damages())
def test_a_damaged_binary_export_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, form: str, damage: Damage
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"whole-{form}"
    if not folder.exists():
        folder.mkdir()
        frame = test_historian.frame()
        frame.write_parquet(folder / "a.parquet") if form == "parquet" else frame.write_excel(folder / "a.xlsx")
    with damaged(folder, f"a.{form}", damage) as copy:
        attempt(lambda: load("historian", copy))


@pytest.mark.parametrize("name", known())
@settings(max_examples=10)
@given(damage=damages())
def test_nothing_is_recognised_with_a_traceback(
    batadal: Path, tep: Path, smd: Path, joined: Path, name: str, damage: Damage
) -> None:
    """`recognise` raises nothing, whatever a file begins with."""
    wholes = (
        (batadal, "BATADAL_dataset03.csv"),
        (tep, "d03_te.dat"),
        (smd, "train/machine-1-1.txt"),
        (joined, "MSL_test.npy"),
    )
    for whole, file in wholes:
        with damaged(whole, file, damage) as copy:
            find(name).recognise(copy)
            find(name).recognise(copy / file)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plants") / "north"
    write_site(folder, site("north"))
    return folder


@given(name=st.sampled_from(["site.json", "train.npy", "test.npy", "labels.npy"]), damage=damages())
def test_a_damaged_site_folder_is_read_or_refused(plant: Path, name: str, damage: Damage) -> None:
    with damaged(plant, name, damage) as copy:
        attempt(lambda: (read_site(copy),))
