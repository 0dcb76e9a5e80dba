from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.bundle import Bundle, Provenance, publish, read_bundle
from shared.config import PreprocessConfig, Recipe, ThresholdConfig
from shared.errors import BundleInvalid
from shared.preprocess import fit_preprocessor
from shared.schema import SensorSchema
from shared.scoring import RobustScale, ScoreScale
from shared.thresholds import fit
from tests.support.stores import model

FILES = [
    "bundle.json",
    "model.safetensors",
    "preprocessor.json",
    "recipe.json",
    "schema.json",
    "score.json",
    "threshold.json",
]


def bundle(round_: int = 4) -> Bundle:
    rng = np.random.default_rng(round_)
    made = model(round_)
    gappy = np.where(rng.random((50, 2)) < 0.1, np.nan, rng.normal(size=(50, 2))).astype(np.float32)
    preprocess = PreprocessConfig(rolling=5, every=2, join="mean", max_correlation=0.99)
    return Bundle(
        provenance=Provenance(site="north", run="a", round=round_, model=made.digest, holdout_loss=0.1 + 0.2),
        model=made,
        recipe=Recipe(),
        schema=SensorSchema(tags=("LIT101", "FIT101"), period_s=0.1),
        preprocessor=fit_preprocessor(gappy, (0, 20), preprocess)[0],
        score=ScoreScale(entropy_weight=0.1, error=RobustScale(median=-1.5, spread=0.3)),
        threshold=fit("conformal", rng.uniform(size=500), ThresholdConfig()),
    )


def assert_same(one: Bundle, other: Bundle) -> None:
    assert replace(one, model=other.model) == other
    assert one.model.file_bytes == other.model.file_bytes


def test_a_bundle_comes_back_whole(tmp_path: Path) -> None:
    folder = tmp_path / "bundles" / "north.bundle"
    publish(bundle(), folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert_same(read_bundle(folder), bundle())


def test_a_newer_bundle_replaces_the_older_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "north.bundle"
    for round_ in (4, 5, 6):
        publish(bundle(round_), folder)
        assert read_bundle(folder).provenance.round == round_
    assert os.listdir(tmp_path) == ["north.bundle"]


# ---- damage ----------------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "flipped bit": _flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "appended": lambda path: path.write_bytes(path.read_bytes() + b" \n{}"),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": Path.unlink,
    "no file": _make_folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_whatever_happens_to_a_file_the_bundle_is_refused_and_the_file_named(
    tmp_path: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "north.bundle"
    publish(bundle(), folder)
    DAMAGES[damage](folder / name)
    with pytest.raises(BundleInvalid, match=name) as caught:
        read_bundle(folder)
    assert str(caught.value).startswith("CP-601")


@pytest.mark.parametrize("name", [n for n in FILES if n != "bundle.json"])
def test_a_file_of_another_bundle_does_not_fit(tmp_path: Path, name: str) -> None:
    for round_ in (4, 5):
        publish(bundle(round_), tmp_path / f"{round_}.bundle")
    foreign = tmp_path / "5.bundle" / name
    if foreign.read_bytes() == (tmp_path / "4.bundle" / name).read_bytes():
        foreign.write_text("{}")
    shutil.copy(foreign, tmp_path / "4.bundle" / name)
    with pytest.raises(BundleInvalid, match=f"{name} was changed"):
        read_bundle(tmp_path / "4.bundle")


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        ({"format": 1}, "format 1, where this version reads format 2"),
        ({"format": "2"}, "format '2', where this version reads format 2"),
        ({"digests": None}, "its digests are no table"),
        ({"digests": {}}, "was changed after publishing"),
        ({"provenance": {"site": "south"}}, "was changed after publishing"),
        ({"digest": "0" * 64}, "was changed after publishing"),
        ({"digest": None}, "was changed after publishing"),
    ],
)
def test_an_index_that_was_edited_is_refused(tmp_path: Path, change: dict[str, object], telling: str) -> None:
    folder = tmp_path / "north.bundle"
    publish(bundle(), folder)
    index = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(index | change))
    with pytest.raises(BundleInvalid, match=telling):
        read_bundle(folder)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"format": 1}'])
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "north.bundle"
    publish(bundle(), folder)
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleInvalid, match=r"bundle\.json"):
        read_bundle(folder)


def test_a_threshold_of_another_model_is_refused(tmp_path: Path) -> None:
    """Even where every file is intact: a publisher mixed two rounds."""
    mixed = replace(bundle(4), model=model(5))
    publish(mixed, tmp_path / "north.bundle")
    with pytest.raises(BundleInvalid, match="not the model that the threshold was set for"):
        read_bundle(tmp_path / "north.bundle")


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="nowhere"):
        read_bundle(tmp_path / "nowhere.bundle")


# ---- a publisher that dies -------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ended here."""


def publish_killed(monkeypatch: pytest.MonkeyPatch, made: Bundle, folder: Path, at: int) -> bool:
    """Publish, but die right before system call number `at`; False when there were fewer."""
    calls = 0

    def dying(name: str, real: object) -> object:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed(name)
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "mkdir"), (os, "fsync"), (shutil, "rmtree")):
            patch.setattr(owner, name, dying(name, getattr(owner, name)))
        try:
            publish(made, folder)
        except Killed:
            return True
    return False


def test_whenever_a_publisher_dies_a_whole_bundle_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, seen = 0, []
    while True:
        at += 1
        folder = tmp_path / str(at) / "north.bundle"
        publish(bundle(4), folder)
        if not publish_killed(monkeypatch, bundle(5), folder, at):
            break
        left = read_bundle(folder)
        assert_same(left, bundle(left.provenance.round))
        seen.append(left.provenance.round)
        publish(bundle(6), folder)
        assert read_bundle(folder).provenance.round == 6
        assert os.listdir(folder.parent) == ["north.bundle"]
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert set(seen) == {4, 5}


def test_a_second_death_does_not_lose_the_bundle_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = 1
    while True:  # the first death between the renames, where only `.old` is whole
        folder = tmp_path / f"find {first}" / "north.bundle"
        publish(bundle(4), folder)
        publish_killed(monkeypatch, bundle(5), folder, first)
        if not folder.exists():
            break
        first += 1
    second = 0
    while True:
        second += 1
        folder = tmp_path / str(second) / "north.bundle"
        publish(bundle(4), folder)
        assert publish_killed(monkeypatch, bundle(5), folder, first)
        if not publish_killed(monkeypatch, bundle(6), folder, second):
            break
        assert read_bundle(folder).provenance.round in (4, 6)
    assert read_bundle(folder).provenance.round == 6


def test_a_disk_that_cannot_be_written_leaves_the_older_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "north.bundle"
    publish(bundle(4), folder)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BundleInvalid, match=r"cannot be written: No space left on device"):
            publish(bundle(5), folder)
    assert read_bundle(folder).provenance.round == 4


@pytest.mark.parametrize("part", ["model.safetensors", "threshold.json"])
def test_reading_while_another_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """The bundle is replaced after its index was read: the reader starts again with the new one."""
    folder = tmp_path / "north.bundle"
    publish(bundle(4), folder)
    read, newer = Path.read_bytes, [bundle(6), bundle(5)]

    def interrupted(path: Path) -> bytes:
        if path.name == part and newer:
            publish(newer.pop(), folder)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", interrupted)
    assert_same(read_bundle(folder), bundle(6))
    assert newer == []


def test_reading_while_another_is_between_its_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, old = tmp_path / "north.bundle", tmp_path / ".north.bundle.old"
    publish(bundle(4), folder)
    read = Path.read_bytes

    def interrupted(path: Path) -> bytes:
        if path.parent == folder and path.name == "score.json":
            folder.rename(old)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", interrupted)
    assert_same(read_bundle(folder), bundle(4))
    assert not folder.exists()
