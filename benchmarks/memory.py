"""Server memory under the plain mean: the peak of a run with 1,000 virtual plants against that of one with 100.

Each run has a process of its own (`python -m benchmarks.memory PLANTS WORKERS PRETRAIN`); its peak is `VmHWM`, which
starts at zero with the program, where `ru_maxrss` remembers the parent's. Plants are no-ops in the same process, so
what grows may be the server's or the grid's; one plant's update is 0.9 MB.
"""

from __future__ import annotations

import json
import logging
import resource
import statistics
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.federation import Watch, run_no_op
from benchmarks.figures import Figure, median
from benchmarks.noop import SLOW
from benchmarks.processes import child, tail

LIMIT_MB = 30.0
_PATIENCE_S = 900.0


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Few and many plants in turns, then many with a straggler at the head of the roster."""
    few, many = (100, 300) if quick else (100, 1_000)
    runs = [(_run(scratch / f"{i}a", few), _run(scratch / f"{i}b", many)) for i in range(1 if quick else 2)]
    growth = [big.peak_mb - small.peak_mb for small, big in runs]
    late = _run(scratch / "late", many, slow_s=5.0, workers=2)
    held = late.peak_mb - statistics.median(small.peak_mb for small, _ in runs)
    seconds = [value for _, big in runs for value in big.seconds]
    tasks = [1e3 * value / few for small, _ in runs for value in small.seconds]
    return [
        median(f"peak memory, {many} plants - {few} plants", growth, "MB", LIMIT_MB, "plain mean, 1 worker"),
        median(f"  peak at {few} plants", [small.peak_mb for small, _ in runs], "MB"),
        median(f"  peak at {many} plants", [big.peak_mb for _, big in runs], "MB"),
        median(f"  a round of {many} plants", seconds, "s"),
        median(f"  a client task at {few} plants", tasks, "ms"),
        median(f"  a client task at {many} plants", [1e3 * value / many for value in seconds], "ms"),
        Figure("  the same growth, first plant 5 s late, 2 workers", held, "MB", note="replies that wait their turn"),
    ]


@dataclass(frozen=True)
class Run:
    """Peak memory of a run's process, and the seconds of its pretrain rounds."""

    peak_mb: float
    seconds: list[float]


def _run(folder: Path, plants: int, slow_s: float = 0.0, workers: int = 1) -> Run:
    arguments = ["-m", "benchmarks.memory", str(plants), str(workers), "2" if slow_s else "4"]
    with child(arguments, folder, {SLOW: str(slow_s)}) as process:
        if process.wait(_PATIENCE_S):
            raise RuntimeError(f"the run of {plants} plants failed:\n{tail(folder)}")
    return Run(**json.loads((folder / "result").read_text(encoding="ascii")))


def main(plants: int, workers: int, pretrain: int) -> None:
    """Carry one run; write its peak and the seconds of its pretrain rounds."""
    warnings.filterwarnings("ignore")
    logging.getLogger("flwr").setLevel(logging.WARNING)
    watch = Watch()
    run_no_op(Path.cwd() / "store", plants, pretrain, watch, workers)
    result = Run(peak_mb(), [seconds for _, seconds, _ in watch.pretrain(plants)])
    Path("result").write_text(json.dumps(asdict(result)), encoding="ascii")


def peak_mb() -> float:
    """The highest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
