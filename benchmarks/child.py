"""One benchmark in a process of its own: `python -m benchmarks.child NAME RESULT [--quick]`. The parent is `run.py`."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from importlib import import_module
from pathlib import Path

from benchmarks.figures import Measure
from benchmarks.processes import leave_on_term


def main(name: str, result: Path, quick: bool) -> None:
    """Measure and write the figures as JSON; the current folder is scratch."""
    leave_on_term()
    warnings.filterwarnings("ignore")
    logging.getLogger("flwr").setLevel(logging.WARNING)
    import torch

    torch.set_num_threads(1)
    measure: Measure = import_module(f"benchmarks.{name}").measure
    figures = measure(Path.cwd(), quick)
    result.write_text(json.dumps([figure.as_json() for figure in figures]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), "--quick" in sys.argv[3:])
