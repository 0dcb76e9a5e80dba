"""A plant's own folder: what is written is read back, and it is whole or not there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.ingest.folder import read_site, write_site
from shared.errors import DataError, DataNotFound, DataUnreadable, InvalidConfig
from shared.series import Repair, SiteData
from tests.conftest import site


def same(one: SiteData, other: SiteData) -> bool:
    plain = (
        np.array_equal(one.train_TD, other.train_TD, equal_nan=True),
        np.array_equal(one.test_TD, other.test_TD, equal_nan=True),
        (one.labels_T is None) == (other.labels_T is None),
        one.labels_T is None or other.labels_T is None or np.array_equal(one.labels_T, other.labels_T),
    )
    blank = {"train_TD": None, "test_TD": None, "labels_T": None}
    return all(plain) and replace(one, **blank) == replace(other, **blank)  # type: ignore[arg-type]


def full() -> SiteData:
    made = site("north-1")
    made.train_TD[3, 1] = np.nan
    notes = (Repair("LIT301", "gap filled", 3), Repair("π", "ünïcode", 0))
    return replace(made, train_starts=(0, 7), test_starts=(0, 5), group="P1", repairs=notes)


@pytest.mark.parametrize("made", [full(), site("bare", labelled=False), site("untested", test=0, labelled=False)])
def test_round_trip(tmp_path: Path, made: SiteData) -> None:
    write_site(tmp_path / "new" / "place", made)
    back = read_site(tmp_path / "new" / "place")
    assert same(back, made)
    assert back.train_TD.dtype == np.float32
    assert isinstance(back.train_TD, np.memmap)
    assert not back.train_TD.flags.writeable


def test_nothing_but_the_folder_is_left(tmp_path: Path) -> None:
    write_site(tmp_path / "a", full())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "labels.npy",
        "site.json",
        "test.npy",
        "train.npy",
    ]


def test_a_full_folder_is_not_overwritten(tmp_path: Path) -> None:
    write_site(tmp_path / "a", full())
    with pytest.raises(InvalidConfig, match="already holds something"):
        write_site(tmp_path / "a", site("other"))
    assert read_site(tmp_path / "a").name == "north-1"


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full_disk)
    with pytest.raises(DataError, match="No space left"):
        write_site(tmp_path / "a", full())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", ".hidden", "x" * 65, "ü", "a\n"])
def test_names_that_cannot_be_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidConfig, match="cannot be a site's name"):
        write_site(tmp_path / "a", replace(full(), name=name))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "../up", "name: "),
        ("name", None, "name: "),
        ("format", 2, "format: "),
        ("surplus", 1, "surplus: "),
        ("labelled", "yes", "labelled: "),
        ("schema", {"tags": ["a", "a"], "period_s": 1}, "tag names occur twice"),
        ("schema", {"tags": ["a", "b"], "period_s": 0}, "`$.period_s`"),
        ("schema", {"tags": ["a", "b", "c"], "period_s": 1}, "site.json needs float32 (rows, 3)"),
        ("train_starts", [], "train_starts: "),
        ("train_starts", [1], "train_starts must rise from 0"),
        ("train_starts", [0, 0], "train_starts must rise from 0"),
        ("train_starts", [0, 20], "stay below 20 rows"),
        ("test_starts", [0, -1], "test_starts.1: "),
        ("repairs", [{"where": "x"}], "repairs.0.what: "),
    ],
)
def test_a_wrong_description_is_refused_with_its_place(tmp_path: Path, field: str, value: object, says: str) -> None:
    write_site(tmp_path / "a", full())
    path = tmp_path / "a" / "site.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {field: value}), encoding="utf-8")
    with pytest.raises(DataUnreadable) as caught:
        read_site(tmp_path / "a")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("train.npy", np.zeros((20, 2))),
        ("train.npy", np.zeros((20, 3), np.float32)),
        ("test.npy", np.zeros(12, np.float32)),
        ("labels.npy", np.zeros(11, np.bool_)),
        ("labels.npy", np.zeros(12, np.int8)),
        ("labels.npy", np.zeros((12, 1), np.bool_)),
    ],
)
def test_arrays_that_contradict_the_description_are_refused(tmp_path: Path, name: str, values: Any) -> None:
    write_site(tmp_path / "a", full())
    np.save(tmp_path / "a" / name, values)
    with pytest.raises(DataUnreadable, match=name):
        read_site(tmp_path / "a")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no site folder"):
        read_site(tmp_path / "a")
    for name in ("site.json", "train.npy", "test.npy", "labels.npy"):
        write_site(tmp_path / f"without-{name}", full())
        (tmp_path / f"without-{name}" / name).unlink()
        with pytest.raises(DataNotFound, match=f"{name} does not exist"):
            read_site(tmp_path / f"without-{name}")


def test_a_description_that_is_no_json_is_refused(tmp_path: Path) -> None:
    write_site(tmp_path / "a", full())
    for content in (b"", b"{", b"\xff", b"[]", b"[" * 100_000):
        (tmp_path / "a" / "site.json").write_bytes(content)
        with pytest.raises(DataUnreadable, match=r"site\.json"):
            read_site(tmp_path / "a")
