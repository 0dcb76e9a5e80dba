"""Names of a bundle's files, and how one is read when anything may lie in its place. Standard library only."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from shared.errors import BundleInvalid

CURRENT = "current"
INDEX = "bundle.json"
SIGNATURE = "signature.json"
MODEL = "model.safetensors"
GRAPH = "graph.onnx"
RECIPE = "recipe.json"
SETUP = "setup.json"
SCHEMA = "schema.json"
PREPROCESSOR = "preprocessor.json"
SCORE = "score.json"
THRESHOLD = "threshold.json"
CALIBRATION = "calibration.json"
PROBE = "probe.safetensors"
LIMITS = "limits.json"
GRAPH_INT8 = "graph.int8.onnx"
GUARD = "guard.bin"
JUDGE = "judge.bin"
RELATIONS = "relations.bin"

REQUIRED = frozenset((MODEL, GRAPH, RECIPE, SETUP, SCHEMA, PREPROCESSOR, SCORE, THRESHOLD, CALIBRATION, PROBE, LIMITS))
OPTIONAL = frozenset((GRAPH_INT8, GUARD, JUDGE, RELATIONS))

_LARGEST = 64 * 2**20  # bytes of one file; the largest models here have 1 MB
_MOST = {CURRENT: 2**17, INDEX: 2**17, SIGNATURE: 2**13}  # of those that are parsed before the signature is checked


def read_file(folder: Path, name: str, most: int | None = None) -> bytes:
    """The content of one file. What is no regular file, or too large, is not read.

    Args:
        folder, name: where it is.
        most: bytes; None: what such a file of a bundle may have.

    Raises:
        BundleInvalid: it cannot be read; the cause says why.
    """
    most = _MOST.get(name, _LARGEST) if most is None else most
    try:
        # Without O_NONBLOCK a named pipe in the file's place would hold the reader for ever.
        descriptor = os.open(folder / name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no file")
            if found.st_size > most:
                raise OSError(errno.EFBIG, f"{found.st_size} bytes are more than any such file has")
            return file.read(most)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path.
        told = getattr(error, "strerror", None) or error
        raise BundleInvalid(f"{folder}: {name} cannot be read: {told}.") from error
