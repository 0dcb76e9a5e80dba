"""Whatever lies in the place of a bundle's files: it is read whole and unmixed, or refused by one error with a code."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.bundle.files import INDEX, REQUIRED, SIGNATURE
from shared.bundle.folder import versions
from shared.bundle.index import make_index
from shared.bundle.keys import public_bytes, sign
from shared.bundle.parts import Provenance
from shared.bundle.trust import Trust, public_pem
from shared.bundle.whole import Bundle, read_bundle
from shared.errors import BundleInvalid
from tests.support.bundles import KEY, bundle, live, put

NAMES = sorted((*REQUIRED, INDEX, SIGNATURE))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder) / "north.bundle", 4)
        put(Path(folder) / "north.bundle", 5)
        yield Path(folder) / "north.bundle"


class Scratch:
    """A copy of one bundle that is thrown away."""

    def __init__(self, made: Path) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.folder = self.root / "north.bundle"
        shutil.copytree(made, self.folder, copy_function=os.link)  # Files are replaced here, never written into.

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root)


def put_bytes(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def read_or_refused(read: Callable[[Path], Bundle | EdgeBundle], folder: Path) -> Bundle | EdgeBundle | None:
    """What a reader gives; None where it refuses, in one short text. Any other error is a failure of the test."""
    try:
        return read(folder)
    except BundleInvalid as error:
        refusal = error
    assert str(refusal).startswith("CP-601 BundleInvalid: ")
    assert len(refusal.cause) < 1000
    return None


def assert_whole_or_refused(folder: Path) -> None:
    """Read by both readers; what is read is exactly one of the two bundles that were published."""
    for read in (read_edge_bundle, read_bundle):
        found = read_or_refused(read, folder)
        if found is not None:
            round_ = found.provenance.round
            assert round_ in (4, 5)
            assert (found.schema, found.threshold) == (bundle(round_).schema, bundle(round_).threshold)
            assert found.preprocessor == bundle(round_).preprocessor
        if isinstance(found, EdgeBundle):
            assert (found.graph, found.calibration) == (live(round_).graph, live(round_).calibration)


def mutated(data: bytes, edits: list[tuple[float, bytes]]) -> bytes:
    """Bytes put in, over what is there, at places given as shares of the length."""
    found = bytearray(data)
    for place, piece in edits:
        at = int(place * len(found))
        found[at : at + len(piece)] = piece
    return bytes(found)


EDITS = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(NAMES), data=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_in_any_file(made: Path, name: str, data: bytes) -> None:
    with Scratch(made) as folder:
        put_bytes(folder / versions(folder)[0] / name, data)
        assert_whole_or_refused(folder)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(NAMES), edits=EDITS, cut=st.floats(0.5, 1))
def test_any_damage_to_any_file(made: Path, name: str, edits: list[tuple[float, bytes]], cut: float) -> None:
    with Scratch(made) as folder:
        path = folder / versions(folder)[0] / name
        data = path.read_bytes()
        put_bytes(path, mutated(data, edits)[: int(cut * len(data))])
        assert_whole_or_refused(folder)


@settings(max_examples=100, deadline=None)
@given(edits=EDITS, data=st.none() | st.binary(max_size=200))
@example(edits=[(0.0, b"0")], data=None)
def test_any_damage_to_the_pointer(made: Path, edits: list[tuple[float, bytes]], data: bytes | None) -> None:
    with Scratch(made) as folder:
        path = folder / "current"
        put_bytes(path, mutated(path.read_bytes(), edits) if data is None else data)
        assert_whole_or_refused(folder)


@settings(max_examples=100, deadline=None)
@given(chosen=st.lists(st.booleans(), min_size=len(NAMES), max_size=len(NAMES)))
def test_any_mixture_of_two_bundles(made: Path, chosen: list[bool]) -> None:
    with Scratch(made) as folder:
        newer, older = versions(folder)
        for name, other in zip(NAMES, chosen, strict=True):
            if other:
                put_bytes(folder / newer / name, (folder / older / name).read_bytes())
        assert_whole_or_refused(folder)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(REQUIRED)),
    edits=EDITS,
    data=st.none() | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=100),
)
def test_any_content_under_the_right_digest(
    made: Path, name: str, edits: list[tuple[float, bytes]], data: bytes | None
) -> None:
    """A publisher that lies: digests fit, parts do not parse or do not fit. Nothing but BundleInvalid comes of it."""
    with Scratch(made) as folder:
        place = folder / versions(folder)[0]
        path = place / name
        put_bytes(path, mutated(path.read_bytes(), edits) if data is None else data)
        provenance = Provenance.of(json.loads((place / INDEX).read_text())["provenance"])
        index = make_index(provenance, {part: (place / part).read_bytes() for part in REQUIRED})
        put_bytes(place / INDEX, index.data)
        for read in (read_edge_bundle, read_bundle):
            read_or_refused(read, folder)


@settings(max_examples=12, deadline=None)  # each starts a process
@given(name=st.sampled_from([INDEX, SIGNATURE]), edits=EDITS)
def test_what_a_signature_covers_cannot_be_changed(made: Path, name: str, edits: list[tuple[float, bytes]]) -> None:
    with Scratch(made) as folder:
        trusted = folder.parent / "bundle.pub"
        trusted.write_bytes(public_pem(public_bytes(KEY)))
        path = folder / versions(folder)[0] / name
        before = path.read_bytes()
        put_bytes(path, mutated(before, edits))
        try:
            found = read_edge_bundle(folder, Trust(trusted))
        except BundleInvalid:
            return
        if name == INDEX:
            assert path.read_bytes() == before
        assert sign(KEY, (path.parent / INDEX).read_bytes()).key_bytes == public_bytes(KEY)
        assert found.provenance.round == 5
