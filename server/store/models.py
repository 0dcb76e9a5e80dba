"""Model files on disk, named by their digest. A file is there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from server.rounds import OptimizerState
from shared.disk import sync_folder
from shared.errors import DiskFull, ModelCorrupt, StoreError
from shared.lag.pooled import LagSum
from shared.model import GlobalModel, read_model
from shared.series import FloatArray
from shared.wire.lagged import shares_of, tags_and_shares

MODEL = ".safetensors"
OPTIMIZER = ".optimizer.safetensors"
MOMENTS = ".moments.safetensors"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def disk_full(where: object) -> StoreError:
    """The error for a full disk."""
    cause = f"no space is left to write {where}; the last committed round is intact."
    cure = (
        "Free some space; a simulation is continued with `crossplant simulate --resume OUT`, a network's run goes on."
    )
    return DiskFull(cause, cure)


@contextmanager
def file_errors(where: object) -> Iterator[None]:
    """Turn an `OSError` from writing `where` into a `StoreError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(where) from error
        raise StoreError(
            f"cannot write {where}: {error.strerror or error}.", "Check the folder's permissions."
        ) from error


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, `path` afterwards holds all of `data` or what it held before."""
    stage(path, data)
    publish(path)


def stage(path: Path, data: bytes) -> None:
    """First half of `write_durably`: the content is on disk, under a temporary name beside `path`."""
    temporary = staged(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def publish(path: Path) -> None:
    """Second half of `write_durably`: give a staged file its name."""
    staged(path).replace(path)
    sync_folder(path.parent)


def staged(path: Path) -> Path:
    """The temporary name: always the same for the same file, so that a killed writer leaves nothing that grows."""
    return path.with_name(f".{path.name}.tmp")


@dataclass(frozen=True)
class ModelFiles:
    """The model files of a store.

    Attributes:
        folder: where they are; made when the first one is written.
    """

    folder: Path

    def path(self, digest: str, suffix: str = MODEL) -> Path:
        """Where the file with this digest is, or would be.

        Raises:
            ModelCorrupt: not a SHA-256 digest.
        """
        if not _DIGEST.fullmatch(digest):
            raise ModelCorrupt(f"{digest[:80]!r} is not a model digest.")
        return self.folder / f"{digest}{suffix}"

    def put(self, model: GlobalModel) -> str:
        """Keep a model; returns its digest.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        return self.put_bytes(model.file_bytes)

    def put_bytes(self, data: bytes, suffix: str = MODEL) -> str:
        """Keep a file under its SHA-256; one that is there already, and intact, is not written again."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest, suffix)
        with file_errors(path):
            if not _holds(path, data):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_durably(path, data)
        return digest

    def get(self, digest: str) -> GlobalModel:
        """Read a model.

        Raises:
            ModelCorrupt: missing, or its content has another digest.
        """
        return read_model(self.path(digest), digest)

    def put_optimizer(self, state: OptimizerState) -> str | None:
        """Keep the server optimiser's moments; None when there is nothing to keep."""
        if not (state.step or state.first or state.second):
            return None
        tensors: dict[str, np.ndarray] = {"step": np.asarray(state.step, np.int64)}
        tensors |= _prefixed("first/", state.first) | _prefixed("second/", state.second)
        return self.put_bytes(safetensors.numpy.save(tensors), OPTIMIZER)

    def get_optimizer(self, digest: str) -> OptimizerState:
        """Read the moments back.

        Raises:
            ModelCorrupt: missing, or its content has another digest.
        """
        with _tensors(self.path(digest, OPTIMIZER), digest, "optimiser moments") as tensors:
            return OptimizerState(int(tensors["step"]), _under("first/", tensors), _under("second/", tensors))

    def put_moments(self, lag: LagSum | None) -> str | None:
        """Keep plants' moments; None when there are none."""
        if lag is None:
            return None
        tags_SB, share_S = tags_and_shares(lag)
        tensors = {"sum": np.asarray(lag.vector_Q, order="C"), "tags": np.array(tags_SB), "shares": share_S}
        return self.put_bytes(safetensors.numpy.save(tensors), MOMENTS)

    def get_moments(self, digest: str) -> LagSum:
        """Read moments back.

        Raises:
            ModelCorrupt: missing, or its content has another digest.
        """
        with _tensors(self.path(digest, MOMENTS), digest, "moments") as tensors:
            return LagSum(tensors["sum"], shares_of(tensors["tags"], tensors["shares"]))


def read_checked(path: Path, digest: str) -> bytes:
    """A file's content, which must have this digest.

    Raises:
        ModelCorrupt: missing, or its content has another digest.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelCorrupt(f"cannot read {path}: {error.strerror}.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ModelCorrupt(f"{path} was changed or cut short: its content does not have the digest {digest[:12]}.")
    return data


@contextmanager
def _tensors(path: Path, digest: str, what: str) -> Iterator[dict[str, np.ndarray]]:
    """A file's tensors, by name; what the block does not find among them is what the file does not hold.

    Raises:
        ModelCorrupt: missing, of another digest, or without something that the block asks for.
    """
    try:
        yield safetensors.numpy.load(read_checked(path, digest))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelCorrupt(f"{path} does not hold {what}: {error}.") from error


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file is there already. It is marked first: `server.store.sweep` leaves it for a while."""
    try:
        with suppress(PermissionError):
            os.utime(path)
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def _prefixed(prefix: str, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {f"{prefix}{name}": np.asarray(value, order="C") for name, value in sorted(arrays.items())}


def _under(prefix: str, tensors: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {k.removeprefix(prefix): tensors[k] for k in sorted(tensors) if k.startswith(prefix)}
