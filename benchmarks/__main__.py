"""`make bench`: run every benchmark in a process of its own, print the table, write runs/bench.json.

Exit code 1 when a limit was missed or a benchmark failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import text
from benchmarks.machine import machine, versions
from benchmarks.processes import GRACE_S, ROOT, child, leave_on_term, tail

NAMES = (
    *("overhead", "startup", "against_ray", "epoch", "memory", "store", "console"),
    *("metrics", "ingest", "windows", "preprocess", "twin", "wire", "network", "edge", "judging", "signature", "dp"),
)
_PATIENCE_S = 1800.0


@dataclass(frozen=True)
class Result:
    """What one benchmark gave: its figures, or why there are none."""

    name: str
    figures: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""
    load: tuple[float, float] = (0.0, 0.0)

    @property
    def good(self) -> bool:
        """Whether it ran and every limit was kept."""
        return not self.failure and all(figure["verdict"] != "MISSED" for figure in self.figures)


def main() -> int:
    """Run what was asked for; returns the exit code."""
    asked = _arguments()
    leave_on_term()
    print(_title())
    results = []
    for name in asked.only or NAMES:
        results.append(_run(name, asked.quick))
        print(_table(results[-1]), flush=True)
    _write(asked.json, asked.quick, results)
    missed = [result.name for result in results if not result.good]
    print(f"missed: {', '.join(missed)}" if missed else "every limit was kept", f"({asked.json})")
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="one benchmark; may be given again")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and plants: to try it, not to quote it")
    parser.add_argument("--json", type=Path, default=ROOT / "runs" / "bench.json", help="where the figures go")
    return parser.parse_args()


def _run(name: str, quick: bool) -> Result:
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="cp-") as scratch:
        folder = Path(scratch)
        arguments = ["-m", "benchmarks.child", name, str(folder / "result.json"), *(["--quick"] * quick)]
        with child(arguments, folder, grace_s=GRACE_S) as process:
            code = _wait(process)
        load = (before, os.getloadavg()[0])
        if code:
            return Result(name, failure=tail(folder), load=load)
        return Result(name, json.loads((folder / "result.json").read_text(encoding="utf-8")), load=load)


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return 124


def _title() -> str:
    lines = [f"{name} {value}" for name, value in {**machine(), **versions()}.items()]
    return "\n".join(lines)


def _table(result: Result) -> str:
    head = f"\n{result.name}  (load average {result.load[0]:.1f} -> {result.load[1]:.1f})"
    if result.failure:
        return f"{head}\n  FAILED\n{result.failure}"
    return "\n".join([head, *(_row(figure) for figure in result.figures)])


def _row(figure: dict[str, Any]) -> str:
    limit = "" if figure["limit"] is None else f"<= {text(figure['limit'])}"
    measured = f"{text(figure['value'])} {figure['unit']}"
    return f"  {figure['name']:<58}{measured:>12}  {limit:<9} {figure['verdict']:<6} {figure['note']}".rstrip()


def _write(path: Path, quick: bool, results: Sequence[Result]) -> None:
    content = {
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        "benchmarks": [
            {"name": r.name, "load": r.load, "failure": r.failure or None, "figures": r.figures} for r in results
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
