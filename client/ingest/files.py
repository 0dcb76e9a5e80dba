"""Reading text and arrays that may be broken: every fault names the file, the place and the value."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataNotFound, DataUnreadable
from shared.series import FloatArray


def read_text(path: Path) -> str:
    """A text file's content, without a byte-order mark and with plain line ends.

    Raises:
        DataNotFound: no such file.
        DataUnreadable: it cannot be read, or is no UTF-8 text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as error:
        raise DataNotFound(f"{path} does not exist.") from error
    except UnicodeDecodeError as error:
        raise DataUnreadable(f"{path}: byte {error.start} is no UTF-8 text.") from error
    except OSError as error:
        raise DataUnreadable(f"cannot read {path}: {error}.") from error


def read_array(path: Path) -> NDArray[np.generic]:
    """A `.npy` file as a read-only memory map.

    Mapping first means that a header which promises more than the file holds is found before anything is allocated.

    Raises:
        DataNotFound: no such file.
        DataUnreadable: no array, a pickled one, or one that is cut short or has bytes left over.
    """
    if not path.is_file():
        raise DataNotFound(f"{path} does not exist.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            array = np.lib.format.open_memmap(path, mode="r")  # as `np.load`, but never a pickle or an archive
    except Exception as error:  # NumPy promises no closed list of what a damaged header can raise
        raise DataUnreadable(f"{path} is no NumPy array file: {first_line(error)}.") from error
    surplus = path.stat().st_size - array.offset - array.nbytes
    if surplus:
        raise DataUnreadable(f"{path} has {surplus} bytes more than its header {array.shape} accounts for.")
    return array


def to_float32(values_TD: NDArray[np.generic]) -> FloatArray:
    """A contiguous float32 copy; what does not fit becomes infinite, which counts as missing later."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values_TD, dtype=np.float32)


def check_path(path: Path) -> None:
    """Refuse a path that readers written in Rust cannot be given.

    Raises:
        DataUnreadable: it holds bytes that are no UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataUnreadable(f"{str(path)!a}: the name is no UTF-8.", "Rename the file or folder.") from error


def first_line(error: BaseException) -> str:
    """An exception's message, cut to one short line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
