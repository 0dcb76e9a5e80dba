"""One cell in a process of its own: `python -m simulations.study.child JOB.json`. Ends when its parent does.

The plants that it reads hold no labels: they are not on the disk where it looks.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.errors import CrossplantError
from shared.series import SiteData
from simulations.chosen import kept
from simulations.study import plan as plans
from simulations.study.cells import Outcome, data_digest, place, write
from simulations.study.contestant import contestant
from simulations.study.effective import restored
from simulations.study.plan import Cell

UNFIT = 3
"""Exit code where the cell cannot be measured, and why stands on stderr."""


def main() -> int:
    """Run the job; the exit code."""
    started = time.perf_counter()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        _run(job, started)
    except CrossplantError as error:
        sys.stderr.write(f"{error}\n")
        return UNFIT
    return 0


def _run(job: Mapping[str, Any], started: float) -> None:
    from simulations.study.judge import run

    folder, plants, cell = Path(job["folder"]), Path(job["plants"]), Cell(**job["cell"])
    plan = plans.read(folder)
    config = restored(plan.config(cell).model_dump(mode="json"), kept(plants.parent))
    chosen = contestant(cell.detector, config, job["kind"])
    sites = read_sites(plants)
    with tempfile.TemporaryDirectory(prefix="crossplant-study-") as scratch:
        judged, left = run(
            chosen, sites, cell.mode, cell.seed, Path(scratch), plan.robustness, portraits=cell.seed == 0
        )
    seen = (data_digest(plants), job["code"])
    outcome = Outcome(cell, *seen, tuple(judged), tuple(left), peak_mb(), time.perf_counter() - started)
    write(place(folder, plan.digest, cell), outcome)


def read_sites(plants: Path) -> tuple[SiteData, ...]:
    """The sites below a folder, in natural order."""
    from client.ingest.base import natural_key
    from client.ingest.folder import read_site

    return tuple(read_site(path) for path in sorted(plants.iterdir(), key=lambda path: natural_key(path.name)))


def peak_mb() -> float:
    """Most resident memory of this process, in MB. `ru_maxrss` would count what its parent had before the exec."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024
    except (OSError, StopIteration):
        unit = 2**20 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _end_with_parent() -> None:
    """The parent holds the other end of stdin: at its end, however that comes, this process ends too."""
    while os.read(0, 1):  # Not through `sys.stdin`, whose lock nobody may hold when Python ends.
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
