"""A bundle on disk: whole or refused, published in one step, kept in versions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from shared.bundle.edge import EdgeBundle, read_edge_bundle, refuse_older, refuse_other_columns
from shared.bundle.files import CALIBRATION, GUARD, INDEX, MODEL, OPTIONAL, PROBE, RECIPE, REQUIRED, SIGNATURE
from shared.bundle.folder import current, located, point, versions, write_pointer
from shared.bundle.index import FORMAT, _seal, make_index
from shared.bundle.keys import public_bytes, sign
from shared.bundle.parts import Probe, Provenance, Setup
from shared.bundle.trust import Trust, public_pem
from shared.bundle.whole import KEEP, Bundle, publish, read_bundle, setup_of
from shared.config import Recipe
from shared.distribution import Distribution
from shared.errors import BundleInvalid
from shared.schema import SensorSchema
from tests.support.bundles import KEY, bundle, live, put
from tests.support.bundles import RECIPE as SMALL
from tests.support.stores import model

FILES = sorted((*REQUIRED, INDEX))
EDGE_ONLY = {"graph.onnx", CALIBRATION, PROBE, "setup.json", "limits.json"}


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here switches the power off: a sync is where a publisher may die, and need not take long."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundles" / "north.bundle"


def assert_same(one: Bundle, other: Bundle) -> None:
    """All but what publishing adds."""
    told = [structs.replace(b.provenance, number=1, version="") for b in (one, other)]
    assert told[0] == told[1]
    assert replace(one, model=other.model, provenance=other.provenance) == other
    assert one.model.file_bytes == other.model.file_bytes


def test_a_bundle_comes_back_whole(folder: Path) -> None:
    digest = put(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted((digest, "current"))
    assert sorted(path.name for path in (folder / digest).iterdir()) == sorted((*FILES, SIGNATURE))
    for place in (folder, folder / digest):
        assert_same(read_bundle(place), bundle())
        found = read_edge_bundle(place)
        assert (found.digest, found.folder, found.signer) == (digest, folder / digest, "")
        assert found.setup == setup_of(SMALL)
        assert (found.schema, found.preprocessor) == (bundle().schema, bundle().preprocessor)
        assert (found.scale, found.threshold) == (bundle().score, bundle().threshold)
        assert (found.calibration, found.graph, found.guard) == (live().calibration, live().graph, None)
        np.testing.assert_array_equal(found.clusters.centroids_KZ, model(4).clusters.centroids_KZ)
        np.testing.assert_array_equal(found.probe.rows_RD, live().probe.rows_RD)
        assert found.limits == live().limits


def test_optional_parts_come_back(folder: Path) -> None:
    publish(bundle(), replace(live(), guard=b"guard", graph_int8=b"eight"), folder, KEY)
    found = read_edge_bundle(folder)
    assert (found.guard, found.graph_int8) == (b"guard", b"eight")


def test_equal_bundles_have_equal_bytes(tmp_path: Path) -> None:
    assert put(tmp_path / "one") == put(tmp_path / "two") != put(tmp_path / "three", 5)


# ---- versions --------------------------------------------------------------------------------------------------------


def test_versions_are_numbered_and_the_newest_is_in_force(folder: Path) -> None:
    digests = [put(folder, round_) for round_ in (4, 5, 6)]
    assert versions(folder) == tuple(reversed(digests))
    assert current(folder) == digests[-1]
    assert [read_edge_bundle(folder / one).provenance.number for one in digests] == [1, 2, 3]


def test_the_newest_versions_stay(folder: Path) -> None:
    digests = [put(folder, round_) for round_ in range(1, KEEP + 4)]
    assert versions(folder) == tuple(reversed(digests[-KEEP:]))
    assert sorted(os.listdir(folder)) == sorted((*digests[-KEEP:], "current"))
    assert read_edge_bundle(folder).provenance.number == KEEP + 3


def test_the_version_that_was_in_force_stays_however_old(folder: Path) -> None:
    first = put(folder, 1)
    for round_ in range(2, KEEP + 3):
        put(folder, round_)
        point(folder, first)
    assert current(folder) == first
    last = put(folder, 9)
    assert current(folder) == last
    assert first in versions(folder)
    put(folder, 10)
    assert first not in versions(folder)


def test_pointing_back_and_forth(folder: Path) -> None:
    old, new = put(folder, 4), put(folder, 5)
    point(folder, old[:12])
    assert current(folder) == old
    assert located(folder) == folder / old
    assert versions(folder) == (new, old)
    assert read_bundle(folder).provenance.round == 4
    point(folder, new)
    assert read_edge_bundle(folder).provenance.round == 5


@pytest.mark.parametrize("digest", ["", "0" * 64, "../x", "a" * 7, "x" * 5000])
def test_pointing_at_nothing_changes_nothing(folder: Path, digest: str) -> None:
    there = put(folder)
    with pytest.raises(BundleInvalid, match=f"holds no version.*There are: {there[:12]}"):
        point(folder, digest)
    assert current(folder) == there


def test_the_beginning_of_two_versions_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder)
    twins = tuple("ab" * 4 + sign * 56 for sign in "12")
    monkeypatch.setattr("shared.bundle.folder.versions", lambda _: twins)
    with pytest.raises(BundleInvalid, match="holds no version 'abababab'"):
        point(folder, "ab" * 4)


def test_an_equal_bundle_is_not_written_again(folder: Path) -> None:
    """As when a round is repeated after a crash."""
    digest = put(folder)
    before = (folder / digest).stat().st_ino
    assert put(folder) == digest
    assert (folder / digest).stat().st_ino == before
    assert versions(folder) == (digest,)


def test_an_equal_bundle_replaces_a_damaged_one(folder: Path) -> None:
    digest = put(folder)
    _flip(folder / digest / MODEL)
    assert put(folder) != digest
    assert read_edge_bundle(folder).provenance.number == 2


@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense\n", b"../../etc\n" * 3, b"\xff\xfe" * 40, b"a" * 64])
def test_a_damaged_pointer_is_refused_and_the_next_publisher_mends_it(folder: Path, content: bytes) -> None:
    digests = [put(folder, 4), put(folder, 5)]
    (folder / "current").write_bytes(content)
    for ask in (current, versions, located, read_bundle, read_edge_bundle):
        with pytest.raises(BundleInvalid, match="current"):
            ask(folder)
    last = put(folder, 6)
    assert versions(folder) == (last, *reversed(digests))
    assert read_edge_bundle(folder).provenance.number == 3


def test_what_is_no_version_is_left_alone(folder: Path) -> None:
    put(folder)
    (folder / "notes").mkdir()
    (folder / "README").write_text("ours")
    put(folder, 5)
    assert (folder / "README").exists()
    assert (folder / "notes").is_dir()


def test_a_version_that_was_removed_is_not_listed(folder: Path) -> None:
    old, new = put(folder, 4), put(folder, 5)
    shutil.rmtree(folder / old)
    assert versions(folder) == (new,)


@pytest.mark.parametrize("format_", [1, 2])
def test_a_bundle_of_an_older_format_is_refused_and_makes_room(folder: Path, format_: int) -> None:
    folder.mkdir(parents=True)
    (folder / INDEX).write_text(json.dumps({"format": format_, "digests": {}, "digest": "x"}))
    (folder / MODEL).write_bytes(b"old")
    for read in (read_bundle, read_edge_bundle):
        with pytest.raises(BundleInvalid, match=rf"format {format_}, which an older version wrote.*Publish it again"):
            read(folder)
    digest = put(folder)
    assert read_bundle(folder).provenance.round == 4
    assert sorted(os.listdir(folder)) == sorted((digest, "current"))


def _as_format_3(place: Path) -> None:
    """What the version before wrote: nothing is said of whose model it is, nor of what was wanted of a judge."""
    fields = json.loads((place / INDEX).read_text())
    for name in ("origin", "base", "compared"):
        del fields["provenance"][name]
    for part, gone in (("setup.json", "evidence"), (CALIBRATION, "unjudged")):
        content = json.loads((place / part).read_text())
        del content[gone]
        (place / part).write_text(json.dumps(content))
        fields["digests"][part] = hashlib.sha256((place / part).read_bytes()).hexdigest()
    fields["format"] = 3
    fields["digest"] = _seal(fields)
    data = json.dumps(fields, indent=1).encode()
    (place / INDEX).write_bytes(data)
    (place / SIGNATURE).write_bytes(sign(KEY, data).pretty)
    place.rename(place.with_name(fields["digest"]))
    write_pointer(place.parent, fields["digest"], (fields["digest"],))


def test_a_bundle_of_the_format_before_is_read_and_the_next_one_follows_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.pub").write_bytes(public_pem(public_bytes(KEY)))
    _as_format_3(folder / put(folder))
    found = read_edge_bundle(folder, Trust(tmp_path / "bundle.pub"))
    assert (found.provenance.origin, found.provenance.base, found.provenance.compared) == ("federated", "", ())
    assert (found.setup.evidence, found.judge, found.relations, found.calibration.unjudged) == (False, None, None, "")
    assert_same(read_bundle(folder), bundle())
    put(folder, 5)
    assert [read_edge_bundle(folder / one).provenance.number for one in versions(folder)] == [2, 1]
    assert json.loads((located(folder) / INDEX).read_text())["format"] == FORMAT == 4


def test_the_same_bundle_is_published_again_in_the_new_format(folder: Path) -> None:
    _as_format_3(folder / put(folder))
    put(folder)
    assert read_edge_bundle(folder).provenance.number == 2
    assert len(versions(folder)) == 2


# ---- damage ----------------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _make_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _make_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _make_huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**40)  # of holes


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped bit": _flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "appended": lambda path: path.write_bytes(path.read_bytes() + b" \n{}"),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": Path.unlink,
    "folder": _make_folder,
    "pipe": _make_pipe,
    "link to itself": _make_loop,
    "device without end": _make_device,
    "huge": _make_huge,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_whatever_happens_to_a_file_the_bundle_is_refused_and_the_file_named(
    folder: Path, name: str, damage: str
) -> None:
    digest = put(folder)
    DAMAGES[damage](folder / digest / name)
    for read in (read_bundle, read_edge_bundle):
        with pytest.raises(BundleInvalid, match=name) as caught:
            read(folder)
        assert str(caught.value).startswith("CP-601")


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_file_of_another_bundle_does_not_fit(folder: Path, name: str) -> None:
    here, other = folder / put(folder, 4), folder / put(folder, 5)
    if (other / name).read_bytes() == (here / name).read_bytes():
        (other / name).write_text("{}")
    shutil.copy(other / name, here / name)
    for read in (read_bundle, read_edge_bundle):
        with pytest.raises(BundleInvalid, match=f"{name} was changed"):
            read(here)


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        ({"format": 5}, "format 5, which a newer version wrote; this one reads 3 to 4. Install that version"),
        ({"format": "4"}, "format '4', where this version reads format 3 to 4"),
        ({"format": 3}, "was changed after publishing"),
        ({"format": True}, "format True"),
        ({"format": -1}, "format -1"),
        ({"format": None}, "format None"),
        ({"digests": None}, "was changed after publishing"),
        ({"digests": {}}, "was changed after publishing"),
        ({"provenance": {"site": "south"}}, "was changed after publishing"),
        ({"digest": "0" * 64}, "was changed after publishing"),
        ({"digest": None}, "was changed after publishing"),
    ],
)
def test_an_index_that_was_edited_is_refused(folder: Path, change: dict[str, object], telling: str) -> None:
    path = folder / put(folder) / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for read in (read_bundle, read_edge_bundle):
        with pytest.raises(BundleInvalid, match=telling):
            read(folder)


@pytest.mark.parametrize(
    "content", [b"[]", b"3", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"format": 4}', b'{"format": 1e999}', b"NaN"]
)
def test_an_index_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / put(folder) / INDEX).write_bytes(content)
    with pytest.raises(BundleInvalid, match=r"bundle\.json"):
        read_edge_bundle(folder)


def resealed(folder: Path, **content: bytes | None) -> None:
    """Change files of a published bundle and give it an index that fits them, as only its own publisher can."""
    place = located(folder)
    provenance = Provenance.of(json.loads((place / INDEX).read_text())["provenance"])
    for name, data in content.items():
        if data is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(data)
    there = {p.name: p.read_bytes() for p in place.iterdir() if p.name not in (INDEX, SIGNATURE)}
    (place / INDEX).write_bytes(make_index(provenance, there).data)


@pytest.mark.parametrize("name", sorted(REQUIRED))
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"nonsense", b"\xff\x00" * 50])
def test_a_part_that_is_none_is_refused_even_with_the_right_digest(
    folder: Path, name: str, content: bytes | None
) -> None:
    """A publisher with a fault, or one that lies."""
    put(folder)
    resealed(folder, **{name: content})
    if name != RECIPE and (name != "graph.onnx" or content is None):  # The scorer's to judge; not read at the edge.
        with pytest.raises(BundleInvalid, match=name):
            read_edge_bundle(folder)
    if name not in EDGE_ONLY and (name != RECIPE or content != b"{}"):  # An empty recipe is the default one.
        with pytest.raises(BundleInvalid):
            read_bundle(folder)


def test_a_name_that_is_no_part_is_refused(folder: Path) -> None:
    put(folder)
    for name in ("extra.bin", "x" * 200):
        resealed(folder, **{name: b"more"})
        with pytest.raises(BundleInvalid, match="which is no part"):
            read_edge_bundle(folder)
        (located(folder) / name).unlink()


def test_names_leave_no_folder() -> None:
    assert all(Path(name).name == name for name in REQUIRED | OPTIONAL)


def test_a_threshold_of_another_model_is_refused(folder: Path) -> None:
    """Even where every file is intact: a publisher mixed two rounds."""
    publish(replace(bundle(4), model=model(5)), live(4), folder, KEY)
    for read in (read_bundle, read_edge_bundle):
        with pytest.raises(BundleInvalid, match="not the model that the threshold was set for"):
            read(folder)


THREE_TAGS = SensorSchema(tags=("a", "b", "c"), period_s=1)
MISFITS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "preprocessor.json is for 2 of 3 tags": ({"schema": THREE_TAGS}, {}),
    "limits.json is for other tags": ({}, {"limits": structs.replace(live().limits, tags=("LIT101", "FIT102"))}),
    "probe.safetensors is not for 2 tags": (
        {},
        {"probe": Probe(np.zeros((9, 3), np.float32), np.zeros(1), np.zeros(1))},
    ),
    "calibration.json is not for 2 tags": (
        {},
        {"calibration": structs.replace(live().calibration, tag_error=(0.1,))},
    ),
    "calibration.json has other clusters": (
        {},
        {"calibration": structs.replace(live().calibration, occupancy=(0.1,))},
    ),
    "clusters that do not fit": ({"recipe": Recipe()}, {}),
}


@pytest.mark.parametrize("telling", MISFITS)
def test_parts_of_other_sizes_are_refused(folder: Path, telling: str) -> None:
    changes, live_changes = MISFITS[telling]
    publish(replace(bundle(), **changes), replace(live(), **live_changes), folder, KEY)
    with pytest.raises(BundleInvalid, match=f"do not fit each other: .*{telling}"):
        read_edge_bundle(folder)


def test_a_score_of_clusters_without_clusters_is_refused(folder: Path) -> None:
    made = model(4, clusters=False)
    told = structs.replace(bundle().provenance, model=made.digest)
    figures = structs.replace(live().calibration, occupancy=())
    publish(replace(bundle(), model=made, provenance=told), replace(live(), calibration=figures), folder, KEY)
    with pytest.raises(BundleInvalid, match=r"score\.json needs clusters"):
        read_edge_bundle(folder)


@pytest.mark.parametrize("place", ["nowhere", "", "a\0b", "x" * 5000])
def test_no_bundle_at_all(tmp_path: Path, place: str) -> None:
    for read in (read_bundle, read_edge_bundle):
        with pytest.raises(BundleInvalid, match="no bundle and no folder of bundles"):
            read(tmp_path / place)


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    with pytest.raises(BundleInvalid, match="Not a directory"):
        read_edge_bundle(tmp_path / "file")


# ---- older, other ----------------------------------------------------------------------------------------------------


def told(number: int, round_: int, run: str = "a") -> Provenance:
    return Provenance(site="north", run=run, round=round_, model="m", holdout_loss=0.1, number=number)


@pytest.mark.parametrize("candidate", [told(6, 9), told(5, 10), told(6, 10), told(7, 3, "b")])
def test_a_newer_or_equal_bundle_may_replace_one(candidate: Provenance) -> None:
    refuse_older(candidate, told(5, 9))


@pytest.mark.parametrize("candidate", [told(4, 9), told(6, 8), told(4, 3, "b")])
def test_an_older_bundle_may_not(candidate: Provenance) -> None:
    with pytest.raises(
        BundleInvalid, match=rf"bundle {candidate.number} \(run {candidate.run}.* older than .*rollback"
    ):
        refuse_older(candidate, told(5, 9))


def test_other_columns_are_refused_in_words(folder: Path) -> None:
    put(folder)
    found = read_edge_bundle(folder)
    refuse_other_columns(found, found.schema)
    with pytest.raises(BundleInvalid, match=r"missing LIT999; unknown LIT101"):
        refuse_other_columns(found, SensorSchema(tags=("LIT999", "FIT101"), period_s=0.1))
    with pytest.raises(BundleInvalid, match=r"samples every 0\.1 s where these are 1 s"):
        refuse_other_columns(found, structs.replace(found.schema, period_s=1.0))


# ---- what normal data scored -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1999, 2000, 2001, 50_000])
def test_p_values_are_exact_in_the_tail_and_never_too_small(size: int) -> None:
    scores_N = np.random.default_rng(size).lognormal(size=size).round(3)  # with ties
    found = Distribution.of_scores(scores_N)
    assert len(found.scores) == min(size, 2000)
    for score in (*np.quantile(scores_N, [0, 0.1, 0.5, 0.9, 0.99, 0.9999]), 0.0, 1e9, np.inf):
        true = (1 + np.sum(scores_N >= score)) / (size + 1)
        assert true <= found.p_value(float(score)) <= true + 1.1e-3
    for score in np.sort(scores_N)[-900:]:
        assert found.p_value(float(score)) == (1 + np.sum(scores_N >= score)) / (size + 1)


def test_p_values_of_few_scores() -> None:
    found = Distribution.of_scores(np.array([3.0, 1.0, 2.0]))
    assert [found.p_value(score) for score in (0.0, 1.0, 1.5, 3.0, 3.5)] == [1.0, 1.0, 0.75, 0.5, 0.25]
    assert [found.quantile(share) for share in (0, 0.34, 0.67, 1)] == [1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("fields", [{"size": 3}, {"scores": (2.0, 1.0)}, {"scores": (1.0, float("inf"))}, {"size": 0}])
def test_a_distribution_that_is_none_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"scores|size"):
        Distribution(**({"size": 2, "scores": (1.0, 2.0)} | fields))


def test_a_setup_has_what_setting_thresholds_needs() -> None:
    """`shared.scoring` and `shared.thresholds` take it in the place of the recipe's groups."""
    setup, recipe = setup_of(Recipe()), Recipe()
    for group in (recipe.scoring, recipe.threshold):
        for name, value in group.model_dump().items():
            assert getattr(setup, name) == value


def test_a_setup_tells_the_rate_that_the_threshold_was_set_for_where_its_rule_can_be_asked() -> None:
    found = setup_of(SMALL, structs.replace(bundle().threshold, false_alarm_rate=0.0004))
    assert found == structs.replace(setup_of(SMALL), false_alarm_rate=0.0004)
    assert setup_of(SMALL, structs.replace(bundle().threshold, false_alarm_rate=None)) == setup_of(SMALL)


def test_a_tail_longer_than_the_window_is_the_window() -> None:
    long_tail = SMALL.model_copy(update={"scoring": SMALL.scoring.model_copy(update={"tail": 99})})
    assert setup_of(long_tail).tail == 4
    with pytest.raises(ValueError, match="tail"):
        Setup(detector="x", window=4, latent=3, tail=5)


# ---- a publisher that dies -------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ended here."""


def publish_killed(monkeypatch: pytest.MonkeyPatch, round_: int, folder: Path, at: int) -> bool:
    """Publish, but die right before system call number `at`; False when there were fewer."""
    calls = 0

    def dying(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed(name)
            return real(*args, **kwargs)

        return call

    steps = ((Path, "rename"), (Path, "replace"), (Path, "mkdir"), (Path, "unlink"), (os, "fsync"), (shutil, "rmtree"))
    with monkeypatch.context() as patch:
        for owner, name in steps:
            patch.setattr(owner, name, dying(name, getattr(owner, name)))
        try:
            put(folder, round_)
        except Killed:
            return True
    return False


def test_whenever_a_publisher_dies_a_whole_bundle_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, seen = 0, []
    while True:
        at += 1
        folder = tmp_path / str(at)
        put(folder, 4)
        if not publish_killed(monkeypatch, 5, folder, at):
            break
        left = read_bundle(folder)
        assert_same(left, bundle(left.provenance.round))
        read_edge_bundle(folder)
        seen.append(left.provenance.round)
        put(folder, 6)
        assert read_edge_bundle(folder).provenance.round == 6
        assert sorted(os.listdir(folder)) == sorted((*versions(folder), "current"))
    assert len(seen) > 15
    assert seen == sorted(seen)
    assert set(seen) == {4, 5}


def test_a_second_death_does_not_lose_the_bundle_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for first in range(1, 40, 6):
        for second in range(1, 40, 6):
            folder = tmp_path / f"{first} {second}"
            put(folder, 4)
            publish_killed(monkeypatch, 5, folder, first)
            publish_killed(monkeypatch, 6, folder, second)
            assert read_edge_bundle(folder).provenance.round in (4, 5, 6)


def test_a_disk_that_cannot_be_written_leaves_the_older_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put(folder, 4)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BundleInvalid, match=r"cannot be written: No space left on device"):
            put(folder, 5)
        with pytest.raises(BundleInvalid, match=r"cannot be written: No space left on device"):
            point(folder, digest)
    assert read_bundle(folder).provenance.round == 4
    assert put(folder, 5) == current(folder)


# ---- a reader beside a publisher -------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_bundle, read_edge_bundle])
@pytest.mark.parametrize("part", [INDEX, MODEL, "threshold.json"])
def test_reading_while_many_others_are_published(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: str, read: Callable[[Path], Bundle | EdgeBundle]
) -> None:
    """The version that is being read is pruned: the reader begins again with the one in force."""
    put(folder, 1)
    newer, real = list(range(9, 1, -1)), os.open

    def interrupted(path: Path, *args: object, **kwargs: object) -> int:
        if Path(path).name == part and len(newer) == 8:
            while newer:
                put(folder, newer.pop())
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", interrupted)
    assert read(folder).provenance.round == 9
    assert newer == []


def test_a_bundle_that_is_replaced_while_it_is_read_is_never_mixed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, 4)
    real, done = os.open, []

    def interrupted(path: Path, *args: object, **kwargs: object) -> int:
        if Path(path).name == MODEL and not done:
            done.append(put(folder, 5))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", interrupted)
    found = read_bundle(folder)
    assert_same(found, bundle(found.provenance.round))
    assert done


def test_guards_are_optional() -> None:
    assert GUARD in OPTIONAL


@pytest.mark.parametrize("name", ["current", "bundle.json", "signature.json"])
def test_what_is_parsed_before_the_signature_is_checked_costs_no_memory(folder: Path, name: str) -> None:
    digest = put(folder)
    place = folder / name if name == "current" else folder / digest / name
    place.write_bytes(place.read_bytes() + b" " * 2**20)
    with pytest.raises(BundleInvalid, match=f"{name} cannot be read: 1.* are more than any such file has"):
        read_edge_bundle(folder, Trust(folder.parent / "seen.pub", pin=True))
