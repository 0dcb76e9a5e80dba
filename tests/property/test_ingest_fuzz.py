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

from client.ingest.base import load
from client.ingest.folder import read_site, write_site
from client.ingest.telemanom import LabelRow, label_rows
from shared.errors import CrossplantError
from shared.series import SiteData
from tests.conftest import site, write_telemanom
from tests.unit import test_batadal, test_skab

Damage = Callable[[bytes], bytes]
CHANNELS = {"C-1": "[[3, 5]]", "M-2": "[[0, 0], [20, 39]]"}
EXPECTED = {"C-1": [3, 4, 5], "M-2": [0, *range(20, 40)]}
HOSTILE = (b"", b"\n", b";", b",", b'"', b"\0", b"\xff", b"nan", b"1e999", b"-", b"[", b"9" * 30, b"\r", b"'")


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """One cut, overwrite, insertion or removal at a relative position."""
    kind = draw(st.sampled_from(["cut", "overwrite", "insert", "remove"]))
    where = draw(st.one_of(st.floats(0, 1), st.floats(0, 0.02)))  # headers deserve more than their share
    piece = draw(st.one_of(st.sampled_from(HOSTILE), st.binary(min_size=1, max_size=8)))
    length = draw(st.integers(1, 200))

    def damage(content: bytes) -> bytes:
        at = int(where * len(content))
        if kind == "cut":
            return content[:at]
        if kind == "remove":
            return content[:at] + content[at + length :]
        return content[:at] + piece + content[at + (len(piece) if kind == "overwrite" else 0) :]

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
    (folder / "BATADAL_dataset04.csv").write_text(test_batadal.table(30, {4: "1"}, blank=" "), encoding="utf-8")
    return folder


@given(name=st.sampled_from(["BATADAL_dataset03.csv", "BATADAL_dataset04.csv"]), damage=damages())
def test_a_damaged_table_is_read_or_refused(batadal: Path, name: str, damage: Damage) -> None:
    with damaged(batadal, name, damage) as copy:
        attempt(lambda: load("batadal", copy))


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


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plants") / "north"
    write_site(folder, site("north"))
    return folder


@given(name=st.sampled_from(["site.json", "train.npy", "test.npy", "labels.npy"]), damage=damages())
def test_a_damaged_site_folder_is_read_or_refused(plant: Path, name: str, damage: Damage) -> None:
    with damaged(plant, name, damage) as copy:
        attempt(lambda: (read_site(copy),))
