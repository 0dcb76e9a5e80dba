"""The file that `crossplant store backup` writes: an uncompressed tar, the manifest first, then what it names.

    manifest.json                 what there is: name, size and SHA-256 of each of the others
    rounds.sqlite                 the database of a store in SQLite, or
    rows/TABLE.jsonl              one JSON object a row, from any other database
    models/DIGEST.safetensors     model files, named by their content

Whoever reads one trusts nothing in it: members are plain files with a name from the manifest, each once, whole, and of
the digest that it gives. Models hardly shrink, so nothing is compressed, and nothing can unfold into more than it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from server.store.place import DATABASE, MODELS
from server.store.sweep import digest_in
from server.store.tables import Base
from shared.errors import StoreUnreadable

FORMAT = 1
MANIFEST, ROWS = "manifest.json", "rows"
_MOST_MANIFEST = 256 * 2**20
_BLOCK = 2**20
_HEX = re.compile(r"[0-9a-f]{64}")
_CURE = "Use another backup; nothing was restored."
LEFT_OUT = frozenset({"sessions"})
"""Tables that no backup holds: logins end."""


@dataclass(frozen=True)
class Item:
    """A file in a backup: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        made: when, ISO 8601.
        source: `sqlite` or `rows`.
        files: by name, without the manifest.
        missing: names of model files that a round needs and that the store had lost.
    """

    made: str
    source: str
    files: Mapping[str, Item]
    missing: tuple[str, ...]

    def encode(self) -> bytes:
        """As JSON."""
        files = {name: {"bytes": item.bytes, "sha256": item.sha256} for name, item in self.files.items()}
        told = {"format": FORMAT, "made": self.made, "source": self.source, "files": files}
        return json.dumps(told | {"missing": list(self.missing)}, indent=1).encode() + b"\n"

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(item.bytes for item in self.files.values())


def row_file(table: str) -> str:
    """Name of the member with a table's rows."""
    return f"{ROWS}/{table}.jsonl"


def model_file(name: str) -> str:
    """Name of the member with a model file."""
    return f"{MODELS}/{name}"


def item_of(path: Path) -> Item:
    """A file's entry."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return Item(size, digest.hexdigest())


# ---- writing ----


def write(out: IO[bytes], manifest: Manifest, places: Mapping[str, Path]) -> None:
    """Write a backup.

    Args:
        out: where to.
        manifest: what it holds.
        places: where its files are, by name.

    Raises:
        StoreUnreadable: a file changed since the manifest was made.
        OSError: it cannot be read or written.
    """
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        head = manifest.encode()
        tar.addfile(_member(MANIFEST, len(head)), io.BytesIO(head))
        for name, item in manifest.files.items():
            with places[name].open("rb") as file:
                reader = _Checked(file)
                try:
                    tar.addfile(_member(name, item.bytes), reader)
                except OSError as error:
                    if reader.count >= item.bytes:
                        raise
                    raise _changed(name) from error
            if reader.digest.hexdigest() != item.sha256:
                raise _changed(name)


def _member(name: str, size: int) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.mode = size, 0o600
    return found


def _changed(name: str) -> StoreUnreadable:
    return StoreUnreadable(f"{name} changed while it was copied.", "Run the backup again.")


class _Checked:
    """A file whose content is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest, self.count = file, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self.count += len(data)
        return data


# ---- reading ----


@contextmanager
def _tar_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise refused(path, str(error) or type(error).__name__) from error


def refused(path: Path, why: str) -> StoreUnreadable:
    """The error for a file that is no backup, or a damaged one."""
    return StoreUnreadable(f"{path} is no whole backup: {' '.join(why.split())[:200]}.", _CURE)


def unpack(path: Path, folder: Path) -> Manifest:
    """Check a backup and unpack it into an empty folder.

    Raises:
        StoreUnreadable: it is damaged, or holds what no backup holds; what was unpacked must not be used.
        OSError: it cannot be read, or the folder not written.
    """
    with _tar_errors(path), tarfile.open(path, mode="r:") as tar:
        members = iter(tar)
        manifest = _manifest(path, tar, next(members, None))
        left = dict(manifest.files)
        for member in members:
            item = left.pop(member.name, None)
            if item is None:
                raise refused(path, f"{ascii(member.name)[:80]} is not in its manifest, or is there twice")
            _plain(path, member, item.bytes)
            _copy(path, tar, member, item, folder / member.name)
        if left:
            raise refused(path, f"{min(left)} is missing")
        return manifest


def _manifest(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> Manifest:
    if member is None or member.name != MANIFEST or member.size > _MOST_MANIFEST:
        raise refused(path, "it does not begin with a manifest")
    _plain(path, member, member.size)
    file = tar.extractfile(member)
    assert file is not None
    try:
        return _parse(path, json.loads(file.read()))
    except (TypeError, KeyError, AttributeError) as error:
        raise refused(path, "its manifest is none") from error


def _plain(path: Path, member: tarfile.TarInfo, size: int) -> None:
    """Check that a member is a plain file: no link, device, folder or sparse file, and as long as it should be."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse() or member.size != size:
        raise refused(path, f"{ascii(member.name)[:80]} is no plain file of the size that was told")


def _parse(path: Path, found: Mapping[str, Any]) -> Manifest:
    if found["format"] != FORMAT:
        raise refused(path, f"its format is {str(found['format'])[:20]}, and this program knows {FORMAT}")
    files = {str(name): Item(_count(item["bytes"]), str(item["sha256"])) for name, item in found["files"].items()}
    for name, item in files.items():
        if not _allowed(name, item):
            raise refused(path, f"its manifest names {ascii(name)[:80]}")
    manifest = Manifest(str(found["made"]), str(found["source"]), files, tuple(map(str, found["missing"])))
    databases = {name for name in files if not name.startswith(f"{MODELS}/")}
    wanted = {DATABASE} if manifest.source == "sqlite" else {row_file(table) for table in tables()}
    if manifest.source not in ("sqlite", "rows") or not databases <= wanted or not _core(wanted) <= databases:
        raise refused(path, "it holds no database, or more than one")
    return manifest


def _core(wanted: set[str]) -> set[str]:
    """What no backup lacks: tables that came later may be missing in one of an older version."""
    return wanted & {DATABASE, *(row_file(table) for table in ("runs", "rounds", "updates"))}


def _allowed(name: str, item: Item) -> bool:
    folder, _, file = name.rpartition("/")
    if folder == MODELS:
        return digest_in(file) == item.sha256
    return _HEX.fullmatch(item.sha256) is not None and (name == DATABASE or name in map(row_file, tables()))


def tables() -> Sequence[str]:
    """Names of the tables in a backup: first what others refer to."""
    return [table.name for table in Base.metadata.sorted_tables if table.name not in LEFT_OUT]


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _copy(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, item: Item, to: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    to.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    with to.open("xb") as file:
        while block := source.read(_BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != item.sha256:
        raise refused(path, f"{member.name} does not have the digest that its manifest gives")
