"""Loading WADI's normal run (1,209,601 rows x 127 tags, as issued): seconds and peak memory of a process of its own.

The file is made up: official layout, ten thousand rows of readings of the official length over and over, rising times.
The process (`python -m benchmarks.ingest FILE`) imports and loads; its peak is `VmHWM`, which starts at zero with the
program. `--quick` uses a twentieth of the rows, whose figures say nothing about the limits.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, median
from benchmarks.processes import child, tail
from benchmarks.quiet import Neighbours

ROWS, QUICK_ROWS = 1_209_601, 60_480
LIMIT_S, LIMIT_MB = 30.0, 1_500.0
_REPEATED = 10_000
_PATIENCE_S = 300.0
_PREFIX = "\\\\WIN-25J4RO10SBF\\LOG_DATA\\SUTD_WADI\\LOG_DATA\\"
_THREADS = {"POLARS_MAX_THREADS": "2"}


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Write the file, then load it in fresh processes."""
    rows = QUICK_ROWS if quick else ROWS
    path = scratch / "wadi.csv"
    write(path, rows)
    size_mb = path.stat().st_size / 1e6
    neighbours = Neighbours()
    runs = [_load(scratch / f"load{at}", path, rows) for at in range(1 if quick else 3)]
    neighbours.stop()
    path.unlink()
    what = f"WADI normal, {rows:,} x 127, {size_mb:,.0f} MB of text"
    return [
        median(f"{what}: load", [run["seconds"] for run in runs], "s", neighbours.limit(LIMIT_S), "2 threads"),
        median("  CPU time of it, all threads", [run["cpu_s"] for run in runs], "s", LIMIT_S),
        neighbours.figure(),
        median("  peak memory of the process", [run["peak_mb"] for run in runs], "MB", LIMIT_MB),
        median("  of which the array", [run["array_mb"] for run in runs], "MB"),
        median("  imports", [run["import_s"] for run in runs], "s"),
    ]


def write(path: Path, rows: int) -> None:
    """Write a file in the layout of WADI.A1's normal run."""
    from shared import catalogue

    tags = [tag.name for tag in catalogue.tags("wadi")]
    empty = {at for at, tag in enumerate(catalogue.tags("wadi")) if np.isnan(tag.median)}
    bodies = _bodies(len(tags), empty)
    with path.open("w", encoding="ascii", newline="") as file:
        file.write("Report,WADI\r\nFrom,9/25/2017\r\nTo,10/9/2017\r\n\r\n")
        file.write(",".join(["Row", "Date", "Time", *(_PREFIX + tag for tag in tags)]) + "\r\n")
        file.writelines(
            f"{row + 1},{when},{bodies[row % _REPEATED]}" for row, when in zip(range(rows), _times(), strict=False)
        )


def _bodies(columns: int, empty: set[int]) -> list[str]:
    readings = np.random.default_rng(7).uniform(0, 200, (_REPEATED, columns))
    return [",".join("" if at in empty else f"{row[at]:.6g}" for at in range(columns)) + "\r\n" for row in readings]


def _times() -> Iterator[str]:
    hour = datetime(2017, 9, 25, 18)
    seconds = [f"{second // 60:02d}:{second % 60:02d}.000 " for second in range(3600)]
    while True:
        date, clock, half = f"{hour.month}/{hour.day}/{hour.year}", int(f"{hour:%I}"), f"{hour:%p}"
        yield from (f"{date},{clock}:{second}{half}" for second in seconds)
        hour += timedelta(hours=1)


def _load(folder: Path, path: Path, rows: int) -> dict[str, float]:
    with child(["-m", "benchmarks.ingest", str(path)], folder, _THREADS) as process:
        if process.wait(_PATIENCE_S):
            raise RuntimeError(f"loading failed:\n{tail(folder)}")
    run: dict[str, float] = json.loads((folder / "result").read_text(encoding="ascii"))
    if run["rows"] != rows:
        raise RuntimeError(f"{run['rows']} of {rows} rows were read")
    return run


def main(path: Path) -> None:
    """Load a file; write what it took."""
    begin = time.perf_counter()
    import client.ingest.wadi  # noqa: F401  so that imports are timed apart
    from client.ingest.base import load

    imported = time.perf_counter()
    cpu = time.process_time()
    (site,) = load("wadi", path)
    done = time.perf_counter()
    figures = {
        "rows": len(site.train_TD),
        "seconds": done - imported,
        "cpu_s": time.process_time() - cpu,
        "import_s": imported - begin,
        "peak_mb": peak_mb(),
        "array_mb": site.train_TD.nbytes / 1e6,
    }
    Path("result").write_text(json.dumps(figures), encoding="ascii")


def peak_mb() -> float:
    """The highest resident memory of this process so far; `benchmarks.memory` has the same, but imports torch."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main(Path(sys.argv[1]))
