"""What processes take of a machine's memory, as if they were alone on it (Linux).

Several plants on one machine share the pages of Python and of libraries, so that PSS says less than a plant needs on a
machine of its own. Here pages that belong to a file count once for each group of processes, those that do not by PSS,
which within a plant divides among forks only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ \d+ +(/.*)$")
_KB = 1024 / 1e6


def pss_mb(pid: int, kind: str = "Pss") -> float:
    """A process's share of memory; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((_kb(line) * _KB for line in lines if line.startswith(f"{kind}:")), 0.0)


def alone_mb(pids: Iterable[int]) -> float:
    """What a group of processes would take if nobody else had the same files open. At most, not at least."""
    group = list(pids)
    resident: dict[tuple[str, str], float] = defaultdict(float)
    whole: dict[tuple[str, str], float] = {}
    for pid in group:
        for key, size, mine in _file_pages(pid):
            resident[key] += mine
            whole[key] = max(size, whole.get(key, 0.0))
    files = sum(min(total, whole[key]) for key, total in resident.items())
    return files * _KB + sum(pss_mb(pid, "Pss_Anon") for pid in group)


def _file_pages(pid: int) -> Iterable[tuple[tuple[str, str], float, float]]:
    """Of each mapped piece of a file: which, its size, and what of it is resident and unchanged, kB."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    key, values = None, {}
    for line in [*lines, "0-0 end 0 0 0"]:
        if line[0].isupper():
            values[line.partition(":")[0]] = line
            continue
        if key is not None:
            yield key, _kb(values["Size"]), _kb(values["Rss"]) - _kb(values["Anonymous"])
        found = _MAPPING.match(line)
        key, values = (None, {}) if found is None else ((found[2], found[1]), {})


def _kb(line: str) -> float:
    return float(line.split()[1])
