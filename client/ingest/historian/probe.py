"""Whether a Parquet file can be decoded at all, found out in a process of its own.

A damaged page can make the decoder ask for more memory than there is, which ends its process without an exception.
"""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from shared.errors import DataUnreadable

PATIENCE_S = 600
_DECODE = "import sys, polars; all(len(rows) >= 0 for rows in polars.scan_parquet(sys.argv[1]).collect_batches())"


def check_decodes(path: Path) -> None:
    """Decode a whole file and throw the result away.

    Raises:
        DataUnreadable: it cannot be decoded.
        OSError: it cannot be read.
    """
    about = path.stat()
    if not _decodes(path.absolute(), about.st_size, about.st_mtime_ns):
        raise DataUnreadable(f"{path} is a damaged Parquet file.")


@lru_cache(maxsize=256)
def _decodes(path: Path, size: int, changed_ns: int) -> bool:
    """Remembered for a file of this size and time, so that looking at it and loading it decode it once."""
    command = [sys.executable, "-I", "-c", _DECODE, str(path)]
    try:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
