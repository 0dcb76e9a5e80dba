"""Give back what only starting needed.

A third of a scorer's memory is code of libraries that runs once: onnxruntime reads 13 MB of its own file to make a
session. Such pages are clean copies of a file. The kernel takes them back when memory is short; here they are given
back at once, and what is needed again is mapped again, in microseconds. Linux only; elsewhere nothing is done.
"""

from __future__ import annotations

import sys

_DONTNEED = 4  # MADV_DONTNEED


def give_back() -> int:
    """Unmap pages of code that are in files; bytes of the mappings that were given back.

    Only what is executable and not writable is touched: nothing in it can have been changed.
    """
    if sys.platform != "linux":
        return 0
    import ctypes  # NumPy has it already.

    try:
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
            mapped = [line.split(maxsplit=5) for line in file]
        spans = [part[0] for part in mapped if part[1] == "r-xp" and len(part) == 6 and part[5].startswith("/")]
        ends = [tuple(int(end, 16) for end in span.split("-")) for span in spans]
        return sum(end - begin for begin, end in ends if madvise(begin, end - begin, _DONTNEED) == 0)
    except (OSError, AttributeError, ValueError, IndexError):
        return 0
